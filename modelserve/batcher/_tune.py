"""What settings a load needs: a batcher's own policy and learned costs, in simulated time."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from functools import cache
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from modelserve._policy.replay import Arrival, Replay, replay
from modelserve.batcher._tuning import Tuning, TuningRow

if TYPE_CHECKING:
    from modelserve._policy.costs import Costs
    from modelserve.batcher._batcher import DynamicBatcher
    from modelserve.batcher._form import Form

T = TypeVar("T", int, float)

ARRIVALS = 10_000
"""How many a rate stands for, when it is not said for how long."""

LOADS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
"""Shares of its capacity at which each setting is tried, before the place between is narrowed.

At all of it a queue grows for ever, though in a short trace it may not be seen.
"""

RESOLUTION = 0.005
"""The share of its capacity to within which the highest load of a setting is found."""


def tune(  # noqa: PLR0913 - one word each
    batcher: DynamicBatcher[Any, Any],
    trace: float | Iterable[float | tuple[float, float]],
    *,
    slo: float,
    seconds: float | None = None,
    max_batch_sizes: Iterable[int] | None = None,
    max_waits: Iterable[float] | None = None,
    workers: Iterable[int] | None = None,
    seed: int = 0,
) -> Tuning:
    """Find out which settings of a batcher meet an SLO, and up to which load, by simulation.

    ``trace`` says when requests come: their times in seconds, recorded from real traffic, or a
    number: that many a second on average, at random (a Poisson process), for ``seconds``. Where
    items differ in size (``size=``, or a layout that pads), each is a pair of time and size.
    ``slo``, in seconds, is what the 99th percentile of latency is to be within.

    The trace is replayed through the batcher's own way of forming batches, which take as long as
    the batcher has learned by now (:meth:`DynamicBatcher.costs`), with as much noise. Each of
    ``max_batch_sizes`` is tried with each of ``max_waits``, in seconds, and ``workers``; by
    default the batcher's own, its batch size also halved a few times, and no wait. Then the trace
    is slowed down and sped up to find the highest load that still meets the SLO: also loads that
    could not be made here.

    It is assumed that workers do not slow one another, which several on one device do; that costs
    of sizes never seen lie on the line fitted to the others; and that nobody has a deadline, is
    refused, or comes from another shape than the others. Handing over, some 50 microseconds, is
    not counted. A trace that is short flatters loads near the capacity.

    Raises ValueError for a batcher that has run fewer than two batches, and for traces and
    settings that are none.

    >>> import modelserve as ms
    >>> batcher = ms.DynamicBatcher(lambda texts: [text.upper() for text in texts])
    >>> batcher.submit("a").result(), batcher.submit("b").result()
    ('A', 'B')
    >>> tuning = ms.tune(batcher, [0.0, 0.4, 0.5, 1.0], slo=60.0, max_batch_sizes=[1, 8])
    >>> [(row.max_batch_size, row.meets) for row in tuning.rows]
    [(1, True), (8, True)]
    """
    costs = batcher.costs()
    if costs.batches < 2:  # noqa: PLR2004 - the least that tells anything
        raise ValueError(
            f"{batcher.name!r} has not learned yet what a batch costs: send it some traffic, or "
            "`ms.warm` it first"
        )
    own = batcher._settings  # noqa: SLF001 - of one house
    if not 0 < slo < math.inf:
        raise ValueError(f"slo={slo}: pass the seconds within which 99 of 100 are to be answered")
    recorded = _trace(trace, seconds, seed, sized=own.form.measures)
    largest = max(recorded.sizes) if own.form.sized else 1
    halves = [n for n in (own.form.limit >> step for step in range(6)) if n >= largest]
    sizes = _checked("max_batch_sizes", max_batch_sizes, halves or [own.form.limit], largest)
    waits = _checked("max_waits", max_waits, [0.0, own.max_wait], 0)
    counts = _checked("workers", workers, [own.workers], 1)
    tried = [
        _Trial(recorded, own.form, costs, setting, seed).run(slo)
        for setting in product(sizes, waits, counts)
    ]
    return Tuning(slo, recorded.load, [row for row, _ in tried], [curve for _, curve in tried])


def _checked(name: str, given: Iterable[T] | None, default: Iterable[T], least: float) -> list[T]:
    values = sorted(set(default if given is None else given))
    wrong = [value for value in values if not least <= value < math.inf]
    if wrong or not values:
        raise ValueError(f"{name}={wrong}: pass some numbers, {least:g} or more")
    return values


class _Trace(NamedTuple):
    """Arrivals in order, the first at 0, and how many come in a second."""

    times: list[float]
    sizes: list[float]
    load: float

    def at(self, load: float) -> list[Arrival]:
        """Speed it up to a load."""
        factor = self.load / load
        return [Arrival(at * factor, size) for at, size in zip(self.times, self.sizes, strict=True)]


def _trace(
    trace: float | Iterable[float | tuple[float, float]],
    seconds: float | None,
    seed: int,
    *,
    sized: bool,
) -> _Trace:
    if not isinstance(trace, Iterable):
        trace = _poisson(trace, seconds, Random(seed))  # noqa: S311 - no secret
    elif seconds is not None:
        raise ValueError(
            "seconds= says how long to draw from a rate: a recorded trace has a length"
        )
    entries = [entry if isinstance(entry, Iterable) else (entry, math.nan) for entry in trace]
    pairs = sorted((float(at), float(size)) for at, size in entries)
    regular = all(math.isfinite(at) for at, _ in pairs)
    if not regular or not pairs or pairs[0][0] == pairs[-1][0]:
        raise ValueError("a trace needs two arrivals or more, at times in seconds that differ")
    if sized and not all(0 <= size < math.inf for _, size in pairs):
        raise ValueError(
            "batches depend on the sizes of their items: pass a trace of pairs of time and size"
        )
    times = [at - pairs[0][0] for at, _ in pairs]
    sizes = [size if sized else 1.0 for _, size in pairs]
    return _Trace(times, sizes, load=(len(times) - 1) / times[-1])


def _poisson(rate: float, seconds: float | None, rng: Random) -> list[float]:
    end = ARRIVALS / rate if seconds is None and rate else seconds or math.nan
    if not (0 < rate < math.inf and 0 < end < math.inf):
        raise ValueError(f"trace={rate}, seconds={seconds}: pass requests a second, for how long")
    times = [rng.expovariate(rate)]
    while times[-1] < end:
        times.append(times[-1] + rng.expovariate(rate))
    return times


class _Trial:
    """One setting, at any load."""

    def __init__(
        self, trace: _Trace, form: Form, costs: Costs, setting: tuple[int, float, int], seed: int
    ) -> None:
        self._trace = trace
        self._costs = costs
        self._form: Any = copy.copy(form)  # its items need no more than a time and a size
        self._form.limit, self._max_wait, self._workers = setting
        self._expected = cache(costs.expected)
        self._seed = seed
        self._sigma = math.sqrt(math.log1p(costs.deviation**2))  # of the logarithm of a cost

    def run(self, slo: float) -> tuple[TuningRow, dict[float, float]]:
        """Run it at the load of the trace and at others."""
        own = self._replay(self._trace.load)
        count = len(own.latencies)
        curve = {self._trace.load: _percentile(own, 0.99)}
        max_load = self._search(slo, curve)
        row = TuningRow(
            max_batch_size=self._form.limit,
            max_wait=self._max_wait,
            workers=self._workers,
            p50=_percentile(own, 0.5),
            p99=curve[self._trace.load],
            mean_batch_size=count / len(own.sizes),
            utilisation=own.busy / (own.seconds * self._workers),
            max_load=max_load,
            meets=curve[self._trace.load] <= slo,
        )
        return row, curve

    def _search(self, slo: float, curve: dict[float, float]) -> float:
        """Find the highest load within the SLO, and note what was found at all loads tried."""

        def meets(load: float) -> bool:
            curve[load] = _percentile(self._replay(load), 0.99)
            return curve[load] <= slo

        capacity = self._capacity()
        for share in LOADS:
            meets(share * capacity)
        good = max((load for load, p99 in curve.items() if p99 <= slo), default=0.0)
        bad = min((load for load in curve if load > good), default=good)
        while bad - good > RESOLUTION * capacity:
            middle = (good + bad) / 2
            if meets(middle):
                good = middle
            else:
                bad = middle
        return good

    def _capacity(self) -> float:
        """How many requests a second the workers could do if every batch were of the best size."""
        form, limit = self._form, self._form.limit
        mean = sum(self._trace.sizes) / len(self._trace.sizes) or 1.0
        counts = {round(limit ** (step / 32)) for step in range(33)}
        rates: list[float]
        if form.sized:
            rates = [count / mean / self._expected(count) for count in counts]
        else:
            rates = [count / self._expected(count * mean) for count in counts]
        return self._workers * max(rates)

    def _replay(self, load: float) -> Replay:
        luck = Random(self._seed)  # noqa: S311 - no secret; the same at every load

        def cost(size: float) -> float:
            seconds, sigma = self._expected(size), self._sigma
            return seconds * luck.lognormvariate(-sigma * sigma / 2, sigma) if sigma else seconds

        return replay(
            self._trace.at(load),
            self._form.lanes(self._max_wait, self._costs),
            cost=cost,
            measure=self._form.measure,
            workers=self._workers,
        )


def _percentile(replayed: Replay, share: float) -> float:
    """By nearest rank."""
    latencies = sorted(replayed.latencies)
    return latencies[math.ceil(share * len(latencies)) - 1]
