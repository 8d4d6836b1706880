"""Several of one model behind one predictor: each call goes where there is least to do."""

import asyncio
import os

import pytest

import modelserve as ms
from modelserve.predictor import CHUNK
from modelserve.testing import GatedPredictor
from tests.pool.shelves import LIMIT, Forks, start
from tests.support.processes import in_child


def two(fn=str.upper, **options):
    return ms.Replicas(fn, fn, **{"name": "shout"} | options)


def test_calls_go_in_turn_and_the_record_says_where():
    model = two()
    with ms.request() as r:
        assert [model(x) for x in "abcd"] == list("ABCD")

    assert model.stats == (4, (2, 2), (0, 0))
    assert r.record == {"shout.replica": 1}


def test_calls_in_progress_count_and_slow_replicas_get_fewer():
    slow = GatedPredictor(str.upper, name="slow", limit=LIMIT)
    model = ms.Replicas(slow, str.upper, name="shout")
    stuck = start(model, "a")
    slow.wait_entered()

    assert model.stats.outstanding == (1, 0)
    assert [model(x) for x in "bcd"] == list("BCD")
    assert model.stats.shares == (1, 3)
    slow.open()
    assert stuck.result(LIMIT) == "A"
    assert model.stats.outstanding == (0, 0)


def test_tasks_spread_like_threads():
    async def main():
        calls = [asyncio.create_task(model.acall(x)) for x in "abcd"]
        await gates[0].await_entered(2)
        await gates[1].await_entered(2)
        for gate in gates:
            gate.open()
        return await asyncio.wait_for(asyncio.gather(*calls), LIMIT)

    gates = [GatedPredictor.asynchronous(str.upper, name=name, limit=LIMIT) for name in "xy"]
    model = ms.Replicas(*gates, name="shout")

    assert asyncio.run(main()) == list("ABCD")
    assert model.stats == (4, (2, 2), (0, 0))


def test_a_call_that_fails_or_is_cancelled_is_no_longer_in_progress():
    async def main():
        call = asyncio.create_task(model.acall("a"))
        await gate.await_entered()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    gate = GatedPredictor.asynchronous(str.upper, name="x", limit=LIMIT)
    model = ms.Replicas(gate, name="shout")
    asyncio.run(main())
    gate.open()
    with pytest.raises(TypeError):
        model(1)

    assert model.stats.outstanding == (0,)


def test_many_inputs_reach_one_replica_together():
    async def taken(ys):
        return [y async for y in ys]

    sizes = []

    def double(xs):
        sizes.append(len(xs))
        return [2 * x for x in xs]

    batchers = [ms.DynamicBatcher(double, name=name) for name in "xy"]
    with ms.Replicas(*batchers, name="doubles") as model:
        many = range(2 * CHUNK)
        assert list(model.map(many)) == [2 * x for x in many]
        assert asyncio.run(taken(model.amap(many))) == [2 * x for x in many]
        assert model.stats == (4 * CHUNK, (2 * CHUNK, 2 * CHUNK), (0, 0))
    assert len(sizes) < CHUNK


def test_errors_stand_in_place_of_answers_or_are_raised():
    async def taken(ys):
        return [y async for y in ys]

    def number(text):
        return int(text)

    model = two(number)
    one, bad = model.map(["1", "x"], return_exceptions=True)
    aone, abad = asyncio.run(taken(model.amap(["1", "x"], return_exceptions=True)))
    assert (one, aone, type(bad), type(abad)) == (1, 1, ValueError, ValueError)
    with pytest.raises(ValueError, match="invalid literal"):
        list(model.map(["1", "x"]))
    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(taken(model.amap(["1", "x"])))


def test_closed_and_async_ones_say_so():
    async def aupper(x):
        return x.upper()

    async def block():
        for ask in (two(aupper), lambda x: list(two(aupper).map([x]))):
            with pytest.raises(RuntimeError, match="acall"):
                ask("a")

    asyncio.run(block())
    model = two()
    model.close()
    for ask in (model, lambda x: asyncio.run(model.acall(x))):
        with pytest.raises(ms.Closed):
            ask("a")


def test_warming_reaches_every_replica_and_counts_nothing():
    calls = []
    replicas = [ms.predictor(lambda x, i=i: calls.append(i), name=str(i)) for i in range(2)]
    model = ms.Replicas(*replicas, name="model")
    ms.warm(model, "a")
    hidden = ms.predictor(lambda x: (model(x),))
    ms.warm(hidden, "a")

    assert calls == [0, 1, 0]
    assert model.stats.calls == 0


def test_a_child_has_no_calls_in_progress():
    gate = GatedPredictor(str.upper, name="slow", limit=LIMIT)
    model = ms.Replicas(gate, gate, name="shout")
    stuck = start(model, "a")
    gate.wait_entered()

    assert in_child(lambda: model.stats.outstanding) == "(0, 0)"
    gate.open()
    assert stuck.result(LIMIT) == "A"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(
    "ask", [lambda p: p("fork"), lambda p: next(p.map(["fork"]))], ids=["call", "map"]
)
def test_a_call_begun_before_a_fork_ends_nothing_in_the_child(ask):
    forks = Forks()
    model = ms.Replicas(forks, str.upper, name="shout")
    said = ask(model)

    forks.tell(lambda: ([model(x) for x in "ab"], model.stats.outstanding))
    assert said == repr((["A", "b"], (0, 0)))
    assert model.stats.outstanding == (0, 0)


def test_it_is_drawn_with_its_replicas():
    model = two()
    model("a")

    assert ms.describe(model).splitlines() == [
        "Replicas shout [item] 1 calls (1, 0)",
        "├─ 0: Function upper [item] 1 calls",
        "└─ 1: Function upper [item] 0 calls",
    ]
    assert ms.Replicas(str.upper).name == "upper-replicas"


def test_without_replicas_it_is_refused():
    with pytest.raises(ValueError, match="no replicas"):
        ms.Replicas()
