import asyncio

import numpy as np
import pytest

import modelserve as ms
from modelserve.cache._cache import CHUNK
from modelserve.cache._flight import Run
from modelserve.cache._many import Ask, Found, Plan
from tests.cache.asking import both, by_map


class Counted:
    """A function that notes its calls."""

    __name__ = "counted"

    def __init__(self, bad=()):
        self.bad = bad
        self.calls = []

    def __call__(self, x):
        self.calls.append(x)
        if x in self.bad:
            raise KeyError(x)
        return x.upper()


def batches():
    """Make a cache over a batcher, and the list of batches that ran."""
    sizes = []

    def upper(xs):
        sizes.append(len(xs))
        return [x.upper() for x in xs]

    return ms.PredictionCache(ms.DynamicBatcher(upper, max_batch_size=16), maxsize=1000), sizes


# What is found


def test_a_plan_begins_empty():
    plan = Plan(Run(None, object(), alone=False))

    assert (plan.found, plan.leads, plan.led, plan.noted) == ([], [], {}, set())
    assert Found() == (None, None, None, 0, False, None)
    assert Ask("p").p == "p"


# Each input runs once


@both
def test_duplicates_run_once(ask):
    model = Counted()
    cache = ms.PredictionCache(model, maxsize=8)

    assert ask(cache, "abacab") == list("ABACAB")
    assert model.calls == ["a", "b", "c"]
    assert cache.stats[:4] == (3, 0, 3, 3)


@both
def test_hits_are_told_from_misses(ask):
    model = Counted()
    cache = ms.PredictionCache(model, maxsize=8)
    cache("b")

    assert ask(cache, "abc") == list("ABC")
    assert model.calls == ["b", "a", "c"]
    assert cache.stats[:4] == (3, 1, 3, 0)
    assert ask(cache, "abc") == list("ABC")
    assert cache.stats[:4] == (3, 4, 3, 0)


@both
def test_misses_are_handed_on_together(ask):
    cache, sizes = batches()
    texts = [f"t{i}" for i in range(48)]
    for text in texts[::3]:
        cache(text)
    sizes.clear()

    assert ask(cache, texts) == [text.upper() for text in texts]
    assert sum(sizes) == 32
    assert max(sizes) == 16


@both
def test_one_miss_is_handed_on_as_a_call(ask):
    cache, sizes = batches()

    assert ask(cache, ["a"]) == ["A"]
    assert sizes == [1]


@both
def test_many_chunks_stay_in_order(ask):
    cache = ms.PredictionCache(str.upper, maxsize=10_000)
    texts = [f"t{i % 400}" for i in range(3 * CHUNK + 7)]

    assert ask(cache, texts) == [text.upper() for text in texts]
    assert cache.stats.misses == 400


@both
def test_rows_are_the_same_alone_and_in_a_map(ask):
    cache = ms.PredictionCache(lambda row: row * 2, maxsize=8)
    rows = np.arange(6.0).reshape(3, 2)
    cache(rows[1])

    assert [y.tolist() for y in ask(cache, rows)] == (rows * 2).tolist()
    assert cache.stats.hits == 1


# Errors


@both
def test_the_first_failed_input_raises_after_what_came_before_it(ask):
    cache = ms.PredictionCache(Counted(bad="c"), maxsize=8)
    got = []

    def keep(p, xs):
        for y in p.map(xs):
            got.append(y)  # noqa: PERF402 - an error follows

    async def akeep(p, xs):
        async for y in p.amap(xs):
            got.append(y)  # noqa: PERF401 - an error follows

    with pytest.raises(KeyError):
        keep(cache, "abcd") if ask is by_map else asyncio.run(akeep(cache, "abcd"))
    assert got == ["A", "B"]


@both
def test_errors_stand_in_their_places(ask):
    model = Counted(bad="c")
    cache = ms.PredictionCache(model, maxsize=8)
    answers = ask(cache, "acbc", return_exceptions=True)

    assert [answers[0], answers[2]] == ["A", "B"]
    assert [type(answers[i]) for i in (1, 3)] == [KeyError, KeyError]
    assert answers[1] is not answers[3]
    assert model.calls == ["a", "c", "b"]
    assert cache.stats.entries == 2


@both
@pytest.mark.parametrize("error", [TypeError, ValueError, ms.BadInput])
def test_an_input_without_a_key_fails_in_its_place(ask, error):
    def key(x):
        if x == "b":
            raise error("of the user's")
        return x

    cache = ms.PredictionCache(str.upper, maxsize=8, key=key)
    answers = ask(cache, "abc", return_exceptions=True)

    assert [answers[0], type(answers[1]), answers[2]] == ["A", error, "C"]
    with pytest.raises(error):
        ask(cache, "abc")


@both
def test_an_answer_that_is_an_error_is_one_of_many_that_failed(ask):
    cache = ms.PredictionCache(lambda x: ValueError(x), maxsize=8)  # noqa: PLW0108

    assert isinstance(cache("a"), ValueError)
    assert [type(y) for y in ask(cache, "bc", return_exceptions=True)] == [ValueError] * 2
    with pytest.raises(ValueError, match="b"):
        ask(cache, "bc")
