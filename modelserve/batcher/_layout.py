"""How items lie together in a batch, and how a batch's result is told apart again."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol, final

import numpy as np

from modelserve.errors import BadOutput

Leaf = Any


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


def is_tensor(x: object) -> bool:
    """Whether this is a torch tensor, asked without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def _lane(item: Any) -> Hashable:
    if isinstance(item, np.ndarray):
        return None if item.dtype == object else (item.shape, item.dtype.str)
    if type(item) is dict:
        leaves = tuple((key, _lane(item[key])) for key in sorted(item, key=repr))
        return (dict, leaves) if leaves and all(lane for _, lane in leaves) else None
    if isinstance(item, tuple):
        lanes = tuple(_lane(leaf) for leaf in item)
        return (type(item), lanes) if lanes and all(lanes) else None
    if is_tensor(item):
        return (tuple(item.shape), item.dtype, item.device)
    return None


def _join(items: list[Any]) -> Any:
    first = items[0]
    if isinstance(first, np.ndarray):
        if not first.ndim:
            return np.array(items)
        return np.concatenate(items).reshape(len(items), *first.shape)
    if type(first) is dict:
        return {key: _join([item[key] for item in items]) for key in first}
    if isinstance(first, tuple):
        return _tuple(type(first), [_join(list(leaves)) for leaves in zip(*items, strict=True)])
    return sys.modules["torch"].stack(items)


def _tuple(cls: type[Any], leaves: Sequence[Any]) -> Any:
    return cls(*leaves) if hasattr(cls, "_fields") else tuple(leaves)


def cut(result: Any, n: int) -> Sequence[Any]:
    """Tell the results of ``n`` items apart; see :class:`Stack`."""
    if isinstance(result, list):
        return _counted(result, len(result), n, "list")
    if isinstance(result, np.ndarray) or is_tensor(result):
        if not result.ndim:
            raise BadOutput(f"a single value for {n} items: return one result an item")
        return _counted(list(result), result.shape[0], n, "first axis")
    if isinstance(result, Mapping):
        columns = [cut(value, n) for value in result.values()]
        keys = list(result)
        return [dict(zip(keys, row, strict=True)) for row in _rows(columns, n)]
    if isinstance(result, tuple):
        cls = type(result)
        return [_tuple(cls, row) for row in _rows([cut(value, n) for value in result], n)]
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
    if what == "list" and rows and (isinstance(rows[0], np.ndarray) or is_tensor(rows[0])):
        hint = "; a list is one result an item, so return several outputs as a tuple or dict"
    raise BadOutput(f"a {what} of {found} for {n} items: return one result an item{hint}")
