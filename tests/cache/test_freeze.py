import collections
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

import modelserve as ms
from modelserve.cache._freeze import freeze


class Scores(NamedTuple):
    mean: object
    label: str


class Row(tuple):
    __slots__ = ()


class Named(list):
    name = "named"


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def given(value):
    """Give what two callers would get."""
    frozen, thaw = freeze(value)
    return (frozen, frozen) if thaw is None else (thaw(frozen), thaw(frozen))


PLAIN = [None, True, 1, 1.5, 1j, "a", b"a", (), (1, "a"), Scores(1, "a")]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_what_cannot_be_changed_is_given_as_it_is(value):
    one, other = given(value)

    assert one is other is value


def test_an_array_is_copied_and_read_only():
    value = np.arange(3.0)
    one, other = given(value)

    assert one is other
    assert one is not value
    value[0] = 9.0
    assert one.tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 1.0


def test_a_view_is_copied_so_that_it_does_not_pin_its_batch():
    batch = np.zeros((1000, 3))
    batch.flags.writeable = False
    one, _ = given(batch[0])

    assert one.base is None
    assert not one.flags.writeable


def test_an_array_of_its_own_that_is_read_only_is_kept():
    value = np.ones(3)
    value.flags.writeable = False

    assert given(value)[0] is value


def test_a_masked_array_is_each_callers_own_with_its_mask():
    value = np.ma.array([1, 2], mask=[False, True])
    one, other = given(value)
    one.mask[0] = True
    value.mask[0] = True

    assert other.mask.tolist() == [False, True]
    assert given(np.ma.array([3]))[0].tolist() == [3]


ONES = np.ones(2)
CONTAINERS = [
    [1, 2],
    [ONES, [ONES, "a"]],
    {"a": 1},
    {"a": ONES, "b": {"c": [ONES]}},
    (ONES, [1]),
    Scores([ONES], "a"),
    collections.OrderedDict(b=[1], a=2),
    collections.defaultdict(list, a=[1]),
    Named([1, [2]]),
    {1, 2},
    bytearray(b"ab"),
    [collections.Counter(a=1)],
]


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        return all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def changeable(x):
    """List the parts that a caller could change."""
    parts = x.values() if isinstance(x, dict) else x if isinstance(x, list | tuple) else ()
    own = isinstance(x, list | dict | set | bytearray)
    return [x] * own + [each for part in parts for each in changeable(part)]


@pytest.mark.parametrize("value", CONTAINERS, ids=repr)
def test_containers_are_made_anew_for_each_caller_and_keep_their_type(value):
    one, other = given(value)

    assert same(one, value)
    assert same(other, value)
    theirs = {id(part) for part in changeable(other) + changeable(value)}
    assert not theirs & {id(part) for part in changeable(one)}
    assert changeable(value)


def test_frozen_arrays_are_shared_wherever_they_lie():
    value = {"a": [np.ones(2)], "b": (np.ones(2), [1])}
    one, other = given(value)

    assert one["a"][0] is other["a"][0]
    assert one["b"][0] is other["b"][0]
    assert one["b"][1] is not other["b"][1]
    assert not one["a"][0].flags.writeable


def test_a_named_tuple_stays_one_and_another_tuple_becomes_plain():
    assert type(given(Scores(np.ones(1), "a"))[0]) is Scores
    assert type(given(Row((1, 2)))[0]) is Row
    assert type(given(Row((np.ones(1),)))[0]) is tuple


def test_anything_else_is_shared_as_it_is():
    @dataclass
    class Answer:
        score: float

    value = Answer(1.0)

    assert given(value) == (value, value)
    assert given(value)[0] is value


def test_a_tensor_is_each_callers_own(torch):
    value = torch.ones(2, requires_grad=True) * 1
    one, other = given(value)
    one[0] = 9.0

    assert other.tolist() == value.tolist() == [1.0, 1.0]
    assert not one.requires_grad
    nested, twin = given({"a": (torch.ones(1), "b")})
    nested["a"][0][0] = 9.0
    assert twin["a"][0].item() == 1.0


def test_callers_of_a_cache_cannot_change_what_the_others_see():
    cache = ms.PredictionCache(lambda x: {"scores": [1, 2], "rows": np.ones(2)}, maxsize=8)
    answers = [cache("a"), *cache.map(["a", "a"])]
    answers[0]["scores"].append(3)
    answers[1]["more"] = 1

    assert cache("a")["scores"] == answers[2]["scores"] == [1, 2]
    assert sorted(cache("a")) == ["rows", "scores"]
    for answer in answers:
        with pytest.raises(ValueError, match="read-only"):
            answer["rows"][0] = 2.0
