"""Leases: a model that is leased stays, on threads and tasks, whatever else is asked."""

import asyncio

import pytest

import modelserve as ms
from modelserve.pool._door import Door
from tests.contract.calling import by_acall, by_call
from tests.pool.shelves import LIMIT, Shelf, gate, start, told, until


def test_a_lease_loads_the_model_and_keeps_it():
    with told(100) as (pool, shelf, _):
        with pool.lease("a") as a:
            assert a(1) == ("a", 1, 1)
            assert not pool.evict("a")
            with pytest.raises(ms.Overloaded):
                pool["b"](1)
        assert pool["b"](1) == ("b", 1, 1)

        assert shelf.loads == {"a": 1, "b": 1}


def test_a_model_is_leased_until_the_last_lease_ends():
    with told(100) as (pool, _, _):
        with pool.lease("a"):
            with pool.lease("a"):
                pass
            assert not pool.evict("a")
        assert pool.evict("a")


def test_a_task_leases_without_blocking_its_loop():
    async def main():
        async def lease():
            async with pool.lease("a") as a:
                return await a.acall(1), pool.evict("a")

        leased = asyncio.create_task(lease())
        await opens.await_entered()
        opens.open()
        return await asyncio.wait_for(leased, LIMIT)

    opens = gate()
    with told(100, Shelf(gate=opens, a=100)) as (pool, _, _):
        assert asyncio.run(main()) == (("a", 1, 1), False)
        assert pool["a"].stats.blocked_loop == 0
        assert pool.evict("a")


def test_a_lease_of_an_unknown_name_is_a_key_error():
    with told(100) as (pool, _, _), pytest.raises(KeyError):
        pool.lease("x")


def test_leases_count_no_calls():
    with told(100) as (pool, _, _):
        with pool.lease("a") as a:
            a(1)

        assert pool["a"].stats[:3] == (0, 0, 1)


@pytest.mark.parametrize("ask", [by_call, by_acall])
def test_a_caller_who_finds_the_model_gone_again_asks_again(monkeypatch, ask):
    def unlucky(door, calls, *args, **options):
        tries.append(calls)
        return None if len(tries) < 3 else once(door, calls, *args, **options)

    tries, once = [], Door._try
    monkeypatch.setattr(Door, "_try", unlucky)
    with told(100) as (pool, shelf, _):
        assert ask(pool["a"], 1) == ("a", 1, 1)

        assert tries == [1, 1, 1]
        assert shelf.loads == {"a": 1}
        assert (pool.stats.hits, pool.stats.misses) == (0, 1)


@pytest.mark.parametrize("ask", [by_call, by_acall])
def test_calls_that_no_model_answered_are_neither_hits_nor_misses(ask):
    with told(100) as (pool, shelf, _):
        shelf.bad["a"] = OSError("no disk")
        for _ in range(3):
            with pytest.raises(ms.ModelLoadError):
                ask(pool["a"], 1)
        del shelf.bad["a"]
        for _ in range(4):
            ask(pool["a"], 1)

        assert (pool.stats.hits, pool.stats.misses, pool.stats.failures) == (3, 1, 3)
        assert pool["a"].stats[:2] == (4, 1)


@pytest.mark.parametrize("face", ["map", "amap"])
def test_each_input_of_many_that_waited_for_their_model_is_a_miss(face):
    async def taken(ys):
        return [y async for y in ys]

    with told(100) as (pool, _, _):
        for _ in range(2):
            many = getattr(pool["a"], face)(range(5))
            assert len(asyncio.run(taken(many)) if face == "amap" else list(many)) == 5

        assert (pool.stats.hits, pool.stats.misses) == (5, 5)


def test_a_lease_may_end_wherever_its_garbage_is_collected():
    with told(100) as (pool, _, _):
        lease = pool.lease("a")
        lease.__enter__()

        def end():
            with pool._engine.lock:
                lease.__exit__(None, None, None)

        start(end).result(LIMIT)
        assert pool.evict("a")


def test_closing_waits_for_leases():
    with told(100) as (pool, shelf, _):
        with pool.lease("a") as a:
            closed = start(pool.close)
            until(lambda: pool._engine.seats["a"].live is None)
            assert a(1) == ("a", 1, 1)
            assert not closed.done()
        closed.result(LIMIT)

        assert shelf.alive() == 0


def test_a_sync_call_that_loads_on_a_loop_is_counted():
    async def main():
        return pool["a"](1)

    with told(100) as (pool, _, _):
        asyncio.run(main())

        assert pool["a"].stats.blocked_loop == 1
        assert "1 calls blocked an event loop" in pool.describe()
