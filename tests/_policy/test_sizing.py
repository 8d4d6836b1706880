"""What a load will take: as last time, else as others of its kind did."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.sizing import Sizing

sizes = st.integers(1_000, 1_000_000_000)


def test_nothing_is_said_where_nothing_is_known():
    assert Sizing().predict("a", "callable", None) is None


def test_the_first_of_a_kind_takes_what_is_told():
    assert Sizing().predict("a", "onnx", {"cuda:0": 70}) == {"cuda:0": 70}


def test_a_kind_of_which_nothing_was_told_so_far_takes_what_is_told():
    sizing = Sizing()
    sizing.observe("a", "onnx", {}, {"cpu": 5})

    assert sizing.predict("b", "onnx", {"cpu": 70}) == {"cpu": 70}


@given(sizes, sizes, st.floats(0.02, 13.0))
def test_one_load_of_a_kind_makes_all_others_known(first, second, factor):
    sizing = Sizing()
    sizing.observe("a", "onnx", {"cpu": first}, {"cpu": round(first * factor)})
    predicted = sizing.predict("b", "onnx", {"cpu": second})["cpu"]

    assert predicted == pytest.approx(second * factor, rel=0.2)


@given(st.lists(st.tuples(sizes, st.floats(0.9, 1.1)), min_size=1, max_size=20), sizes)
def test_kinds_whose_loads_differ_by_a_tenth_are_predicted_within_a_fifth(loads, size):
    sizing = Sizing()
    for i, (told, noise) in enumerate(loads):
        sizing.observe(str(i), "onnx", {"cpu": told}, {"cpu": round(3 * told * noise)})
    predicted = sizing.predict("new", "onnx", {"cpu": size})["cpu"]

    assert 3 * size * 0.88 <= predicted <= 3 * size * 1.12


def test_a_kind_that_changes_is_followed():
    sizing = Sizing()
    for i in range(30):
        sizing.observe(str(i), "onnx", {"cpu": 100}, {"cpu": 100 if i < 15 else 300})

    assert sizing.predict("new", "onnx", {"cpu": 100})["cpu"] == pytest.approx(300, rel=0.05)


def test_kinds_are_told_apart_and_so_are_spaces():
    sizing = Sizing()
    sizing.observe("a", "onnx", {"cpu": 100}, {"cpu": 10, "cuda:0": 200})
    sizing.observe("b", "torch", {"cpu": 100}, {"cpu": 100})

    assert sizing.predict("c", "onnx", {"cpu": 50}) == {"cpu": 5, "cuda:0": 100}
    assert sizing.predict("c", "torch", {"cpu": 50}) == {"cpu": 50}


def test_what_is_told_by_space_is_scaled_by_space():
    sizing = Sizing()
    sizing.observe("a", "", {"cpu": 100, "cuda:0": 100}, {"cpu": 200, "cuda:0": 50})
    sizing.observe("b", "", {"cuda:0": 100}, {"cuda:0": 50})

    assert sizing.predict("c", "", {"cpu": 30}) == {"cpu": 60, "cuda:0": 0}
    assert sizing.predict("d", "", {"cuda:0": 30}) == {"cpu": 0, "cuda:0": 15}


@given(sizes, sizes, sizes)
def test_a_model_takes_what_it_took_until_its_file_changes(told, taken, other):
    sizing = Sizing()
    sizing.observe("b", "onnx", {"cpu": 1_000}, {"cpu": 2_000})
    sizing.observe("a", "onnx", {"cpu": told}, {"cpu": taken})
    sizing.observe("b", "onnx", {"cpu": 1_000}, {"cpu": 2_000})

    assert sizing.predict("a", "onnx", {"cpu": told}) == {"cpu": taken}
    changed = sizing.predict("a", "onnx", {"cpu": told + other})["cpu"]
    assert changed == sizing.predict("new", "onnx", {"cpu": told + other})["cpu"]


def test_what_tells_nothing_takes_what_its_kind_takes_on_average():
    sizing = Sizing()
    sizing.observe("a", "callable", None, {"cpu": 100})
    assert sizing.predict("b", "callable", None) == {"cpu": 100}
    sizing.observe("b", "callable", None, {"cpu": 200})

    assert 140 <= sizing.predict("c", "callable", None)["cpu"] <= 160
    assert sizing.predict("a", "callable", None) == {"cpu": 100}
    assert sizing.predict("c", "other", None) is None
