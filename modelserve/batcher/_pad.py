"""Items that differ in length: padded to run together, and their results cut back."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Collection, Hashable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, TypeAlias, final

import numpy as np

from modelserve.batcher._layout import (
    OBJECTS,
    PLAIN,
    as_tuple,
    cut,
    is_array,
    is_tensor,
    regroup,
)
from modelserve.errors import BadInput, BadOutput

Scalar: TypeAlias = complex | str | bytes


@final
class Pad:
    """Arrays and tensors whose first axis varies, such as tokens or frames, run together.

    So do dicts and tuples of them, every leaf as long as the others of its item; a leaf that is
    not is refused with :class:`~modelserve.BadInput`. Leaves are padded behind with ``value``, or
    a mapping of leaves' names (of a tuple, positions) to values, to the longest of the batch,
    rounded up to ``multiple``, or to the smallest of ``sizes`` that holds it. An item longer than
    all of them is refused, and one of length 0 is a row of padding.

    The mask, 1 where an item is and 0 where padding is, has shape (n, length) and dtype int64. A
    dict gets it under the name ``mask``, unless its items bring a leaf of that name, which is
    padded with 0. An array or tensor becomes the tuple of itself and the mask, and a tuple has it
    last. With ``mask=None`` it is not handed over.

    ``trim`` says which outputs run along the padded axis, their axis 1, since no length tells:
    True for all, False for none, or names (positions, of a plain tuple) of the ones that do. Of
    these each caller gets its own length back.

    Raises ValueError for lengths below 1 and a value that is no scalar, TypeError for a ``trim``
    that is neither.

    >>> import numpy as np
    >>> pad = Pad(multiple=4, trim=True)
    >>> tokens, mask = pad.join([np.array([7, 8, 9]), np.array([5])])
    >>> tokens
    array([[7, 8, 9, 0],
           [5, 0, 0, 0]])
    >>> mask
    array([[1, 1, 1, 0],
           [1, 0, 0, 0]])
    >>> pad.cut(tokens * 10, [np.array([7, 8, 9]), np.array([5])])
    [array([70, 80, 90]), array([50])]
    """

    def __init__(
        self,
        *,
        multiple: int = 1,
        sizes: Collection[int] | None = None,
        value: Scalar | Mapping[Any, Scalar] = 0,
        mask: str | None = "attention_mask",
        trim: bool | Collection[str | int],
    ) -> None:
        if multiple < 1 or (sizes is not None and (not sizes or min(sizes) < 1)):
            raise ValueError(f"multiple={multiple}, sizes={sizes}: pass lengths of 1 or more")
        if multiple != 1 and sizes is not None:
            raise ValueError("pass one of multiple= and sizes=")
        self._values = value if isinstance(value, Mapping) else None
        if not all(map(np.isscalar, [value] if self._values is None else self._values.values())):
            raise ValueError(f"value={value!r}: pass a scalar, or a mapping of names to scalars")
        if isinstance(trim, str):
            raise TypeError(f"trim={trim!r}: pass [{trim!r}]")
        self._multiple = multiple
        self._sizes = None if sizes is None else sorted(sizes)
        self._value: Any = value
        self._mask = mask
        self._trim = trim if trim is True or trim is False else tuple(trim)

    def length(self, item: Any, /) -> int:
        """Return how long an item that has a lane is."""
        kind = item.__class__
        if issubclass(kind, tuple):
            item = item[0]
        elif issubclass(kind, Mapping):
            item = next(iter(item.values()))
        length: int = item.shape[0]
        return length

    def padded(self, length: int, /) -> int:
        """Return how long a batch is whose longest item has this length. Raises BadInput.

        >>> Pad(multiple=8, trim=False).padded(9), Pad(sizes=[16, 128], trim=False).padded(17)
        (16, 128)
        """
        if self._sizes is None:
            return max(1, -(-length // self._multiple)) * self._multiple
        at = bisect_left(self._sizes, length)
        if at == len(self._sizes):
            raise BadInput(
                f"an item of length {length}, and the largest of sizes= is {self._sizes[-1]}: "
                "shorten it, or pass a larger size"
            )
        return self._sizes[at]

    def lane(self, item: Any, /) -> Hashable:
        """Structure, dtypes and trailing shapes of an item, of whatever length.

        Raises BadInput for what cannot be padded, and names the leaf.
        """
        leaves = _leaves(item)
        if self._values is not None and not self._values.keys() <= leaves.keys():
            raise BadInput(f"value= is for {list(self._values)}, and the item has {list(leaves)}")
        lanes = frozenset(
            [(name, _lane(leaf, name, self._fill(name))) for name, leaf in leaves.items()]
        )
        length = self.length(item)
        for name, leaf in leaves.items():
            if leaf.shape[0] != length:
                raise BadInput(
                    f"{_where(name)} has length {leaf.shape[0]}, and {_where(next(iter(leaves)))} "
                    f"has {length}: all leaves of an item are padded, so they have one length"
                )
        self.padded(length)
        kind = item.__class__
        return item.__class__ if issubclass(kind, tuple) else issubclass(kind, Mapping), lanes

    def join(self, items: list[Any], /) -> Any:
        """Pad the items of one lane, and add the mask."""
        lengths = [self.length(item) for item in items]
        longest = self.padded(max(lengths))
        rows = [_leaves(item) for item in items]
        batch = {
            name: _padded([row[name] for row in rows], lengths, longest, self._fill(name))
            for name in rows[0]
        }
        masked = self._mask is not None and self._mask not in batch
        if masked:
            batch[self._mask] = _mask(lengths, longest, next(iter(batch.values())))
        kind = items[0].__class__
        if issubclass(kind, Mapping):
            return batch
        leaves = tuple(batch.values())
        if masked:
            return leaves
        return as_tuple(items[0], leaves) if issubclass(kind, tuple) else leaves[0]

    def cut(self, result: Any, items: list[Any], /) -> Sequence[Any]:
        """Split along the first axis, and cut what ``trim`` names to the length of its item."""
        n, trim = len(items), self._trim
        if not trim:
            return cut(result, n)
        lengths = [self.length(item) for item in items]
        longest = self.padded(max(lengths))
        if isinstance(trim, bool):
            return _trimmed(result, lengths, longest, "an output")
        outputs = _named(result)
        absent = [name for name in trim if name not in outputs]
        if absent:
            raise BadOutput(
                f"a {type(result).__name__} without {absent}, which trim= names: return a dict or "
                "tuple that has them, or pass trim=True or False"
            )
        columns = [
            _trimmed(output, lengths, longest, f"output {name!r}")
            if name in trim
            else cut(output, n)
            for name, output in outputs.items()
        ]
        return regroup(result, columns, n)

    def __repr__(self) -> str:
        """Show how to write it."""
        given = {
            "multiple": (self._multiple, 1),
            "sizes": (self._sizes, None),
            "value": (self._value, 0),
            "mask": (self._mask, "attention_mask"),
            "trim": (self._trim, None),
        }
        shown = (f"{name}={now!r}" for name, (now, default) in given.items() if now != default)
        return f"Pad({', '.join(shown)})"

    def _fill(self, name: Any) -> Any:
        """What a leaf is padded with."""
        if name is not None and name == self._mask:
            return 0
        return self._value if self._values is None else self._values.get(name, 0)


def _named(whole: Any) -> dict[Any, Any]:
    """Name the parts: as a mapping or a NamedTuple does, or by position; {} of what has none."""
    kind = whole.__class__
    if issubclass(kind, tuple):
        return dict(zip(getattr(whole, "_fields", range(len(whole))), whole, strict=True))
    return dict(whole) if issubclass(kind, Mapping) else {}


def _leaves(item: Any) -> dict[Any, Any]:
    """Name the leaves: None for an item that is a leaf itself."""
    return _named(item) or {None: item}


def _where(name: Any) -> str:
    return "the item" if name is None else f"item[{name!r}]"


def _lane(leaf: Any, name: Any, value: Any) -> Hashable:
    if leaf.__class__ in PLAIN:
        if leaf.dtype.hasobject:
            raise BadInput(
                f"{_where(name)} is an array of objects, which cannot be padded: {OBJECTS}"
            )
        kind: tuple[Any, ...] = (leaf.dtype,)
    elif is_tensor(leaf):
        kind = (leaf.dtype, leaf.device, leaf.layout)
    else:
        raise BadInput(
            f"{_where(name)} is a {type(leaf).__name__}: pass an array or a tensor, or a dict or "
            "tuple of such"
        )
    if not leaf.ndim:
        raise BadInput(f"{_where(name)} is a single value, without a first axis to pad")
    if not _holds(leaf.dtype, value):
        raise BadInput(
            f"{_where(name)} of {leaf.dtype} cannot be padded with {value!r}: pass value="
        )
    return (leaf.shape[1:], *kind)


@lru_cache(maxsize=1024)
def _holds(dtype: Any, value: Any) -> bool:
    """Whether padding keeps its value: neither cut off, nor rounded to an integer, nor infinite."""
    try:
        with np.errstate(all="ignore"):
            held, inexact = _held(dtype, value)
            return bool(np.isfinite(held) == np.isfinite(value) if inexact else held == value)
    except (ValueError, TypeError, OverflowError, RuntimeError):
        return False


def _held(dtype: Any, value: Any) -> tuple[Any, bool]:
    """Return what becomes of a value, and whether that may be less precise."""
    if issubclass(dtype.__class__, np.dtype):
        return np.full((), value, dtype)[()], dtype.kind in "fcmM"
    held = sys.modules["torch"].full((), value, dtype=dtype).item()
    return held, dtype.is_floating_point or dtype.is_complex


def _padded(leaves: list[Any], lengths: list[int], longest: int, value: Any) -> Any:
    first = leaves[0]
    shape = (len(leaves), longest, *first.shape[1:])
    full: Any = first.new_full if is_tensor(first) else partial(np.full, dtype=first.dtype)
    batch = full(shape, value)
    for row, (leaf, length) in enumerate(zip(leaves, lengths, strict=True)):
        batch[row, :length] = leaf
    return batch


def _mask(lengths: list[int], longest: int, like: Any) -> Any:
    mask = (np.arange(longest) < np.array(lengths)[:, None]).astype(np.int64)
    return sys.modules["torch"].from_numpy(mask).to(like.device) if is_tensor(like) else mask


def _trimmed(result: Any, lengths: list[int], longest: int, what: str) -> Sequence[Any]:
    """Tell the results of an output apart, each cut to the length of its item."""
    outputs = _named(result)
    if outputs:
        columns = [
            _trimmed(output, lengths, longest, f"output {name!r}")
            for name, output in outputs.items()
        ]
        return regroup(result, columns, len(lengths))
    rows = cut(result, len(lengths))
    for row in rows[:1] if is_array(result) else rows:
        if _axis(row) != longest and not issubclass(row.__class__, Exception):
            raise BadOutput(
                f"{what} whose axis 1 is {_axis(row)}, where its items were padded to {longest}: "
                "name in trim= only the outputs that run along the padded axis"
            )
    return [
        row if issubclass(row.__class__, Exception) else row[:length]
        for row, length in zip(rows, lengths, strict=True)
    ]


def _axis(row: Any) -> int | None:
    """How long the result of one item is, if it has a length."""
    if issubclass(row.__class__, list):
        return len(row)
    return row.shape[0] if is_array(row) and row.ndim else None
