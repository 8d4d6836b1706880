import itertools
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.lanes import Lanes
from modelserve._policy.replay import Arrival, Replay, replay

GAPS = st.one_of(st.just(0.0), st.floats(0, 3))
COSTS = st.one_of(st.just(0.0), st.floats(0.01, 3))
LANES = st.sampled_from(["a", "b", None])


def at(*times):
    return [Arrival(time) for time in times]


def poisson(rate, count, seed=0):
    rng = random.Random(seed)  # noqa: S311 - no secret
    gaps = (rng.expovariate(rate) for _ in range(count))
    return [Arrival(time) for time in itertools.accumulate(gaps)]


def fixed(fixed=1.0, each=0.0):
    return lambda size: fixed + each * size


def replayed(arrivals, *, limit=1, max_wait=0.0, cost=None, workers=1):
    lanes = Lanes(limit=limit, max_wait=max_wait)
    return replay(arrivals, lanes, cost=cost or fixed(), measure=len, workers=workers)


def test_of_no_arrivals_nothing_comes():
    assert replayed([]) == Replay([], [], 0.0, 0.0)


def test_a_lone_item_runs_at_once():
    assert replayed(at(5.0), limit=8) == Replay([1.0], [1], 1.0, 1.0)


def test_who_comes_while_a_worker_is_busy_waits_and_runs_together():
    assert replayed(at(0.0, 0.25, 0.5), limit=8) == Replay([1.0, 1.75, 1.5], [1, 2], 2.0, 2.0)


def test_who_comes_just_when_a_worker_gets_free_runs_with_those_who_wait():
    assert replayed(at(0.0, 0.5, 1.0), limit=8).sizes == [1, 2]


def test_an_item_waits_for_company_no_longer_than_max_wait():
    assert replayed(at(0.0), limit=2, max_wait=0.5).latencies == [1.5]
    assert replayed(at(0.0, 0.25), limit=2, max_wait=0.5).latencies == [1.25, 1.0]
    assert replayed(at(0.0, 0.25), limit=3, max_wait=0.5).latencies == [1.5, 1.25]


def test_after_waiting_for_nobody_it_waits_again_when_calls_overlap():
    overlap, apart = at(0.0, 1.4), at(0.0, 1.6)

    assert replayed(overlap, limit=2, max_wait=0.5).latencies == pytest.approx([1.5, 1.5])
    assert replayed(apart, limit=2, max_wait=0.5).latencies == pytest.approx([1.5, 1.0])


def test_a_batch_costs_what_it_measures():
    arrivals = [Arrival(0.0, 3.0), Arrival(0.0, 4.0)]
    lanes = Lanes(limit=7.0, max_wait=0.0, sized=True)
    done = replay(
        arrivals, lanes, cost=fixed(0, 1), measure=lambda batch: sum(item.size for item in batch)
    )

    assert (done.latencies, done.busy) == ([7.0, 7.0], 7.0)


def test_workers_run_at_the_same_time():
    done = replayed(at(0.0, 0.0, 0.0), workers=2)

    assert (done.latencies, done.busy, done.seconds) == ([1.0, 1.0, 2.0], 3.0, 2.0)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("seed", range(2))
def test_items_wait_as_long_as_the_formula_for_poisson_arrivals_and_fixed_costs_says(load, seed):
    """M/D/1: load / (2 * (1 - load)) times the cost, by Pollaczek and Khinchine."""
    waits = [latency - 1 for latency in replayed(poisson(load, 30_000, seed)).latencies]

    assert statistics.mean(waits) == pytest.approx(load / (2 * (1 - load)), rel=0.07)


def test_a_share_of_the_time_is_busy_as_the_load_says():
    done = replayed(poisson(1.2, 10_000), workers=2)

    assert done.busy / (2 * done.seconds) == pytest.approx(0.6, rel=0.05)


@given(gaps=st.lists(GAPS, min_size=1, max_size=40), cost=COSTS)
def test_one_by_one_each_waits_for_those_before_as_lindley_says(gaps, cost):
    times = list(itertools.accumulate(gaps))
    waits = [0.0]
    for gap in gaps[1:]:
        waits.append(max(0.0, waits[-1] + cost - gap))

    assert replayed(at(*times), cost=fixed(cost)).latencies == pytest.approx(
        [wait + cost for wait in waits]
    )


@given(
    coming=st.lists(st.tuples(GAPS, LANES), max_size=40),
    limit=st.integers(1, 4),
    max_wait=st.sampled_from([0.0, 0.1, 2.0]),
    workers=st.integers(1, 3),
    cost=COSTS,
)
def test_all_are_answered_in_order_in_batches_of_their_lane(coming, limit, max_wait, workers, cost):
    times = itertools.accumulate(gap for gap, _ in coming)
    arrivals = [Arrival(time, lane=lane) for time, (_, lane) in zip(times, coming, strict=True)]
    batches = []

    def measure(batch):
        batches.append(list(batch))
        return len(batch)

    lanes = Lanes(limit=limit, max_wait=max_wait)
    done = replay(arrivals, lanes, cost=fixed(cost, 0.5), measure=measure, workers=workers)
    begins = [batch[0].ended - cost - 0.5 * len(batch) for batch in batches]

    assert done.sizes == list(map(len, batches))
    assert all(1 <= size <= limit for size in done.sizes)
    assert all(len({item.lane for item in batch}) == 1 for batch in batches)
    assert lanes.size == 0
    for lane in ("a", "b", None):
        order = [item for batch in batches for item in batch if item.lane == lane]
        assert order == [item for item in arrivals if item.lane == lane]
    assert begins == pytest.approx(sorted(begins))
    for number, begin in enumerate(begins):
        assert max(item.at for item in batches[number]) <= begin + 1e-9
        running = [b for b in batches[:number] if b[0].ended > begin + 1e-9]
        assert len(running) < workers
    assert done.latencies == [item.ended - item.at for item in arrivals]
    assert done.busy == pytest.approx(math.fsum(cost + 0.5 * size for size in done.sizes))


@given(gaps=st.lists(GAPS, min_size=1, max_size=40), workers=st.integers(1, 3))
def test_nobody_waits_beside_a_free_worker(gaps, workers):
    arrivals = at(*itertools.accumulate(gaps))
    batches = []

    def measure(batch):
        batches.append(batch)
        return 1.0

    lanes = Lanes(limit=4, max_wait=0.0)
    replay(arrivals, lanes, cost=fixed(), measure=measure, workers=workers)
    runs = [(batch[0].ended - 1, batch[0].ended) for batch in batches]
    for item in arrivals:
        before = item.ended - 1 - 1e-9
        if item.at < before:
            assert sum(began < before < ended for began, ended in runs) == workers
