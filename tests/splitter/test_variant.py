"""Variants and policies by themselves."""

import asyncio
import json

import pytest

import modelserve as ms
from modelserve._policy.buckets import Buckets
from tests.splitter.arms import awaits, says, splitter


def test_a_variant_lifts_its_function():
    variant = ms.Variant("stable", says("s"), weight=0.95)

    assert variant.predict("x") == ("s", "x")
    assert (variant.name, variant.weight) == ("stable", 0.95)
    assert repr(variant) == "Variant('stable', weight=0.95)"


def test_a_variant_takes_a_predictor_as_it_is():
    cache = ms.PredictionCache(says("s"), maxsize=8)

    assert ms.Variant("stable", cache).predict is cache


def test_a_variant_lifts_an_async_function():
    variant = ms.Variant("stable", awaits("s"))

    assert asyncio.run(variant.predict.acall("x")) == ("s", "x")


def test_a_variant_of_nothing_to_call_is_refused():
    with pytest.raises(TypeError, match="3 is not callable"):
        ms.Variant("stable", 3)


def test_hash_split_shows_how_to_write_it():
    assert repr(ms.HashSplit()) == "HashSplit()"


def test_hash_split_is_the_default_policy():
    units = [f"user-{i}" for i in range(200)]
    default, given = splitter(), splitter(policy=ms.HashSplit())

    assert [default.assign(u).variant for u in units] == [given.assign(u).variant for u in units]


def test_a_policy_of_ones_own_is_asked_for_every_set_of_weights():
    asked = []

    class Backwards:
        def table(self, salt, names, weights):
            asked.append((salt, names, weights))
            return Buckets(salt, names, weights[::-1])

    split = splitter(weights={"a": 0.0, "b": 1.0}, policy=Backwards())
    split.set_weights({"b": 0.25, "a": 0.75})

    assert asked == [("demo", ("a", "b"), (0.0, 1.0)), ("demo", ("a", "b"), (0.75, 0.25))]
    split.rollback()
    assert split.assign("user-42").variant == "a"


def test_an_assignment_is_json_able():
    assignment = splitter(clock=lambda: 1700000000.5).assign("user-42")

    assert ms.Assignment(**json.loads(json.dumps(assignment._asdict()))) == assignment
    assert ms.Assignment(*json.loads(json.dumps(assignment))) == assignment
    assert (assignment.unit, assignment.at) == ("user-42", 1700000000.5)


class Ranker:
    """A splitter over methods: one for each instance."""

    def __init__(self, name):
        self.name = name

    @ms.predictor
    def old(self, x):
        return ("old", self.name, x)

    @ms.predictor
    def new(self, x):
        return ("new", self.name, x)

    split = ms.TrafficSplitter(
        ms.Variant("old", old, weight=0.0), ms.Variant("new", new, weight=1.0), salt="methods"
    )


def test_variants_of_methods_are_bound_to_their_instance():
    one, other = Ranker("one"), Ranker("other")
    other.split.set_weights({"old": 1.0})

    assert one.split("x") == ("new", "one", "x")
    assert other.split("x") == ("old", "other", "x")
    assert one.split.weights == {"old": 0.0, "new": 1.0}
