"""Which queued items run with the oldest one, where a batch is padded to its longest item.

The oldest always runs, so nobody starves: whoever has ``n`` items before it runs in the
``n + 1``-th batch at the latest. Its company grows from it in the order of length, one neighbour at
a time, the shorter or the longer one: whichever makes the batch cheaper for what runs in it.

An item counts as what it would cost in a full batch of its own length. To count items would be to
skim the short ones: the long ones, left to run apart, make all of them 1.3 times as dear in the
replay of this module's tests. That a measured cost decides between padding a batch up and cutting
it down is a policy of TensorFlow Serving, there of counts alone (``batch_scheduler_utils.h``,
MINIMIZE_TPU_COST_PER_REQUEST).

>>> company([8, 100, 9, 7, 98], anchor=0, limit=3, cost=None)
[0, 2, 3]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import mul

_AS_CHEAP = 1 + 1e-9
"""Rounding must not keep a company small."""


def company(
    lengths: Sequence[int],
    anchor: int,
    limit: int,
    cost: Callable[[int, int], float] | None,
    budget: float = math.inf,
) -> list[int]:
    """Return the indices, in order, of the items that run with the item ``anchor``, and of it.

    ``lengths`` are in the order of age, and those that a batch is padded to which has the item as
    its longest. A batch of ``n`` items of which the longest is ``longest`` has ``n <= limit`` and
    ``n * longest <= budget``, unless it is the anchor alone.

    ``cost(n, longest)`` is what a batch costs, in any unit; it is asked of full ones too that the
    queue could not fill. The company is as large as it was cheapest while it grew; of equally cheap
    ones the largest is taken, and of equally good neighbours the older. Without a cost it grows as
    far as it may, with little padding. Takes O(k log k) for k items, and at most four calls of
    ``cost`` for each of ``limit``.

    >>> def cost(n, longest):  # an accelerator that runs 3 as it runs 4
    ...     return {1: 1, 2: 2, 3: 4, 4: 4}[n] * longest
    >>> company([8, 8, 8], anchor=0, limit=4, cost=cost)
    [0, 1]
    >>> company([10, 20, 40], anchor=0, limit=4, cost=None, budget=64)
    [0, 1]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    at = order.index(anchor)
    order = order[max(0, at - limit + 1) : at + limit]
    ranked = [max(1, lengths[index]) for index in order]
    price = cost or mul
    worth = {length: _in_full(price, length, limit, budget) for length in set(ranked)}
    low = order.index(anchor)
    high = low + 1
    total = worth[ranked[low]]
    least, kept = price(1, ranked[low]) / total, (low, high)
    while high - low < limit:
        n = high - low + 1
        sides = [(low - 1, ranked[high - 1])] if low else []
        if high < len(order):
            sides.append((high, ranked[high]))
        offers = [
            (price(n, longest) / (total + worth[ranked[side]]), order[side], side)
            for side, longest in sides
            if n * longest <= budget
        ]
        if not offers:
            break
        rate, _, side = min(offers)
        total += worth[ranked[side]]
        low, high = min(low, side), max(high, side + 1)
        if cost is None or rate <= least * _AS_CHEAP:
            least, kept = rate, (low, high)
    return sorted(order[slice(*kept)])


def _in_full(price: Callable[[int, int], float], length: int, limit: int, budget: float) -> float:
    """What an item costs in a full batch of its own length; 1 where that is nothing."""
    n = max(1, int(min(limit, budget / length)))
    return price(n, length) / n or 1.0
