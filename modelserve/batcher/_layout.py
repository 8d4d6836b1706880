"""How items lie together in a batch, and how a batch's result is told apart again."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol, final

import numpy as np

from modelserve.errors import BadInput, BadOutput

PLAIN = (np.ndarray, np.memmap)
"""Arrays that numpy can join; of other subclasses, such as masked arrays, it would drop a part."""
OBJECTS = (
    "rows of unlike length make one; give it a dtype, as by np.asarray(x, np.float32), or choose "
    "another layout, such as AsList()"
)
_NO_ARRAYS = frozenset({str, bytes, bool, int, float, complex, list, type(None)})


class Layout(Protocol):
    """How items lie together: the lane of each, the batch of some, the results of a batch.

    One whose items vary in length, such as :class:`~modelserve.Pad`, may have two methods more:
    ``length(item)`` says how long an item is, and ``padded(length)`` how long a batch becomes for
    it. Then items of like length run together.
    """

    def lane(self, item: Any, /) -> Hashable:
        """What an item must share with others to run with them; asked in the caller's frame.

        Raises BadInput for an item that can run with nobody, not even alone.
        """
        ...

    def join(self, items: list[Any], /) -> Any:
        """Make one batch of items of one lane."""
        ...

    def cut(self, result: Any, items: list[Any], /) -> Sequence[Any]:
        """Tell apart the result of the items that were joined: one each. Raises BadOutput."""
        ...


@final
class Stack:
    """Arrays and tensors get a new first axis; anything else travels as a plain list.

    So do dicts and tuples of which every leaf is one, leaf by leaf. Items of another shape, dtype
    or structure run in batches of their own. A list or None is an item like any other, for a
    function of a list; an array of objects, as ragged rows make it, is refused with
    :class:`~modelserve.BadInput`.

    >>> import numpy as np
    >>> batch = Stack().join([np.zeros(3), np.ones(3)])
    >>> batch.shape
    (2, 3)
    """

    def lane(self, item: Any, /) -> Hashable:
        """Shapes, dtypes and structure of an item of arrays; None for anything else.

        Raises BadInput for an array of objects.
        """
        kind = item.__class__
        if kind in _NO_ARRAYS:
            return None
        if kind in PLAIN:
            dtype = item.dtype
            if dtype.hasobject:
                raise BadInput(f"an array of objects cannot be stacked: {OBJECTS}")
            return item.shape, dtype
        if kind is dict:
            lanes = list(map(self.lane, item.values()))
            return (dict, frozenset(zip(item, lanes))) if lanes and all(lanes) else None  # noqa: B905
        if issubclass(kind, tuple):
            lanes = list(map(self.lane, item))
            return (item.__class__, *lanes) if lanes and all(lanes) else None
        if is_tensor(item):
            return item.shape, item.dtype, item.device, item.layout
        return None

    def join(self, items: list[Any], /) -> Any:
        """Stack the items of one lane along a new first axis."""
        return items if self.lane(items[0]) is None else _join(items)

    def cut(self, result: Any, items: list[Any], /) -> Sequence[Any]:
        """Split along the first axis; a list holds one result an item. Arrays are views."""
        return cut(result, len(items))

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

    def cut(self, result: Any, items: list[Any], /) -> Sequence[Any]:
        """Split along the first axis; a list holds one result an item."""
        return cut(result, len(items))

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
        return as_tuple(first, [_join(list(leaves)) for leaves in zip(*items, strict=True)])
    return sys.modules["torch"].stack(items)


def as_tuple(like: Any, leaves: Sequence[Any]) -> Any:
    """Make a tuple, of the class of another where that is a NamedTuple."""
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
        return regroup(result, [cut(column, n) for column in result.values()], n)
    if issubclass(kind, tuple):
        return regroup(result, [cut(column, n) for column in result], n)
    if result is None:
        raise BadOutput(f"None for {n} items: return one result an item")
    raise BadOutput(
        f"{type(result).__name__} for {n} items: return an array, a tensor, a dict or tuple of "
        "such, or a list of one result an item"
    )


def regroup(like: Any, columns: list[Sequence[Any]], n: int) -> Sequence[Any]:
    """Make rows of columns: for each of ``n`` items what it has of each output."""
    if not columns:
        raise BadOutput(f"an empty structure for {n} items: return one result an item")
    rows = zip(*columns, strict=True)
    if isinstance(like, tuple):
        return [as_tuple(like, row) for row in rows]
    names = list(like)
    return [dict(zip(names, row)) for row in rows]  # noqa: B905 - half the time, and one an output


def _counted(rows: list[Any], found: int, n: int, what: str) -> list[Any]:
    if found == n:
        return rows
    hint = ""
    if what == "list" and rows and is_array(rows[0]):
        hint = "; a list is one result an item, so return several outputs as a tuple or dict"
    raise BadOutput(f"a {what} of {found} for {n} items: return one result an item{hint}")
