"""How items lie together in a batch, and how a batch's result is told apart again."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol, final

import numpy as np

from modelserve.errors import BadOutput

PLAIN = (np.ndarray, np.memmap)
"""Arrays that numpy can join; of other subclasses, such as masked arrays, it would drop a part."""


class Layout(Protocol):
    """How items lie together: the lane of each, the batch of some, the results of a batch."""

    def lane(self, item: Any, /) -> Hashable:
        """What an item must share with others to run with them."""
        ...

    def join(self, items: list[Any], /) -> Any:
        """Make one batch of items of one lane."""
        ...

    def cut(self, result: Any, n: int, /) -> Sequence[Any]:
        """Tell a batch's result apart: ``n`` results, in order. Raises BadOutput."""
        ...


@final
class Stack:
    """Arrays and tensors get a new first axis; anything else travels as a plain list.

    So do dicts and tuples of which every leaf is one, leaf by leaf. Items of another shape, dtype
    or structure run in batches of their own.

    >>> import numpy as np
    >>> batch = Stack().join([np.zeros(3), np.ones(3)])
    >>> batch.shape
    (2, 3)
    """

    def lane(self, item: Any, /) -> Hashable:
        """Shapes, dtypes and structure of an item of arrays; None for anything else."""
        return _lane(item)

    def join(self, items: list[Any], /) -> Any:
        """Stack the items of one lane along a new first axis."""
        return items if _lane(items[0]) is None else _join(items)

    def cut(self, result: Any, n: int, /) -> Sequence[Any]:
        """Split along the first axis; a list holds one result an item. Arrays are views."""
        return cut(result, n)

    def __repr__(self) -> str:
        """Show how to write it."""
        return "Stack()"


@final
class AsList:
    """Items travel as a plain list, whatever they are.

    >>> AsList().join(["a", "b"])
    ['a', 'b']
    """

    def lane(self, item: Any, /) -> Hashable:  # noqa: ARG002 - a layout's method
        """Everything may run with everything."""
        return None

    def join(self, items: list[Any], /) -> Any:
        """Return the list."""
        return items

    def cut(self, result: Any, n: int, /) -> Sequence[Any]:
        """Split along the first axis; a list holds one result an item."""
        return cut(result, n)

    def __repr__(self) -> str:
        """Show how to write it."""
        return "AsList()"


def is_array(x: object) -> bool:
    """Whether this is an array or a tensor."""
    return isinstance(x, np.ndarray) or is_tensor(x)


def is_tensor(x: object) -> bool:
    """Whether this is a torch tensor, asked without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def _lane(item: Any) -> Hashable:
    kind = item.__class__
    if kind in PLAIN:
        return None if item.dtype.hasobject else (item.shape, item.dtype)
    if kind is dict:
        lanes = {key: _lane(leaf) for key, leaf in item.items()}
        return (dict, frozenset(lanes.items())) if lanes and all(lanes.values()) else None
    if issubclass(kind, tuple):
        leaves = tuple(_lane(leaf) for leaf in item)
        return (item.__class__, leaves) if leaves and all(leaves) else None
    if is_tensor(item):
        return (tuple(item.shape), item.dtype, item.device)
    return None


def _join(items: list[Any]) -> Any:
    first = items[0]
    kind = first.__class__
    if kind in PLAIN:
        if not first.ndim:
            return np.array(items)
        return np.concatenate(items).reshape(len(items), *first.shape)
    if kind is dict:
        return {key: _join([item[key] for item in items]) for key in first}
    if issubclass(kind, tuple):
        return _tuple(first, [_join(list(leaves)) for leaves in zip(*items, strict=True)])
    return sys.modules["torch"].stack(items)


def _tuple(like: Any, leaves: Sequence[Any]) -> Any:
    return like.__class__(*leaves) if hasattr(like, "_fields") else tuple(leaves)


def cut(result: Any, n: int) -> Sequence[Any]:
    """Tell the results of ``n`` items apart; see :class:`Stack`."""
    kind = result.__class__
    if issubclass(kind, list):
        return _counted(result, len(result), n, "list")
    if is_array(result):
        if not result.ndim:
            raise BadOutput(f"a single value for {n} items: return one result an item")
        return _counted(list(result), result.shape[0], n, "first axis")
    if issubclass(kind, Mapping):
        columns = [cut(value, n) for value in result.values()]
        keys = list(result)
        return [dict(zip(keys, row, strict=True)) for row in _rows(columns, n)]
    if issubclass(kind, tuple):
        return [_tuple(result, row) for row in _rows([cut(value, n) for value in result], n)]
    if result is None:
        raise BadOutput(f"None for {n} items: return one result an item")
    raise BadOutput(
        f"{type(result).__name__} for {n} items: return an array, a tensor, a dict or tuple of "
        "such, or a list of one result an item"
    )


def _rows(columns: list[Sequence[Any]], n: int) -> Sequence[Sequence[Any]]:
    if not columns:
        raise BadOutput(f"an empty structure for {n} items: return one result an item")
    return list(zip(*columns, strict=True))


def _counted(rows: list[Any], found: int, n: int, what: str) -> list[Any]:
    if found == n:
        return rows
    hint = ""
    if what == "list" and rows and is_array(rows[0]):
        hint = "; a list is one result an item, so return several outputs as a tuple or dict"
    raise BadOutput(f"a {what} of {found} for {n} items: return one result an item{hint}")
