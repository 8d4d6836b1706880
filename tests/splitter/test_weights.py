"""Weights that change while calls go on."""

import itertools
import re
import sys
import threading

import pytest

import modelserve as ms
from tests.splitter.arms import counts, splitter

UNITS = [f"user-{i}" for i in range(300)]


def assigned(split):
    return {unit: split.assign(unit).variant for unit in UNITS}


def test_new_weights_hold_from_the_next_call():
    split = splitter(weights={"blue": 1.0, "green": 0.0})
    assert set(assigned(split).values()) == {"blue"}

    split.set_weights({"green": 1.0})
    assert set(assigned(split).values()) == {"green"}
    assert split.weights == {"blue": 0.0, "green": 1.0}
    assert split.stats.variants["green"].weight == 1.0


def test_rollback_brings_everybody_back():
    split = splitter(weights={"a": 0.6, "b": 0.3, "c": 0.1})
    before = assigned(split)
    split.set_weights({"a": 0.1, "b": 0.1, "c": 0.8})
    split.rollback()

    assert assigned(split) == before
    assert split.weights == {"a": 0.6, "b": 0.3, "c": 0.1}


def test_rollback_goes_one_change_back_and_no_further():
    split = splitter(weights={"a": 1.0, "b": 0.0})
    split.set_weights({"a": 0.5, "b": 0.5})
    split.set_weights({"b": 1.0})
    split.rollback()
    assert split.weights == {"a": 0.5, "b": 0.5}

    with pytest.raises(ValueError, match="'demo' has no weights before these to roll back to"):
        split.rollback()
    assert split.weights == {"a": 0.5, "b": 0.5}


def test_nothing_to_roll_back_to_at_first():
    with pytest.raises(ValueError, match="'demo' has no weights before these"):
        splitter().rollback()


def test_a_ramp_keeps_everybody_it_had():
    split = splitter(weights={"stable": 1.0, "candidate": 0.0})
    had = set()
    for share in (0.01, 0.1, 0.5, 1.0):
        split.set_weights({"stable": 1 - share, "candidate": share})
        has = {unit for unit, name in assigned(split).items() if name == "candidate"}
        assert had <= has
        had = has
    assert had == set(UNITS)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 0.5, "d": 0.5}, "'d' is no variant: choose from ['a', 'b', 'c']"),
        ({"a": 0.5}, "the weights sum to 0.5 and not to 1"),
        ({}, "the weights sum to 0 and not to 1"),
        ({"a": 1.5, "b": -0.5}, "weight=1.5 of variant 'a' is not a share in [0, 1]"),
        ({"a": float("nan")}, "weight=nan of variant 'a' is not a share in [0, 1]"),
    ],
)
def test_bad_weights_change_nothing(weights, message):
    split = splitter()
    before = split.weights
    with pytest.raises(ValueError, match=re.escape(message)):
        split.set_weights(weights)

    assert split.weights == before
    with pytest.raises(ValueError, match="no weights before these"):
        split.rollback()


def test_a_call_in_flight_finishes_where_it_began():
    names = []

    def changes(x):
        split.set_weights({"b": 1.0})
        names.append(split.assign("user-42").variant)
        return "answer of a"

    split = ms.TrafficSplitter(
        ms.Variant("a", changes, 1.0), ms.Variant("b", str.upper, 0.0), salt="demo"
    )
    with ms.request(unit="user-42") as r:
        assert split("x") == "answer of a"
        assert r.record["demo.variant"] == "a"
        assert split("x") == "X"
    assert names == ["b"]


@pytest.fixture
def eager_threads():
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def crowd(work, threads=4):
    """Run on some threads at once; fail with the first error or if they do not end."""
    errors = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    running = [threading.Thread(target=guarded, args=(i,), daemon=True) for i in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(30)
    assert not any(thread.is_alive() for thread in running)
    if errors:
        raise errors[0]


def test_under_a_storm_of_changes_every_answer_agrees_with_its_record(eager_threads):
    split = splitter(weights={"blue": 1.0, "green": 0.0})
    over = threading.Event()

    def change():
        for _ in range(50_000):
            split.set_weights({"green": 1.0})
            split.rollback()
            if min(counts(split).values()) > 100:
                break
        over.set()

    def ask(number):
        for i in itertools.count():
            with ms.request(unit=f"user-{number}-{i}") as r:
                name, _ = split("x")
            record = r.record
            assert record["demo.variant"] == name
            assert record["demo.propensity"] == 1.0
            if over.is_set():
                return

    crowd(lambda number: ask(number) if number else change())
    assert split.weights == {"blue": 1.0, "green": 0.0}
    assert min(counts(split).values()) > 100


def test_changes_at_once_leave_weights_that_somebody_set(eager_threads):
    split = splitter(weights={"a": 0.5, "b": 0.5})
    steps = [{"a": i / 64, "b": 1 - i / 64} for i in range(64)]
    seen = []

    def change(number):
        for weights in steps[number::4] * 50:
            split.set_weights(weights)

    crowd(change)
    seen.append(split.weights)
    split.rollback()
    seen.append(split.weights)

    assert all(weights in steps for weights in seen)
