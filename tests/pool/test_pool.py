"""The mapping: names, pins, evictions, life and what it shows."""

import asyncio
import copy
import pickle

import pytest

import modelserve as ms
from modelserve.events import Evicted
from modelserve.testing import EventLog
from tests.pool.shelves import LIMIT, Shelf, gate, start, told, until

MODELS = {"ranker": str.upper, "reader": str.lower}


def ten(_):
    return 10


def give(name):
    return MODELS[name]


def shouting(**options):
    return ms.ModelPool(give, **{"budget": 100, "weigh": ten} | options)


def test_it_is_a_mapping_of_what_was_asked_for():
    pool = shouting()
    assert (len(pool), list(pool), "ranker" in pool, "x" in pool) == (0, [], True, False)
    pool["reader"]

    assert list(pool) == ["ranker", "reader"]
    assert dict(pool) == {"ranker": pool["ranker"], "reader": pool["reader"]}
    assert pool.get("x") is None
    assert pool["ranker"] is pool["ranker"]
    assert pool != shouting()
    assert len({pool, pool}) == 1


def test_a_name_that_the_factory_refuses_is_a_key_error_with_close_names():
    pool = shouting()
    pool["ranker"]
    with pytest.raises(KeyError, match="'pool' has no model 'rankr': did you mean 'ranker'"):
        pool["rankr"]
    with pytest.raises(KeyError, match="'pool' has no model 'zzz'\""):
        pool["zzz"]
    known = shouting()
    known._factory = MODELS.__getitem__
    with pytest.raises(KeyError, match="did you mean 'reader' or 'ranker'"):
        known["reaker"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"budget": 0}, "budget=0"),
        ({"budget": {}}, "budget={}"),
        ({"budget": {"cpu": -1}}, "pass a positive number"),
        ({"keep_alive": -1.0}, "keep_alive=-1.0"),
        ({"min_residency": float("nan")}, "min_residency=nan"),
        ({"max_wait": float("nan")}, "max_wait=nan"),
        ({"max_wait": -1.0}, "max_wait=-1.0"),
        ({"budget": float("nan")}, "budget=nan"),
        ({"budget": {"cpu": 10, "cuda:0": float("nan")}}, "one a space"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        shouting(**options)


def test_asking_for_a_predictor_loads_nothing():
    with told(100) as (pool, shelf, _):
        assert ms.health(pool["a"]).parts["a"].state == "cold"
        assert shelf.loads == {}


def test_opening_loads_what_is_pinned_by_both_faces():
    async def main():
        async with other:
            return other.stats.loaded

    with told(100, pinned=["b"]) as (pool, _, _), told(100, pinned=["c"]) as (other, _, _):
        with pool:
            assert pool.stats.loaded == ("b",)
        assert asyncio.run(main()) == ("c",)


def test_pinned_models_stay_until_they_are_unpinned():
    with told(100) as (pool, _, _):
        pool.pin("a")
        pool["a"](1)
        assert not pool.evict("a")
        pool.unpin("a")
        pool.pin("a")
        assert not pool.evict("a")
        pool.unpin("a")
        assert pool.evict("a")
        assert not pool.evict("a")
        assert not pool.evict("never asked for")


def test_closed_it_says_so_and_opens_again():
    with told(100) as (pool, shelf, _):
        a = pool["a"]
        a(1)
        pool.close()
        assert shelf.alive() == 0
        for closed in (a, pool["b"], lambda x: pool.lease("a").__enter__()):
            with pytest.raises(ms.Closed, match="open it again"):
                closed(1)
        assert not pool.health().ready
        assert pool.health().parts["pool/a"].state == "closed"
        with pool:
            assert a(1) == ("a", 1, 1)
            assert pool.health().ready
        pool.close()


def test_opens_are_counted():
    with told(100) as (pool, _, _):
        with pool:
            with pool:
                pass
            assert pool["a"](1) == ("a", 1, 1)
        with pytest.raises(ms.Closed):
            pool["a"](1)


@pytest.mark.parametrize("face", ["with", "async with"])
def test_an_open_that_fails_is_undone(face):
    async def awaited():
        async with pool:
            return pool.stats.loaded

    def blocking():
        with pool:
            return pool.stats.loaded

    def enter():
        return blocking() if face == "with" else asyncio.run(awaited())

    with told(200, pinned=["a", "b"]) as (pool, shelf, _):
        shelf.bad["b"] = OSError("no disk")
        with pytest.raises(ms.ModelLoadError):
            enter()
        assert (shelf.loads["a"], shelf.alive(), pool.health().ready) == (1, 0, False)

        del shelf.bad["b"]
        assert enter() == ("a", "b")
        assert (shelf.alive(), pool.health().ready) == (0, False)


def test_an_open_that_fails_leaves_those_that_did_not():
    with told(200) as (pool, shelf, _), pool:
        pool["a"](1)
        pool.pin("b")
        shelf.bad["b"] = OSError("no disk")
        with pytest.raises(ms.ModelLoadError):
            pool.open()
        pool.unpin("b")

        assert pool.health().ready
        assert pool["a"](2) == ("a", 1, 2)


def test_an_open_that_fails_on_a_loop_waits_for_none_of_its_calls():
    async def main():
        call = asyncio.create_task(pool["a"].acall(1))
        await calls.await_entered()
        with pytest.raises(ms.ModelLoadError):
            pool.open()
        calls.open()
        return await call

    calls = gate()
    with told(200, Shelf(calls=calls, a=100, b=100), pinned=["b"]) as (pool, shelf, _):
        shelf.bad["b"] = OSError("no disk")
        assert start(asyncio.run, main()).result(LIMIT) == ("a", 1, 1)
        until(lambda: shelf.alive() == 0)
        assert not pool.health().ready


def test_closing_while_a_model_loads_lets_it_go_and_tells_its_callers():
    opens = gate()
    with told(100, Shelf(gate=opens, a=100)) as (pool, shelf, _):
        call = start(pool["a"], 1)
        opens.wait_entered()
        closed = start(pool.close)
        until(lambda: pool._engine.closed)
        opens.open()

        assert type(call.exception(LIMIT)) is ms.Closed
        closed.result(LIMIT)
        until(lambda: shelf.alive() == 0)
        assert pool.stats.nbytes == {"all": 0}


def test_closing_tells_those_who_wait_for_room():
    calls = gate()
    with told(100, Shelf(calls=calls, a=100, b=100)) as (pool, _, _):
        busy = start(pool["a"], 1)
        calls.wait_entered()
        waits = start(pool["b"], 1)
        until(lambda: pool._engine.seats["a"].live is None)
        closed = start(pool.close)
        assert type(waits.exception(LIMIT)) is ms.Closed
        calls.open()
        assert busy.result(LIMIT) == ("a", 1, 1)
        closed.result(LIMIT)


@pytest.mark.parametrize("how", [{"timeout": 0.02}, {"drain": False}])
def test_closing_in_a_hurry_does_not_wait_for_calls(how):
    calls = gate()
    with told(100, Shelf(calls=calls, a=100)) as (pool, _, _):
        busy = start(pool["a"], 1)
        calls.wait_entered()
        pool.close(**how)
        until(lambda: pool.stats.nbytes == {"all": 0})
        calls.open()

        assert busy.result(LIMIT) == ("a", 1, 1)


def test_a_loop_that_has_calls_in_flight_closes_by_awaiting():
    async def main():
        call = asyncio.create_task(pool["a"].acall(1))
        await calls.await_entered()
        with pytest.raises(RuntimeError, match=r"await pool.aclose\(\)"):
            pool.close()
        calls.open()
        await asyncio.wait_for(pool.aclose(), LIMIT)
        return await call

    calls = gate()
    with told(100, Shelf(calls=calls, a=100)) as (pool, shelf, _):
        assert asyncio.run(main()) == ("a", 1, 1)
        assert shelf.alive() == 0


def test_a_loop_that_has_calls_in_flight_evicts_by_awaiting():
    async def main():
        call = asyncio.create_task(pool["a"].acall(1))
        await calls.await_entered()
        with pytest.raises(RuntimeError, match=r"await pool.aevict\('a'\)"):
            pool.evict("a", timeout=LIMIT)
        loaded = pool.stats.loaded
        gone = asyncio.create_task(pool.aevict("a"))
        await asyncio.to_thread(until, lambda: not pool.stats.loaded)
        calls.open()
        return loaded, await asyncio.wait_for(gone, LIMIT), await call

    calls = gate()
    with told(100, Shelf(calls=calls, a=100)) as (pool, shelf, _):
        assert asyncio.run(asyncio.wait_for(main(), LIMIT)) == (("a",), True, ("a", 1, 1))
        assert shelf.alive() == 0
        assert not asyncio.run(pool.aevict("a"))


def test_sweeping_on_a_loop_leaves_what_the_loop_is_calling():
    async def main():
        call = asyncio.create_task(pool["a"].acall(1))
        await calls.await_entered()
        swept = pool.sweep()
        calls.open()
        return swept, await call

    calls = gate()
    with told(200, Shelf(calls=calls, a=100, b=100), keep_alive=0.0) as (pool, _, _):
        pool._engine._keeper = object()  # so that nobody else sweeps
        pool["b"].start()
        assert start(asyncio.run, main()).result(LIMIT) == (("b",), ("a", 1, 1))
        assert pool.sweep() == ("a",)
        pool._engine._keeper = None


def test_a_predictor_that_a_tree_closed_is_replaced_by_one_that_answers():
    with told(100) as (pool, _, _):
        with ms.PredictionCache(pool["a"], maxsize=8) as cache:
            cache(1)
            first = pool["a"]
        with pytest.raises(ms.Closed):
            first(1)

        assert pool["a"](1) == ("a", 1, 1)


def test_it_shows_what_it_holds():
    with told(300) as (pool, _, _):
        pool["a"](1)
        pool["b"]

        assert pool.describe().splitlines() == [
            "ModelPool pool 100 of 300 bytes, 0 hits, 1 misses, 1 loads, 0 evictions",
            "Pooled a [batch] 100 bytes, 1 calls, 1 loads",
            "   ModelLoader a [batch] version 1, 1 loads",
            "Pooled b [batch] not in memory, 0 calls, 0 loads",
            "   ModelLoader b [batch] not loaded, 0 loads",
        ]
        assert "loaded=('a',)" in repr(pool)
        parts = {name: part.state for name, part in pool.health().parts.items()}
        assert parts == {"pool/a": "ready", "pool/b": "cold"}


def test_it_travels_cold():
    pool = shouting(pinned=["reader"], name="words")
    pool["ranker"]("a")
    for twin in (pickle.loads(pickle.dumps(pool)), copy.deepcopy(pool)):  # noqa: S301 - our own
        assert len(twin) == 0
        assert twin.name == "words"
        with twin:
            assert twin.stats.loaded == ("reader",)
            assert twin["ranker"]("a") == "A"
    assert pickle.loads(pickle.dumps(pool["ranker"]))("a") == "A"  # noqa: S301 - our own


def test_each_eviction_says_why():
    log = EventLog()
    with told(100, keep_alive=5.0, on_event=log) as (pool, _, clock):
        pool["a"](1)
        pool["b"](1)
        pool.evict("b")
        pool["c"](1)
        clock.advance(5.0)
        pool.sweep()
        pool["d"](1)
    reasons = [(event.part, event.reason) for event in log.of(Evicted)]

    assert reasons == [("a", "room"), ("b", "asked"), ("c", "idle"), ("d", "closed")]
    assert pool.stats.evictions == 3
