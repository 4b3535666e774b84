"""Says to mypyc what it cannot find out by itself. Not compiled; for the interpreter it means nothing."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

__all__ = ["mypyc_attr"]

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:  # the package would be a dependency for nothing but this
    T = TypeVar("T")

    def mypyc_attr(**_attributes: object) -> Callable[[T], T]:
        """Leave a class as it is."""
        return lambda cls: cls
