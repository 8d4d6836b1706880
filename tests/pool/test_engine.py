"""Loads and evictions: one load for all, room before anybody goes, nobody evicted for nothing."""

import asyncio
import sys
import threading

import numpy as np
import pytest

import modelserve as ms
from modelserve.events import Admitted, LoadFailed
from modelserve.testing import EventLog
from tests.pool.shelves import LIMIT, Shelf, gate, start, told, until


def loaded(pool):
    return set(pool.stats.loaded)


def waiting(pool, name):
    return len(pool._engine.seats[name].waiting or ())


def for_room(pool):
    """How many loads wait for room."""
    return len(pool._engine.changed._waiters)


def test_a_call_loads_the_model_and_the_next_finds_it():
    with told(1000) as (pool, shelf, _):
        assert pool["a"](1) == ("a", 1, 1)
        assert pool["a"](2) == ("a", 1, 2)

        assert shelf.loads == {"a": 1}
        assert pool.stats[:5] == (("a",), {"all": 100}, 1, 1, 1)


def test_one_load_serves_threads_and_tasks():
    async def all_tasks():
        return await asyncio.gather(*(pool["a"].acall(i) for i in range(8, 16)))

    opens = gate()
    with told(1000, Shelf(gate=opens, a=100)) as (pool, shelf, _):
        pool["a"]
        threads = [start(pool["a"], i) for i in range(8)]
        tasks = start(asyncio.run, all_tasks())
        until(lambda: waiting(pool, "a") == 16)
        opens.open()

        answers = [each.result(LIMIT) for each in threads] + tasks.result(LIMIT)
        assert answers == [("a", 1, i) for i in range(16)]
        assert shelf.loads == {"a": 1}
        assert (pool.stats.hits, pool.stats.misses, pool.stats.loads) == (0, 16, 1)


def test_different_models_load_side_by_side():
    opens = gate()
    with told(1000, Shelf(gate=opens, a=100, b=100, c=100)) as (pool, _, _):
        calls = [start(pool[name], 1) for name in "abc"]
        opens.wait_entered(3)
        opens.open()

        assert [call.result(LIMIT)[0] for call in calls] == ["a", "b", "c"]
        assert opens.peak == 3


def test_a_hit_does_not_wait_for_the_load_of_another():
    opens = gate()
    with told(1000, Shelf(gate=opens, a=100, b=100)) as (pool, _, _):
        opens.open_one()
        pool["a"](1)
        slow = start(pool["b"], 1)
        opens.wait_entered(2)

        assert pool["a"](2) == ("a", 1, 2)
        opens.open()
        assert slow.result(LIMIT)[0] == "b"


def test_a_failed_load_is_told_to_all_and_the_next_call_tries_again():
    opens, log = gate(), EventLog()
    with told(1000, Shelf(gate=opens, a=100), on_event=log) as (pool, shelf, _):
        shelf.bad["a"] = OSError("the disk is on fire")
        calls = [start(pool["a"], i) for i in range(4)]
        until(lambda: waiting(pool, "a") == 4)
        opens.open()
        errors = [call.exception(LIMIT) for call in calls]

        assert {type(error) for error in errors} == {ms.ModelLoadError}
        assert len({id(error) for error in errors}) == 4
        assert pool.health().parts["pool/a"].state == "failed"
        assert len(log.of(LoadFailed)) == pool.stats.failures == 1
        shelf.bad.clear()
        assert pool["a"](1) == ("a", 1, 1)
        assert pool.health().parts["pool/a"].state == "ready"


def test_an_error_of_the_predictor_that_opens_is_a_failed_load():
    class Broken:
        def __call__(self, x):
            return x

    def weigh(p):
        raise ZeroDivisionError

    pool = ms.ModelPool(lambda name: Broken(), budget=100, weigh=weigh)
    with pytest.raises(ms.ModelLoadError, match="'a' could not be loaded: ZeroDivision") as caught:
        pool["a"](1)

    assert type(caught.value.__cause__) is ZeroDivisionError


def test_a_clock_that_fails_is_told_to_who_waits():
    def broken():
        raise OSError("no time")

    pool = ms.ModelPool(lambda name: str.upper, budget=10, weigh=lambda p: 1, clock=broken)
    call = start(pool["a"], "x")

    assert type(call.exception(LIMIT)) is OSError
    assert not pool._engine.seats["a"].in_motion


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), StopIteration("end")])
def test_no_error_of_a_load_ends_those_who_wait(error):
    def size(name):
        raise error

    pool = ms.ModelPool(lambda name: str.upper, budget=10, size=size)
    call = start(pool["a"], "x")

    assert type(call.exception(LIMIT)) is ms.ModelLoadError
    assert call.exception().__cause__ is error


def test_what_cannot_be_loaded_evicts_one_model_and_then_nobody_for_a_pause():
    with told(200) as (pool, shelf, clock):
        pool["a"](1)
        pool["b"](1)
        shelf.bad["c"] = OSError("broken")
        tries = []
        for pause in (0.5, 0.6, 1.5, 0.6):
            with pytest.raises(ms.ModelLoadError):
                pool["c"](1)
            [pool[name](1) for name in "ab"]
            clock.advance(pause)
            tries.append(shelf.loads["c"])

        assert tries == [1, 1, 2, 2]
        assert pool.stats.evictions == 2


def test_eviction_waits_for_calls_in_flight():
    calls = gate()
    with told(100, Shelf(calls=calls, a=100, b=100)) as (pool, shelf, _):
        busy = start(pool["a"], 1)
        calls.wait_entered()
        other = start(pool["b"], 2)
        until(lambda: pool._engine.seats["a"].live is None)

        assert shelf.loads == {"a": 1}
        assert pool.stats.nbytes == {"all": 100}
        calls.open()
        assert busy.result(LIMIT) == ("a", 1, 1)
        assert other.result(LIMIT) == ("b", 1, 2)
        assert shelf.peak <= 100


def test_eviction_waits_for_awaited_calls_in_flight():
    async def main():
        busy = asyncio.create_task(pool["a"].acall(1))
        await calls.await_entered()
        other = asyncio.create_task(pool["b"].acall(2))
        await asyncio.to_thread(until, lambda: pool._engine.seats["a"].live is None)
        assert shelf.loads == {"a": 1}
        calls.open()
        return await asyncio.wait_for(asyncio.gather(busy, other), LIMIT)

    calls = gate()
    with told(100, Shelf(calls=calls, a=100, b=100)) as (pool, shelf, _):
        assert asyncio.run(main()) == [("a", 1, 1), ("b", 1, 2)]


def test_who_asks_for_a_model_that_is_leaving_waits_and_it_comes_back():
    calls = gate()
    with told(100, Shelf(calls=calls, a=100)) as (pool, shelf, _):
        busy = start(pool["a"], 1)
        calls.wait_entered()
        gone = start(pool.evict, "a")
        until(lambda: pool._engine.seats["a"].live is None)
        again = start(pool["a"], 2)
        until(lambda: waiting(pool, "a") == 1)
        calls.open()

        assert gone.result(LIMIT)
        assert busy.result(LIMIT) == ("a", 1, 1)
        assert again.result(LIMIT) == ("a", 1, 2)
        assert shelf.loads == {"a": 2}


def test_a_load_gives_up_waiting_for_calls_of_others_and_says_so():
    calls = gate()
    with told(100, Shelf(calls=calls, a=100, b=100), max_wait=0.02) as (pool, _, _):
        busy = start(pool["a"], 1)
        calls.wait_entered()
        with pytest.raises(ms.Overloaded, match=r"'b' found no room within 0.02 s") as refused:
            pool["b"](2)
        calls.open()

        assert refused.value.reason == "room"
        assert busy.result(LIMIT) == ("a", 1, 1)
        assert pool["b"](3) == ("b", 1, 3)


def test_a_load_that_has_no_room_beside_another_load_waits_for_it():
    opens = gate()
    with told(150, Shelf(gate=opens, a=100, b=100)) as (pool, shelf, _):
        first = start(pool["a"], 1)
        opens.wait_entered()
        second = start(pool["b"], 2)
        until(lambda: for_room(pool) == 1)
        opens.open()

        assert first.result(LIMIT)[0] == "a"
        assert second.result(LIMIT)[0] == "b"
        assert shelf.peak <= 150


def test_the_first_of_a_kind_of_which_nothing_is_known_loads_alone():
    opens = gate()
    shelf = Shelf(gate=opens, a=60, b=60, c=60)
    with told(100, shelf, size=None) as (pool, _, _):
        calls = [start(pool[name], 1) for name in "ab"]
        opens.wait_entered(1)
        until(lambda: for_room(pool) == 1)
        assert opens.entered == 1
        opens.open()

        assert {call.result(LIMIT)[0] for call in calls} == {"a", "b"}
        assert opens.peak == 1
        assert shelf.peak <= 100


def test_a_deadline_lets_callers_go_and_the_load_goes_on():
    opens = gate()
    with told(100, Shelf(gate=opens, a=100)) as (pool, shelf, _):
        with ms.request(timeout=0.02), pytest.raises(ms.DeadlineExceeded, match="waiting for 'a'"):
            pool["a"](1)
        opens.open()

        assert pool["a"](2) == ("a", 1, 2)
        assert shelf.loads == {"a": 1}


def test_a_cancelled_caller_hurts_nobody():
    async def main():
        leaves, stays = (asyncio.create_task(pool["a"].acall(i)) for i in range(2))
        await opens.await_entered()
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        opens.open()
        return await asyncio.wait_for(stays, LIMIT)

    opens = gate()
    with told(100, Shelf(gate=opens, a=100)) as (pool, _, _):
        assert asyncio.run(main()) == ("a", 1, 1)


def test_a_model_that_comes_back_keeps_its_version_and_what_caches_know_of_it():
    with told(100) as (pool, shelf, _):
        cache = ms.PredictionCache(pool["a"], maxsize=8)
        cache(1)
        pool["b"](1)
        assert cache(1) == ("a", 1, 1)
        assert cache.stats.hits == 1
        assert shelf.loads == {"a": 1, "b": 1}
        with ms.request() as r:
            pool["a"](2)
        assert cache(1) == ("a", 1, 1)

        assert r.record["a.version"] == "1"
        assert cache.stats.hits == 2


def test_a_model_that_comes_back_as_another_version_makes_caches_ask_anew():
    models = iter([str.upper, str.lower])
    pool = ms.ModelPool(
        lambda name: ms.ModelLoader(lambda: next(models), name=name), budget=10, weigh=lambda p: 10
    )
    cache = ms.PredictionCache(pool["a"], maxsize=8)
    with pool:
        assert cache("Ab") == "AB"
        pool.evict("a")
        assert cache("Ab") == "AB"
        assert pool["a"]("Ab") == "ab"
        assert cache("Ab") == "ab"


def test_a_predictor_that_fails_to_close_frees_its_bytes_all_the_same(caplog):
    class Failing(ms.predictor(str.upper).__class__.__mro__[1]):
        kind = "Failing"

        def __init__(self):
            from modelserve.predictor import Spec

            super().__init__("failing", {}, Spec(Failing, (), {}))

        def __call__(self, x):
            return x

        def stop(self, drain, timeout):
            raise OSError("stuck")

    with ms.ModelPool(lambda name: Failing(), budget=10, weigh=lambda p: 10) as pool:
        pool["a"](1)
        assert pool.evict("a")
        assert pool.stats.nbytes == {"all": 0}

    assert "closing 'a' raised" in caplog.text


def test_where_no_thread_is_to_be_had_the_caller_loads():
    before = threading.stack_size(2**46 if sys.maxsize > 2**32 else 2**30)
    try:
        with ms.ModelPool(lambda name: str.upper, budget=10, weigh=lambda p: 10) as pool:
            assert pool["a"]("x") == "X"
            assert pool["b"]("y") == "Y"
            assert pool.stats.loaded == ("b",)
    finally:
        threading.stack_size(before)


def test_what_a_load_costs_is_the_mean_over_its_loads():
    with told(100) as (pool, shelf, clock):
        seconds = iter([1.0, 2.0, 6.0])
        shelf._gate = lambda name: clock.advance(next(seconds))
        for _ in range(3):
            pool["a"](1)
            pool.evict("a")

        assert pool._engine.seats["a"].cost == pytest.approx(3.0)
        assert pool.stats.load_seconds == 9.0


def test_predictions_are_learned_by_format():
    log = EventLog()
    sizes = {"a": 1_000, "b": 3_000, "c": 500}
    pool = ms.ModelPool(
        lambda name: ms.ModelLoader(lambda: np.zeros(3 * sizes[name], np.uint8), predict=max),
        budget=100_000,
        size=sizes.__getitem__,
        on_event=log,
    )
    with pool:
        for name in sizes:
            pool[name].start()

    expected = [event.expected["all"] for event in log.of(Admitted)]
    assert expected == [1_000, 9_000, 1_500]
