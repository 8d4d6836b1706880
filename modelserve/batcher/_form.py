"""The form of batches: what lies together, how much an item takes, and what a batch may hold."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from modelserve._policy.lanes import Lanes
from modelserve.errors import BadInput

if TYPE_CHECKING:
    from modelserve._policy.costs import Costs
    from modelserve.batcher._item import Batch, Item
    from modelserve.batcher._layout import Layout

SCALARS = frozenset({int, float, bool, type(None)})
ROWS = (list, tuple)
FEW = 8
"""Leaves of a list or tuple that are all looked at."""
DEPTH = 4
"""How deep they lie."""


class Form:
    """How one batcher's items are measured.

    A batch is bounded by the number of its items, by the sum of their sizes or, where the layout
    pads, by what it takes when all are as large as the largest.
    """

    def __init__(
        self, layout: Layout, size: Callable[[Any], float] | None, max_batch_size: int
    ) -> None:
        self.layout = layout
        self.limit = max_batch_size
        self.sized = size is not None
        self.pads = hasattr(layout, "length")
        self.measures = self.sized or self.pads
        """Whether items are of different sizes at all."""
        self._measure: Callable[[Any], float] = (
            getattr(layout, "length", _one) if size is None else size
        )
        self._padded: Callable[[Any], float] = getattr(layout, "padded", float)

    def lane(self, x: Any) -> Hashable:
        """Ask the layout for an item's lane. Raises TypeError for one that cannot be hashed."""
        lane = self.layout.lane(x)
        hash(lane)
        return lane

    def lanes(self, max_wait: float, costs: Costs) -> Lanes[Item]:
        """Make an empty queue."""
        if not self.pads:
            return Lanes(self.limit, max_wait, sized=self.sized)

        from modelserve._policy.company import company

        def cost(count: int, longest: int) -> float:
            return costs.expected(count * longest)

        def choose(sizes: Sequence[float], limit: float) -> list[int]:
            lengths = [int(self._padded(size)) for size in sizes]
            known = cost if costs.sizes > 1 else None
            if self.sized:
                return company(lengths, 0, len(lengths), known, budget=limit)
            return company(lengths, 0, int(limit), known)

        return Lanes(self.limit, max_wait, sized=self.sized, choose=choose)

    def size(self, x: Any) -> float:
        """Measure an item. Raises BadInput for one that no batch could hold."""
        measured = self._measure(x)
        try:
            size = float(measured)
        except (TypeError, ValueError, OverflowError):
            size = math.nan
        if not 0 <= size < math.inf:
            raise BadInput(f"size={measured!r} of an item: give a number, 0 or more")
        if self.sized and self._padded(size) > self.limit:
            raise BadInput(
                f"an item of size {measured:,} fits no batch: raise max_batch_size={self.limit:,}, "
                "or send less"
            )
        return size

    def warm_sizes(self, x: Any) -> list[int]:
        """Return how many of an item make the smallest and the largest batch."""
        most = self.limit
        if self.sized:
            most = int(most // max(1.0, self._padded(self.size(x))))
        return sorted({1, max(1, most)})

    def taken(self, batch: Batch) -> float:
        """Measure a run as costs do."""
        return self.measure(batch.items) if self.measures else batch.size

    def bounded(self, items: Sequence[Item]) -> float:
        """Measure a batch as ``limit`` does."""
        return self.measure(items) if self.sized else len(items)

    def measure(self, items: Sequence[Item]) -> float:
        """Measure a batch as costs do: its items, their sizes, or the area it is padded to."""
        if not self.measures:
            return len(items)
        if self.pads:
            return len(items) * self._padded(max(item.size for item in items))
        return sum(item.size for item in items)


def nbytes(x: Any, depth: int = DEPTH) -> int:
    """Estimate what an input holds on to, in bytes.

    Of a long list or tuple, the first stands for all; what lies deeper than ``depth`` is not seen.
    """
    kind = x.__class__
    if kind is np.ndarray:
        return int(x.nbytes)
    if kind in SCALARS or kind is str or kind is bytes:
        return sys.getsizeof(x)
    if depth and issubclass(kind, ROWS) and len(x) > FEW:
        return sys.getsizeof(x) + len(x) * nbytes(x[0], depth - 1)
    leaves = _leaves(x) if depth else ()
    if leaves:
        return sys.getsizeof(x) + sum(nbytes(leaf, depth - 1) for leaf in leaves)
    found = getattr(x, "nbytes", None)
    return found if isinstance(found, int) else sys.getsizeof(x)


def _leaves(x: Any) -> Collection[Any]:
    if issubclass(x.__class__, ROWS):
        return cast("Collection[Any]", x)
    if issubclass(x.__class__, dict):
        return cast("Collection[Any]", x.values())
    return [getattr(x, name, None) for name in getattr(x, "__dataclass_fields__", ())]


def _one(_: Any) -> float:
    return 1.0
