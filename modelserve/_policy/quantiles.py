"""Quantiles of durations in constant memory, to within two percent.

Buckets whose bounds grow by a constant factor, as in DDSketch (Masson, Rim and Lee, "DDSketch: a
fast and fully-mergeable quantile sketch with relative-error guarantees", PVLDB 12, 2019, section
2), here of a fixed range, so that no bucket ever has to be collapsed.

>>> times = Quantiles()
>>> times.since(10.0, [9.999] * 98 + [9.8, 9.7])
>>> round(times.quantile(0.5), 4), round(times.quantile(0.99), 2), round(times.max, 3)
(0.001, 0.2, 0.3)
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import final

import numpy as np

ERROR = 0.02
"""What a quantile is off by at most, as a share of it, between LOW and HIGH."""

LOW, HIGH = 1e-6, 1e4
"""Seconds below and above which values are no longer told apart."""

ROOM = 2048
"""Values kept as they came, since many are digested for the price of a few."""

_GROWTH = (1 + ERROR) / (1 - ERROR)
_LOG_GROWTH = math.log(_GROWTH)
_BUCKETS = math.ceil(math.log(HIGH / LOW) / _LOG_GROWTH) + 1


@final
class Quantiles:
    """Durations in seconds. Whoever shares one among threads holds a lock, to read it too.

    Negative values, of a clock that steps back, and NaN count as zero.
    """

    __slots__ = ("_count", "_counts", "_ends", "_max", "_min", "_raw", "_starts", "_sum")

    def __init__(self) -> None:
        self._raw: list[float] = []
        self._starts: list[float] = []
        self._ends: list[tuple[float, int]] = []
        """Until when the next so many starts lasted."""
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._count = 0
        self._sum = 0.0
        self._min, self._max = math.inf, -math.inf

    def add(self, value: float) -> None:
        """Count one value."""
        self._raw.append(value)
        if len(self._raw) >= ROOM:
            self._digest()

    def since(self, now: float, starts: Sequence[float]) -> None:
        """Count how long each of these has lasted that end now."""
        if len(starts) == 1:  # as of calls that come alone: half the time
            self.add(now - starts[0])
            return
        self._starts.extend(starts)
        self._ends.append((now, len(starts)))
        if len(self._starts) >= ROOM:
            self._digest()

    @property
    def count(self) -> int:
        """How many values there were."""
        return self._count + len(self._raw) + len(self._starts)

    @property
    def sum(self) -> float:
        """What they add up to."""
        self._digest()
        return self._sum

    @property
    def min(self) -> float:
        """The smallest, exactly; NaN without any."""
        self._digest()
        return self._min if self._count else math.nan

    @property
    def max(self) -> float:
        """The largest, exactly; NaN without any."""
        self._digest()
        return self._max if self._count else math.nan

    def quantile(self, q: float) -> float:
        """Return the smallest value that a share ``q`` of all do not exceed; NaN without any.

        Raises ValueError for a share outside [0, 1].
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q={q} is no share: pass a number from 0 to 1")
        self._digest()
        rank = max(1, math.ceil(q * self._count))
        if rank >= self._count:
            return self.max
        if rank == 1:
            return self._min
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        middle = LOW * _GROWTH**bucket * 2 / (_GROWTH + 1)
        return min(max(middle, self._min), self._max)

    def merge(self, other: Quantiles) -> None:
        """Count all that another has counted."""
        other._digest()
        self._counts += other._counts
        self._count += other._count
        self._sum += other._sum
        self._min = min(self._min, other._min)
        self._max = max(self._max, other._max)

    def copy(self) -> Quantiles:
        """Return a snapshot."""
        copied = Quantiles()
        copied.merge(self)
        return copied

    def _digest(self) -> None:
        values = _floats(self._raw)
        if self._ends:
            ends, counts = zip(*self._ends, strict=True)
            with np.errstate(invalid="ignore"):  # of a clock that says infinity
                lasted = np.repeat(_floats(ends), counts) - _floats(self._starts)
            values = np.concatenate([values, lasted])
        if not len(values):
            return
        values = np.fmax(values, 0.0)  # of NaN and zero, zero
        for read in self._raw, self._starts, self._ends:
            read.clear()
        places = np.log(np.clip(values, LOW, HIGH) / LOW) / _LOG_GROWTH
        self._counts += np.bincount(np.ceil(places).astype(np.int64), minlength=_BUCKETS)
        self._count += len(values)
        self._sum += float(values.sum())
        self._min = min(self._min, float(values.min()))
        self._max = max(self._max, float(values.max()))


def _floats(values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Make an array, by way of one of Python's: in half the time."""
    return np.array(array("d", values))
