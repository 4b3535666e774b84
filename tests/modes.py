"""What of the tests depends on whether the package is compiled."""

import pytest

from actorstream import wire

interpreted_only = pytest.mark.skipif(
    wire.compiled, reason="replaces a method of an object, which a compiled one does not allow; the source is the same"
)
