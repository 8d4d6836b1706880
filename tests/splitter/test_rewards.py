"""Rewards: by assignment or by id, late, in any order, once; and what they are refused for."""

import ast
import asyncio
import json
import math
import os
import pickle
import random
import re
import threading

import pytest

import modelserve as ms
from modelserve.splitter import _rewards
from tests.splitter.arms import splitter
from tests.support.processes import fresh, in_child

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
POLICIES = [ms.EpsilonGreedy(), ms.UCB1(), ms.KLUCB(), ms.ThompsonSampling()]
every_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
GOOD = {"a": 0.1, "b": 0.9}


def learner(policy, names="ab", **options):
    options.setdefault("rng", random.Random(3))  # noqa: S311 - no secret
    return splitter(weights=dict.fromkeys(names), policy=policy, **options)


def asked(split):
    """Call once and return the assignment."""
    with ms.request() as r:
        split("x")
    return ms.Assignment(**r.record["demo.assignment"])


@every_policy
def test_a_policy_learns_which_variant_is_best(policy):
    split = learner(policy)
    dice = random.Random(1)  # noqa: S311 - no secret
    for _ in range(600):
        choice = asked(split)
        assert 0 < choice.propensity <= 1
        assert split.reward(choice, float(dice.random() < GOOD[choice.variant]))

    calls = {name: variant.calls for name, variant in split.stats.variants.items()}
    assert calls["b"] > 0.75 * 600
    assert calls["a"] > 0
    assert {name: o.rewards for name, o in split.outcomes.items()} == calls


@every_policy
def test_every_variant_is_tried_though_no_reward_ever_comes(policy):
    split = learner(policy, "abcd")
    tried = {asked(split).variant for _ in range(60)}

    assert tried == set("abcd")


@every_policy
def test_the_propensity_is_the_share_that_was_shown(policy):
    split = learner(policy)
    for _ in range(30):
        shown = split.weights
        choice = asked(split)
        assert choice.propensity == shown[choice.variant]
        split.reward(choice, float(choice.variant == "a"))

    assert math.fsum(split.weights.values()) == pytest.approx(1.0)
    assert split.stats.variants["a"].weight == split.weights["a"]


@every_policy
def test_choices_follow_the_generator_that_was_given(policy):
    one, other = learner(policy), learner(policy)

    assert [asked(one).variant for _ in range(40)] == [asked(other).variant for _ in range(40)]


def test_both_faces_and_map_draw_anew_for_every_call_of_a_unit():
    split = learner(ms.ThompsonSampling(), unit=lambda x: "user-42")
    answers = [split("x")[0] for _ in range(20)]
    answers += [asyncio.run(split.acall("x"))[0] for _ in range(20)]
    answers += [name for name, _ in split.map(["x"] * 20)]

    assert all(0 < answers[i : i + 20].count("a") < 20 for i in (0, 20, 40))
    assert sum(v.calls for v in split.stats.variants.values()) == 60


def test_rewards_come_late_in_batches_and_in_any_order():
    split = learner(ms.UCB1(high=10.0))
    choices = [asked(split) for _ in range(50)]
    random.Random(0).shuffle(choices)  # noqa: S311 - no secret
    for choice in choices:
        assert split.reward(choice, 5.0)

    counted = split.outcomes
    assert counted["a"].rewards + counted["b"].rewards == 50
    assert counted["a"].mean == counted["b"].mean == 5.0
    assert counted["a"].squares == 25.0 * counted["a"].rewards


def test_a_reward_counts_once_however_it_is_told():
    split = learner(ms.ThompsonSampling())
    first, second = asked(split), asked(split)

    assert [split.reward(first.id, 1.0), split.reward(first, 1.0)] == [True, False]
    assert [split.reward(second, 1.0), split.reward(second.id, 1.0)] == [True, False]
    assert sum(o.rewards for o in split.outcomes.values()) == 2


def test_a_reward_comes_from_another_process_as_json():
    split = learner(ms.ThompsonSampling())
    code = """
import modelserve as ms, json
split = ms.TrafficSplitter(
    ms.Variant("a", str.upper), ms.Variant("b", str.lower), salt="demo", policy=ms.UCB1()
)
with ms.request() as r:
    split("x")
print(json.dumps(r.record["demo.assignment"]))
"""
    choice = ms.Assignment(**json.loads(fresh(code)))

    assert split.reward(choice, 1.0)
    assert split.outcomes[choice.variant] == (1, 1.0, 1.0)
    assert not split.reward(choice, 1.0)


def test_a_hash_split_counts_rewards_by_assignment():
    split = splitter(weights={"a": 1.0, "b": 0.0})
    choice = split.assign("user-42")

    assert split.reward(choice, -250.0)
    assert split.outcomes["a"] == (1, -250.0, 62_500.0)
    assert math.isnan(split.outcomes["b"].mean)
    with pytest.raises(ValueError, match="is not remembered here: pass the whole assignment"):
        split.reward(split.assign("user-42").id, 1.0)


@pytest.mark.parametrize(
    ("change", "value", "message"),
    [
        ({}, math.nan, "reward=nan is not finite"),
        ({}, math.inf, "reward=inf is not finite"),
        ({}, 1.5, "reward=1.5 lies outside of the declared range"),
        ({}, -0.5, "reward=-0.5 lies outside of the declared range"),
        ({"variant": "z"}, 1.0, r"'z' is no variant: choose from \['a', 'b'\]"),
        ({"id": "elsewhere-1"}, 1.0, "'elsewhere-1' was not assigned by the split 'demo'"),
    ],
)
def test_bad_rewards_are_refused_and_the_choice_can_still_have_a_good_one(change, value, message):
    split = learner(ms.ThompsonSampling())
    choice = asked(split)
    with pytest.raises(ValueError, match=message):
        split.reward(choice._replace(**change), value)

    assert sum(o.rewards for o in split.outcomes.values()) == 0
    assert split.reward(choice, 1.0)


def test_a_reward_for_another_experiment_is_refused():
    choice = splitter("another", weights={"a": 0.5, "b": 0.5}).assign("user-42")
    with pytest.raises(ValueError, match="was not assigned by the split 'demo'"):
        learner(ms.UCB1()).reward(choice, 1.0)


def test_choices_and_rewards_are_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(_rewards, "REMEMBERED", 3)
    split = learner(ms.EpsilonGreedy())
    choices = [asked(split) for _ in range(5)]

    with pytest.raises(ValueError, match=re.escape(f"the choice {choices[1].id!r} is not rememb")):
        split.reward(choices[1].id, 1.0)
    assert split.reward(choices[2].id, 1.0)
    assert split.reward(choices[1], 1.0)
    for choice in choices[3:]:
        split.reward(choice, 1.0)
    assert len(split._rewards._rewarded) == 3
    assert len(split._rewards._choices) == 0


def test_weights_cannot_be_set_where_they_are_learned():
    split = learner(ms.UCB1())
    message = re.escape("'demo' learns its shares by UCB1(low=0.0, high=1.0): give its variants no")
    with pytest.raises(ValueError, match=message):
        split.set_weights({"a": 1.0})
    with pytest.raises(ValueError, match=message):
        splitter(weights={"a": 0.5, "b": 0.5}, policy=ms.UCB1())
    with pytest.raises(ValueError, match="has no weights before these"):
        split.rollback()


def test_forced_units_stay_forced_and_are_no_exposures():
    seen = ms.Exposures()
    split = learner(ms.ThompsonSampling(), overrides={"tester": "b"}, exposures=seen)
    for unit in ("tester", "user-1"):
        for _ in range(10):
            with ms.request(unit=unit):
                split("x")

    assert split.assign("tester")[:3] == ("b", 1.0, None)
    assert {e.assignment.unit for e in seen.drain()} == {"user-1"}


def test_asking_and_warming_teach_nothing():
    split = learner(ms.UCB1())

    @ms.predictor
    def hides(x):
        return split(x)

    ms.warm(hides, "x")
    for _ in range(5):
        split.assign("user-1")

    assert split.weights == {"a": 0.5, "b": 0.5}
    assert split._bandit.arms.tries == [0, 0]
    assert len(split._rewards._choices) == 0


def test_a_pickled_learner_begins_anew():
    split = ms.TrafficSplitter(
        ms.Variant("a", str.upper), ms.Variant("b", str.lower), salt="demo", policy=ms.UCB1()
    )
    split.reward(asked(split), 1.0)
    twin = pickle.loads(pickle.dumps(split))  # noqa: S301 - our own

    assert twin.weights == {"a": 0.5, "b": 0.5}
    assert sum(o.rewards for o in twin.outcomes.values()) == 0


@forks
def test_a_forked_child_goes_on_from_what_was_known():
    split = learner(ms.UCB1())
    choice = asked(split)
    with split._rewards._lock:  # as if another thread learned at the fork
        told = in_child(lambda: (split.reward(choice.id, 1.0), split.outcomes[choice.variant].mean))

    assert ast.literal_eval(told) == (True, 1.0)
    assert split.reward(choice.id, 0.0)


@every_policy
def test_under_a_storm_every_reward_counts_once(policy):
    split = learner(policy, rng=None)

    def crowd():
        for _ in range(200):
            choice = asked(split)
            split.reward(choice, 1.0)
            split.reward(choice.id, 1.0)

    threads = [threading.Thread(target=crowd, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not any(thread.is_alive() for thread in threads)
    assert sum(o.rewards for o in split.outcomes.values()) == 800
    assert sum(split._bandit.arms.tries) == sum(split._bandit.arms.count) == 800


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ms.EpsilonGreedy(1.5), r"epsilon=1.5 is no probability in \[0, 1\]"),
        (lambda: ms.EpsilonGreedy(low=1.0), r"rewards in \[1.0, 1.0\]: pass a finite low below"),
        (lambda: ms.UCB1(high=math.inf), r"rewards in \[0.0, inf\]: pass"),
        (lambda: ms.KLUCB(low=math.nan), r"rewards in \[nan, 1.0\]: pass"),
        (lambda: ms.ThompsonSampling(discount=0.0), r"discount=0.0 lies outside of \(0, 1\]"),
        (lambda: ms.ThompsonSampling("beta"), "rewards='beta': choose 'bernoulli' or 'gaussian'"),
        (lambda: ms.ThompsonSampling(high=0.0), r"rewards in \[0.0, 0.0\]: pass"),
    ],
)
def test_policies_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_policies_show_how_to_write_them():
    assert [repr(policy) for policy in POLICIES] == [
        "EpsilonGreedy(epsilon=0.1, low=0.0, high=1.0)",
        "UCB1(low=0.0, high=1.0)",
        "KLUCB(low=0.0, high=1.0)",
        "ThompsonSampling(rewards='bernoulli', discount=1.0, low=0.0, high=1.0)",
    ]


def test_gaussian_rewards_of_any_scale_are_learned():
    split = learner(ms.ThompsonSampling("gaussian", low=-100.0, high=100.0))
    dice = random.Random(5)  # noqa: S311 - no secret
    for _ in range(400):
        choice = asked(split)
        split.reward(choice, {"a": 0.0, "b": 20.0}[choice.variant] + dice.uniform(-30, 30))

    assert split.weights["b"] > 0.95
    assert split.outcomes["b"].mean == pytest.approx(20.0, abs=4.0)
