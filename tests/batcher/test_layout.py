from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelserve.batcher import AsList, DynamicBatcher, Stack
from modelserve.errors import BadInput, BadOutput


class Pair(NamedTuple):
    left: object
    right: object


class Columns(Mapping):
    """A mapping that is no dict, as frameworks like to return."""

    def __init__(self, columns):
        self._columns = columns

    def __getitem__(self, key):
        return self._columns[key]

    def __iter__(self):
        return iter(self._columns)

    def __len__(self):
        return len(self._columns)


DTYPES = [
    *("?", "i1", "u2", ">i4", "<i8", "f2", "<f4", ">f4", "f8", "c8", "U3", "U4", "S2"),
    *("M8[s]", "M8[D]", "m8[s]", "V8"),
    [("a", "f4"), ("b", "i4")],
    [("x", "i4"), ("y", "f4")],
]

ANY = [object()] * 5
"""Items whose results are told apart: of these a stack reads the number alone."""

ARRAYS = {
    "0-d": np.array(7, np.int16),
    "0-d big-endian": np.array(7, ">f4"),
    "0-d structured": np.array((1, 2.0), [("a", "i4"), ("b", "f8")]),
    "0-d text": np.array("ab", "U5"),
    "1-d": np.arange(3.0),
    "empty": np.empty((0, 3), np.float32),
    "n-d": np.arange(24).reshape(2, 3, 4),
    "every other": np.arange(10)[::2],
    "reversed": np.arange(6.0).reshape(2, 3)[::-1, ::-1],
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "broadcast": np.broadcast_to(np.float32(1.5), (2, 2)),
    "text": np.array(["a", "bc"]),
    "dates": np.array(["2026-01-01"], "M8[D]"),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_are_stacked_along_a_new_first_axis(array):
    batch = Stack().join([array, array, array])

    assert batch.shape == (3, *array.shape)
    assert batch.dtype == array.dtype.newbyteorder("=")
    assert all(np.array_equal(row, array) for row in batch)


@given(
    hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)),
    st.integers(1, 4),
)
def test_what_was_stacked_is_cut_into_the_same_items(array, n):
    items = [array] * n
    rows = Stack().cut(Stack().join(items), items)
    native = array.astype(array.dtype.newbyteorder("="))

    assert [row.tobytes() for row in rows] == [native.tobytes()] * n


def test_a_batch_is_a_copy():
    array = np.zeros(2)
    Stack().join([array])[0, 0] = 1.0

    assert not array.any()


def test_memory_maps_are_stacked_like_arrays(tmp_path):
    rows = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(2, 3))
    rows[:] = [[1, 2, 3], [4, 5, 6]]

    assert Stack().lane(rows[0]) == Stack().lane(np.zeros(3, np.float32))
    assert Stack().join([rows[0], rows[1]]).tolist() == rows.tolist()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_lanes_never_mix_dtypes(dtype):
    other = [np.empty(3, d) for d in DTYPES if np.dtype(d) != np.dtype(dtype)]
    lane = Stack().lane(np.empty(3, dtype))

    assert lane == Stack().lane(np.zeros(3, dtype))
    assert lane not in [Stack().lane(array) for array in other]


LIKE = [
    np.zeros(3),
    np.zeros(4),
    np.zeros((3, 1)),
    np.zeros(()),
    {"a": np.zeros(3)},
    {"b": np.zeros(3)},
    {"a": np.zeros(3), "b": np.zeros(3)},
    {"a": np.zeros(4), "b": np.zeros(3)},
    (np.zeros(3),),
    (np.zeros(3), np.zeros(3)),
    Pair(np.zeros(3), np.zeros(3)),
    ({"a": np.zeros(3)}, np.zeros(3)),
    ((np.zeros(3),), np.zeros(3)),
]


@pytest.mark.parametrize("item", LIKE, ids=repr)
def test_lanes_never_mix_shapes_or_structures(item):
    lanes = [Stack().lane(other) for other in LIKE]

    assert lanes.count(Stack().lane(item)) == 1


def test_the_order_of_a_dict_does_not_part_its_lane():
    ab, ba = {"a": np.zeros(2), "b": np.ones(3)}, {"b": np.ones(3), "a": np.zeros(2)}
    batch = Stack().join([ab, ba])

    assert Stack().lane(ab) == Stack().lane(ba)
    assert {key: leaf.tolist() for key, leaf in batch.items()} == {
        "a": [[0, 0], [0, 0]],
        "b": [[1, 1, 1], [1, 1, 1]],
    }


LISTS = {
    "text": "abc",
    "number": 1.5,
    "numpy scalar": np.float32(1.5),
    "none": None,
    "list": [np.zeros(2)],
    "masked array": np.ma.masked_array([1.0, 2.0], [True, False]),
    "record array": np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "empty dict": {},
    "empty tuple": (),
    "mixed dict": {"a": np.zeros(2), "b": "text"},
    "mixed tuple": (np.zeros(2), "text"),
    "mixed deep down": {"a": (np.zeros(2), {"b": None})},
    "no plain dict": OrderedDict(a=np.zeros(2)),
    "set": {1, 2},
    "ragged rows": [[1, 2], [3]],
    "array of objects in a list": [np.array([None])],
    "bytes": b"ab",
}


@pytest.mark.parametrize("item", LISTS.values(), ids=LISTS)
def test_anything_else_travels_as_the_list_it_came_in(item):
    items = [item, item]

    assert Stack().lane(item) is None
    assert Stack().join(items) is items


def test_the_mask_of_a_masked_array_survives():
    items = [np.ma.masked_array([1.0, 2.0], [hidden, False]) for hidden in (True, False)]
    with DynamicBatcher(lambda rows: [row.sum() for row in rows]) as sums:
        assert list(sums.map(items)) == [2.0, 3.0]


@pytest.mark.parametrize(
    "item",
    [
        np.array([[1, 2], [3]], object),
        np.array(None),
        np.empty(2, [("a", "O")]),
        {"rows": np.array([None]), "x": np.zeros(2)},
        (np.zeros(2), (np.array([None]),)),
        ("text", np.array([None])),
    ],
    ids=repr,
)
def test_an_array_of_objects_is_refused(item):
    with pytest.raises(BadInput, match=r"array of objects cannot be stacked.* AsList\(\)"):
        Stack().lane(item)


def test_what_is_refused_never_comes_into_the_queue():
    with DynamicBatcher(lambda rows: rows * 2) as double:
        with pytest.raises(BadInput):
            double(np.array([[1, 2], [3]], object))

        assert double(np.array(4)) == 8
        assert (double.stats.calls, double.stats.batches) == (1, 1)


def test_one_bad_item_of_many_fails_alone():
    items = [np.array(1), np.array(None), np.array(3)]
    with DynamicBatcher(lambda rows: rows * 2) as double:
        first, bad, third = double.map(items, return_exceptions=True)

    assert (first, third) == (2, 6)
    assert isinstance(bad, BadInput)


def test_none_is_an_item_of_a_function_of_a_list():
    with DynamicBatcher(lambda items: [item is None for item in items]) as is_none:
        assert list(is_none.map([None, "a", None])) == [True, False, True]


def test_items_of_mixed_kinds_run_in_batches_of_their_kind():
    kinds = []
    items = [np.zeros(2), "text", np.array(1.0), None, np.ones(2)]
    with DynamicBatcher(lambda xs: kinds.append(type(xs)) or list(xs)) as same:
        assert list(map(type, same.map(items))) == [
            *(np.ndarray, str, np.float64, type(None), np.ndarray),
        ]
    assert set(kinds) == {np.ndarray, list}


def test_structures_are_stacked_leaf_by_leaf():
    def item(n):
        return {"ids": np.full(2, n), "pair": Pair((np.array(n), np.full(1, n)), np.full(3, n))}

    batch = Stack().join([item(1), item(2)])

    assert batch["ids"].tolist() == [[1, 1], [2, 2]]
    assert isinstance(batch["pair"], Pair)
    assert isinstance(batch["pair"].left, tuple)
    assert batch["pair"].left[0].tolist() == [1, 2]
    assert batch["pair"].left[1].tolist() == [[1], [2]]
    assert batch["pair"].right.tolist() == [[1, 1, 1], [2, 2, 2]]


def test_arrays_are_cut_along_the_first_axis_as_views():
    batch = np.arange(6).reshape(3, 2)
    rows = Stack().cut(batch, ANY[:3])

    assert [row.tolist() for row in rows] == [[0, 1], [2, 3], [4, 5]]
    assert all(np.shares_memory(row, batch) for row in rows)


def test_a_list_is_one_result_an_item_whatever_it_holds():
    results = ["a", None, [1, 2], (3, 4), {"k": 5}]

    assert list(Stack().cut(results, ANY[:5])) == results


def test_a_tuple_of_two_arrays_for_two_items_is_two_outputs_of_each():
    rows = Stack().cut((np.array([1, 2]), np.array([10, 20])), ANY[:2])

    assert rows == [(1, 10), (2, 20)]


def test_structures_are_cut_leaf_by_leaf():
    result = {
        "label": ["cat", "dog"],
        "score": Pair(np.array([0.25, 0.75]), (np.array([[1, 2], [3, 4]]),)),
        "more": Columns({"deep": np.array([5, 6])}),
    }
    first, second = Stack().cut(result, ANY[:2])

    assert (first["label"], second["label"]) == ("cat", "dog")
    assert isinstance(second["score"], Pair)
    assert second["score"].left == 0.75
    assert second["score"].right[0].tolist() == [3, 4]
    assert (first["more"], second["more"]) == ({"deep": 5}, {"deep": 6})


@pytest.mark.parametrize(
    ("result", "n", "message"),
    [
        (None, 2, "None for 2 items"),
        (np.float32(1), 2, "float32 for 2 items: return an array"),
        (np.array(1.0), 2, "a single value for 2 items"),
        ("ab", 2, "str for 2 items"),
        ({1, 2}, 2, "set for 2 items"),
        ((y for y in "ab"), 2, "generator for 2 items"),
        ([1], 2, "a list of 1 for 2 items: return one result an item$"),
        ([1, 2, 3], 2, "a list of 3 for 2 items"),
        ([], 1, "a list of 0 for 1 items"),
        (np.zeros((3, 2)), 2, "a first axis of 3 for 2 items"),
        (np.zeros((0, 2)), 2, "a first axis of 0 for 2 items"),
        ((np.zeros(2), np.zeros(3)), 2, "a first axis of 3 for 2 items"),
        ({"a": [1, 2], "b": None}, 2, "None for 2 items"),
        ((1.0, 2.0), 2, "float for 2 items"),
        ((), 2, "an empty structure for 2 items"),
        ({}, 2, "an empty structure for 2 items"),
        ([np.zeros(3)], 3, "a list of 1 .* return several outputs as a tuple or dict"),
    ],
    ids=repr,
)
def test_what_is_not_one_result_an_item_is_refused(result, n, message):
    with pytest.raises(BadOutput, match=message):
        Stack().cut(result, ANY[:n])


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_tensors_are_stacked_and_cut_like_arrays(torch):
    items = [torch.arange(6.0).reshape(2, 3).T, torch.ones(2, 3).T]
    batch = Stack().join(items)

    assert batch.shape == (2, 3, 2)
    assert all(torch.equal(row, item) for row, item in zip(batch, items, strict=True))
    assert [
        (row.tolist(), tag) for row, tag in Stack().cut((batch[:, 0], ["a", "b"]), ANY[:2])
    ] == [
        ([0.0, 3.0], "a"),
        ([1.0, 1.0], "b"),
    ]


def test_lanes_never_mix_tensors_of_other_shape_dtype_or_kind(torch):
    items = [
        torch.zeros(3),
        torch.zeros(4),
        torch.zeros(3, dtype=torch.float64),
        torch.zeros(3, device="meta"),
        torch.zeros(3).to_sparse(),
        np.zeros(3, np.float32),
        {"a": torch.zeros(3)},
    ]

    assert len({Stack().lane(item) for item in items}) == len(items)
    assert Stack().lane(torch.ones(3)) == Stack().lane(items[0])


def test_dicts_of_tensors_are_stacked_leaf_by_leaf(torch):
    batch = Stack().join([{"x": torch.zeros(2)}, {"x": torch.ones(2)}])

    assert batch["x"].tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(("shape", "n"), [((3,), 2), ((), 1)])
def test_tensors_of_another_first_axis_are_refused(torch, shape, n):
    with pytest.raises(BadOutput, match=f"for {n} items"):
        Stack().cut(torch.zeros(shape), ANY[:n])


def test_as_list_leaves_everything_as_it_is():
    items = [np.zeros(2), np.zeros(3), "text"]

    assert {AsList().lane(item) for item in items} == {None}
    assert AsList().join(items) is items
    assert list(AsList().cut((np.array([1, 2]), ["a", "b"]), items[:2])) == [(1, "a"), (2, "b")]


def test_as_list_lets_arrays_of_all_shapes_run_together():
    sizes = []
    lengths = DynamicBatcher(
        lambda rows: sizes.append(len(rows)) or [len(row) for row in rows], layout=AsList()
    )
    with lengths:
        lengths.warm(np.zeros(1))
        assert list(lengths.map([np.zeros(n) for n in range(5)])) == [0, 1, 2, 3, 4]
    assert sizes[:2] == [1, 32]


@pytest.mark.parametrize("layout", [Stack(), AsList()], ids=repr)
def test_the_repr_is_how_to_write_it(layout):
    assert repr(eval(repr(layout))) == repr(layout)  # noqa: S307 - its own repr
