"""Whose call it is: functions of the input, the request's unit, overrides, draws at random."""

import ast
import asyncio
import itertools
import os
import random
import re

import pytest

import modelserve as ms
from tests.splitter.arms import counts, errors, splitter
from tests.support.processes import in_child

dice = random.Random
UNITS = [f"user-{i}" for i in range(300)]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def test_a_unit_function_decides_by_the_input():
    split = splitter(unit=lambda x: x["user"])

    for unit in UNITS[:50]:
        assert split({"user": unit}) == (split.assign(unit).variant, {"user": unit})
    assert split.stats.random == 0


def test_a_unit_function_goes_before_the_request():
    split = splitter(unit=lambda x: x)
    with ms.request(unit="user-0") as r:
        split("user-1")

    assert r.record["demo.assignment"]["unit"] == "user-1"


def test_a_unit_function_runs_once_a_call():
    asked = []
    split = splitter(unit=lambda x: asked.append(x) or x)
    with ms.request():
        split("a")
    asyncio.run(split.acall("b"))
    list(split.map(["c", "d"]))

    assert asked == ["a", "b", "c", "d"]


def test_an_error_of_the_unit_function_is_nobodys():
    split = splitter(unit=lambda x: x["user"])
    with pytest.raises(KeyError, match="user"):
        split({})

    assert counts(split) == errors(split) == dict.fromkeys("abc", 0)


def test_calls_without_a_unit_are_drawn_by_the_generator_given():
    split = splitter(weights={"a": 0.5, "b": 0.25, "c": 0.25}, rng=dice(17))
    twin = dice(17)
    numbers = [twin.random() for _ in range(100)]
    expected = ["a" if u < 0.5 else "b" if u < 0.75 else "c" for u in numbers]

    assert [split("x")[0] for _ in numbers] == expected
    assert set(expected) == {"a", "b", "c"}


def test_draws_at_random_are_counted_and_marked():
    split = splitter(weights={"a": 0.25, "b": 0.75}, unit=lambda x: x)
    with ms.request(unit="user-42") as r:
        name, _ = split(None)
        record = r.record
    split("user-42")

    assert split.stats.random == 1
    assert record["demo.propensity"] == {"a": 0.25, "b": 0.75}[name]
    assert record["demo.assignment"]["unit"] is record["demo.assignment"]["bucket"] is None


def test_a_weight_of_nothing_is_never_drawn_at_random():
    split = splitter(weights={"a": 0.0, "b": 1.0, "c": 0.0}, rng=dice(1))
    for _ in range(300):
        split("x")

    assert counts(split) == {"a": 0, "b": 300, "c": 0}


def test_overrides_force_a_unit_and_count_as_certain():
    split = splitter(weights={"a": 1.0, "b": 0.0}, overrides={"tester": "b"})
    with ms.request(unit="tester") as r:
        assert split("x") == ("b", "x")

    told = split.assign("tester")
    assert (told.variant, told.propensity) == ("b", 1.0)
    assert told.bucket is None
    assert r.record["demo.assignment"] == {**told._asdict(), **fresh_fields(r)}
    assert split.assign("another").variant == "a"


def fresh_fields(r):
    """What differs from one assignment to the next."""
    return {key: r.record["demo.assignment"][key] for key in ("id", "at")}


def test_an_override_lasts_through_a_change_of_weights():
    split = splitter(weights={"a": 1.0, "b": 0.0}, overrides={"tester": "b"})
    split.set_weights({"a": 0.5, "b": 0.5})

    assert split.assign("tester").variant == "b"
    assert split.assign("tester").propensity == 1.0


def test_an_override_to_no_variant_is_refused():
    message = "overrides: 'tester' is forced to 'z', and the variants are ['a', 'b', 'c']"
    with pytest.raises(ValueError, match=re.escape(message)):
        splitter(overrides={"tester": "z"})


def test_an_override_of_no_unit_is_refused():
    with pytest.raises(TypeError, match="overrides: 42 is no unit: units are strings"):
        splitter(overrides={42: "a"})


@pytest.mark.parametrize("unit", [42, 4.2, b"user", ("user", 1), ["user"], True])
def test_a_unit_that_is_no_string_is_refused_with_the_fix(unit):
    split = splitter(unit=lambda x: x)
    message = f"'demo' was given a unit that is a {type(unit).__name__}: units are strings, "
    for ask in (split, split.assign):
        with pytest.raises(TypeError, match=re.escape(message) + r".*unit=lambda x: str\(...\)"):
            ask(unit)
    assert counts(split) == dict.fromkeys("abc", 0)


def test_assigning_counts_nothing():
    split = splitter()
    for unit in UNITS:
        split.assign(unit)

    assert counts(split) == dict.fromkeys("abc", 0)


def test_propensities_are_the_shares_in_force():
    split = splitter(weights={"a": 0.7, "b": 0.2, "c": 0.1})
    for shares in ({"a": 0.7, "b": 0.2, "c": 0.1}, {"a": 0.1, "b": 0.9, "c": 0.0}):
        split.set_weights(shares)
        drawn = [split.assign(unit) for unit in UNITS]
        assert all(told.propensity == shares[told.variant] for told in drawn)


def test_ids_are_never_the_same():
    one, other = splitter(), splitter()
    ids = [split.assign("user-42").id for split in (one, other) for _ in range(100)]

    assert len(set(ids)) == 200


@forks
def test_ids_of_forked_children_are_their_own():
    split = splitter()
    split.assign("user-42")
    children = [in_child(lambda: ids(split)) for _ in range(3)]
    made = [ids(split), *map(ast.literal_eval, children)]

    assert len(set(itertools.chain(*made))) == 20


def ids(split):
    return [split.assign("user-42").id for _ in range(5)]


def draws(split):
    return [split("x")[0] for _ in range(60)]


@forks
def test_forked_children_draw_otherwise_than_each_other():
    split = splitter()
    children = [in_child(lambda: draws(split)) for _ in range(2)]
    made = [draws(split), *map(ast.literal_eval, children)]

    assert all(set(names) == {"a", "b", "c"} for names in made)
    assert made[0] != made[1] != made[2] != made[0]


@forks
def test_a_generator_that_was_given_is_kept_by_forked_children():
    split = splitter(rng=dice(5))

    assert in_child(lambda: draws(split)) == repr(draws(splitter(rng=dice(5))))


@forks
def test_forked_children_assign_alike_and_can_change_weights():
    split = splitter(weights={"a": 0.5, "b": 0.5})
    with split._changing:  # as if another thread changed the weights at the fork
        told = in_child(lambda: (changed(split), split.weights))

    assert told == repr((split.assign("user-42").variant, {"a": 1.0, "b": 0.0}))


def changed(split):
    name = split.assign("user-42").variant
    split.set_weights({"a": 1.0})
    return name


def test_the_unit_of_an_outer_request_is_inherited():
    split = splitter()
    with ms.request(unit="user-42"), ms.request(tenant="acme") as inner:
        split("x")

    assert inner.record["demo.assignment"]["unit"] == "user-42"
