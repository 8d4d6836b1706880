import copy
import math
import pickle

import pytest

import modelserve as ms
from modelserve.cache._flight import PERSONAL, Abandoned, Entry, Flight, Run
from modelserve.request import Note, Stamp, request, tick

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
