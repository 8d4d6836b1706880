"""What nesting and a function give: holdouts, experiments that exclude each other, targeting."""

import itertools
from collections import Counter

import modelserve as ms
from tests.splitter.arms import says, splitter

UNITS = [f"user-{i}" for i in range(4_000)]


def asked(p, unit, x="x"):
    """Return an answer and the variants on its record, by split."""
    with ms.request(unit=unit) as r:
        name, _ = p(x)
    names = {k.removesuffix(".variant"): v for k, v in r.record.items() if k.endswith(".variant")}
    return name, names


def experiment(salt, **weights):
    return splitter(salt, weights=weights)


def test_a_holdout_sees_no_experiment_and_stays_as_it_is():
    inner = experiment("ranker", stable=0.5, candidate=0.5)
    split = ms.TrafficSplitter(
        ms.Variant("held", says("stable"), weight=0.1),
        ms.Variant("open", inner, weight=0.9),
        salt="holdout-2026",
    )
    before = {unit: asked(split, unit) for unit in UNITS}
    inner.set_weights({"candidate": 1.0})
    after = {unit: asked(split, unit) for unit in UNITS}

    held = {unit for unit in UNITS if split.assign(unit).variant == "held"}
    assert 300 < len(held) < 500
    for unit in held:
        assert before[unit] == after[unit] == ("stable", {"holdout-2026": "held"})
    assert {after[unit][0] for unit in UNITS if unit not in held} == {"candidate"}


def test_the_shares_of_an_experiment_hold_inside_a_holdout():
    inner = experiment("ranker", stable=0.5, candidate=0.5)
    outer = experiment("holdout-2026", held=0.3, open=0.7)
    opened = [unit for unit in UNITS if outer.assign(unit).variant == "open"]
    found = Counter(inner.assign(unit).variant for unit in opened)

    assert abs(found["candidate"] / len(opened) - 0.5) < 4 * (0.25 / len(opened)) ** 0.5


def test_experiments_that_exclude_each_other_share_no_unit():
    colour = experiment("colour", red=0.5, blue=0.5)
    ranker = experiment("ranker", old=0.5, new=0.5)
    layer = ms.TrafficSplitter(
        ms.Variant("colour", colour, weight=0.4),
        ms.Variant("ranker", ranker, weight=0.4),
        ms.Variant("neither", says("plain"), weight=0.2),
        salt="layer-1",
    )
    took_part = {unit: set(asked(layer, unit)[1]) - {"layer-1"} for unit in UNITS}

    assert all(len(part) <= 1 for part in took_part.values())
    found = Counter(itertools.chain(*took_part.values()))
    assert all(1_450 < found[name] < 1_750 for name in ("colour", "ranker"))


def test_a_slot_that_changes_hands_keeps_its_units_and_leaves_the_others_alone():
    def layer(**slots):
        made = [ms.Variant(name, answer, 1 / 3) for name, answer in slots.items()]
        return ms.TrafficSplitter(*made, salt="layer-1")

    ranker = experiment("ranker", old=0.5, new=0.5)
    first = layer(one=experiment("colour", red=0.5, blue=0.5), two=ranker, three=says("plain"))
    second = layer(one=says("plain"), two=ranker, three=experiment("price", low=0.5, high=0.5))

    for unit in UNITS[:1_000]:
        before, after = asked(first, unit), asked(second, unit)
        slot = before[1]["layer-1"]
        assert after[1]["layer-1"] == slot
        if slot == "two":
            assert before == after


def test_targeting_is_a_function_that_says_who_takes_part():
    seen = ms.Exposures()
    split = splitter("ranker", weights={"stable": 0.5, "candidate": 0.5}, exposures=seen)
    stable = split.parts["stable"]

    @ms.predictor(uses=[split])
    def ranker(row):
        return split(row) if row["country"] == "SE" else stable(row)

    for unit in UNITS[:200]:
        asked(ranker, unit, {"country": "SE" if unit < "user-15" else "NO"})

    noted = {exposure.assignment.unit for exposure in seen.drain()}
    assert noted == {unit for unit in UNITS[:200] if unit < "user-15"}
    assert split.stats.random == 0
    assert "TrafficSplitter ranker [item] stable 0.5" in ms.describe(ranker)


def test_blue_green_keeps_the_other_side_loaded():
    loads = Counter()

    def side(name):
        def load():
            loads[name] += 1
            return says(name)

        return ms.ModelLoader(load, name=name)

    split = ms.TrafficSplitter(
        ms.Variant("blue", side("blue"), weight=1.0),
        ms.Variant("green", side("green"), weight=0.0),
        salt="colours",
    )
    with split:
        ms.warm(split, "x")
        answers = [split("x")[0]]
        split.set_weights({"green": 1.0})
        answers.append(split("x")[0])
        split.rollback()
        answers.append(split("x")[0])

    assert answers == ["blue", "green", "blue"]
    assert loads == {"blue": 1, "green": 1}


def test_kept_assignments_stick_through_a_change_of_weights():
    first = experiment("ranker", stable=0.9, candidate=0.1)
    kept = {unit: first.assign(unit).variant for unit in UNITS[:500]}
    second = splitter("ranker", weights={"stable": 0.2, "candidate": 0.8}, overrides=kept)

    assert {unit: second.assign(unit).variant for unit in kept} == kept
