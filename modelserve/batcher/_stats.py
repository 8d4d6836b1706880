"""What a batcher counts, and shows of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from modelserve._policy.quantiles import Quantiles


class Spread(NamedTuple):
    """Quantiles of durations, in seconds; NaN while there are none.

    >>> Spread(p50=0.01, p90=0.02, p99=0.05, max=0.06).p99
    0.05
    """

    p50: float
    p90: float
    p99: float
    max: float


class BatcherStats(NamedTuple):
    """Counts of a batcher.

    ``calls`` were accepted, ``batches`` ran, ``items`` ran in them (again, after a failure: in
    ``reruns`` of the batches), and ``mean_batch_size`` is their quotient. ``queued`` wait now and
    ``running`` run. ``expired`` had no time left and ``abandoned`` nobody waiting when their turn
    came: they never ran, or not again. ``refused`` were told :class:`~modelserve.Overloaded`, and
    ``refusals`` counts why: the queue was ``full``, had too many ``bytes``, or would have answered
    ``late``.
    ``errors`` is callers that got an error of the model, ``stuck`` runs that were given up.

    ``releases`` counts why batches were cut: ``full``, a worker was ``free``, the oldest item had
    ``waited`` long enough, or the batcher was to ``drain``. ``batch_sizes`` counts batches by the
    power of two that holds them. ``apart`` is batches of one cut while items of other lanes
    waited, which could not run with it. ``padding`` is the share of what ran that was padding.
    ``queue_seconds`` and ``run_seconds`` are of items and of batches; they are kept with a relative
    error of 2 percent. ``blocked_loop`` is sync calls that kept an event loop waiting.
    """

    calls: int
    batches: int
    items: int
    mean_batch_size: float
    queued: int
    running: int
    expired: int
    abandoned: int
    refused: int
    errors: int
    reruns: int
    stuck: int
    apart: int
    padding: float
    refusals: Mapping[str, int]
    releases: Mapping[str, int]
    batch_sizes: Mapping[int, int]
    queue_seconds: Spread
    run_seconds: Spread
    blocked_loop: int


class Counts:
    """What a batcher has counted so far; whoever changes or reads it holds the batcher's lock."""

    def __init__(self) -> None:
        self.calls = self.batches = self.items = 0
        self.expired = self.abandoned = self.errors = 0
        self.reruns = self.stuck = self.apart = 0
        self.room = self.used = 0.0
        """What batches had room for when padded, and what of it was no padding."""
        self.refusals: Counter[str] = Counter()
        self.releases: Counter[str] = Counter()
        self.sizes = [0] * 64
        """Batches by the bits of one less than their size."""
        self.queued = Quantiles()
        self.ran = Quantiles()

    def snapshot(self, queued: int, running: int, blocked_loop: int) -> BatcherStats:
        """Freeze what is counted."""
        return BatcherStats(
            calls=self.calls,
            batches=self.batches,
            items=self.items,
            mean_batch_size=self.items / self.batches if self.batches else math.nan,
            queued=queued,
            running=running,
            expired=self.expired,
            abandoned=self.abandoned,
            refused=self.refusals.total(),
            errors=self.errors,
            reruns=self.reruns,
            stuck=self.stuck,
            apart=self.apart,
            padding=1 - self.used / self.room if self.room else 0.0,
            refusals=dict(+self.refusals),  # without those that were taken back
            releases=dict(self.releases),
            batch_sizes={1 << bits: count for bits, count in enumerate(self.sizes) if count},
            queue_seconds=_spread(self.queued),
            run_seconds=_spread(self.ran),
            blocked_loop=blocked_loop,
        )


def _spread(of: Quantiles) -> Spread:
    return Spread(of.quantile(0.5), of.quantile(0.9), of.quantile(0.99), of.quantile(1.0))
