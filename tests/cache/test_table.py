import asyncio
import itertools
import math
import random
import sys
from concurrent.futures import Future

import pytest

import modelserve as ms
from modelserve.predictor import FutureSink
from modelserve.testing import FakeClock, GatedPredictor
from tests.cache.asking import LIMIT, counted, outcome, start, until


def versioned(**options):
    loader = ms.ModelLoader(lambda: str.upper, name="m")
    return loader, ms.PredictionCache(loader, name="cache", **options)


# How long an entry counts


def test_an_entry_lives_for_its_ttl():
    clock = FakeClock()
    cache = counted(maxsize=8, ttl=10.0, clock=clock)
    made = cache("a")
    clock.advance(9.9)
    assert cache("a") == made
    clock.advance(0.1)
    assert cache("a") != made
    assert cache.stats == (1, 1, 2, 0, 1, 0, 0, 0, 0, 0)


def test_an_answer_may_say_how_long_it_lives():
    clock = FakeClock()
    answers = {"short": 1.0, "long": 10.0, "ever": math.inf, "never": 0.0, "wrong": math.nan}
    cache = ms.PredictionCache(answers.get, maxsize=8, ttl=lambda y: y, clock=clock, name="cache")
    for x, y in answers.items():
        assert cache(x) is y
    assert (cache.stats.entries, cache.stats.unstored) == (3, 2)
    clock.advance(5.0)
    list(cache.map(["short", "long", "ever"]))

    assert (cache.stats.hits, cache.stats.expired) == (2, 1)


def test_who_waits_is_told_when_no_time_to_live_can_be_said():
    cache = ms.PredictionCache(str.upper, maxsize=8, ttl=lambda y: 1 / 0, name="cache")
    with pytest.raises(ZeroDivisionError):
        cache("a")

    assert [type(y) for y in cache.map("ab", return_exceptions=True)] == [ZeroDivisionError] * 2


def test_an_entry_lives_from_when_it_was_made():
    clock = FakeClock()
    gate = GatedPredictor()
    cache = ms.PredictionCache(gate, maxsize=8, ttl=10.0, clock=clock)
    call = start(cache, "a")
    gate.wait_entered()
    clock.advance(100.0)
    gate.open()
    outcome(call)
    cache("a")

    assert cache.stats.hits == 1


def test_without_ttl_no_clock_is_read():
    def clock():
        raise AssertionError("nobody needs the time")

    cache = counted(maxsize=8, clock=clock)

    assert cache("a") == cache("a")


def test_what_a_retired_version_made_is_a_miss_until_it_comes_back():
    loader, cache = versioned(maxsize=8)
    cache("a")
    loader.reload()
    cache("b")
    assert cache.stats[:6] == (2, 0, 2, 0, 0, 0)
    cache("a")
    assert cache.stats.outdated == 1
    loader.rollback()
    cache("b")
    assert cache.stats.outdated == 2
    assert cache.stats.hits == 0


def test_an_old_entry_of_a_retired_version_counts_as_outdated():
    clock = FakeClock()
    loader, cache = versioned(maxsize=8, ttl=1.0, clock=clock)
    cache("a")
    clock.advance(2.0)
    loader.reload()
    cache("a")

    assert (cache.stats.expired, cache.stats.outdated) == (0, 1)


# What users' functions raise


class Raising:
    """A function that raises when told to."""

    def __init__(self, answer):
        self.answer = answer
        self.error = None

    def __call__(self, *args):
        if self.error is not None:
            raise self.error
        return self.answer


@pytest.mark.parametrize("option", ["clock", "version"])
def test_who_waits_is_told_when_a_function_of_the_users_raises_at_landing(option):
    raising = Raising({"clock": 0.0, "version": "1"}[option])
    gate = GatedPredictor()
    cache = ms.PredictionCache(gate, maxsize=8, ttl=9.0, **{option: raising})
    leader = start(cache, "a")
    gate.wait_entered()
    follower = start(cache, "a")
    until(lambda: cache.stats.joins == 1)
    raising.error = ZeroDivisionError("of the user's")
    gate.open()

    assert {type(outcome(leader)), type(outcome(follower))} == {ZeroDivisionError}
    raising.error = None
    assert outcome(start(cache, "a")) == "a"


def test_an_answer_that_cannot_be_copied_fails_its_own_callers():
    class Uncopied(list):
        def __copy__(self):
            raise ZeroDivisionError("of the user's")

    cache = ms.PredictionCache(lambda x: Uncopied() if x == "bad" else x, maxsize=8)

    with pytest.raises(ZeroDivisionError):
        cache("bad")
    answers = list(cache.map(["a", "bad", "b"], return_exceptions=True))
    assert [answers[0], type(answers[1]), answers[2]] == ["a", ZeroDivisionError, "b"]


# Versions that a user tells of


def test_a_version_is_part_of_the_key():
    version = "1"
    cache = counted(maxsize=8, version=lambda: version)
    first = cache("a")
    version = "2"
    second = cache("a")
    assert second != first
    assert cache("a") == second
    version = "1"
    assert cache("a") == first


def test_a_version_that_changed_during_the_run_is_not_remembered_under_either():
    def answer(x):
        return gate(x), version

    version = "1"
    gate = GatedPredictor()
    cache = ms.PredictionCache(answer, maxsize=8, version=lambda: version)
    leader = start(cache, "a")
    gate.wait_entered()
    version = "2"
    gate.open()

    assert outcome(leader) == ("a", "2")
    assert cache("a") == ("a", "2")
    version = "1"
    assert cache("a") == ("a", "1")
    assert cache.stats.unstored == 1


def test_a_version_that_changed_just_before_the_run_is_not_the_keys():
    versions = iter(["1", "2", "1", "1"])
    cache = ms.PredictionCache(lambda x: x, maxsize=8, version=lambda: next(versions))
    cache("a")

    assert cache.stats.unstored == 1
    cache("a")
    assert cache.stats.misses == 2


def test_who_joined_before_the_version_changed_takes_the_answer():
    version = "1"
    gate = GatedPredictor()
    cache = ms.PredictionCache(gate, maxsize=8, version=lambda: version)
    callers = [start(cache, "a")]
    gate.wait_entered()
    callers += [start(cache, "a") for _ in range(3)]
    until(lambda: cache.stats.joins == 3)
    version = "2"
    gate.open()

    assert [outcome(caller) for caller in callers] == ["a"] * 4
    assert gate.calls == ["a"]


def test_a_version_in_words_tells_two_caches_of_one_model_apart():
    loader, one = versioned(maxsize=8, version="1")
    with ms.request(tenant="t"):
        one("a")
        one("a")
    one("a")

    assert one.stats[:3] == (2, 1, 2)
    assert loader.stats.loads == 1


# Counts


def test_counts_are_exact_under_a_storm():
    """Every call is a hit, a join or a miss, and every miss ran the model."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    runs = itertools.count()
    cache = ms.PredictionCache(lambda x: (x, next(runs)), maxsize=4)

    def ask(seed):
        rng = random.Random(seed)  # noqa: S311 - no secret
        for _ in range(50):
            cache(rng.randrange(8))
            list(cache.map([rng.randrange(8) for _ in range(3)]))

    async def aask(seed):
        rng = random.Random(seed)  # noqa: S311 - no secret
        for _ in range(10):
            await asyncio.gather(*(cache.acall(rng.randrange(8)) for _ in range(5)))

    try:
        callers = [start(ask, seed) for seed in range(4)]
        callers += [start(asyncio.run, aask(seed)) for seed in range(2)]
        for caller in callers:
            caller.result(LIMIT)
    finally:
        sys.setswitchinterval(before)

    stats = cache.stats
    assert stats.hits + stats.joins + stats.misses == 4 * 50 * 4 + 2 * 10 * 5
    assert stats.misses == next(runs)
    assert stats.entries == 4
    assert stats.hits > 0


# The end


def test_who_waits_for_the_end_waits_for_every_run():
    gate = GatedPredictor()
    cache = ms.PredictionCache(gate, maxsize=8)
    call = start(cache, "a")
    gate.wait_entered()
    ended = Future()
    cache._table.when_empty(FutureSink(ended))
    assert not ended.done()
    gate.open()
    outcome(call)

    assert ended.result(LIMIT) is None
    at_once = Future()
    cache._table.when_empty(FutureSink(at_once))
    assert at_once.result(0) is None


def test_a_table_knows_the_loops_that_its_runs_need():
    gate = GatedPredictor.asynchronous()
    cache = ms.PredictionCache(gate, maxsize=8)

    async def main():
        call = asyncio.create_task(cache.acall("a"))
        await gate.await_entered()
        during = cache.needs_this_loop()
        gate.open()
        await call
        return during, cache.needs_this_loop()

    assert asyncio.run(main()) == (True, False)
    assert not cache.needs_this_loop()


def test_what_happens_when_an_answer_is_dropped_may_ask_the_cache():
    class Last:
        def __del__(self):
            dropped.append(cache("b"))

    dropped = []
    cache = ms.PredictionCache(lambda x: x if x == "b" else Last(), maxsize=1)
    outcome(start(cache, "a"))
    assert outcome(start(cache, "c")) is not None

    assert dropped == ["b"]


def test_expiry_is_infinite_without_ttl():
    cache = counted(maxsize=8)
    cache("a")
    [entry] = cache._table._store.values()

    assert entry.expires == math.inf


def test_a_run_that_began_before_a_fork_ends_for_itself_alone():
    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    before = start(cache, "a")
    gate.wait_entered()
    cache.after_fork()
    after = start(cache, "a")
    gate.wait_entered(2)
    gate.open_one()
    assert outcome(before) == "A"
    joiner = start(list, cache.map(["b", "a"]))
    gate.wait_entered(3)
    gate.open()

    assert outcome(after) == "A"
    assert outcome(joiner) == ["B", "A"]
