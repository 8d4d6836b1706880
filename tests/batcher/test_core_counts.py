"""What is counted: why batches were cut, how large they were, how long all took."""

import numpy as np
import pytest

import modelserve as ms
from modelserve.batcher import Pad
from modelserve.testing import FakeClock, GatedPredictor
from tests.batcher.asking import (
    LIMIT,
    both,
    one_batch,
    outcome,
    same,
)


def answers(futures):
    return [outcome(future) for future in futures]


@both
def test_it_is_counted_why_batches_are_cut(colour):
    clock = FakeClock()
    p = ms.DynamicBatcher(
        colour(same), max_batch_size=2, max_wait=0.001, clock=clock, name="counted"
    )
    futures = [p.submit(n) for n in range(2)]
    assert answers(futures) == [0, 1]
    lone = p.submit(2)
    clock.advance(0.001)
    assert outcome(lone) == 2
    held = one_batch(colour(same), 9)
    last = held.submit(3)
    held.close(timeout=LIMIT)

    assert p.stats.releases == {"full": 1, "waited": 1}
    assert (outcome(last), held.stats.releases) == (3, {"drain": 1})


@both
def test_sizes_and_times_of_batches_are_shown(colour):
    clock = FakeClock()

    def slow(xs):
        clock.advance(2.0)
        return xs

    p = one_batch(colour(slow), 3, clock=clock)
    futures = [p.submit(0)]
    clock.advance(4.0)
    futures += [p.submit(1), p.submit(2)]
    assert answers(futures) == [0, 1, 2]
    p.close(timeout=LIMIT)
    stats = p.stats

    assert stats.batch_sizes == {4: 1}
    assert stats.mean_batch_size == 3.0
    assert tuple(stats.run_seconds) == pytest.approx((2.0,) * 4, rel=0.02)
    assert stats.queue_seconds.p50 == pytest.approx(0.0, abs=1e-6)
    assert stats.queue_seconds.max == pytest.approx(4.0, rel=0.02)


def test_batches_of_one_beside_others_are_counted_and_described():
    gate = GatedPredictor(lambda rows: rows)
    p = ms.DynamicBatcher(gate, name="ragged")
    first = p.submit(np.zeros(1))
    gate.wait_entered(1)
    futures = [p.submit(np.zeros(n)) for n in range(2, 8)]
    gate.open()
    assert [len(outcome(future)) for future in [first, *futures]] == list(range(1, 8))

    assert p.stats.apart == 5  # the last of them had nobody beside it
    assert "5 batches of one beside items that differ in shape, dtype or structure" in p.summary()
    assert "see Pad and AsList" in ms.describe(p)


def test_the_share_of_padding_is_shown():
    p = one_batch(lambda xs: xs, 2, layout=Pad(mask=None, trim=True))
    assert p.stats.padding == 0.0
    futures = [p.submit(np.ones(n)) for n in (1, 3)]
    assert [outcome(future).sum() for future in futures] == [1, 3]

    assert p.stats.padding == pytest.approx(2 / 6)
    assert "33% padding" in p.summary()


@both
def test_warm_calls_are_released_for_no_reason_and_take_no_time(colour):
    p = ms.DynamicBatcher(colour(same))
    p.warm(1)

    assert (p.stats.releases, p.stats.batch_sizes) == ({}, {})
    assert np.isnan(p.stats.queue_seconds.p50)
    assert np.isnan(p.stats.run_seconds.p50)
