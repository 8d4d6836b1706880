"""The best that a single device allows: late binding, zero wait, first come first served."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Run(NamedTuple):
    """One batch on a device: when it started and ended, in seconds, and of how many items."""

    start: float
    end: float
    size: int


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Draw the times of arrivals, ``rate`` a second on average."""
    draw = random.Random(seed)  # noqa: S311 - a benchmark
    arrivals: list[float] = []
    now = draw.expovariate(rate)
    while now < seconds:
        arrivals.append(now)
        now += draw.expovariate(rate)
    return arrivals


def oracle(
    arrivals: Sequence[float], service: Callable[[int, float], float], max_batch_size: int
) -> list[float]:
    """Give the latency of each arrival, in seconds, by simulation of discrete events.

    ``service(n, now)`` is what a batch of ``n`` that starts now takes. Whenever the device is free
    it takes all that has come, at most ``max_batch_size``.
    """
    latencies: list[float] = []
    free = 0.0
    while len(latencies) < len(arrivals):
        first = len(latencies)
        start = max(free, arrivals[first])
        last = first + 1
        while last < min(first + max_batch_size, len(arrivals)) and arrivals[last] <= start:
            last += 1
        free = start + service(last - first, start)
        latencies += [free - arrival for arrival in arrivals[first:last]]
    return latencies


def measured(runs: Sequence[Run], nominal: Callable[[int], float]) -> Callable[[int, float], float]:
    """Give the service times of a device that was as late at each moment as the real one was.

    A real wait ends late, and on a busy machine much too late: the oracle gets the lateness of the
    run that was next when its own starts.
    """
    starts = [run.start for run in runs]
    late = [run.end - run.start - nominal(run.size) for run in runs]

    def service(n: int, now: float) -> float:
        return nominal(n) + late[min(bisect_left(starts, now), len(late) - 1)]

    return service


def backlog(arrivals: Sequence[float], latencies: Sequence[float], now: float) -> int:
    """Count who had come and had no answer."""
    return sum(a <= now < a + late for a, late in zip(arrivals, latencies, strict=True))


def growth(arrivals: Sequence[float], latencies: Sequence[float], seconds: float) -> float:
    """Say by how many calls the queue grew from the second quarter of a run to the last, in mean.

    A queue that is in balance only wavers; one that is not grows by what it cannot serve.
    """

    def mean(quarter: int) -> float:
        looks = [seconds * (quarter + i / 20) / 4 for i in range(20)]
        return sum(backlog(arrivals, latencies, look) for look in looks) / len(looks)

    return mean(3) - mean(1)


def quantile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
