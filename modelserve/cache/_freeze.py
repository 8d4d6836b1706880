"""Values that many callers hold: nobody can change what the others see.

>>> frozen, thaw = freeze(np.ones(2))
>>> frozen.flags.writeable, thaw is None
(False, True)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Thaw = Callable[[Any], Any]


def freeze(value: Any) -> tuple[Any, Thaw | None]:
    """Return a value to keep, and how to make a caller's own of it where it cannot be frozen.

    Arrays are copied, so that they pin no batch, and made read-only. Tensors know no such thing:
    each caller gets a clone. Lists and dicts are made anew for each caller around frozen arrays.
    """
    kind = value.__class__
    if issubclass(kind, np.ndarray):
        return _array(value), None
    if issubclass(kind, list):
        pairs = [freeze(part) for part in value]
        return [part for part, _ in pairs], lambda parts: _thawed(parts, pairs)
    if kind is dict:
        pairs = [freeze(part) for part in value.values()]
        kept = dict(zip(value, (part for part, _ in pairs), strict=True))
        return kept, lambda parts: dict(zip(parts, _thawed(parts.values(), pairs), strict=True))
    if issubclass(kind, tuple):
        pairs = [freeze(part) for part in value]
        make: Callable[[Any], Any] = getattr(value, "_make", tuple)
        frozen = all(thaw is None for _, thaw in pairs)
        thaw: Thaw | None = None if frozen else lambda parts: make(_thawed(parts, pairs))
        return make([part for part, _ in pairs]), thaw
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return value.detach().clone(), lambda kept: kept.clone()
    return value, None


def _array(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if value.base is not None or value.flags.writeable:
        value = value.copy()
        value.flags.writeable = False
    return value


def _thawed(parts: Iterable[Any], pairs: list[tuple[Any, Thaw | None]]) -> list[Any]:
    both = zip(parts, pairs, strict=True)
    return [part if thaw is None else thaw(part) for part, (_, thaw) in both]
