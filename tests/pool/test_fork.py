"""What becomes of a pool in a forked child."""

import asyncio
import os

import pytest

import modelserve as ms
from tests.pool.shelves import LIMIT, Forks, Shelf, gate, start, told, until
from tests.support.processes import in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def test_models_in_memory_live_on_and_others_come():
    with told(200) as (pool, shelf, _):
        pool["a"](1)

        def work():
            return pool["a"](2), pool["b"](3), pool["c"](4), pool.stats.loaded, shelf.loads["a"]

        expected = (("a", 1, 2), ("b", 1, 3), ("c", 1, 4), ("b", "c"), 1)
        assert in_child(work) == repr(expected)
        assert pool.stats.loaded == ("a",)


def test_a_load_in_progress_is_begun_anew():
    opens = gate()
    with told(100, Shelf(gate=opens, a=100, b=100)) as (pool, _, _):
        call = start(pool["a"], 1)
        opens.wait_entered()

        def work():
            opens.open()
            return pool["a"](2), pool.evict("a"), pool["b"](3), pool.stats.nbytes

        assert in_child(work) == repr((("a", 1, 2), True, ("b", 1, 3), {"all": 100}))
        opens.open()
        assert call.result(LIMIT) == ("a", 1, 1)


def test_calls_and_leases_of_other_threads_are_nobodys_in_the_child():
    calls = gate()
    with told(100, Shelf(calls=calls, a=100, b=100)) as (pool, _, _):
        busy = start(pool["a"], 1)
        calls.wait_entered()

        def work():
            calls.open()
            return pool["b"](2), pool.stats.loaded

        with pool.lease("a"):
            assert in_child(work) == repr((("b", 1, 2), ("b",)))
        calls.open()
        assert busy.result(LIMIT) == ("a", 1, 1)


def test_an_eviction_in_progress_does_not_happen_in_the_child():
    calls = gate()
    with told(100, Shelf(calls=calls, a=100)) as (pool, _, _):
        busy = start(pool["a"], 1)
        calls.wait_entered()
        gone = start(pool.evict, "a")
        until(lambda: pool._engine.seats["a"].live is None)

        def work():
            calls.open()
            return pool["a"](2), pool.stats.loads

        assert in_child(work) == repr((("a", 1, 2), 1))
        calls.open()
        assert gone.result(LIMIT)
        busy.result(LIMIT)


def in_lease(pool):
    with pool.lease("a") as a:
        return a("fork")


def by_map(pool):
    return next(pool["a"].map(["fork"]))


def loading(pool):
    pool.evict("a")
    return pool["a"]("fork")


@pytest.mark.parametrize("ask", [lambda pool: pool["a"]("fork"), in_lease, by_map, loading])
def test_what_was_begun_before_a_fork_ends_nothing_in_the_child(ask):
    forks = Forks()
    pool = ms.ModelPool(lambda name: forks, budget=100, weigh=lambda p: 10)
    pool["a"]("x")
    seat = pool._engine.seats["a"]
    said = ask(pool)

    def work():
        counts = seat.calls.read() - seat.ends.read(), seat.leases
        with pool.lease("a"):
            evicted = pool.evict("a")
        return evicted, counts, pool["a"](lambda: seat.busy), seat.busy

    forks.tell(work)
    assert said == repr((False, (0, 0), True, False))
    assert work()[1] == (0, 0)


def test_an_awaited_call_begun_before_a_fork_ends_nothing_in_the_child():
    async def fork(x):
        if x == "fork":
            pool._engine.after_fork()  # what a child does first
            pool._engine.seats["a"].awaited.after_fork()
            calls.append(asyncio.create_task(pool["a"].acall("stay")))
        elif x == "stay":
            inside.set()
            await go.wait()
        await asyncio.wait_for(inside.wait(), LIMIT)
        return x

    async def main():
        await pool["a"].acall("fork")
        busy = pool._engine.seats["a"].busy
        go.set()
        await calls[0]
        return busy, pool._engine.seats["a"].busy

    calls, inside, go = [], asyncio.Event(), asyncio.Event()
    pool = ms.ModelPool(lambda name: fork, budget=100, weigh=lambda p: 10)
    assert asyncio.run(main()) == (True, False)


@pytest.mark.parametrize("lock", ["pool._lock", "pool._engine.lock"])
def test_a_lock_that_somebody_holds_is_nobodys_in_the_child(lock):
    with told(100) as (pool, _, _), eval(lock, {"pool": pool}):  # noqa: S307 - our own words
        assert in_child(lambda: pool["a"](1)) == repr(("a", 1, 1))
