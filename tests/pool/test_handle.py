"""The predictor that a pool hands out: what a model does, it does."""

import asyncio
import itertools

import pytest

import modelserve as ms
from modelserve.predictor import CHUNK
from tests.contract.leaves import Hiding
from tests.pool.shelves import LIMIT, Shelf, gate, start, told, until


def ten(_):
    return 10


def number(text):
    return int(text)


class AwaitedHiding(Hiding):
    async def __call__(self, x):
        return await self.p.acall(x)


def pool_of(made, **options):
    return ms.ModelPool(lambda name: made, budget=100, weigh=ten, **options)


@pytest.mark.parametrize("returns", ["later", "at once"])
def test_a_model_that_goes_between_the_two_looks_of_a_call_comes_back(returns):
    with told(100) as (pool, shelf, clock):
        ask = pool["a"]
        ask(1)
        seat = pool._engine.seats["a"]
        numbers = seat.enter

        def go(_):
            seat.enter = numbers
            with pool._engine.lock:
                seat.dismiss()
            pool._engine._see_out([seat], "room")

        def come_back():
            ask._clock = clock
            pool["a"].start()
            return clock()

        seat.enter = map(go, itertools.count())
        if returns == "at once":
            ask._clock = come_back
        assert ask(2) == ("a", 1, 2)
        assert shelf.loads == {"a": 2}


def test_eviction_waits_for_a_call_that_found_its_model():
    calls = gate()
    with told(100, Shelf(calls=calls, a=100)) as (pool, _, _):
        calls.open_one()
        pool["a"](1)
        busy = start(pool["a"], 2)
        calls.wait_entered(2)
        gone = start(pool.evict, "a")
        until(lambda: pool._engine.seats["a"].live is None)
        calls.open()

        assert gone.result(LIMIT)
        assert busy.result(LIMIT) == ("a", 1, 2)


def test_many_inputs_reach_the_model_together():
    sizes = []

    def double(xs):
        sizes.append(len(xs))
        return [2 * x for x in xs]

    async def main():
        return [y async for y in pool["a"].amap(range(CHUNK + 4))]

    with pool_of(ms.DynamicBatcher(double, max_batch_size=64)) as pool:
        expected = [2 * x for x in range(CHUNK + 4)]
        assert list(pool["a"].map(range(CHUNK + 4))) == expected
        assert asyncio.run(main()) == expected

    assert max(sizes) == 64
    assert len(sizes) <= 20
    assert pool["a"].stats.calls == 2 * (CHUNK + 4)


@pytest.mark.parametrize("face", ["map", "amap"])
def test_many_inputs_raise_or_give_their_errors(face):
    async def taken(ys):
        return [y async for y in ys]

    def ask(xs, **options):
        many = getattr(pool["a"], face)(xs, **options)
        return asyncio.run(taken(many)) if face == "amap" else list(many)

    with pool_of(number) as pool:
        with pytest.raises(ValueError, match="bad"):
            ask(["1", "bad"])
        one, bad = ask(["1", "bad"], return_exceptions=True)
        assert (one, type(bad)) == (1, ValueError)
        assert not pool._engine.seats["a"].busy
    ask_closed = pool["a"]
    pool.close()
    given = getattr(ask_closed, face)(["1"], return_exceptions=True)
    [closed] = asyncio.run(taken(given)) if face == "amap" else given
    assert type(closed) is ms.Closed


def test_it_has_the_level_and_the_colour_of_its_model():
    async def answer(x):
        return x

    async def block():
        for ask in (pool["a"], lambda x: list(pool["a"].map([x]))):
            with pytest.raises(RuntimeError, match="acall"):
                ask(1)

    with pool_of(answer) as pool:
        assert pool["a"].is_async
        assert pool["a"].level == "any"
        assert pool["a"](1) == 1
        asyncio.run(block())
    with told(100) as (pool, _, _):
        assert not pool["a"].is_async
        assert ms.DynamicBatcher(pool["a"]).parts == {"a": pool["a"]}


def test_health_shows_a_model_that_is_not_well():
    models = [str.upper]
    loader = ms.ModelLoader(models.pop, name="a", version="1")
    with pool_of(loader) as pool:
        assert pool["a"]("x") == "X"
        with pytest.raises(ms.ModelLoadError):
            loader.reload()

        state, why = pool["a"].health()
        assert (state, why) == ("degraded", loader.health().reason)
        assert "IndexError" in why
        loader._error = None


def test_warming_reaches_the_model_and_counts_nothing():
    calls = []
    with pool_of(lambda x: calls.append(x) or x) as pool:
        ms.warm(pool["a"], 1)
        asyncio.run(ms.awarm(pool["a"], 2))
        ms.warm(ms.predictor(Hiding(pool["a"])), 3)
        asyncio.run(ms.awarm(ms.predictor(AwaitedHiding(pool["a"])), 4))

        assert calls == [1, 2, 3, 4]
        assert pool.stats.hits == pool.stats.misses == 0


def test_closing_the_predictor_lets_its_model_go_unless_it_is_pinned():
    with told(300, pinned=["b"]) as (pool, shelf, _):
        a, b = pool["a"], pool["b"]
        a(1)
        b(1)
        a.close()
        b.close()

        assert shelf.alive() == 100
        assert pool.stats.loaded == ("b",)
        with pytest.raises(ms.Closed):
            b(1)
        pool.unpin("b")


def test_a_predictor_opens_and_closes_on_a_loop():
    async def main():
        opened = asyncio.create_task(p.aopen())
        await opens.await_entered()
        state = p.health().state
        opens.open()
        await asyncio.wait_for(opened, LIMIT)
        call = asyncio.create_task(p.acall(1))
        await calls.await_entered()
        with pytest.raises(RuntimeError, match=r"await p.aclose\(\)"):
            p.close()
        calls.open()
        await asyncio.wait_for(p.aclose(), LIMIT)
        return state, await call

    opens, calls = gate(), gate()
    with told(100, Shelf(gate=opens, calls=calls, a=100)) as (pool, shelf, _):
        p = pool["a"]
        assert asyncio.run(main()) == ("loading", ("a", 1, 1))
        assert shelf.alive() == 0
        assert p.health().state == "closed"


def test_a_predictor_keeps_its_pool_alive():
    async def main():
        return await asyncio.wait_for(
            ms.ModelPool(lambda name: str.upper, budget=10, weigh=ten)["a"].acall("x"), LIMIT
        )

    assert asyncio.run(main()) == "X"
