"""What needs asyncio, imported when the first coroutine needs it: half of what the rest costs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


class Loaded:
    """A module that was imported: without `__getattr__` a name costs a tenth."""


class LazyModule(Loaded):
    """A module that is imported when the first of its names is asked for.

    >>> LazyModule("math").sqrt(4.0)
    2.0
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        """Import the module, and find its names here from then on."""
        module = importlib.import_module(self._name)
        if not getattr(module.__spec__, "_initializing", False):  # as in the midst of its import
            vars(self).update(vars(module))
            object.__setattr__(self, "__class__", Loaded)
        return getattr(module, attribute)


if TYPE_CHECKING:
    from modelserve.predictor import _aio as aio
else:
    aio = LazyModule("modelserve.predictor._aio")

__all__ = ["aio"]
