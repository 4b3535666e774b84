"""`python -m actorstream`: the same as the command `actorstream`."""

import sys

from actorstream.cli.entry import main

sys.exit(main())
