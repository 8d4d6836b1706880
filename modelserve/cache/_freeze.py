"""Values that many callers hold: nobody can change what the others see.

>>> frozen, thaw = freeze(np.ones(2))
>>> frozen.flags.writeable, thaw is None
(False, True)
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Thaw = Callable[[Any], Any]

PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})


def freeze(value: Any) -> tuple[Any, Thaw | None]:
    """Return a value to keep, and how to make a caller's own of it where it cannot be frozen.

    Arrays are copied, so that they pin no batch, and made read-only. Tensors know no such thing:
    each caller gets a clone. Lists, dicts and sets are made anew for each caller around frozen
    arrays. Anything else is shared as it is.
    """
    kind = value.__class__
    if kind not in PLAIN:
        for base, way in _WAYS:
            if issubclass(kind, base):
                return way(value)
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            return value.detach().clone(), lambda kept: kept.clone()
    return value, None


def _array(value: np.ndarray[Any, Any]) -> tuple[Any, Thaw | None]:
    if value.__class__ is not np.ndarray:  # a masked one could still be changed by its mask
        return value.copy(), lambda kept: kept.copy()
    if value.base is not None or value.flags.writeable:
        value = value.copy()
        value.flags.writeable = False
    return value, None


def _tuple(value: tuple[Any, ...]) -> tuple[Any, Thaw | None]:
    pairs = [freeze(part) for part in value]
    if all(frozen is part for (frozen, _), part in zip(pairs, value, strict=True)):
        return value, None
    make: Callable[[Any], Any] = getattr(value, "_make", tuple)
    thaws = [thaw for _, thaw in pairs]

    def give(kept: Any) -> Any:
        both = zip(kept, thaws, strict=True)
        return make([part if thaw is None else thaw(part) for part, thaw in both])

    return make([frozen for frozen, _ in pairs]), give if any(thaws) else None


def _parts(value: Any, places: Iterable[Any]) -> tuple[Any, Thaw]:
    """Freeze what can be changed at its places."""
    kept = copy.copy(value)
    thaws: list[tuple[Any, Thaw]] = []
    for place in places:
        kept[place], thaw = freeze(value[place])
        if thaw is not None:
            thaws.append((place, thaw))

    def give(kept: Any) -> Any:
        own = copy.copy(kept)
        for place, thaw in thaws:
            own[place] = thaw(kept[place])
        return own

    return kept, give if thaws else copy.copy


_WAYS: tuple[tuple[type, Callable[[Any], tuple[Any, Thaw | None]]], ...] = (
    (np.ndarray, _array),
    (tuple, _tuple),
    (list, lambda value: _parts(value, range(len(value)))),
    (dict, lambda value: _parts(value, list(value))),
    (set, lambda value: (copy.copy(value), copy.copy)),
    (bytearray, lambda value: (copy.copy(value), copy.copy)),
)
