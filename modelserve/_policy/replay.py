"""What a batcher would do with a trace of arrivals: its own policy, in simulated time.

>>> arrivals = [Arrival(at) for at in (0.0, 0.1, 0.2)]
>>> replay(arrivals, Lanes(limit=2, max_wait=0.0), cost=lambda size: 1.0, measure=len)
Replay(latencies=[1.0, 1.9, 1.8], sizes=[1, 2], busy=2.0, seconds=2.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple, final

from modelserve._policy.lanes import Lanes


@final
class Arrival:
    """One item: when it comes, what it takes of a batch's room, and what it may lie with."""

    __slots__ = ("at", "ended", "lane", "size")

    def __init__(self, at: float, size: float = 1.0, lane: str | None = None) -> None:
        self.at = at
        self.size = size
        self.lane = lane
        self.ended = math.nan


class Replay(NamedTuple):
    """What came of a trace: seconds from arrival to answer, in the order of arrival, and counts.

    ``sizes`` are the numbers of items of the batches as they were cut, ``busy`` the seconds that
    they took in all, and ``seconds`` is how long it was from the first arrival to the last answer.
    """

    latencies: list[float]
    sizes: list[int]
    busy: float
    seconds: float


def replay(
    arrivals: Sequence[Arrival],
    lanes: Lanes[Arrival],
    *,
    cost: Callable[[float], float],
    measure: Callable[[Sequence[Arrival]], float],
    workers: int = 1,
) -> Replay:
    """Run arrivals, the first first, through empty lanes and workers that know no other work.

    ``cost`` says how long a batch takes whose items ``measure`` so much. Workers do not slow one
    another. What comes just when a worker gets free still joins its batch. ``arrivals`` are told
    when they ended.
    """
    came = iter(arrivals)
    coming = next(came, None)
    ends: list[float] = []
    sizes: list[int] = []
    busy = now = 0.0
    alarm = math.inf
    while coming is not None or lanes.size:
        now = min(alarm, ends[0] if ends else math.inf, coming.at if coming else math.inf)
        while ends and ends[0] <= now:
            heappop(ends)
        while coming is not None and coming.at <= now:
            lanes.push(coming, coming.lane, busy=len(ends) > 0)
            coming = next(came, None)
        alarm = math.inf
        while len(ends) < workers:
            pause = lanes.wait(now)
            if pause > 0:
                alarm = now + pause
                break
            batch = lanes.cut(now)
            seconds = cost(measure(batch))
            ended = now + seconds
            heappush(ends, ended)
            for item in batch:
                item.ended = ended
            sizes.append(len(batch))
            busy += seconds
    latencies = [item.ended - item.at for item in arrivals]
    span = max(item.ended for item in arrivals) - arrivals[0].at if latencies else 0.0
    return Replay(latencies, sizes, busy, span)
