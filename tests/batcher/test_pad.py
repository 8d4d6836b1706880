import math
import pickle
from collections import OrderedDict, UserDict
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelserve.batcher import DynamicBatcher, _pad
from modelserve.errors import BadInput

Pad = _pad.Pad
TORCH = find_spec("torch") is not None


class Pair(NamedTuple):
    left: object
    right: object


class Other(NamedTuple):
    left: object
    right: object


def ids(*lengths):
    return [np.arange(1, length + 1) for length in lengths]


def same(result, item):
    """Whether two structures of arrays or tensors are alike, to the dtype."""
    if isinstance(item, dict):
        return result.keys() == item.keys() and all(same(result[key], item[key]) for key in item)
    if isinstance(item, tuple):
        return type(result) is type(item) and all(map(same, result, item))
    return type(result) is type(item) and result.dtype == item.dtype and equal(result, item)


def equal(left, right):
    return left.shape == right.shape and bool((left == right).all())


DTYPES = st.sampled_from(["?", "i1", "u2", ">i4", "<i8", "f2", ">f4", "f8", "c8"])
TAILS = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)
LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=6)
OPTIONS = st.one_of(
    st.just({}),
    st.builds(dict, multiple=st.integers(1, 5)),
    st.builds(dict, sizes=st.sets(st.integers(1, 12)).map(lambda sizes: [*sizes, 9])),
)


@st.composite
def leaves(draw, lengths):
    """One leaf of each item: of one dtype and trailing shape, no two alike, and nowhere 0."""
    dtype, tail = np.dtype(draw(DTYPES)), draw(TAILS)
    numbers = (np.arange(sum(lengths) * math.prod(tail)) % 100 + 1).astype(dtype)
    return np.split(numbers.reshape(sum(lengths), *tail), np.cumsum(lengths)[:-1])


@st.composite
def batches(draw):
    """Items of one structure and of all lengths, and what a mask of them would be."""
    lengths = draw(LENGTHS)
    kind = draw(st.sampled_from(["bare", "dict", "tuple", "named"]))
    columns = [draw(leaves(lengths)) for _ in range(2)]
    if TORCH and draw(st.booleans()):
        import torch

        columns = [
            [torch.from_numpy(leaf.astype(leaf.dtype.newbyteorder("="))) for leaf in column]
            for column in columns
            if column[0].dtype.kind != "u"
        ] or [[torch.ones(length) for length in lengths]]
    left, right = columns[0], columns[-1]
    items = {
        "bare": left,
        "dict": [{"left": a, "right": b} for a, b in zip(left, right, strict=True)],
        "tuple": list(zip(left, right, strict=True)),
        "named": [Pair(a, b) for a, b in zip(left, right, strict=True)],
    }
    return items[kind], lengths


def parts(batch, mask):
    """Split a batch into its leaves and its mask."""
    if isinstance(batch, dict):
        return [leaf for name, leaf in batch.items() if name != mask], batch[mask]
    return list(batch[:-1]), batch[-1]


@given(batches(), OPTIONS)
def test_every_caller_of_an_identity_model_gets_its_item_back(batch, options):
    items, _ = batch
    pad = Pad(mask=None, trim=True, **options)
    results = pad.cut(pad.join(items), items)

    assert len({pad.lane(item) for item in items}) == 1
    assert len(results) == len(items)
    assert all(map(same, results, items))


@given(batches(), OPTIONS)
def test_the_mask_marks_what_is_real_and_all_else_is_padding(batch, options):
    items, lengths = batch
    pad = Pad(mask="real", trim=True, **options)
    padded, mask = parts(pad.join(items), "real")

    assert mask.shape == (len(items), pad.padded(max(lengths)))
    assert mask.tolist() == [[int(at < n) for at in range(mask.shape[1])] for n in lengths]
    assert str(mask.dtype).endswith("int64")
    for leaf in padded:
        assert leaf.shape[:2] == mask.shape
        assert type(mask) is type(leaf)
        assert (leaf[mask == 1] != 0).all()
        assert not leaf[mask == 0].any()


@given(st.integers(0, 1000), st.integers(1, 64))
def test_a_length_is_rounded_up_to_a_multiple(length, multiple):
    padded = Pad(multiple=multiple, trim=True).padded(length)

    assert padded % multiple == 0
    assert max(length, 1) <= padded < max(length, 1) + multiple


@given(st.integers(0, 100), st.sets(st.integers(1, 100)))
def test_a_length_is_padded_to_the_smallest_size_that_holds_it(length, sizes):
    pad = Pad(sizes=[100, *sizes], trim=True)

    assert pad.padded(length) == min(size for size in {100, *sizes} if size >= length)


@pytest.mark.parametrize("options", [{}, {"multiple": 4}, {"sizes": [4]}], ids=repr)
def test_items_without_length_are_rows_of_padding(options):
    pad = Pad(value=7, trim=True, **options)
    items = ids(0, 0)
    padded, mask = pad.join(items)

    assert padded.tolist() == [[7] * pad.padded(0)] * 2
    assert not mask.any()
    assert [row.tolist() for row in pad.cut(padded, items)] == [[], []]


def test_a_dict_gets_its_mask_by_name():
    batch = Pad(trim=False).join([{"ids": tokens} for tokens in ids(1, 2)])

    assert {name: leaf.tolist() for name, leaf in batch.items()} == {
        "ids": [[1, 0], [1, 2]],
        "attention_mask": [[1, 0], [1, 1]],
    }


def test_a_mask_that_items_bring_is_kept_and_padded_with_0():
    items = [{"ids": tokens, "seen": tokens == 1} for tokens in ids(3, 1)]
    batch = Pad(value=9, mask="seen", trim=False).join(items)

    assert batch["ids"].tolist() == [[1, 2, 3], [1, 9, 9]]
    assert batch["seen"].tolist() == [[True, False, False], [True, False, False]]
    assert list(batch) == ["ids", "seen"]


def test_a_named_tuple_may_bring_a_mask_too():
    items = [Pair(tokens, tokens == 1) for tokens in ids(2, 1)]
    batch = Pad(value=9, mask="right", trim=False).join(items)

    assert isinstance(batch, Pair)
    assert batch.right.tolist() == [[True, False], [True, False]]


def test_without_mask_the_batch_is_what_the_items_are():
    pad = Pad(value=9, mask=None, trim=False)
    one, two = ids(1, 2)

    assert pad.join([one, two]).tolist() == [[1, 9], [1, 2]]
    assert [leaf.tolist() for leaf in pad.join([(one,), (two,)])] == [[[1, 9], [1, 2]]]
    assert isinstance(pad.join([Pair(one, one), Pair(two, two)]), Pair)
    assert list(pad.join([{"ids": one}, {"ids": two}])) == ["ids"]


def test_each_leaf_has_a_value_of_its_own():
    pad = Pad(value={"ids": 5, "type": 1}, trim=False)
    batch = pad.join([{"ids": n, "type": n, "more": n} for n in ids(0, 1)])

    assert [batch[name][0].tolist() for name in ("ids", "type", "more")] == [[5], [1], [0]]


def test_leaves_of_tuples_have_values_by_position_or_field():
    one, two = ids(1, 2)
    plain = Pad(value={1: 5}, trim=False).join([(one, one), (two, two)])
    named = Pad(value={"right": 5}, trim=False).join([Pair(one, one), Pair(two, two)])

    assert [leaf[0].tolist() for leaf in plain] == [[1, 0], [1, 5], [1, 0]]
    assert [leaf[0].tolist() for leaf in named] == [[1, 0], [1, 5], [1, 0]]


def test_a_mapping_of_another_class_is_an_item_like_a_dict():
    pad = Pad(trim=True)
    item = UserDict(ids=np.array([1, 2]))

    assert pad.lane(item) == pad.lane({"ids": np.array([1])}) == pad.lane(OrderedDict(item))
    assert pad.length(item) == 2
    assert pad.join([item])["ids"].tolist() == [[1, 2]]


LIKE = [
    np.zeros(3),
    np.zeros((3, 1)),
    np.zeros((3, 2)),
    np.zeros(3, np.float32),
    np.zeros(3, ">f8"),
    (np.zeros(3),),
    {"a": np.zeros(3)},
    {0: np.zeros(3)},
    {None: np.zeros(3)},
    {"b": np.zeros(3)},
    {"a": np.zeros(3), "b": np.zeros(3)},
    (np.zeros(3), np.zeros(3)),
    Pair(np.zeros(3), np.zeros(3)),
    Other(np.zeros(3), np.zeros(3)),
]


@pytest.mark.parametrize("item", LIKE, ids=repr)
def test_lanes_never_mix_structures_dtypes_or_trailing_shapes(item):
    pad = Pad(trim=True)
    lanes = [pad.lane(other) for other in LIKE]

    assert lanes.count(pad.lane(item)) == 1


def test_the_length_and_the_order_of_a_dict_do_not_part_lanes(tmp_path):
    pad = Pad(trim=True)
    rows = np.memmap(tmp_path / "rows", np.float64, "w+", shape=(4,))

    assert pad.lane(np.zeros(3)) == pad.lane(np.zeros(0)) == pad.lane(rows)
    assert pad.lane({"a": rows, "b": ids(4)[0]}) == pad.lane({"b": ids(1)[0], "a": rows[:1]})


NAN, INF = float("nan"), float("inf")
HELD = [
    *[("i8", 0), ("i8", -100), ("i8", 2**62 + 1), ("u1", 255), ("?", 0), ("?", True)],
    *[("f2", 0.1), ("f4", NAN), ("f8", -INF), ("f4", -1e9), ("c8", 1j)],
    *[("U3", ""), ("U5", "<pad>"), ("S2", b""), ("M8[s]", 0), ("m8[s]", np.timedelta64(1, "s"))],
]
LOST = [
    *[("i8", 0.5), ("i8", NAN), ("i8", 2**63), ("i8", "x"), ("u1", 256), ("u1", -100), ("?", 2)],
    *[("f2", -1e9), ("f4", "x"), ("U3", "<pad>"), ("U3", 0), ("S2", b"abc"), ("M8[s]", "x")],
]


@pytest.mark.parametrize(("dtype", "value"), HELD, ids=repr)
def test_a_value_that_the_dtype_holds_is_the_padding(dtype, value):
    pad = Pad(value=value, trim=False)
    items = [np.empty(0, dtype), np.zeros(1, dtype)]
    padded, _ = pad.join(items)

    assert pad.lane(items[0]) == pad.lane(items[1])
    assert padded.dtype == np.dtype(dtype)
    assert padded[0].tobytes() == np.array([value]).astype(dtype).tobytes()


@pytest.mark.parametrize(("dtype", "value"), LOST, ids=repr)
def test_a_value_that_the_dtype_would_change_is_refused(dtype, value):
    with pytest.raises(BadInput, match=r"the item of .* cannot be padded with .*: pass value="):
        Pad(value=value, trim=False).lane(np.zeros(1, dtype))


@pytest.mark.parametrize(
    "pad",
    [
        Pad(trim=True),
        Pad(multiple=8, value={"ids": 1}, trim=False),
        Pad(sizes=(128, 16), value=-1.5, mask=None, trim=["a", "b"]),
        Pad(mask="seen", trim=[0]),
    ],
    ids=repr,
)
def test_the_repr_is_how_to_write_it(pad):
    assert repr(eval(repr(pad))) == repr(pad) == repr(pickle.loads(pickle.dumps(pad)))  # noqa: S301, S307 - its own


def test_the_repr_shows_what_was_chosen():
    assert repr(Pad(sizes=(128, 16), trim=True)) == "Pad(sizes=[16, 128], trim=True)"


def test_callers_get_their_own_length_through_a_batcher():
    shapes = []

    def square(batch):
        tokens, mask = batch
        shapes.append(tokens.shape)
        return tokens**2 * mask

    items = ids(3, 1, 4, 0, 2)
    with DynamicBatcher(square, layout=Pad(multiple=4, trim=True)) as squares:
        results = list(squares.map(items))

    assert [row.tolist() for row in results] == [(item**2).tolist() for item in items]
    assert {length for _, length in shapes} == {4}


def test_a_bad_item_fails_in_its_callers_frame_alone():
    items = [*ids(2), np.zeros(2), *ids(3), np.array(1)]
    with DynamicBatcher(lambda batch: batch[0], layout=Pad(sizes=[2], trim=True)) as same:
        two, other, long, scalar = same.map(items, return_exceptions=True)

        assert (two.tolist(), other.tolist()) == ([1, 2], [0, 0])
        assert (type(long), type(scalar)) == (BadInput, BadInput)
        assert same.stats.calls == 2


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_tensors_are_padded_where_they_are(torch):
    pad = Pad(trim=True)
    items = [torch.ones(n, 2, device="meta", dtype=torch.bfloat16) for n in (1, 3)]
    padded, mask = pad.join(items)

    assert (padded.device.type, mask.device.type) == ("meta", "meta")
    assert (padded.dtype, mask.dtype) == (torch.bfloat16, torch.int64)
    assert [tuple(row.shape) for row in pad.cut(padded, items)] == [(1, 2), (3, 2)]


def test_tensors_that_carry_gradients_may_be_padded(torch):
    items = [torch.ones(n, requires_grad=True) for n in (1, 2)]
    padded, _ = Pad(trim=True).join(items)
    padded.sum().backward()

    assert [item.grad.tolist() for item in items] == [[1], [1, 1]]


def test_lanes_never_mix_tensors_of_other_dtype_trailing_shape_or_kind(torch):
    pad = Pad(trim=True)
    items = [
        torch.zeros(3),
        torch.zeros(3, 1),
        torch.zeros(3, dtype=torch.float64),
        torch.zeros(3, device="meta"),
        torch.zeros(3).to_sparse(),
        np.zeros(3, np.float32),
    ]

    assert len({pad.lane(item) for item in items}) == len(items)
    assert pad.lane(torch.zeros(5)) == pad.lane(items[0])


@pytest.mark.parametrize(
    ("dtype", "value", "held"),
    [
        *[("int64", -100, True), ("int64", 0.5, False), ("uint8", 256, False), ("bool", 2, False)],
        *[("float16", 0.1, True), ("float16", -1e9, False), ("float32", NAN, True)],
        *[("bfloat16", -INF, True), ("complex64", 1j, True), ("int64", "x", False)],
    ],
)
def test_a_tensor_is_padded_with_what_its_dtype_holds(torch, dtype, value, held):
    pad = Pad(value=value, trim=True)
    item = torch.zeros(1, dtype=getattr(torch, dtype))
    if not held:
        with pytest.raises(BadInput, match="cannot be padded"):
            pad.lane(item)
        return
    padded, _ = pad.join([item[:0]])

    assert pad.lane(item) == pad.lane(item[:0])
    assert torch.equal(padded, torch.full((1, 1), value, dtype=item.dtype)) or value != value  # noqa: PLR0124 - NaN


def test_what_becomes_of_values_is_remembered_for_few(torch):
    for value in range(2000):
        Pad(value=value, trim=True).lane(torch.zeros(1))

    assert _pad._holds.cache_info().currsize <= 1024
