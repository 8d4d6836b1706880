import asyncio
import itertools

import numpy as np
import pytest

import modelserve as ms
from modelserve.cache._cache import CHUNK
from modelserve.cache._flight import Run
from modelserve.cache._many import Ask, Found, Plan
from modelserve.testing import FakeClock, GatedPredictor
from tests.cache.asking import LIMIT, outcome, run, start, until
from tests.contract.calling import taken


def by_map(p, xs, **options):
    return list(p.map(xs, **options))


def by_amap(p, xs, **options):
    return run(lambda: taken(p.amap(xs, **options)))


both = pytest.mark.parametrize("ask", [by_map, by_amap])


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


# Deadlines


@pytest.mark.parametrize("make", [GatedPredictor, GatedPredictor.asynchronous])
@both
def test_at_the_deadline_what_has_not_landed_is_late(ask, make):
    def late(**options):
        with ms.request(timeout=0.01, clock=clock):
            return ask(cache, "abc", **options)

    clock = FakeClock()
    gate = make(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    cache_b = start(cache, "b")
    gate.wait_entered()
    gate.open_one()
    outcome(cache_b)
    caller = start(late, return_exceptions=True)
    gate.wait_entered(2)
    clock.advance(1.0)
    answers = outcome(caller)
    gate.open()

    assert [type(y) for y in answers] == [ms.DeadlineExceeded, str, ms.DeadlineExceeded]


@both
def test_at_the_deadline_a_map_ends_and_its_run_goes_on_for_who_joined(ask):
    def late():
        with ms.request(timeout=0.01, clock=clock):
            return ask(cache, "abc")

    clock = FakeClock()
    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    caller = start(late)
    gate.wait_entered()
    follower = start(cache, "c")
    until(lambda: cache.stats.joins == 1)
    clock.advance(1.0)
    assert isinstance(outcome(caller), ms.DeadlineExceeded)
    gate.open()

    assert outcome(follower) == "C"


@both
def test_who_waits_for_anothers_run_is_late_in_its_place(ask):
    def late(**options):
        with ms.request(timeout=0.01, clock=clock):
            return ask(cache, "a", **options)

    clock = FakeClock()
    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    leader = start(cache, "a")
    gate.wait_entered()
    callers = [start(late, return_exceptions=True), start(late)]
    until(lambda: cache.stats.joins == 2)
    clock.advance(1.0)
    stands, raises = map(outcome, callers)
    gate.open()

    assert [type(y) for y in stands] == [ms.DeadlineExceeded]
    assert isinstance(raises, ms.DeadlineExceeded)
    assert outcome(leader) == "A"


# Others' runs


@pytest.mark.parametrize("make", [GatedPredictor, GatedPredictor.asynchronous])
@both
def test_others_runs_are_joined(ask, make):
    gate = make(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    others = [start(cache, x) for x in "ac"]
    gate.wait_entered(2)
    caller = start(ask, cache, "abcd")
    until(lambda: cache.stats.joins == 2)
    gate.open()

    assert outcome(caller) == list("ABCD")
    assert [outcome(other) for other in others] == ["A", "C"]
    assert sorted(gate.calls) == ["a", "b", "c", "d"]


@both
def test_two_maps_that_cross_do_not_wait_for_each_other_for_ever(ask):
    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    one = start(ask, cache, "ab")
    gate.wait_entered()
    other = start(ask, cache, "cbad")
    until(lambda: cache.stats.joins == 2)
    third = start(ask, cache, "dcba")
    until(lambda: cache.stats.joins == 6)
    gate.open()

    assert [outcome(one), outcome(other), outcome(third)] == [
        list("AB"),
        list("CBAD"),
        list("DCBA"),
    ]
    assert sorted(gate.calls) == ["a", "b", "c", "d"]


@both
def test_what_failed_of_anothers_own_is_asked_anew(ask):
    def answer(x):
        if len(gate.calls) == 1:
            raise ms.Overloaded("not now")
        return x.upper()

    gate = GatedPredictor(answer)
    cache = ms.PredictionCache(gate, maxsize=8)
    other = start(cache, "a")
    gate.wait_entered()
    caller = start(ask, cache, "aa")
    until(lambda: cache.stats.joins == 2)
    gate.open()

    assert isinstance(outcome(other), ms.Overloaded)
    assert outcome(caller) == ["A", "A"]
    stats = cache.stats
    assert stats.hits + stats.joins + stats.misses == 3


@both
def test_a_map_inside_a_run_asks_for_itself_what_it_must_not_wait_for(ask):
    def answer(x):
        calls.append(x)
        return x.upper() if len(calls) > 1 else "".join(ask(cache, "ab"))

    calls = []
    cache = ms.PredictionCache(answer, maxsize=8)

    assert outcome(start(cache, "a")) == "AB"
    assert cache.stats[:4] == (2, 0, 3, 0)


@both
def test_a_joiner_of_many_takes_no_answer_whose_version_the_trail_leaves_open(ask):
    """A map was answered by version 1 at first and then by version 2: by which the joiner's?"""

    def answer(x):
        made = loader(x)
        if x == "b":
            gate(x)
        return made

    numbers = itertools.count(1)
    loader = ms.ModelLoader(
        lambda: next(numbers), predict=lambda version, x: (x, version), name="m"
    )
    gate = GatedPredictor()
    cache = ms.PredictionCache(answer, maxsize=8, name="cache")
    caller = start(ask, cache, "abc")
    gate.wait_entered()
    follower = start(asked, cache, "a")
    until(lambda: cache.stats.joins == 1)
    loader.reload()
    gate.open()

    assert outcome(caller) == [("a", 1), ("b", 1), ("c", 2)]
    answer_, record = outcome(follower)
    assert (answer_, record["m.version"]) == (("a", 2), "2")


def asked(cache, x):
    with ms.request() as scope:
        return cache(x), scope.record


# Records


@both
def test_a_map_has_one_record(ask):
    loader = ms.ModelLoader(lambda: str.upper, name="m")
    cache = ms.PredictionCache(loader, maxsize=8, name="cache")
    with ms.request() as scope:
        ask(cache, "ab")
    assert scope.record == {"m.version": "1", "cache.cache": "miss"}
    with ms.request() as scope:
        ask(cache, "ab")
    assert scope.record == {"m.version": "1", "cache.cache": "hit"}


@both
def test_a_trail_that_many_share_is_told_once(ask):
    """Else it would grow with the square of what is asked for together."""

    def one(x):
        return gate(loader(x))

    gate = GatedPredictor()
    loader = ms.ModelLoader(lambda: str.upper, name="m")
    cache = ms.PredictionCache(one, maxsize=1000)
    texts = [f"t{i}" for i in range(100)]
    other = start(ask, cache, texts)
    gate.wait_entered()

    def joined():
        with ms.request() as scope:
            ask(cache, [*texts, "more"])
        return len(scope.trail)

    caller = start(joined)
    until(lambda: cache.stats.joins == 100)
    gate.open()
    outcome(other)

    assert outcome(caller) < 210


# Half-way


@both
def test_a_map_that_is_left_early_leaves_nobody_waiting(ask):
    def leave():
        ys = cache.map(itertools.cycle("abc"))
        first = next(ys)
        ys.close()
        return first

    async def aleave():
        ys = cache.amap(itertools.cycle("abc"))
        first = await anext(ys)
        await ys.aclose()
        return first

    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    leaver = start(leave) if ask is by_map else start(run, aleave)
    gate.wait_entered()
    follower = start(cache, "c")
    until(lambda: cache.stats.joins >= CHUNK - 2)
    gate.open()

    assert outcome(leaver) == "A"
    assert outcome(follower) == "C"
    assert ask(cache, "abc") == list("ABC")


def test_a_cancelled_map_leaves_its_run_to_the_others():
    gate = GatedPredictor.asynchronous(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)

    async def main():
        leaver = asyncio.create_task(taken(cache.amap("ab")))
        await gate.await_entered()
        follower = asyncio.create_task(taken(cache.amap("ba")))
        await asyncio.to_thread(until, lambda: cache.stats.joins == 2)
        leaver.cancel()
        gate.open()
        return await follower

    assert run(main) == ["B", "A"]
    assert gate.calls == ["a", "b"]


@both
def test_a_map_of_a_closed_cache_says_so(ask):
    cache = ms.PredictionCache(str.upper, maxsize=8)
    cache.close()
    with pytest.raises(ms.Closed):
        ask(cache, "ab")

    assert [type(y) for y in ask(cache, "ab", return_exceptions=True)] == [ms.Closed] * 2


@both
def test_a_map_takes_its_inputs_chunk_by_chunk(ask):
    inputs = iter(str(i) for i in range(10 * CHUNK))
    cache = ms.PredictionCache(str.upper, maxsize=8)

    async def afirst():
        ys = cache.amap(inputs)
        first = await anext(ys)
        await ys.aclose()
        return first

    ys = cache.map(inputs)
    assert (next(ys) if ask is by_map else run(afirst)) == "0"
    assert int(next(inputs)) == CHUNK
    ys.close()


def test_a_map_with_a_far_deadline_answers_in_time():
    cache = ms.PredictionCache(str.upper, maxsize=8)
    with ms.request(timeout=LIMIT):
        assert by_map(cache, "abca") == list("ABCA")
    with ms.request(timeout=LIMIT):
        assert by_amap(cache, "abcd") == list("ABCD")
