"""Traces replayed: as the batcher itself would do, and what follows for its settings."""

import asyncio
import itertools
import math
import random

import numpy as np
import pytest

import modelserve as ms
from modelserve._policy.lanes import Lanes
from modelserve._policy.replay import Arrival, replay
from modelserve.batcher._pad import Pad
from modelserve.batcher._tune import ARRIVALS, LOADS, RESOLUTION, tune
from modelserve.testing import FakeClock
from tests.batcher.asking import LIMIT, same
from tests.support import virtual
from tests.support.virtual import here

EVERY_TENTH = [0.1 * number for number in range(500)]
CAPACITY = 64 / (0.010 + 0.064)
"""Requests a second of a worker that runs batches of 64."""


def linear(size):
    return 0.010 + 0.001 * size


def taught(cost=linear, sizes=(1, 2, 4, 8, 16, 32, 64), **options):
    """Make a batcher that has learned what batches cost."""
    batcher = ms.DynamicBatcher(same, **{"max_batch_size": 64, **options})
    for size in sizes * 4:
        batcher._queues.core.pace.costs.observe(size, cost(size))
    return batcher


def poisson(rate, count, seed):
    rng = random.Random(seed)  # noqa: S311 - no secret
    return list(itertools.accumulate(rng.expovariate(rate) for _ in range(count)))


def scaled(times, factor):
    return [time / factor for time in times]


def by_the_batcher(times, *, seed, **options):
    """Return how long the batcher itself takes for each arrival, in virtual time."""

    async def main():
        async def predict(xs):
            await asyncio.sleep(linear(len(xs)))
            return xs

        async def ask(time):
            await asyncio.sleep(time)
            await batcher.acall(time)
            return here().time() - time

        batcher = ms.DynamicBatcher(predict, clock=here().time, **options)
        return await asyncio.gather(*map(ask, times))

    return virtual.run(main, seed=seed)


@pytest.mark.parametrize("max_batch_size", [1, 4, 64])
@pytest.mark.parametrize("max_wait", [0.0, 0.005, 0.050])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("load", [0.1, 0.6, 1.1])
def test_simulated_latencies_are_those_of_the_batcher_itself(
    max_batch_size, max_wait, workers, load
):
    times = poisson(load * workers * max_batch_size / linear(max_batch_size), 150, seed=workers)
    simulated = replay(
        [Arrival(time) for time in times],
        Lanes(limit=max_batch_size, max_wait=max_wait),
        cost=linear,
        measure=len,
        workers=workers,
    )
    real = by_the_batcher(
        times, seed=1, max_batch_size=max_batch_size, max_wait=max_wait, workers=workers
    )

    assert simulated.latencies == pytest.approx(real)


def test_a_batcher_that_has_run_is_tuned_by_what_it_has_learned():
    clock = FakeClock()

    def predict(xs):
        clock.advance(linear(len(xs)))
        return xs

    with ms.DynamicBatcher(predict, max_batch_size=4, clock=clock) as batcher:
        for x in range(3):
            batcher.submit(x).result(LIMIT)
        tuning = tune(batcher, EVERY_TENTH, slo=0.05)

    assert tuning.load == pytest.approx(10)
    assert {row.max_batch_size: row.p99 for row in tuning.rows} == pytest.approx(
        {1: 0.011, 2: 0.011, 4: 0.011}
    )


def test_a_row_tells_what_a_setting_does_at_the_load_of_the_trace():
    (row,) = tune(taught(), EVERY_TENTH, slo=0.02, max_batch_sizes=[8]).rows

    assert (row.max_batch_size, row.max_wait, row.workers, row.meets) == (8, 0.0, 1, True)
    assert (row.p50, row.p99, row.mean_batch_size) == pytest.approx((0.011, 0.011, 1.0))
    assert row.utilisation == pytest.approx(0.11, rel=0.01)


def test_two_workers_are_half_as_busy():
    one, two = tune(taught(), EVERY_TENTH, slo=0.02, max_batch_sizes=[8], workers=[1, 2]).rows

    assert two.utilisation == pytest.approx(one.utilisation / 2)


def test_the_batcher_itself_stays_as_it_was():
    batcher = taught()
    tune(batcher, EVERY_TENTH, slo=0.02, max_batch_sizes=[1, 8])

    assert batcher._settings.form.limit == 64


def test_pairs_that_come_together_run_together_after_the_first():
    pairs = [time + late for time in EVERY_TENTH for late in (0.0, 0.001, 0.002)]
    (row,) = tune(taught(), pairs, slo=0.02, max_batch_sizes=[8]).rows

    assert (row.p50, row.p99) == pytest.approx((0.021, 0.022))
    assert (row.mean_batch_size, row.meets) == (1.5, False)


@pytest.mark.parametrize("seed", range(3))
def test_the_highest_load_is_the_highest_that_meets_the_slo(seed):
    batcher, times = taught(), poisson(300, 2000, seed)
    (row,) = tune(batcher, times, slo=0.1, max_batch_sizes=[32]).rows
    load = tune(batcher, times, slo=0.1, max_batch_sizes=[1]).load

    def meets(rate):
        return (
            tune(batcher, scaled(times, rate / load), slo=0.1, max_batch_sizes=[32]).rows[0].meets
        )

    assert meets(row.max_load * (1 - 1e-9))
    assert not meets(row.max_load + 2 * RESOLUTION * CAPACITY)


def test_one_by_one_a_worker_carries_no_more_than_its_rate():
    slo_of_ten = 10 * linear(1)
    (row,) = tune(taught(), 50.0, slo=slo_of_ten, max_batch_sizes=[1]).rows

    assert 0.7 < row.max_load * linear(1) < 0.9


def test_larger_batches_and_more_workers_carry_more():
    tuning = tune(
        taught(), 300.0, seconds=10.0, slo=0.2, max_batch_sizes=[1, 8, 64], workers=[1, 2]
    )
    loads = {(row.max_batch_size, row.workers): row.max_load for row in tuning.rows}

    assert loads[1, 1] < loads[8, 1] < loads[64, 1] < CAPACITY
    assert all(1.8 * loads[n, 1] < loads[n, 2] < 2.3 * loads[n, 1] for n in (1, 8, 64))
    assert (tuning.best.max_batch_size, tuning.best.workers) == (64, 2)


def test_an_slo_that_no_batch_meets_is_met_at_no_load():
    tuning = tune(taught(), 50.0, seconds=10.0, slo=0.005, max_batch_sizes=[1, 64])

    assert [row.max_load for row in tuning.rows] == pytest.approx([0, 0])
    assert not any(row.meets for row in tuning.rows)
    assert tuning.best is None


def test_a_load_above_the_capacity_meets_an_slo_that_outlasts_the_trace():
    (row,) = tune(taught(), scaled(EVERY_TENTH, 1000), slo=100.0, max_batch_sizes=[1]).rows

    assert row.meets
    assert row.max_load >= 10_000 * (1 - 1e-9)


def test_costs_that_vary_cost_latency_but_are_the_same_on_average():
    steady, noisy = taught(), taught()
    costs = noisy._queues.core.pace.costs
    for number in range(400):
        costs.observe(8, linear(8) * (0.5, 1.5)[number % 2])
    options = {"slo": 0.1, "max_batch_sizes": [1]}
    (row,), (other,) = (tune(batcher, EVERY_TENTH, **options).rows for batcher in (noisy, steady))

    assert noisy.costs().deviation > 0.4
    assert row.p99 > 1.5 * other.p99
    assert row.utilisation == pytest.approx(other.utilisation, rel=0.06)


def test_the_same_seed_gives_the_same():
    batcher = taught()
    batcher._queues.core.pace.costs.observe(8, 2 * linear(8))
    options = {"slo": 0.1, "seconds": 5.0, "max_batch_sizes": [8]}
    one, same_seed, other = (tune(batcher, 400.0, seed=seed, **options) for seed in (1, 1, 2))

    assert one.rows == same_seed.rows
    assert one.rows != other.rows


def test_a_rate_stands_for_arrivals_at_random_for_some_seconds():
    options = {"slo": 0.1, "max_batch_sizes": [1], "max_waits": [0.0]}
    brief, long = tune(taught(), 50.0, seconds=1.0, **options), tune(taught(), 50.0, **options)

    assert brief.load == pytest.approx(50, rel=0.5)
    assert long.load == pytest.approx(50, rel=4 / math.sqrt(ARRIVALS))
    assert brief.rows[0].p99 < long.rows[0].p99


def test_by_default_the_own_setting_is_tried_and_halves_of_its_size_and_no_wait():
    rows = tune(taught(max_wait=0.01, workers=3), EVERY_TENTH, slo=0.1).rows

    assert [(row.max_batch_size, row.max_wait) for row in rows] == [
        (size, wait) for size in (2, 4, 8, 16, 32, 64) for wait in (0.0, 0.01)
    ]
    assert {row.workers for row in rows} == {3}


def test_the_order_and_the_start_of_a_trace_do_not_matter():
    late = [time + 1.7e9 for time in reversed(EVERY_TENTH)]
    one, other = (tune(taught(), trace, slo=0.1).rows[0] for trace in (EVERY_TENTH, late))

    assert other.p99 == pytest.approx(one.p99, abs=1e-6)


def test_numpy_arrays_are_traces():
    options = {"slo": 0.1, "max_batch_sizes": [8]}
    of_a_list = tune(taught(), EVERY_TENTH, **options)

    assert tune(taught(), np.array(EVERY_TENTH), **options).rows == of_a_list.rows


# Items that differ in size


def test_batches_are_bounded_by_the_sizes_of_items():
    batcher = taught(size=len, max_batch_size=64)
    trace = [(2 * time, 20.0) for time in EVERY_TENTH for _ in range(6)]
    rows = tune(batcher, trace, slo=0.2, max_batch_sizes=[20, 64]).rows

    assert [row.mean_batch_size for row in rows] == [1.0, 3.0]
    assert [row.p99 for row in rows] == pytest.approx([6 * linear(20), 2 * linear(60)])
    assert rows[0].max_load < 1 / linear(20)


@pytest.mark.parametrize(
    ("options", "capacity"),
    [
        ({"size": len}, 64 / 20 / linear(64)),
        ({"layout": Pad(multiple=8, trim=False)}, 64 / linear(64 * 20)),
        ({}, CAPACITY),
    ],
)
def test_loads_are_tried_up_to_what_full_batches_could_do(options, capacity):
    batcher = taught(max_batch_size=64, **options)
    tuning = tune(batcher, [(time, 20.0) for time in EVERY_TENTH], slo=1.0, max_batch_sizes=[64])

    assert max(tuning._curves[0]) == pytest.approx(LOADS[-1] * capacity, rel=0.1)


def test_no_size_is_tried_that_does_not_hold_the_largest_item():
    batcher = taught(size=len, max_batch_size=64)
    trace = [(0.0, 20.0), (1.0, 1.0)]

    assert [row.max_batch_size for row in tune(batcher, trace, slo=1.0).rows] == [32, 64]
    with pytest.raises(ValueError, match=r"max_batch_sizes=\[19\]: pass some numbers, 20 or more"):
        tune(batcher, trace, slo=1.0, max_batch_sizes=[19, 20])


def test_where_even_the_own_size_does_not_hold_the_largest_item_it_is_told():
    with pytest.raises(ValueError, match=r"max_batch_sizes=\[64\]: pass some numbers, 100 or more"):
        tune(taught(size=len), [(0.0, 100.0), (1.0, 1.0)], slo=1.0)


def test_padded_items_cost_what_they_take_when_padded():
    batcher = taught(layout=Pad(multiple=8, trim=False), max_batch_size=2)
    trace = [(time, size) for time in EVERY_TENTH for size in (17.0, 20.0)]
    (row,) = tune(batcher, trace, slo=0.1, max_batch_sizes=[2]).rows

    assert (row.mean_batch_size, row.p99) == pytest.approx((2.0, linear(2 * 24)))


def test_items_without_any_size_cost_as_little_as_a_batch_can():
    batcher = taught(size=len, max_batch_size=64)
    (row,) = tune(batcher, [(0.0, 0.0), (1.0, 0.0)], slo=1.0, max_batch_sizes=[64]).rows

    assert row.p99 == pytest.approx(0.010)


# What is no trace, and no setting


@pytest.mark.parametrize("batches", [0, 1])
def test_a_batcher_that_has_learned_nothing_is_refused(batches):
    batcher = ms.DynamicBatcher(same, name="ranker")
    for _ in range(batches):
        batcher._queues.core.pace.costs.observe(1, 0.01)

    with pytest.raises(ValueError, match=r"'ranker' has not learned .* `ms.warm` it first"):
        tune(batcher, 10.0, slo=0.1)


@pytest.mark.parametrize("slo", [0, -1.0, math.nan, math.inf])
def test_what_is_no_slo_is_refused(slo):
    with pytest.raises(ValueError, match=r"slo=.*: pass the seconds"):
        tune(taught(), 10.0, slo=slo)


@pytest.mark.parametrize(
    "trace", [[], [1.0], [1.0, 1.0], [0.0, math.nan], [math.nan, math.nan], [0.0, math.inf]]
)
def test_a_trace_without_two_times_is_refused(trace):
    with pytest.raises(ValueError, match=r"two arrivals or more, at times in seconds"):
        tune(taught(), trace, slo=0.1)


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [(0, None), (-1.0, None), (math.nan, None), (math.inf, None)]
    + [(10.0, bad) for bad in (0, -1.0, math.nan, math.inf)],
)
def test_what_is_no_rate_or_no_time_is_refused(rate, seconds):
    with pytest.raises(ValueError, match=r"pass requests a second, for how long"):
        tune(taught(), rate, seconds=seconds, slo=0.1)


def test_a_recorded_trace_has_a_length_of_its_own():
    with pytest.raises(ValueError, match=r"a recorded trace has a length"):
        tune(taught(), EVERY_TENTH, seconds=1.0, slo=0.1)


@pytest.mark.parametrize(
    "trace", [[0.0, 1.0], [(0.0, 1.0), (1.0, math.nan)], [(0.0, -1.0), (1, 1)]]
)
def test_without_sizes_where_they_count_a_trace_is_refused(trace):
    with pytest.raises(ValueError, match=r"pass a trace of pairs of time and size"):
        tune(taught(size=len), trace, slo=0.1)


@pytest.mark.parametrize(
    "options",
    [
        {"max_batch_sizes": [0]},
        {"max_batch_sizes": []},
        {"max_waits": [-0.1]},
        {"max_waits": [math.nan]},
        {"max_waits": [math.inf]},
        {"workers": [0, 1]},
    ],
)
def test_what_is_no_setting_is_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=rf"{name}=\[.*\]: pass some numbers, [01] or more"):
        tune(taught(), 10.0, slo=0.1, **options)
