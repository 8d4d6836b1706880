"""How many bytes a value holds in memory.

>>> weigh(np.zeros(1_000)) - weigh(np.zeros(0))
8000
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any, cast

import numpy as np

ENTRY = 250
"""What an entry takes beyond its key and its value: measured with tracemalloc, CPython 3.11."""

_SHARED = (type, ModuleType, FunctionType)


def weigh(value: object) -> int:
    """Add up a value and all that it holds, each object once.

    Memory that a library keeps out of Python's sight is seen for arrays and tensors alone.
    """
    torch = sys.modules.get("torch")
    seen: set[int] = set()
    found: list[Any] = [value]
    total = 0
    while found:
        one = found.pop()
        if id(one) in seen or isinstance(one, _SHARED):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        if isinstance(one, np.ndarray):
            total, found = total + _borrowed(one), found + _objects(one)
        elif torch is not None and isinstance(one, torch.Tensor):
            total += one.nbytes
        else:
            found += _held(one)
    return total


def _held(one: Any) -> list[Any]:
    if isinstance(one, dict):
        return [*one, *one.values()]
    if isinstance(one, list | tuple | set | frozenset):
        return [*cast("Iterable[Any]", one)]
    slots = (slot for base in type(one).__mro__ for slot in base.__dict__.get("__slots__", ()))
    return [getattr(one, name) for name in ("__dict__", *slots) if hasattr(one, name)]


def _borrowed(array: Any) -> int:
    return array.nbytes if array.base is not None else 0


def _objects(array: Any) -> list[Any]:
    return array.ravel().tolist() if array.dtype == object else []
