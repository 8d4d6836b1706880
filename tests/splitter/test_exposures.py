"""Who saw which variant: each once, within bounds, and never at a caller's cost."""

import ast
import asyncio
import os
import pickle
import threading

import pytest

import modelserve as ms
from modelserve.splitter import Exposure
from tests.splitter.arms import splitter
from tests.support.processes import in_child

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def ask(split, *units):
    for unit in units:
        with ms.request(unit=unit):
            split("x")


def units(seen):
    return [exposure.assignment.unit for exposure in seen.drain()]


def test_an_exposure_is_the_assignment_of_the_record():
    seen = ms.Exposures()
    split = splitter(exposures=seen)
    with ms.request(unit="user-42") as r:
        split("x")

    [exposure] = seen.drain()
    assert exposure == Exposure("demo", exposure.assignment)
    assert exposure.assignment._asdict() == r.record["demo.assignment"]


def test_a_call_in_no_request_is_noted_too():
    seen = ms.Exposures()
    split = splitter(unit=lambda x: x, exposures=seen)
    split("user-1")
    asyncio.run(split.acall("user-2"))
    list(split.map(["user-3", "user-1"]))

    assert units(seen) == ["user-1", "user-2", "user-3"]


def test_a_unit_is_noted_once_for_a_variant_of_a_split():
    seen = ms.Exposures()
    split = splitter(weights={"a": 1.0, "b": 0.0}, exposures=seen)
    ask(split, "user-1", "user-1", "user-2")
    split.set_weights({"b": 1.0})
    ask(split, "user-1")
    ask(splitter("another", exposures=seen), "user-1")

    noted = [(e.split, e.assignment.unit) for e in seen.drain()]
    assert noted == [
        ("demo", "user-1"),
        ("demo", "user-2"),
        ("demo", "user-1"),
        ("another", "user-1"),
    ]
    assert seen.stats == (0, 4, 1, 0)


def test_what_was_drained_is_still_known():
    seen = ms.Exposures()
    split = splitter(exposures=seen)
    ask(split, "user-1")
    seen.drain()
    ask(split, "user-1")

    assert seen.drain() == []


def test_memory_is_bounded_and_forgets_who_came_least_recently():
    seen = ms.Exposures(remember=2)
    split = splitter(exposures=seen)
    ask(split, "user-1", "user-2", "user-1", "user-3", "user-1", "user-2")

    assert units(seen) == ["user-1", "user-2", "user-3", "user-2"]
    assert len(seen._recent) == 2


def test_nothing_is_remembered_where_every_call_counts():
    seen = ms.Exposures(remember=0)
    ask(splitter(exposures=seen), "user-1", "user-1")

    assert units(seen) == ["user-1", "user-1"]


def test_when_there_is_no_room_more_are_dropped_and_noted_when_they_come_again():
    seen = ms.Exposures(maxsize=2)
    split = splitter(exposures=seen)
    ask(split, "user-1", "user-2", "user-3")

    assert seen.stats == (2, 2, 0, 1)
    assert units(seen) == ["user-1", "user-2"]
    ask(split, "user-3")
    assert units(seen) == ["user-3"]


def test_calls_without_a_unit_are_noted_each():
    seen = ms.Exposures()
    split = splitter(exposures=seen)
    split("x")
    split("x")

    assert [(e.assignment.unit, e.assignment.bucket) for e in seen.drain()] == [(None, None)] * 2


def test_forced_units_warm_calls_and_questions_are_no_exposures():
    seen = ms.Exposures()
    split = splitter(overrides={"tester": "a"}, exposures=seen)

    @ms.predictor
    def hides(x):
        return split(x)

    ask(split, "tester")
    ms.warm(hides, "x")
    split.assign("user-1")

    assert seen.drain() == []
    assert seen.stats == (0, 0, 0, 0)


def test_callers_are_answered_while_nobody_drains():
    seen = ms.Exposures(maxsize=1)
    split = splitter(exposures=seen)
    threads = [
        threading.Thread(target=ask, args=(split, *(f"user-{i}-{k}" for k in range(200))))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert not any(thread.is_alive() for thread in threads)
    assert seen.stats == (1, 1, 0, 799)


def test_under_a_storm_everything_is_noted_or_counted():
    seen = ms.Exposures(maxsize=50)
    split = splitter(exposures=seen)
    taken = []

    def crowd(number):
        for k in range(500):
            ask(split, f"user-{number}-{k % 250}")
            if number == 0:
                taken.extend(seen.drain())

    threads = [threading.Thread(target=crowd, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    taken.extend(seen.drain())

    noted = [e.assignment.unit for e in taken]
    assert len(noted) == len(set(noted)) == seen.stats.noted
    assert seen.stats.noted + seen.stats.repeats + seen.stats.dropped == 2_000


@forks
def test_a_forked_child_leaves_what_waits_to_its_parent():
    seen = ms.Exposures()
    split = splitter(exposures=seen)
    ask(split, "user-1")
    with seen._lock:  # as if another thread noted something at the fork
        told = in_child(lambda: (ask(split, "user-1", "user-2"), units(seen))[1])

    assert ast.literal_eval(told) == ["user-2"]
    assert units(seen) == ["user-1"]


def test_a_pickled_one_is_empty_and_still_one_for_all():
    seen = ms.Exposures(maxsize=7, remember=5)
    made = [
        ms.TrafficSplitter(ms.Variant("a", str.upper), salt=salt, exposures=seen)
        for salt in ("one", "two")
    ]
    ask(made[0], "user-1")
    twins = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
    for twin in twins:
        ask(twin, "user-1")
    ours = twins[0]._exposures

    assert repr(ours) == (
        "Exposures(maxsize=7, remember=5: waiting=2, noted=2, repeats=0, dropped=0)"
    )
    assert [e.split for e in ours.drain()] == ["one", "two"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"maxsize": 0}, "maxsize=0 keeps nothing"), ({"remember": -1}, "remember=-1: pass 0")],
)
def test_bounds_that_are_none_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ms.Exposures(**options)


def test_an_error_of_the_variant_is_an_exposure_all_the_same():
    seen = ms.Exposures()
    split = ms.TrafficSplitter(ms.Variant("a", {}.__getitem__), salt="demo", exposures=seen)
    with pytest.raises(KeyError):
        ask(split, "user-1")

    assert units(seen) == ["user-1"]
