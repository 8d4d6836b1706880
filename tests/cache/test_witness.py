import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

import modelserve as ms
from modelserve.cache._flight import Run
from modelserve.cache._witness import Witness, used_by_functions
from modelserve.request import Stamp
from modelserve.testing import GatedPredictor
from tests.cache.asking import LIMIT, outcome, start, until

POOL = ThreadPoolExecutor(4, thread_name_prefix="of-the-users-own")


def numbered(name="m", **options):
    """Make a loader whose model answers with its version."""
    numbers = itertools.count(1)
    return ms.ModelLoader(
        lambda: next(numbers), predict=lambda version, x: (x, version), name=name, **options
    )


def direct(loader, gate):
    """Ask the loader in the caller's own thread, then wait at a gate."""
    return ms.predictor(lambda x: (loader(x), gate(x))[0], name="f")


def in_batches(loader, gate):
    return ms.DynamicBatcher(lambda xs: [(loader(x), gate(x))[0] for x in xs], name="f")


def pooled(loader, gate):
    """Ask the loader in a thread that no scope reaches."""
    return ms.predictor(
        lambda x: (POOL.submit(loader, x).result(LIMIT), gate(x))[0], uses=[loader], name="f"
    )


shapes = pytest.mark.parametrize("shape", [direct, in_batches, pooled])


def ask(cache, x="a"):
    with ms.request() as scope:
        return cache(x), scope.record


class Race:
    """A leader that has read its model and waits; then models change, then others come."""

    def __init__(self, shape, loader, answer=lambda x: x):
        self.loader = loader
        self.gate = GatedPredictor(answer)
        self.cache = ms.PredictionCache(shape(loader, self.gate), maxsize=8, name="cache")

    def run(self, *changes):
        leader = start(ask, self.cache)
        self.gate.wait_entered()
        for change in changes:
            change()
        follower = start(ask, self.cache)
        until(lambda: self.cache.stats.joins == 1)
        self.gate.open()
        return outcome(leader), outcome(follower)


@shapes
def test_who_comes_after_a_reload_gets_no_answer_of_a_run_that_began_before(shape):
    race = Race(shape, numbered(mode="eager"))
    leader, follower = race.run(race.loader.reload)

    assert leader[0] == ("a", 1)
    assert follower[0] == ("a", 2)
    assert follower[1]["m.version"] == "2"
    assert leader[1].get("m.version", "1") == "1"
    assert race.gate.entered == 2
    assert race.cache.stats[:4] == (1, 0, 2, 0)
    assert race.cache.stats.unstored == 1
    assert ask(race.cache)[0] == ("a", 2)


@shapes
def test_an_answer_counts_again_after_the_rollback_that_brings_its_version_back(shape):
    race = Race(shape, numbered(mode="eager"))
    race.gate.open()
    assert ask(race.cache)[0] == ("a", 1)
    race.loader.reload()
    assert ask(race.cache)[0] == ("a", 2)
    race.loader.rollback()
    answer, record = ask(race.cache)

    assert answer == ("a", 1)
    assert record["m.version"] == "1"


@shapes
def test_entries_of_two_versions_take_turns(shape):
    race = Race(shape, numbered(mode="eager"))
    race.gate.open()
    ask(race.cache, "a")
    race.loader.reload()
    ask(race.cache, "b")
    race.loader.rollback()

    assert ask(race.cache, "a") == (("a", 1), {"m.version": "1", "cache.cache": "hit"})
    race.loader.reload()
    assert ask(race.cache, "b")[0] == ("b", 3)
    race.loader.rollback()
    assert ask(race.cache, "a") == (("a", 1), {"m.version": "1", "cache.cache": "hit"})
    assert race.gate.entered == 3


@pytest.mark.parametrize("shape", [direct, pooled])
def test_a_version_that_came_and_went_during_the_run_is_not_taken_for_the_one_before_it(shape):
    loader = numbered(mode="eager")
    before, after = GatedPredictor(), GatedPredictor()
    read = shape(loader, after)
    cache = ms.PredictionCache(
        ms.predictor(lambda x: read(before(x)), uses=[read], name="g"), maxsize=8
    )
    leader = start(ask, cache)
    before.wait_entered()
    loader.reload()
    before.open()
    after.wait_entered()
    loader.rollback()
    follower = start(ask, cache)
    until(lambda: cache.stats.joins == 1)
    after.open()

    assert outcome(leader)[0] == ("a", 2)
    assert outcome(follower)[0] == ("a", 1)
    assert ask(cache)[0] == ("a", 1)
    assert cache.stats.unstored == 1


@shapes
def test_a_failure_of_an_old_version_is_not_handed_to_who_comes_after_it(shape):
    def answer(x):
        if len(race.gate.calls) == 1:
            raise ValueError("the old one fails")
        return x

    race = Race(shape, numbered(mode="eager"), answer)
    leader, follower = race.run(race.loader.reload)

    assert isinstance(leader, ValueError)
    assert follower[0] == ("a", 2)


def test_an_answer_of_a_loader_that_was_closed_meanwhile_is_not_remembered():
    loader = numbered(mode="eager")
    race = Race(pooled, loader)
    leader, follower = race.run(loader.close)
    loader.open()

    assert leader[0] == ("a", 1)
    assert isinstance(follower, ms.Closed)
    assert race.cache.stats.unstored == 1
    assert ask(race.cache)[0] == ("a", 2)


def test_two_loaders_are_watched_and_named():
    one, other = numbered("m", mode="eager"), numbered("n", mode="eager")

    def answer(x):
        return [POOL.submit(loader, x).result(LIMIT)[1] for loader in (one, other)]

    cache = ms.PredictionCache(ms.predictor(answer, uses=[one, other]), maxsize=8, name="cache")
    seen = []
    for change in (None, other.reload, None, one.reload, other.rollback, one.rollback):
        if change is not None:
            change()
        answer, record = ask(cache)
        assert [record["m.version"], record["n.version"]] == list(map(str, answer))
        seen.append((*answer, record["cache.cache"]))

    assert seen == [
        (1, 1, "miss"),
        (1, 2, "miss"),
        (1, 2, "hit"),
        (2, 2, "miss"),
        (2, 1, "miss"),
        (1, 1, "miss"),
    ]


def test_a_lazy_loader_that_the_run_loads_was_no_change():
    loader = numbered()
    cache = ms.PredictionCache(pooled(loader, str), maxsize=8, name="cache")

    assert ask(cache) == (("a", 1), {"m.version": "1", "cache.cache": "miss"})
    assert ask(cache) == (("a", 1), {"m.version": "1", "cache.cache": "hit"})


def test_one_run_serves_all_who_come_while_it_loads():
    gate = GatedPredictor(lambda _: 1)
    loader = ms.ModelLoader(lambda: gate(None), predict=lambda version, x: (x, version), name="m")
    cache = ms.PredictionCache(pooled(loader, str), maxsize=8, name="cache")
    callers = [start(ask, cache) for _ in range(4)]
    gate.wait_entered()
    until(lambda: cache.stats.joins == 3)
    gate.open()

    assert [outcome(caller)[0] for caller in callers] == [("a", 1)] * 4
    assert cache.stats[:4] == (1, 0, 1, 3)


def test_a_loader_that_no_run_has_loaded_is_nobodys_witness():
    loader = numbered()
    cache = ms.PredictionCache(ms.predictor(str.upper, uses=[loader]), maxsize=8, name="cache")

    assert ask(cache) == ("A", {"cache.cache": "miss"})
    assert ask(cache) == ("A", {"cache.cache": "hit"})
    assert loader.version is None


def test_a_doubt_travels_outward_and_is_recorded_nowhere():
    race = Race(pooled, numbered(mode="eager"))
    inner = race.cache
    race.cache = ms.PredictionCache(lambda x: inner(x), maxsize=8, name="outer")  # noqa: PLW0108
    leader, follower = race.run(race.loader.reload)

    assert leader == (("a", 1), {"cache.cache": "miss", "outer.cache": "miss"})
    assert follower[0] == ("a", 2)
    assert race.cache.stats.unstored == 1
    assert ask(race.cache)[0] == ("a", 2)


def test_stamps_that_the_trail_holds_are_not_added_again():
    loader = numbered(mode="eager")
    witness = Witness([loader], None)
    flight_run = Run(None, witness)
    witness.begin(flight_run)
    flight_run.scope.run(loader, "a")
    witness.end(flight_run)

    assert flight_run.scope.trail == [loader.stamp()]
    assert flight_run.by == (loader.stamp(),)


def test_a_run_that_never_began_has_no_witness():
    witness = Witness([numbered(mode="eager")], None)
    flight_run = Run(None, witness)
    witness.end(flight_run)

    assert flight_run.by == ()


def test_a_stamp_knows_since_when_it_is_handed_out():
    loader = numbered()
    loader.get()
    first = loader.stamp()
    assert isinstance(first, Stamp)
    assert first.since == 0
    loader.reload()
    assert loader.stamp().since > 0
    loader.rollback()
    assert first.since > loader.stamp().retired == 0


# Which loaders are watched


def test_only_loaders_below_functions_are_watched():
    one, other, third = map(numbered, "abc")
    inner = ms.predictor(str.upper, uses=[other], name="inner")
    outer = ms.predictor(str.upper, uses=[inner, ms.DynamicBatcher(third), third], name="outer")

    assert used_by_functions(ms.PredictionCache(ms.DynamicBatcher(one), maxsize=8)) == []
    assert used_by_functions(ms.PredictionCache(outer, maxsize=8)) == [other, third]
    assert used_by_functions(ms.PredictionCache(str.upper, maxsize=8)) == []
