from typing import NamedTuple

import numpy as np
import pytest

from modelserve.batcher._pad import Pad
from modelserve.errors import BadOutput


class Pair(NamedTuple):
    left: object
    right: object


def ids(*lengths):
    return [np.arange(1, length + 1) for length in lengths]


def outputs():
    return {"each": np.arange(12).reshape(2, 3, 2), "all": np.array([[1, 2, 3], [4, 5, 6]])}


def test_outputs_that_trim_names_are_cut_and_others_are_not():
    first, second = Pad(trim={"each"}).cut(outputs(), ids(1, 3))

    assert first["each"].tolist() == [[0, 1]]
    assert second["each"].tolist() == [[6, 7], [8, 9], [10, 11]]
    assert (first["all"].tolist(), second["all"].tolist()) == ([1, 2, 3], [4, 5, 6])


def test_outputs_of_tuples_are_named_by_position_or_field():
    plain = Pad(trim=[1]).cut((outputs()["all"], outputs()["all"]), ids(3, 2))
    named = Pad(trim=["right"]).cut(Pair(outputs()["all"], outputs()["all"]), ids(3, 2))

    assert [leaf.tolist() for leaf in plain[1]] == [[4, 5, 6], [4, 5]]
    assert [leaf.tolist() for leaf in named[1]] == [[4, 5, 6], [4, 5]]
    assert isinstance(named[1], Pair)


@pytest.mark.parametrize("trim", [False, ()])
def test_nothing_is_cut_unless_trim_says_so(trim):
    rows = Pad(trim=trim).cut(outputs()["all"], ids(1, 3))

    assert [row.tolist() for row in rows] == [[1, 2, 3], [4, 5, 6]]


def test_nested_outputs_are_cut_throughout():
    result = {"deep": (outputs()["each"], {"more": outputs()["all"]})}
    (each, deep), _ = (row["deep"] for row in Pad(trim=["deep"]).cut(result, ids(1, 3)))

    assert (each.tolist(), deep["more"].tolist()) == ([[0, 1]], [1])


def test_results_in_lists_are_cut_and_errors_among_them_kept():
    error = ValueError("poison")
    tags = [["a", "b", "c"], error, np.arange(3)]
    first, second, third = Pad(trim=True).cut(tags, ids(2, 3, 1))

    assert (first, third.tolist()) == (["a", "b"], [0])
    assert second is error


def test_results_are_views_of_the_batch():
    batch = outputs()["all"]
    rows = Pad(trim=True).cut(batch, ids(1, 3))

    assert all(np.shares_memory(row, batch) for row in rows)


BAD = {
    "shorter": (True, np.zeros((2, 2)), "an output whose axis 1 is 2, where .* padded to 3: name"),
    "longer": (True, np.zeros((2, 4)), "an output whose axis 1 is 4"),
    "no axis": (True, np.zeros(2), "an output whose axis 1 is None"),
    "0-d in a list": (True, [np.array(1), np.array(2)], "an output whose axis 1 is None"),
    "text in a list": (True, ["abc", "abc"], "an output whose axis 1 is None"),
    "one of a list": (True, [[1, 2, 3], [1, 2]], "an output whose axis 1 is 2"),
    "one of many": (True, {**outputs(), "label": np.zeros((2, 5))}, "output 'label' whose axis"),
    "named": (["all"], {"all": np.zeros((2, 1))}, "output 'all' whose axis 1 is 1"),
    "positions": ([1], (np.zeros(2), np.zeros((2, 7))), "output 1 whose axis 1 is 7"),
    "absent": (["al"], outputs(), r"a dict without \['al'\], which trim= names: return a dict"),
    "no names": (["all"], np.zeros((2, 3)), r"a ndarray without \['all'\]"),
    "rows": (True, np.zeros((3, 3)), "a first axis of 3 for 2 items"),
    "rows of one": (["all"], {**outputs(), "x": np.zeros(3)}, "a first axis of 3 for 2 items"),
    "none": (True, None, "None for 2 items"),
    "empty": (True, (), "an empty structure for 2 items"),
}


@pytest.mark.parametrize(("trim", "result", "message"), BAD.values(), ids=BAD)
def test_what_does_not_run_along_the_padding_is_refused(trim, result, message):
    with pytest.raises(BadOutput, match=message):
        Pad(trim=trim).cut(result, ids(1, 3))
