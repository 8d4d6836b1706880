import asyncio
import itertools
import os
import threading

import cachetools
import numpy as np
import pytest

import modelserve as ms
from modelserve.testing import GatedPredictor
from tests.cache.asking import LIMIT, outcome, run, start, until
from tests.contract.calling import by_every_face
from tests.support.processes import in_child


class Counted:
    """A function that counts its calls."""

    __name__ = "counted"

    def __init__(self, fn=lambda x: x):
        self.fn = fn
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return self.fn(x)


# What it is told


@pytest.mark.parametrize(
    "options", [{}, {"maxsize": 8, "store": {}}, {"maxsize": 8, "max_bytes": 8}]
)
def test_one_bound_is_required(options):
    with pytest.raises(ValueError, match="pass one of maxsize, max_bytes and store"):
        ms.PredictionCache(str.upper, **options)


@pytest.mark.parametrize("maxsize", [0, -1])
def test_a_bound_below_one_is_refused(maxsize):
    with pytest.raises(ValueError, match=f"maxsize={maxsize}: pass 1 or more"):
        ms.PredictionCache(str.upper, maxsize=maxsize)


@pytest.mark.parametrize("ttl", [0, -1.0, float("nan")])
def test_no_time_to_live_is_refused(ttl):
    with pytest.raises(ValueError, match=f"ttl={ttl} is no time to live"):
        ms.PredictionCache(str.upper, maxsize=8, ttl=ttl)


def test_a_splitter_below_is_refused():
    split = ms.TrafficSplitter(ms.Variant("a", str.upper), salt="s")
    with pytest.raises(ms.NestingError, match="put the cache inside each variant"):
        ms.PredictionCache(ms.predictor(str.upper, uses=[split]), maxsize=8)


def test_a_splitter_that_a_closure_hides_is_refused_at_the_call():
    split = ms.TrafficSplitter(ms.Variant("a", str.upper), salt="s")
    cache = ms.PredictionCache(lambda x: split(x), maxsize=8)  # noqa: PLW0108
    with ms.request(unit="u"), pytest.raises(ms.NestingError, match="inside a flight"):
        cache("a")

    assert split.stats.variants["a"].calls == 0


def test_a_cache_that_a_closure_hides_below_a_batcher_is_refused_at_the_call_hit_or_miss():
    cache = ms.PredictionCache(str.upper, maxsize=8)
    cache("a")
    batcher = ms.DynamicBatcher(lambda xs: [cache(x) for x in xs])
    for x in "ab":
        with pytest.raises(ms.NestingError, match="put the cache around the batcher"):
            batcher(x)


# What it remembers


@by_every_face
def test_an_answer_is_given_again(ask):
    model = Counted(str.upper)
    cache = ms.PredictionCache(model, maxsize=8)

    assert [ask(cache, "a"), ask(cache, "a"), ask(cache, "b")] == ["A", "A", "B"]
    assert model.calls == 2


@by_every_face
def test_errors_are_not_remembered(ask):
    model = Counted(lambda x: 1 // 0)
    cache = ms.PredictionCache(model, maxsize=8)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            ask(cache, "a")

    assert model.calls == 2
    assert cache.stats[:4] == (0, 0, 2, 0)


@by_every_face
def test_none_is_an_answer(ask):
    model = Counted(lambda x: None)
    cache = ms.PredictionCache(model, maxsize=8)

    assert ask(cache, "a") is ask(cache, "a") is None
    assert model.calls == 1


@by_every_face
def test_equal_arrays_are_one_input_and_look_alikes_are_not(ask):
    model = Counted(lambda x: x.sum())
    cache = ms.PredictionCache(model, maxsize=8)
    for x in (np.ones(4), np.ones(8)[::2], np.ones((2, 2)), np.ones(4, "f4"), np.ones(4)):
        ask(cache, x)

    assert model.calls == 3


@by_every_face
def test_an_input_without_a_key_says_what_to_do(ask):
    cache = ms.PredictionCache(Counted(), maxsize=8)
    with pytest.raises(TypeError, match="pass key="):
        ask(cache, {"a": object()})


@by_every_face
def test_a_key_may_leave_out_what_does_not_count(ask):
    model = Counted(lambda x: x["text"].upper())
    cache = ms.PredictionCache(model, maxsize=8, key=lambda x: x["text"])

    assert ask(cache, {"text": "a", "trace": object()}) == "A"
    assert ask(cache, {"text": "a", "trace": object()}) == "A"
    assert model.calls == 1


@pytest.mark.parametrize("option", ["key", "version"])
@by_every_face
def test_what_a_users_function_raises_reaches_the_caller_and_strands_nobody(ask, option):
    def fail(*args):
        if failing:
            raise ZeroDivisionError
        return "1"

    failing = [True]
    cache = ms.PredictionCache(Counted(str.upper), maxsize=8, **{option: fail})
    with pytest.raises(ZeroDivisionError):
        ask(cache, "a")
    failing.clear()

    assert outcome(start(ask, cache, "a")) == "A"


@by_every_face
def test_the_next_answer_after_a_reload_is_the_new_models(ask):
    numbers = itertools.count(1)
    loader = ms.ModelLoader(
        lambda: next(numbers), predict=lambda version, xs: [(x, version) for x in xs], name="m"
    )
    hidden = ms.DynamicBatcher(lambda xs: loader(xs), name="batcher")  # noqa: PLW0108
    cache = ms.PredictionCache(hidden, maxsize=8, name="cache")
    for change, version, found in (
        (loader.get, 1, "miss"),
        (loader.get, 1, "hit"),
        (loader.reload, 2, "miss"),
        (loader.rollback, 1, "miss"),
        (loader.get, 1, "hit"),
    ):
        change()
        with ms.request() as scope:
            assert ask(cache, "a") == ("a", version)
        assert (scope.record["m.version"], scope.record["cache.cache"]) == (str(version), found)


def test_degrees_of_concurrency_do_not_change_what_is_remembered():
    model = Counted(str.upper)
    cache = ms.PredictionCache(model, maxsize=8)
    cache("a")

    async def main():
        return await asyncio.gather(*(cache.acall("a") for _ in range(10)))

    assert run(main) == ["A"] * 10
    assert list(cache.map("aaa")) == ["A"] * 3
    assert model.calls == 1


# What a hit needs


def test_a_hit_on_a_loop_blocks_nothing():
    cache = ms.PredictionCache(str.upper, maxsize=8)

    async def main():
        return cache("a"), cache("a"), list(cache.map("aa"))

    assert run(main) == ("A", "A", ["A", "A"])
    assert cache.stats.blocked_loop == 1


@by_every_face
def test_an_entry_that_comes_between_the_look_and_the_claim_is_a_hit(ask):
    """The clock is read when an entry is found; at the first look another call makes it anew."""

    def clock():
        if late and late.pop():
            cache._table._store[key].expires = 100.0
            return 100.0
        return 0.0

    late = []
    model = Counted(str.upper)
    cache = ms.PredictionCache(model, maxsize=8, ttl=1.0, clock=clock)
    cache("a")
    [key] = cache._table._store
    late.append(True)

    assert ask(cache, "a") == "A"
    assert model.calls == 1
    assert cache.stats[:4] == (1, 1, 1, 0)


# Its life


@by_every_face
def test_a_closed_cache_remembers_when_it_is_opened_again(ask):
    model = Counted(str.upper)
    cache = ms.PredictionCache(model, maxsize=8)
    cache("a")
    cache.close()
    with pytest.raises(ms.Closed):
        ask(cache, "a")
    with cache:
        assert ask(cache, "a") == "A"

    assert model.calls == 1


def by_close(p, **options):
    p.close(**options)


def by_aclose(p, **options):
    asyncio.run(p.aclose(**options))


by_both_closes = pytest.mark.parametrize("close", [by_close, by_aclose])


@by_both_closes
def test_closing_lets_what_is_running_land(close):
    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    call = start(cache, "a")
    gate.wait_entered()
    closed = start(close, cache)
    until(lambda: cache.life.closed)
    gate.open()

    assert outcome(call) == "A"
    assert outcome(closed) is None


@by_both_closes
@pytest.mark.parametrize("options", [{"drain": False}, {"timeout": 0.0}], ids=str)
def test_closing_without_draining_waits_for_nobody(close, options):
    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    call = start(cache, "a")
    gate.wait_entered()
    assert outcome(start(close, cache, **options)) is None
    gate.open()

    assert outcome(call) == "A"


def test_a_warm_call_is_neither_counted_nor_remembered():
    model = Counted(str.upper)
    cache = ms.PredictionCache(model, maxsize=8)
    asks = ms.predictor(lambda x: (cache(x), *cache.map([x])), uses=[cache], name="asks")

    async def aasks(x):
        return await cache.acall(x), [y async for y in cache.amap([x])]

    ms.warm(asks, "a")
    asyncio.run(ms.awarm(ms.predictor(aasks), "a"))
    assert model.calls == 4
    cache("b")
    ms.warm(cache, "b")

    assert model.calls == 6
    assert cache.stats[:4] == (1, 0, 1, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_keeps_the_entries_and_forgets_the_runs():
    def child():
        gate.open()
        return cache("a"), outcome(start(cache, "b")), cache.stats.hits

    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    gate.open_one()
    cache("a")
    call = start(cache, "b")
    gate.wait_entered(2)
    said = in_child(child)
    gate.open()

    assert said == repr(("A", "B", 1))
    assert outcome(call) == "B"


# What it shows


def test_it_shows_its_bound_and_its_counts():
    cache = ms.PredictionCache(str.upper, maxsize=1_000, name="cache")
    for x in "aab":
        cache(x)

    assert cache.summary() == "2 of 1,000 entries, 1 hits, 2 misses"
    assert repr(cache).startswith("PredictionCache('cache', entries=2, hits=1, misses=2, joins=0,")
    assert list(cache.parts) == ["upper"]


def test_it_shows_joins_where_there_are_any_and_no_bound_where_the_store_has_its_own():
    cache = ms.PredictionCache(str.upper, store=cachetools.LRUCache(5))
    list(cache.map("aa"))

    assert cache.summary() == "1 entries, 0 hits, 1 joins, 1 misses"


def test_it_takes_the_name_and_the_docstring_of_its_function():
    def answer(x):
        """Answer."""
        return x

    cache = ms.PredictionCache(answer, maxsize=8)

    assert (cache.name, cache.__name__, cache.__doc__) == ("answer", "answer", "Answer.")


def test_threads_that_hit_get_the_same_object():
    cache = ms.PredictionCache(lambda x: np.ones(3), maxsize=8)
    together = threading.Barrier(4, timeout=LIMIT)

    def ask():
        together.wait()
        return cache("a")

    answers = [each.result(LIMIT) for each in [start(ask) for _ in range(4)]]

    assert len({id(answer) for answer in answers}) == 1
