import asyncio
import copy
import math
import pickle
import threading

import pytest

import modelserve as ms
from modelserve.cache._flight import PERSONAL, Abandoned, Entry, Flight, Run
from modelserve.request import Note, Stamp, request, tick
from modelserve.testing import FakeClock, GatedPredictor
from tests.cache.asking import LIMIT, outcome, run, start, until

OWNER = object()


def retired(name="m"):
    stamp = Stamp(name, "1")
    stamp.retire()
    return stamp


def landed(*by, alone=True, error=None, scope=None):
    """Make a flight whose run has ended."""
    flight = Flight("key", Run(scope, OWNER, alone=alone), None)
    flight.run.by = by
    flight.run.scope.trail.extend(by)
    flight.error = error
    flight.entry = None if error else Entry("answer", None, by, math.inf)
    return flight


# Entries


def test_an_entry_is_current_while_all_its_makers_are():
    one, other = Stamp("m", "1"), Stamp("n", "1")
    entry = Entry("a", None, (one, other), math.inf)
    assert entry.is_current()
    other.retire()
    assert not entry.is_current()
    other.revive()
    assert entry.is_current()


def test_an_entry_gives_each_caller_its_own():
    entry = Entry([1], list, (), math.inf)

    assert entry.give() == [1]
    assert entry.give() is not entry.value
    assert Entry("a", None, (), math.inf).give() == "a"


def pickled(x):
    return pickle.loads(pickle.dumps(x))  # noqa: S301 - our own


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickled])
def test_a_copy_of_an_entry_has_expired(make):
    twin = make(Entry(["secret"], lambda kept: kept, (Stamp("m", "1"),), math.inf))

    assert (twin.value, twin.expires) == (None, -math.inf)


# Who may wait, and for whom


def test_nobody_waits_for_a_run_that_they_are_part_of():
    flight_run = Run(None, OWNER)

    assert flight_run.can_join(None)
    assert flight_run.can_join(request())
    assert not flight_run.can_join(flight_run.scope)
    with flight_run.scope:
        assert not flight_run.can_join(request(timeout=1.0))


def test_a_run_inside_a_run_is_part_of_both():
    outer = Run(None, OWNER)
    inner = Run(outer.scope, OWNER)

    assert not outer.can_join(inner.scope)
    assert inner.can_join(outer.scope)


def test_nobody_inside_a_run_waits_for_one_that_fills_several_flights():
    many = Run(None, OWNER, alone=False)

    assert many.can_join(None)
    assert many.can_join(request())
    assert not many.can_join(Run(None, OWNER).scope)


def test_a_run_holds_nothing_of_its_callers_but_their_tenant_and_latest_deadline():
    scope = request(unit="u", id="i", priority=3, tenant="t", timeout=9.0, debug=True)
    shared = Run(scope, OWNER).scope

    assert (shared.tenant, shared.unit, shared.id, shared.priority) == ("t", None, None, 0)
    assert 0 < shared.remaining() <= 9.0
    assert (shared.shared, shared.owner) == ("flight", OWNER)


def test_who_joins_raises_the_deadline():
    first = request(timeout=1.0)
    flight_run = Run(first, OWNER)
    flight_run.waiters.append(request(timeout=50.0))
    assert 40.0 < flight_run.scope.remaining() <= 50.0
    flight_run.waiters.append(None)
    assert flight_run.scope.remaining() == math.inf


# Who must ask anew


def test_the_leader_takes_what_it_gets():
    assert not landed(retired()).is_older_than(0)
    assert not landed(error=ms.DeadlineExceeded("late")).is_older_than(0)


def test_everybody_leaves_an_abandoned_run():
    assert landed(error=Abandoned()).is_older_than(0)
    assert landed(error=Abandoned()).is_older_than(tick())


@pytest.mark.parametrize("kind", PERSONAL)
def test_who_joined_takes_no_error_that_is_the_leaders_own(kind):
    assert landed(error=kind("mine")).is_older_than(tick())


def test_who_joined_takes_the_errors_of_the_model():
    assert not landed(error=ValueError("bad")).is_older_than(tick())


def test_who_joined_takes_no_version_that_was_retired_before_they_came():
    stamp = Stamp("m", "1")
    early = tick()
    stamp.retire()
    late = tick()

    assert not landed(stamp).is_older_than(early)
    assert landed(stamp).is_older_than(late)
    assert landed(stamp, error=ValueError("bad")).is_older_than(late)
    stamp.revive()
    assert not landed(stamp).is_older_than(late)


def test_of_versions_that_share_a_trail_none_that_has_retired_will_do():
    came = tick()

    assert landed(retired(), Stamp("m", "2"), alone=False).is_older_than(came)
    assert not landed(retired(), Stamp("m", "2")).is_older_than(came)
    assert not landed(Stamp("m", "2"), alone=False).is_older_than(came)


# What callers get


def test_a_note_brings_the_trail_of_the_run():
    flight = landed(Stamp("m", "1"))
    with ms.request() as scope:
        flight.note(scope, Note("cache", "cache", "join"))
    flight.note(None, Note("cache", "cache", "join"))

    assert scope.record == {"m.version": "1", "cache.cache": "join"}


def test_each_caller_gets_an_error_of_its_own():
    error = ValueError("bad", 3)
    caught = []
    for _ in range(2):
        with pytest.raises(ValueError, match="bad") as info:
            landed(error=error).result("cache")
        caught.append(info.value)

    assert len({id(error), *map(id, caught)}) == 3
    assert [each.args for each in caught] == [("bad", 3)] * 2


def test_what_has_not_landed_is_late():
    flight = Flight("key", Run(None, OWNER), None)

    with pytest.raises(ms.DeadlineExceeded, match="waiting for 'cache'"):
        flight.result("cache")


# One flight a key


@pytest.mark.parametrize("make", [GatedPredictor, GatedPredictor.asynchronous])
def test_threads_and_tasks_wait_for_one_run(make):
    gate = make(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)

    async def tasks():
        return await asyncio.gather(*(cache.acall("a") for _ in range(20)))

    callers = [start(cache, "a") for _ in range(6)]
    gate.wait_entered()
    callers += [start(list, cache.map(["a", "a"])) for _ in range(2)]
    loops = [start(run, tasks) for _ in range(2)]
    until(lambda: cache.stats.joins == 5 + 4 + 40)
    gate.open()

    assert [outcome(caller) for caller in callers] == ["A"] * 6 + [["A", "A"]] * 2
    assert [outcome(loop) for loop in loops] == [["A"] * 20] * 2
    assert gate.calls == ["a"]
    assert cache.stats[:4] == (1, 0, 1, 49)


@pytest.mark.parametrize("make", [GatedPredictor, GatedPredictor.asynchronous])
def test_a_run_that_a_task_leads_serves_threads(make):
    gate = make(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    loop = start(run, lambda: cache.acall("a"))
    gate.wait_entered()
    callers = [start(cache, "a") for _ in range(4)]
    until(lambda: cache.stats.joins == 4)
    gate.open()

    assert [outcome(caller) for caller in [loop, *callers]] == ["A"] * 5
    assert gate.calls == ["a"]


def refuse(x):
    raise KeyError(x, 7)


@pytest.mark.parametrize("make", [GatedPredictor, GatedPredictor.asynchronous])
def test_when_the_run_fails_each_caller_gets_an_error_of_its_own_for_one_call(make):
    gate = make(refuse)
    cache = ms.PredictionCache(gate, maxsize=8)

    async def tasks():
        return await asyncio.gather(*(cache.acall("a") for _ in range(3)), return_exceptions=True)

    callers = [start(cache, "a") for _ in range(3)]
    gate.wait_entered()
    loop = start(run, tasks)
    until(lambda: cache.stats.joins == 5)
    gate.open()
    errors = [outcome(caller) for caller in callers] + outcome(loop)

    assert {(type(error), error.args) for error in errors} == {(KeyError, ("a", 7))}
    assert len({id(error) for error in errors}) == 6
    assert gate.calls == ["a"]
    assert outcome(start(cache, "a")).args == ("a", 7)
    assert gate.calls == ["a", "a"]


def test_a_cancelled_leader_leaves_its_run_to_the_others():
    gate = GatedPredictor.asynchronous(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)

    async def main():
        leader, follower = (asyncio.create_task(cache.acall("a")) for _ in range(2))
        await gate.await_entered()
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        gate.open()
        return await follower

    assert run(main) == "A"
    assert gate.calls == ["a"]
    assert cache.stats[:4] == (1, 0, 1, 1)


@pytest.mark.parametrize("make", [GatedPredictor, GatedPredictor.asynchronous])
def test_a_late_leader_leaves_its_run_to_the_others(make):
    def late():
        with ms.request(timeout=0.01, clock=clock):
            return cache("a")

    clock = FakeClock()
    gate = make(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    leader = start(late)
    gate.wait_entered()
    follower = start(cache, "a")
    until(lambda: cache.stats.joins == 1)
    clock.advance(1.0)
    assert isinstance(outcome(leader), ms.DeadlineExceeded)
    gate.open()

    assert outcome(follower) == "A"
    assert gate.calls == ["a"]


def test_a_late_follower_is_let_go_alone():
    def late():
        with ms.request(timeout=0.01, clock=clock):
            return cache("a")

    clock = FakeClock()
    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    leader = start(cache, "a")
    gate.wait_entered()
    follower = start(late)
    until(lambda: cache.stats.joins == 1)
    clock.advance(1.0)
    assert isinstance(outcome(follower), ms.DeadlineExceeded)
    gate.open()

    assert outcome(leader) == "A"


@pytest.mark.parametrize("kind", PERSONAL)
def test_who_joined_a_run_that_failed_of_the_leaders_own_leads_again(kind):
    def answer(x):
        if len(gate.calls) == 1:
            raise kind("mine")
        return x.upper()

    gate = GatedPredictor(answer)
    cache = ms.PredictionCache(gate, maxsize=8)
    leader = start(cache, "a")
    gate.wait_entered()
    followers = [start(cache, "a") for _ in range(3)]
    until(lambda: cache.stats.joins == 3)
    gate.open_one()
    assert isinstance(outcome(leader), kind)
    gate.wait_entered(2)
    gate.open()

    assert [outcome(follower) for follower in followers] == ["A"] * 3
    assert gate.calls == ["a", "a"]
    assert cache.stats.misses == cache.stats.hits + cache.stats.joins == 2


def test_the_deadline_that_the_model_sees_is_the_latest_of_those_who_wait():
    def look(x):
        seen.append(ms.current_request().remaining())
        return x

    def ask(timeout):
        with ms.request(timeout=timeout):
            return cache("a")

    seen = []
    gate = GatedPredictor(look)
    cache = ms.PredictionCache(gate, maxsize=8)
    first = start(ask, 100.0)
    gate.wait_entered()
    second = start(ask, 1000.0)
    until(lambda: cache.stats.joins == 1)
    gate.open()

    assert [outcome(first), outcome(second)] == ["a", "a"]
    assert 900.0 < seen[0] <= 1000.0


def test_tenants_share_neither_run_nor_answer():
    def ask(tenant):
        with ms.request(tenant=tenant):
            return cache("a")

    gate = GatedPredictor(lambda x: ms.current_request().tenant)
    cache = ms.PredictionCache(gate, maxsize=8)
    callers = [start(ask, tenant) for tenant in ("one", "other", None)]
    gate.wait_entered(3)
    gate.open()

    assert [outcome(caller) for caller in callers] == ["one", "other", None]
    assert [ask(tenant) for tenant in ("one", "other", None)] == ["one", "other", None]
    assert gate.entered == 3


def test_a_run_sees_no_unit():
    seen = []
    cache = ms.PredictionCache(lambda x: seen.append(ms.current_request().unit), maxsize=8)
    with ms.request(unit="u"):
        cache("a")

    assert seen == [None]


def test_a_sync_call_on_a_loop_never_waits_for_a_run():
    def answer(x):
        return x.upper() if threading.current_thread() in loops else gate(x)

    async def main():
        loops.append(threading.current_thread())
        led_here = asyncio.create_task(cache.acall("a"))
        led_there = start(cache, "b")
        await gate.await_entered(2)
        answers = cache("a"), cache("b"), list(cache.map("ab"))
        gate.open()
        return (*answers, await led_here, await asyncio.wrap_future(led_there))

    loops = []
    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(answer, maxsize=8)

    assert outcome(start(run, main)) == ("A", "B", ["A", "B"], "A", "B")
    assert cache.stats[:4] == (2, 0, 6, 0)
    assert cache.stats.blocked_loop == 4


def test_records_say_who_led_and_who_joined():
    def ask():
        with ms.request() as scope:
            cache("a")
        return scope.record["cache.cache"]

    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8, name="cache")
    leader = start(ask)
    gate.wait_entered()
    follower = start(ask)
    until(lambda: cache.stats.joins == 1)
    gate.open()

    assert [leader.result(LIMIT), follower.result(LIMIT), ask()] == ["miss", "join", "hit"]
