import dataclasses
import math
import sys
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.costs import Costs
from modelserve.batcher._form import DEPTH, FEW, Form, nbytes
from modelserve.batcher._layout import AsList, Stack
from modelserve.batcher._pad import Pad
from modelserve.errors import BadInput

PAD = Pad(multiple=4, trim=False)


class Item:
    at = 0.0

    def __init__(self, size=1.0):
        self.size = size


def items(*sizes):
    return [Item(size) for size in sizes]


def queue_of(form, *sizes, costs=None):
    lanes = form.lanes(0.0, costs or Costs())
    for size in sizes:
        lanes.push(Item(size), None)
    return lanes


def cut(lanes):
    return [item.size for item in lanes.cut(0.0)]


# Lanes


def test_a_lane_is_the_layout_s():
    x = np.zeros(3)

    assert Form(Stack(), None, 8).lane(x) == Stack().lane(x) == ((3,), np.dtype(float))


def test_a_lane_that_cannot_be_looked_up_is_refused():
    class ByList:
        def lane(self, item):
            return [item]

    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        Form(ByList(), None, 8).lane(1)


# How large an item is


def test_an_item_is_one_where_nothing_is_measured():
    form = Form(Stack(), None, 8)

    assert (form.size("anything"), form.sized, form.pads, form.measures) == (
        1.0,
        False,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("size", "x", "expected"),
    [
        (len, "four", 4.0),
        (lambda x: x.nbytes, np.zeros(2, np.int8), 2.0),
        (np.sum, np.ones(3), 3.0),
        (lambda _: 0, None, 0.0),
        (lambda _: 8, None, 8.0),
    ],
)
def test_a_size_is_what_was_asked_for_as_a_number(size, x, expected):
    form = Form(Stack(), size, 8)

    assert (form.size(x), type(form.size(x))) == (expected, float)
    assert (form.sized, form.measures) == (True, True)


@pytest.mark.parametrize(
    "size", [math.nan, math.inf, -1, -0.001, None, "long", [1, 2], np.zeros(2), 10**400]
)
def test_what_is_no_size_is_refused(size):
    with pytest.raises(BadInput, match="of an item: give a number, 0 or more"):
        Form(Stack(), lambda _: size, 8).size("x")


@pytest.mark.parametrize("layout", [Stack(), AsList()])
def test_an_item_that_fits_no_batch_is_refused(layout):
    with pytest.raises(BadInput, match="size 1,001 fits no batch: raise max_batch_size=1,000, or"):
        Form(layout, len, 1000).size("x" * 1001)


def test_an_item_that_fits_no_batch_when_padded_is_refused():
    form = Form(PAD, len, 10)

    assert form.size("x" * 8) == 8.0
    with pytest.raises(BadInput, match="size 9 fits no batch"):
        form.size("x" * 9)


def test_an_item_may_be_of_any_length_where_items_are_counted():
    form = Form(PAD, None, 2)

    assert (form.size(np.zeros(1000)), form.pads, form.measures) == (1000.0, True, True)


def test_what_a_size_function_raises_reaches_the_caller():
    def size(x):
        raise KeyError(x)

    with pytest.raises(KeyError, match="tokens"):
        Form(Stack(), size, 8).size("tokens")


@given(st.floats() | st.integers())
def test_a_size_is_a_number_within_the_limit_or_refused(size):
    form = Form(Stack(), lambda _: size, 8)
    if 0 <= size <= 8:
        assert form.size("x") == size
    else:
        with pytest.raises(BadInput):
            form.size("x")


# How large a batch is


@pytest.mark.parametrize(
    ("form", "sizes", "expected"),
    [
        (Form(Stack(), None, 8), (1, 1, 1), 3),
        (Form(Stack(), len, 8), (3, 0.5, 2), 5.5),
        (Form(PAD, None, 8), (3, 9, 2), 3 * 12),
        (Form(PAD, len, 99), (3, 4), 2 * 4),
        (Form(Pad(sizes=[16, 128], trim=False), None, 8), (3, 17), 2 * 128),
    ],
)
def test_a_batch_takes_what_its_items_do_all_as_large_as_the_largest_where_it_is_padded(
    form, sizes, expected
):
    assert form.measure(items(*sizes)) == expected


@pytest.mark.parametrize(
    ("form", "sizes", "expected"),
    [
        (Form(Stack(), None, 8), (1, 1, 1), 3),
        (Form(Stack(), len, 8), (3, 0.5, 2), 5.5),
        (Form(PAD, None, 8), (3, 9, 2), 3),
        (Form(PAD, len, 99), (3, 4), 2 * 4),
    ],
)
def test_a_batch_is_bounded_by_its_count_unless_sizes_were_asked_for(form, sizes, expected):
    assert form.bounded(items(*sizes)) == expected


@pytest.mark.parametrize(
    ("form", "x", "expected"),
    [
        (Form(Stack(), None, 8), "x", [1, 8]),
        (Form(Stack(), None, 1), "x", [1]),
        (Form(Stack(), len, 8), "xxx", [1, 2]),
        (Form(Stack(), len, 8), "x" * 5, [1]),
        (Form(Stack(), len, 8), "", [1, 8]),
        (Form(PAD, None, 8), np.zeros(1000), [1, 8]),
        (Form(PAD, len, 16), "x" * 5, [1, 2]),
    ],
)
def test_an_item_is_warmed_alone_and_in_the_largest_batch_that_it_makes(form, x, expected):
    assert form.warm_sizes(x) == expected


# Queues


def test_a_queue_is_bounded_by_the_count():
    lanes = queue_of(Form(Stack(), None, 2), 5, 5, 5)

    assert (lanes.limit, lanes.max_wait, cut(lanes), cut(lanes)) == (2, 0.0, [5, 5], [5])


def test_a_queue_is_bounded_by_the_sum_of_sizes():
    assert cut(queue_of(Form(Stack(), len, 8), 3, 4, 1, 1)) == [3, 4, 1]


def test_where_batches_are_padded_those_of_like_length_run_together():
    lanes = queue_of(Form(PAD, None, 2), 10, 90, 12, 88)

    assert [cut(lanes), cut(lanes)] == [[10, 12], [90, 88]]


def test_where_batches_are_padded_their_area_is_bounded():
    lanes = queue_of(Form(PAD, len, 30), 9, 2, 10, 5)
    batches = [cut(lanes), cut(lanes)]

    assert batches == [[9, 10], [2, 5]]
    assert all(len(batch) * -(-max(batch) // 4) * 4 <= 30 for batch in batches)


def test_company_is_chosen_by_what_it_costs_once_that_is_known():
    costs = Costs()
    form = Form(Pad(trim=False), None, 8)
    for _ in range(40):
        costs.observe(100, 1.0)
    assert cut(queue_of(form, 100, 100, costs=costs)) == [100, 100]
    for _ in range(40):
        costs.observe(200, 9.0)

    assert cut(queue_of(form, 100, 100, costs=costs)) == [100]


# Bytes


@dataclasses.dataclass
class Features:
    ids: np.ndarray
    name: str


@dataclasses.dataclass(slots=True)
class Slotted:
    ids: np.ndarray


class Pair(NamedTuple):
    ids: np.ndarray
    mask: np.ndarray


class Plain:
    pass


class Sized:
    nbytes = "many"


ARRAY = np.zeros(1000)
MEMMAP_LIKE = ARRAY.view(type("Mine", (np.ndarray,), {}))


@pytest.mark.parametrize(
    ("x", "least"),
    [
        (ARRAY, 8000),
        (ARRAY[:500], 4000),
        (np.broadcast_to(np.zeros(1), 1000), 8000),
        (MEMMAP_LIKE, 8000),
        (memoryview(b"x" * 1000), 1000),
        ("x" * 1000, 1000),
        (b"x" * 1000, 1000),
        (5, 1),
        (None, 1),
        ([1.0] * 1000, 1000 * (8 + sys.getsizeof(1.0))),
        (["x" * 1000] * 100, 100_000),
        ({"ids": ARRAY, "more": {"mask": ARRAY}}, 16_000),
        ({str(n): ARRAY if n == 30 else n for n in range(31)}, 8000),
        (Pair(ARRAY, ARRAY), 16_000),
        (Features(ARRAY, "x" * 1000), 9000),
        (Slotted(ARRAY), 8000),
        ([], 1),
        ({}, 1),
        (Plain(), 1),
        (Sized(), 1),
    ],
)
def test_bytes_are_about_what_an_input_holds_on_to(x, least):
    assert least <= nbytes(x) <= 1.2 * least + 500


def test_bytes_and_sizes_of_tensors_are_known_as_well():
    torch = pytest.importorskip("torch")
    row = torch.zeros(1000)

    for x, least in [(row, 4000), ([row] * 100, 400_000), ([0, row], 4000), ((row, row), 8000)]:
        assert least <= nbytes(x) <= 1.2 * least + 500
    assert Form(Stack(), torch.sum, 8).size(torch.ones(3)) == 3.0


def test_of_a_long_list_the_first_stands_for_all():
    assert nbytes([ARRAY] * FEW) == nbytes([ARRAY] * (FEW - 1)) + 8000 + 8
    assert nbytes([ARRAY] + [0] * FEW) > 8000 * FEW
    assert nbytes([0] * FEW + [ARRAY]) < 8000


def test_what_holds_itself_comes_to_an_end():
    listed, named = [], {}
    listed += [listed] * FEW
    named["self"] = named

    assert nbytes(listed) < 8 ** (DEPTH + 1) * sys.getsizeof(listed)
    assert nbytes(named) == (DEPTH + 1) * sys.getsizeof(named)


def test_a_field_that_was_never_set_holds_nothing():
    features = Features(ARRAY, "x")
    del features.name

    assert 8000 <= nbytes(features) < 8500
