"""What a batch costs by its size, learned while serving.

A moving average for each power of two of sizes, a line fitted through them, and the 95th percentile
as the mean and 1.65 pooled standard deviations, as in Clipper (Crankshaw et al., "Clipper: A
Low-Latency Online Prediction Serving System", NSDI 2017, section 4.3.2). Deviations are pooled as
shares of the expected cost, since what costs ten times as much varies about ten times as much.

>>> costs = Costs()
>>> for size in (1, 2, 4, 8, 16, 32, 64) * 2:
...     costs.observe(size, seconds=0.010 + 0.001 * size)
>>> round(costs.expected(48), 4), costs.largest(0.050, limit=64), costs.knee(limit=64)
(0.058, 40, 53)
"""

from __future__ import annotations

import math
from bisect import bisect_left
from copy import deepcopy
from itertools import pairwise
from math import frexp, inf
from typing import final

MEMORY = 32
"""About how many batches of its size an estimate stands on."""

FORGET = 2048
"""Batches after which a size that none of them had begins anew, so that it is tried again."""

REFRESH = 16
"""Every how many batches well-known costs are reckoned anew; a change of costs is seen at once."""

DOUBT = 3.0
"""How many times more, or less, than expected a batch costs when it is not believed at once."""

STRIKES = 3
"""How many such batches in a row are believed: the mildest of them."""

SURE = 8
"""Batches of a size before it is believed to cost more than in proportion to other sizes."""

REACH = 2
"""How many times the largest size known may be tried: an extrapolation is no measurement."""

GOOD = 0.97
"""The share of the best rate that is enough, for the sake of smaller batches."""

P95 = 1.65
"""Standard deviations from the mean of a normal distribution to its 95th percentile."""

LEAST = 1e-9
"""Seconds that a batch costs at least, also by a clock that is too coarse to see it."""

_STEEPEST = 1.5
"""Times proportional that costs rise inside a bucket at most, which keeps them above zero there."""

_TOO_LITTLE, _TOO_MUCH = 1 / DOUBT - 1, DOUBT - 1


class _Bucket:
    """The batches of one power of two of sizes: a point of the curve, and the slope there."""

    __slots__ = ("count", "last", "odd", "ratio", "seconds", "shared", "size", "slope", "spread")

    def __init__(self, size: float, seconds: float, now: int) -> None:
        self.size, self.seconds = size, seconds
        self.count = 1
        self.last = now
        self.spread = self.shared = self.slope = 0.0  # variance of sizes, covariance with seconds
        self.odd, self.ratio = 0, 1.0

    def average(self, off: float, more: float) -> None:
        """Move towards a batch that was larger by ``off`` and cost ``more`` than expected."""
        gain = 1.0 / self.count if self.count < MEMORY else 1.0 / MEMORY
        if off:
            more += self.slope * off
            self.size += gain * off
            keep = 1.0 - gain
            self.spread = keep * (self.spread + gain * off * off)
            self.shared = keep * (self.shared + gain * off * more)
        self.seconds += gain * more

    def tilt(self) -> None:
        """Reckon the slope anew."""
        if self.spread:
            steepest = _STEEPEST * self.seconds / self.size
            self.slope = min(max(self.shared / self.spread, 0.0), steepest)

    def convinced(self, ratio: float) -> bool:
        """Hear that costs are ``ratio`` times what they were, and say whether it is now believed.

        A first call may have been slow for reasons of its own, but none is fast by chance.
        """
        more = ratio > 1
        if self.odd and (self.ratio > 1) == more:
            self.ratio = (min if more else max)(self.ratio, ratio)
        else:
            self.odd, self.ratio = 0, ratio
        self.odd += 1
        if self.odd < STRIKES and (more or self.count > 2):  # noqa: PLR2004 - it is the second
            return False
        self.seconds = max(self.seconds * self.ratio, LEAST)
        self.shared *= self.ratio
        self.count, self.odd = 2, 0
        return True

    def is_usual(self, beside: _Bucket) -> bool:
        """Say whether it costs no more than in proportion to a larger or a smaller size."""
        return self.seconds * min(self.size, beside.size) <= beside.seconds * self.size


class _Curve:
    """Points joined by lines. Beyond them the line fitted through them goes on, in proportion."""

    def __init__(self, buckets: list[_Bucket]) -> None:
        self._sizes = [bucket.size for bucket in buckets]
        self._seconds = [bucket.seconds for bucket in buckets]
        self._fixed, self._each = _fit(buckets) if len(buckets) > 1 else (0.0, 1.0)
        self._steps: dict[int, list[tuple[int, float]]] = {}
        self._knees: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    def at(self, size: float) -> float:
        sizes, seconds = self._sizes, self._seconds
        if not sizes:
            return math.nan
        right = bisect_left(sizes, size)
        if 0 < right < len(sizes):
            left = right - 1
            share = (size - sizes[left]) / (sizes[right] - sizes[left])
            return seconds[left] + share * (seconds[right] - seconds[left])
        end = min(right, len(sizes) - 1)
        known = self._fixed + self._each * sizes[end]
        if not known or (len(sizes) == 1 and size < sizes[0]):
            return seconds[end]
        return seconds[end] * (self._fixed + self._each * size) / known

    def steps(self, limit: int) -> list[tuple[int, float]]:
        """List whole sizes, with their costs, between which the curve is straight."""
        steps = self._steps.get(limit)
        if steps is None:
            top = limit
            if len(self) > 1:
                top = max(1, min(limit, math.ceil(REACH * self._sizes[-1])))
            corners = {whole(size) for size in self._sizes for whole in (math.floor, math.ceil)}
            sizes = sorted({1, top, *(size for size in corners if 1 < size < top)})
            steps = self._steps[limit] = [(size, self.at(size)) for size in sizes]
        return steps

    def knee(self, limit: int) -> int:
        knee = self._knees.get(limit)
        if knee is None:
            knee = self._knees[limit] = self._knee(self.steps(limit))
        return knee

    def _knee(self, steps: list[tuple[int, float]]) -> int:
        top = steps[-1][0]
        enough = GOOD * max(size / seconds for size, seconds in steps)
        untried = frexp(top)[1] > frexp(self._sizes[-1])[1]
        if untried and GOOD * top / self._seconds[-1] > enough:
            return top  # for all we know, it costs no more than the last
        spare = [(size, size - enough * seconds) for size, seconds in steps]
        for (low, lacks), (high, has) in pairwise(spare):
            if lacks < 0 <= has:
                return min(high, low + math.ceil((high - low) * lacks / (lacks - has)))
        return 1


def _fit(buckets: list[_Bucket]) -> tuple[float, float]:
    """Fit seconds = fixed + each * size, neither below zero, to the least relative errors."""
    points = [(b.size, b.seconds, min(b.count, MEMORY) / b.seconds**2) for b in buckets]
    total = sum(weight for _, _, weight in points)
    size = sum(weight * n for n, _, weight in points) / total
    seconds = sum(weight * s for _, s, weight in points) / total
    shared = sum(weight * (n - size) * (s - seconds) for n, s, weight in points)
    each = max(0.0, shared / sum(weight * (n - size) ** 2 for n, _, weight in points))
    if each * size <= seconds:
        return seconds - each * size, each
    squares = sum(weight * n * n for n, _, weight in points)
    return 0.0, sum(weight * n * s for n, s, weight in points) / squares


@final
class Costs:
    """Costs of batches in seconds, by sizes of any unit: items, tokens, padded areas.

    Whoever shares one among threads holds a lock, to read it too.
    """

    __slots__ = ("_batches", "_buckets", "_compared", "_curve", "_variance")

    def __init__(self) -> None:
        self._buckets: dict[int, _Bucket] = {}
        self._curve: _Curve | None = None
        self._batches = self._compared = 0
        self._variance = 0.0

    @property
    def batches(self) -> int:
        """How many were observed."""
        return self._batches

    @property
    def sizes(self) -> int:
        """How many sizes are known that differ enough to tell what size costs."""
        return len(self._known())

    @property
    def deviation(self) -> float:
        """The standard deviation of a cost, as a share of the expected one."""
        return math.sqrt(self._variance)

    def observe(self, size: float, seconds: float) -> None:
        """Learn from one batch; sizes below 1 count as 0.

        What is negative, infinite or NaN teaches nothing.
        """
        if not (0.0 <= size < inf and 0.0 <= seconds < inf):
            return
        now = self._batches = self._batches + 1
        if size < 1.0:
            size = 0.0
        key = frexp(size)[1]
        bucket = self._buckets.get(key)
        if bucket is None or now - bucket.last > FORGET:
            self._buckets[key] = _Bucket(size, max(seconds, LEAST), now)
            self._curve = None
            return
        bucket.last = now
        bucket.count += 1
        if bucket.count <= MEMORY or not bucket.count % REFRESH:
            bucket.tilt()
            self._curve = None
        off = size - bucket.size
        expected = bucket.seconds + bucket.slope * off
        error = seconds / expected - 1.0
        if _TOO_LITTLE <= error <= _TOO_MUCH:
            bucket.odd = 0
        elif bucket.convinced(1.0 + error):
            self._curve = None
            return
        else:
            error = _TOO_MUCH if error > 0.0 else _TOO_LITTLE
        if self._compared < 2 * MEMORY:
            self._compared += 1
        self._variance += (error * error - self._variance) / self._compared
        bucket.average(off, expected * error)

    def expected(self, size: float) -> float:
        """Return what a batch of a size costs on average, in seconds; NaN when nothing is known.

        Lines join the sizes seen, and beyond them the fitted line goes on. When a single one was
        seen, more costs proportionally more and less costs no less.
        """
        return self._known().at(size)

    def high(self, size: float) -> float:
        """Return what 95 of 100 batches of a size do not exceed, in seconds; NaN as above."""
        return self.expected(size) * (1 + P95 * self.deviation)

    def knee(self, limit: int) -> int:
        """Return the smallest size with nearly the best rate, up to ``limit``.

        It is ``limit`` while fewer than two sizes are known. Up to twice the largest size known it
        is what has not been tried, unless that would be worse even if it cost no more.
        """
        curve = self._known()
        return limit if len(curve) < 2 else curve.knee(limit)  # noqa: PLR2004 - a line has two ends

    def largest(self, seconds: float, limit: int) -> int:
        """Return the largest size up to ``limit`` that 95 of 100 times takes ``seconds`` at most.

        It is at least 1, at most twice the largest of several sizes known, and ``limit`` when
        nothing is known.
        """
        curve = self._known()
        if not len(curve):
            return limit
        mean = seconds / (1 + P95 * self.deviation)
        steps = curve.steps(limit)
        if steps[-1][1] <= mean:
            return steps[-1][0]
        for (high, more), (low, less) in pairwise(reversed(steps)):
            if less <= mean:
                return low + math.floor((high - low) * (mean - less) / (more - less))
        return 1

    def copy(self) -> Costs:
        """Return what is known by now."""
        return deepcopy(self)

    def _known(self) -> _Curve:
        if self._curve is None:
            self._curve = _Curve(self._believed())
        return self._curve

    def _believed(self) -> list[_Bucket]:
        """Leave out what is too old to keep larger sizes from being tried, and odd first calls."""
        buckets = sorted(self._buckets.values(), key=lambda bucket: bucket.size)
        while buckets and self._batches - buckets[-1].last > FORGET:
            buckets.pop()
        known = [bucket for bucket in buckets if bucket.count > 1]
        return [b for b in buckets if b.count >= SURE or all(map(b.is_usual, known))]
