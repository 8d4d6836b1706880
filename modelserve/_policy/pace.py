"""What can be done in time: how large a batch may be, and whom there is no use to accept.

>>> pace = Pace(slo=0.1, limit=64, workers=1)
>>> for size in (1, 8, 64) * 3:
...     pace.costs.observe(size, 0.010 + 0.001 * size)
>>> pace.cap(load=640, left=0.1)
40
>>> round(pace.lateness(now=0.0, load=640, size=1), 2)
0.75
"""

from __future__ import annotations

import math
from heapq import heapify, heapreplace
from typing import final

from modelserve._policy.costs import Costs

MARGIN = 2.0
"""How far above the mean a batch is expected to end, in steps from the mean to the 95th
percentile, where one that ends late is work for nothing."""


@final
class Pace:
    """The cost of batches as it is learned, and what follows of it for one batcher.

    Costs are always learned; sizes are bounded and items refused only with ``slo``, in seconds
    from coming to being answered. Sizes and loads are what ``limit`` is: items or their sizes.
    """

    def __init__(self, slo: float | None, limit: float, workers: int) -> None:
        self.slo = math.inf if slo is None else slo
        self.limit = limit
        self.costs = Costs()
        self._workers = workers
        self._ends: dict[object, float] = {}
        self._least, self._most = math.inf, 0.0
        """The sizes between which batches have been."""

    def began(self, run: object, now: float, size: float) -> None:
        """Expect a run to end."""
        self._ends[run] = now + self._expected(size)
        self._least, self._most = min(self._least, size), max(self._most, size)

    def ended(self, run: object) -> None:
        """Expect it no more."""
        self._ends.pop(run, None)

    def cap(self, load: float, left: float) -> float:
        """Return how large the next batch may be, of ``load`` that is queued.

        While that is not behind, nor so large that the next item, which has ``left`` seconds, would
        be answered late. Where it would be even alone, the backlog is got done with at the knee.
        """
        if self.slo == math.inf:
            return self.limit
        if not self.costs.high(1) <= left:
            return self.costs.knee(int(self.limit))
        best = self._best(self.limit)
        return best if load > best else min(best, self.costs.largest(left, int(self.limit)))

    def lateness(
        self, now: float, load: float, size: float, left: float = math.inf, each: float = 1.0
    ) -> float:
        """Return by how many seconds an item would be answered later than asked for.

        It came now, behind ``load``, with ``left`` seconds. Its batch is expected to be filled by
        those who come later. Nobody is late where nobody waits, as costs are learned of those who
        are served. ``each`` is what costs are known by for each that ``limit`` counts.
        """
        free = self._workers - len(self._ends)
        if load <= 0 and free > 0:
            return -math.inf
        cap = self._best(self.limit * each)
        before = math.ceil((load + min(size, cap)) / cap) - 1
        begins = [now] * free + [max(now, end) for end in self._ends.values()]
        heapify(begins)
        seconds = self._expected(cap)
        for _ in range(before):
            heapreplace(begins, begins[0] + seconds)
        last = max(size, cap)
        expected = self._expected(last)
        spread = (self.reach(last) - expected) * math.sqrt(1 + before // len(begins))
        return begins[0] - now + expected + spread - min(left, self.slo)

    def next_end(self, each: float = 1.0) -> float | None:
        """Return in how many seconds a batch should have run; None while nothing is known."""
        expected = self.costs.expected(self.limit * each)
        return None if math.isnan(expected) else expected

    def reach(self, size: float) -> float:
        """Return how many seconds an item should have left to go with a batch of that size."""
        expected = self._expected(size)
        return expected + MARGIN * (self.costs.high(size) - expected) if expected else 0.0

    def _best(self, limit: float) -> float:
        """Return the size up to ``limit`` at which most are answered in time.

        A larger one than that of the knee is hardly faster. Who comes when a batch has just begun
        waits for two: half of ``slo`` is what one may take, as in Nexus (Shen et al., "Nexus: A GPU
        Cluster Engine for Accelerating DNN-Based Video Analysis", SOSP 2019, section 4.1). Where
        the smallest takes more than a third, it is better to be late for some: if costs rise in a
        line from those of the smallest, most are in time with the harmonic mean of these and
        ``slo``. Two sizes have to be known before any of that is.
        """
        knee = self.costs.knee(int(limit))
        least = self.costs.high(1)
        if not least < self.slo:
            return knee
        seconds = max(self.slo / 2, 2 * least * self.slo / (least + self.slo))
        best: float = self.costs.largest(seconds, int(limit))
        if 0 < self._most < 2 * self._least:
            best = max(best, 2 * self._least)
        return min(best, knee)

    def _expected(self, size: float) -> float:
        expected = self.costs.expected(size)
        return 0.0 if math.isnan(expected) else expected
