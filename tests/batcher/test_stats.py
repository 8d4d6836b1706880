import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve.batcher._stats import Counts, Spread


def counted(**counts):
    made = Counts()
    for name, value in counts.items():
        setattr(made, name, value)
    return made


def snapshot(counts, queued=0, running=0, blocked_loop=0):
    return counts.snapshot(queued, running, blocked_loop)


def test_nothing_has_happened_yet():
    stats = snapshot(Counts())
    counts = ("calls", "batches", "items", "queued", "running", "expired", "abandoned", "refused")
    counts += ("errors", "reruns", "stuck", "apart", "padding", "blocked_loop")

    assert {getattr(stats, name) for name in counts} == {0}
    assert math.isnan(stats.mean_batch_size)
    assert (stats.refusals, stats.releases, stats.batch_sizes) == ({}, {}, {})
    assert all(map(math.isnan, stats.queue_seconds + stats.run_seconds))


def test_each_count_stands_where_it_belongs():
    names = (
        "calls",
        "batches",
        "items",
        "expired",
        "abandoned",
        "errors",
        "reruns",
        "stuck",
        "apart",
    )
    stats = snapshot(counted(**{name: 10 + n for n, name in enumerate(names)}), 1, 2, 3)

    assert [getattr(stats, name) for name in names] == list(range(10, 19))
    assert (stats.queued, stats.running, stats.blocked_loop) == (1, 2, 3)
    assert stats.mean_batch_size == 12 / 11


def test_refusals_and_releases_are_counted_by_their_reasons():
    counts = Counts()
    for why in ("full", "late", "full"):
        counts.refusals[why] += 1
    counts.releases["free"] += 1
    stats = snapshot(counts)

    assert (stats.refused, stats.refusals) == (3, {"full": 2, "late": 1})
    assert stats.releases == {"free": 1}


def test_a_reason_that_was_taken_back_is_none():
    counts = Counts()
    counts.refusals["full"] += 1
    counts.refusals["full"] -= 1
    stats = snapshot(counts)

    assert (stats.refused, stats.refusals) == (0, {})


@given(st.lists(st.integers(1, 10_000), max_size=50))
def test_batches_are_counted_by_the_power_of_two_that_holds_them(sizes):
    counts = Counts()
    for size in sizes:
        counts.sizes[(size - 1).bit_length()] += 1
    shown = snapshot(counts).batch_sizes

    assert sum(shown.values()) == len(sizes)
    for bound, count in shown.items():
        assert count == sum(bound // 2 < size <= bound for size in sizes) > 0


@pytest.mark.parametrize(("room", "used", "padding"), [(8, 6, 0.25), (8, 8, 0.0), (0, 0, 0.0)])
def test_padding_is_the_share_of_what_ran_that_was_none_of_the_callers(room, used, padding):
    assert snapshot(counted(room=room, used=used)).padding == padding


def test_times_are_told_apart_and_by_their_quantiles():
    counts = Counts()
    for value in [n / 1000 for n in range(1, 1001)]:
        counts.queued.add(value)
    counts.ran.add(2.0)
    stats = snapshot(counts)

    assert stats.queue_seconds == Spread(
        *(pytest.approx(q, rel=0.03) for q in (0.5, 0.9, 0.99, 1.0))
    )
    assert stats.queue_seconds.max == 1.0
    assert stats.run_seconds == (2.0, 2.0, 2.0, 2.0)


def test_a_snapshot_does_not_change_with_what_it_is_of():
    counts = counted(calls=1)
    counts.refusals["full"] += 1
    counts.queued.add(1.0)
    before = snapshot(counts)
    shown = repr(before)
    counts.calls += 1
    counts.refusals["full"] += 1
    counts.releases["free"] += 1
    counts.sizes[0] += 1
    counts.queued.add(9.0)

    assert repr(before) == shown
    assert snapshot(counts).calls == 2
