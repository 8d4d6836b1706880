import asyncio
import itertools

import pytest

import modelserve as ms
from modelserve.cache._cache import CHUNK
from modelserve.testing import FakeClock, GatedPredictor
from tests.cache.asking import LIMIT, both, by_amap, by_map, outcome, run, start, until
from tests.contract.calling import taken

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
