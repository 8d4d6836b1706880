"""What becomes of a pool in a forked child."""

import os

import pytest

from tests.pool.shelves import LIMIT, Shelf, gate, start, told, until
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


@pytest.mark.parametrize("lock", ["pool._lock", "pool._engine.lock"])
def test_a_lock_that_somebody_holds_is_nobodys_in_the_child(lock):
    with told(100) as (pool, _, _), eval(lock, {"pool": pool}):  # noqa: S307 - our own words
        assert in_child(lambda: pool["a"](1)) == repr(("a", 1, 1))
