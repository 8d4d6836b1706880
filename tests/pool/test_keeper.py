"""Models that nobody calls go, by a thread that ends when there is nothing to look after."""

import gc
import threading
import weakref

import pytest

import modelserve as ms
from modelserve.events import Evicted
from modelserve.pool._keeper import Keeper
from modelserve.testing import EventLog
from tests.contract.calling import FACES
from tests.pool.shelves import LIMIT, Shelf, gate, start, told, until


def keepers():
    return [each for each in threading.enumerate() if each.name == "modelserve-pool-keeper"]


def test_models_go_when_nobody_calls_them_for_long_enough():
    with told(300, keep_alive=10.0) as (pool, _, clock):
        pool["a"](1)
        clock.advance(6.0)
        pool["b"](1)
        assert pool.sweep() == ()
        clock.advance(4.0)
        assert pool.sweep() == ("a",)
        assert pool.stats.loaded == ("b",)
        pool["b"](1)
        clock.advance(9.0)
        assert pool.sweep() == ()


def test_leased_pinned_and_busy_models_do_not_go_for_being_idle():
    calls = gate()
    shelf = Shelf(calls=calls, a=100, b=100, c=100)
    with told(300, shelf, keep_alive=1.0, pinned=["a"]) as (pool, _, clock):
        pool["a"].start()
        busy = start(pool["b"], 1)
        calls.wait_entered()
        with pool.lease("c"):
            clock.advance(100.0)
            assert pool.sweep() == ()
        calls.open()
        busy.result(LIMIT)
        clock.advance(100.0)

        assert set(pool.sweep()) == {"b", "c"}


@pytest.mark.parametrize("ask", FACES)
def test_a_model_is_idle_from_the_end_of_its_last_call(ask):
    shelf = Shelf(a=100)
    with told(100, shelf, keep_alive=5.0) as (pool, _, clock):
        shelf._calls = lambda x: clock.advance(100.0)
        for _ in range(2):
            ask(pool["a"], 1)
            assert pool.sweep() == ()
        clock.advance(5.0)

        assert pool.sweep() == ("a",)


def test_without_keep_alive_models_stay():
    with told(300) as (pool, _, clock):
        pool["a"](1)
        clock.advance(1e9)

        assert pool.sweep() == ()
        assert keepers() == []


def test_a_thread_sees_to_it_and_ends_with_the_last_model():
    log = EventLog()
    pool = ms.ModelPool(
        lambda name: str.upper, budget=10, weigh=lambda p: 1, keep_alive=0.01, on_event=log
    )
    pool["a"]("x")
    pool["b"]("x")
    until(lambda: len(log.of(Evicted)) == 2)
    until(lambda: not keepers())

    assert {event.reason for event in log.of(Evicted)} == {"idle"}
    assert pool.stats.loaded == ()
    pool["a"]("x")
    assert keepers() or len(log.of(Evicted)) == 3
    pool.close()
    until(lambda: not keepers())


def test_closing_ends_the_thread():
    with told(100, keep_alive=1e6) as (pool, _, _):
        pool["a"](1)
        assert len(keepers()) == 1
        pool.close()

        until(lambda: not keepers())


def test_a_dropped_pool_ends_it_too():
    pool = ms.ModelPool(lambda name: str.upper, budget=10, weigh=lambda p: 1, keep_alive=1e6)
    pool["a"]("x")
    gone = weakref.ref(pool._engine)
    del pool
    until(lambda: gc.collect() >= 0 and gone() is None)

    until(lambda: not keepers())


def test_a_keeper_without_a_pool_has_nothing_to_look_after():
    pool = ms.ModelPool(lambda name: str.upper, budget=10)
    keeper, gone = Keeper(pool._engine), weakref.ref(pool._engine)
    del pool
    until(lambda: gc.collect() >= 0 and gone() is None)

    assert keeper._look() is None


def test_a_keeper_that_was_replaced_looks_no_more():
    with told(100, keep_alive=1e6) as (pool, _, _):
        pool["a"](1)

        assert Keeper(pool._engine)._look() is None
