import itertools
import math
import struct
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelserve._policy import keys
from modelserve._policy.keys import INLINE, encode, key

BIG = INLINE + 1


def bits(x):
    return struct.pack("<d", x)


def shape_of(x):
    """Describe a value so that two descriptions are equal only if the inputs must share a key."""
    if isinstance(x, dict):
        return "dict", frozenset((shape_of(name), shape_of(value)) for name, value in x.items())
    if isinstance(x, list | tuple):
        return type(x), tuple(map(shape_of, x))
    if isinstance(x, np.ndarray | np.generic):
        return type(x), x.dtype, x.shape, x.tobytes()
    if isinstance(x, float):
        return float, bits(x)
    if isinstance(x, complex):
        return complex, bits(x.real), bits(x.imag)
    return type(x), x


def rebuilt(x):
    """Make an equal value of other objects: other dict order, other strides."""
    if isinstance(x, dict):
        return {rebuilt(name): rebuilt(x[name]) for name in reversed(x)}
    if isinstance(x, list | tuple):
        return type(x)([rebuilt(part) for part in x])
    if isinstance(x, np.ndarray):
        spread = np.zeros((*x.shape, 2), x.dtype)
        spread[..., 0] = x
        return spread[..., 0]
    return x


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=4),
    st.binary(max_size=4),
    hnp.arrays(
        st.one_of(
            hnp.boolean_dtypes(),
            hnp.integer_dtypes(),
            hnp.floating_dtypes(),
            hnp.byte_string_dtypes(max_len=3),
            hnp.unicode_string_dtypes(max_len=3),
            hnp.datetime64_dtypes(),
        ),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    ),
)
NAMES = st.one_of(st.text(max_size=2), st.integers(-2, 2), st.tuples(st.text(max_size=1)))
VALUES = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.lists(parts, max_size=3),
        st.lists(parts, max_size=3).map(tuple),
        st.dictionaries(NAMES, parts, max_size=3),
    ),
    max_leaves=6,
)


# Injectivity


@given(VALUES, VALUES)
def test_different_inputs_have_different_keys(one, other):
    assert (key(one) == key(other)) == (shape_of(one) == shape_of(other))


@given(VALUES)
def test_equal_inputs_have_equal_keys_whatever_their_strides_and_order(x):
    assert key(x) == key(rebuilt(x))
    assert hash(key(x)) == hash(key(rebuilt(x)))


@given(st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3))
def test_no_encoding_is_the_beginning_of_another(one, other):
    assume([shape_of(x) for x in one] != [shape_of(x) for x in other])
    encoded = []
    for values in (one, other):
        parts = []
        for value in values:
            encode(value, parts)
        encoded.append(b"".join(parts))

    assert encoded[0] != encoded[1]


ROWS = np.arange(12, dtype="<f4")
NEAR_MISSES = {
    "dtype": [ROWS, ROWS.astype("<f8"), ROWS.astype("<i4"), ROWS.view("<i4")],
    "byte order": [ROWS, ROWS.astype(">f4"), ROWS.view(">f4")],
    "shape": [ROWS, ROWS.reshape(3, 4), ROWS.reshape(4, 3), ROWS.reshape(1, 12)],
    "order": [ROWS.reshape(3, 4), ROWS.reshape(3, 4, order="F"), ROWS[::-1].reshape(3, 4)],
    "patch": [np.zeros((224, 224)), np.pad(np.ones((2, 2)), ((100, 122), (100, 122)))],
    "9th decimal": [0.123456789, 0.123456788, np.float64(0.123456789), np.float32(0.123456789)],
    "boundaries": [["ab", "c"], ["a", "bc"], ["abc"], "abc", ("ab", "c"), [["ab"], "c"]],
    "empty boundaries": [["", "a"], ["a", ""], ["a"], "a", ["", "", "a"]],
    "bool and int": [True, 1, 1.0, 1 + 0j, "1", b"1", np.True_, np.int64(1), [True], [1]],
    "nothing": [None, "", b"", 0, False, 0.0, [], (), {}, [None], [[]], np.array([]), "None"],
    "text and bytes": ["a", b"a", ["a"], ("a",), {"a": None}, np.array("a"), np.array(b"a")],
    "number and array": [1.0, np.float64(1.0), np.array(1.0), np.array([1.0]), np.array([[1.0]])],
    "zeros": [0.0, -0.0, 0, np.array([0.0]), np.array([-0.0])],
    "nan": [math.nan, -math.nan, math.inf, struct.unpack("<d", b"\x01" + bits(math.nan)[1:])[0]],
    "complex": [1j, 1.0, -1j, complex(0.0, -1.0), complex(-0.0, 1.0)],
    "empty arrays": [np.zeros(0), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(0, "f4"), [], None],
    "datetimes": [np.array([1], unit) for unit in ("M8[s]", "M8[ms]", "M8[ns]", "m8[s]", "<i8")],
    "texts of arrays": [np.array(["a"]), np.array([b"a"]), np.array(["a"], "<U2"), ["a"]],
    "fields": [
        np.zeros(1, [("a", "<i4"), ("b", "<i4")]),
        np.zeros(1, [("b", "<i4"), ("a", "<i4")]),
        np.zeros(1, [("a", "<i4"), ("c", "<i4")]),
        np.zeros(1, [("a", "<i4"), ("b", "<f4")]),
        np.zeros(1, [("a", "<i4", (2,))]),
        np.zeros(1, "V8"),
        np.zeros(2, [("a", "<i4")]),
        np.zeros(1, {"names": ["a", "b"], "formats": ["<i4", "<i4"], "offsets": [4, 0]}),
        np.zeros(
            1, {"names": ["a", "b"], "formats": ["<i4", "<i4"], "offsets": [0, 2], "itemsize": 8}
        ),
    ],
    "dicts": [{"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": 1}, {"a": {"b": 2}}, [("a", 1), ("b", 2)]],
    "dicts of floats": [
        {"a": 1.0, "b": 2.0},
        {"a": 2.0, "b": 1.0},
        {"a": 1.0, "b": 2},
        {"a": 1.0, "b": np.float64(2.0)},
        {"a": 1.0},
        {"b": 1.0},
        {np.str_("a"): 1.0, "b": 2.0},
        {"a": True, "b": 2.0},
        {"ab": 1.0},
        {1: 1.0, "b": 2.0},
    ],
    "lists of floats": [[1.0], (1.0,), [1], [1.0, 1.0], [np.float64(1)], [[1.0]], [True], [-1.0]],
    "keys of dicts": [{1: "a"}, {"1": "a"}, {True: "a"}, {1.0: "a"}, {(1,): "a"}, {None: "a"}],
    "split": [{"ab": "c"}, {"a": "bc"}, {"abc": ""}],
    "big": [np.zeros(BIG), np.zeros(BIG + 1), np.zeros(BIG, "f4"), np.zeros((BIG, 1)), [0.0] * BIG],
    "big texts": ["a" * BIG, b"a" * BIG, ["a" * BIG], "a" * (BIG + 1), "a" * (BIG - 1) + "b"],
    "integers": [2**63, 2**64, -(2**63), 10**5000, -(10**5000), 10**5000 + 1],
    "surrogates": ["\ud800", "\udfff", "\ufffd", "?"],
}


@pytest.mark.parametrize("values", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_look_alikes_are_told_apart(values):
    for one, other in itertools.combinations(values, 2):
        assert key(one) != key(other), (one, other)


def test_two_bytes_are_not_a_bfloat16():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    one = np.ones(2, bfloat16)

    assert len({key(one), key(one.view("V2")), key(one.view("<u2")), key(one.view("<f2"))}) == 4
    assert key(one) == key(np.ones(2, bfloat16))
    assert key(one[0]) == key(bfloat16(1.0)) != key(np.float16(1.0))


# Equal inputs


@pytest.mark.parametrize(
    "x",
    [
        np.arange(24.0).reshape(2, 3, 4),
        np.arange(24).astype("M8[s]").reshape(2, 12),
        np.zeros((4, 3), [("a", "<i4"), ("b", "S3")]),
        np.arange(3 * BIG, dtype="<i2").reshape(3, BIG),
    ],
    ids=["numbers", "times", "fields", "big"],
)
def test_strides_do_not_count(x):
    spread = np.repeat(x, 2, axis=0)[::2]
    backwards = np.ascontiguousarray(x[::-1])[::-1]
    transposed = np.asfortranarray(x)

    assert {key(y) for y in (x.copy(), spread, backwards, transposed)} == {key(x)}


def test_a_big_array_is_a_digest_of_what_a_small_one_is_itself():
    at = np.zeros(INLINE // 8)
    above = np.zeros(INLINE // 8 + 1)

    assert at.tobytes() in key(at)
    assert len(key(above)) == 33
    assert key(above) == key(above[::-1]) != key(np.ones_like(above))
    assert key(np.zeros((), "V3000")) != key(np.zeros((), "V3001"))


@pytest.mark.parametrize(("tag", "without"), [(b"%", []), (b"#", ["blake3"])])
def test_digests_are_blake3_where_it_is_installed_and_sha256_elsewhere(monkeypatch, tag, without):
    if not without:
        pytest.importorskip("blake3")
    for name in without:
        monkeypatch.setitem(sys.modules, name, None)
    keys._hash.cache_clear()
    try:
        big = [np.zeros(BIG), np.ones(BIG), np.zeros(BIG, "f4"), "a" * BIG, ["a" * BIG]]
        digests = [key(x) for x in big]
        assert [key(x) for x in big] == digests
    finally:
        keys._hash.cache_clear()

    assert len(set(digests)) == len(big)
    assert {(digest[:1], len(digest)) for digest in digests} == {(tag, 33)}


def test_long_values_of_any_kind_are_digests():
    assert len(key("a" * BIG)) == len(key(["a" * BIG])) == len(key([np.zeros(BIG)])) == 33
    assert key([np.zeros(BIG)]) == key([np.zeros(BIG)]) != key([np.zeros(BIG), None])


def test_a_nan_is_itself():
    assert key(math.nan) == key(math.nan)
    assert key(np.array([math.nan])) == key(np.array([math.nan]))


def test_a_dict_has_no_order():
    forwards = {"a": 1, "b": [2], 3: None, ("c",): {"x": 1, "y": 2}}
    backwards = {("c",): {"y": 2, "x": 1}, 3: None, "b": [2], "a": 1}

    assert key(forwards) == key(backwards)


def test_forms_of_dicts_are_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(keys, "_forms", {})
    monkeypatch.setattr(keys, "_REMEMBERED", 2)
    dicts = [{"a" * BIG: 1.0}, *({name: 1.0, "x": 2.0} for name in "bcde")]
    first = [key(x) for x in dicts]

    assert [key(x) for x in dicts] == first
    assert len(set(first)) == len(dicts)
    assert list(keys._forms) == [("b", "x"), ("c", "x")]


def test_two_names_of_one_dtype_are_one():
    assert key(np.array([1], "l")) == key(np.array([1], "q"))


def test_headers_are_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr(keys, "_headers", {})
    monkeypatch.setattr(keys, "_REMEMBERED", 2)
    first = [key(np.zeros(n)) for n in range(4)]

    assert [key(np.zeros(n)) for n in range(4)] == first
    assert len(keys._headers) == 2


# What has no key


class Point:
    pass


class Subclass(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("x", "place", "what"),
    [
        (Point(), "input", "a Point"),
        (Subclass("a"), "input", "a Subclass"),
        ({1, 2}, "input", "a set"),
        (bytearray(b"a"), "input", "a bytearray"),
        ([1, [2, Point()]], r"input\[1\]\[1\]", "a Point"),
        ((Point(),), r"input\[0\]", "a Point"),
        ({"a": {"b": Point()}}, r"input\['a'\]\['b'\]", "a Point"),
        ({"a": 1, "b": Point()}, r"input\['b'\]", "a Point"),
        ({1: 1, "b": [Point()]}, r"input\['b'\]\[0\]", "a Point"),
        ({Point(): 1}, "a key of input", "a Point"),
        ({"a": {frozenset(): 1}}, r"a key of input\['a'\]", "a frozenset"),
        (np.array([None]), "input", "an array of objects"),
        ([np.array([None])], r"input\[0\]", "an array of objects"),
        ({"a": np.zeros(1, [("x", "O")])}, r"input\['a'\]", "an array of objects"),
        (np.ma.array([1], mask=[True]), "input", "a MaskedArray"),
    ],
)
def test_what_has_no_key_is_refused_with_its_place_and_the_fix(x, place, what):
    with pytest.raises(TypeError, match=rf"^{place} is {what}, which has no key: pass key=,"):
        key(x)


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 1 has none")
def test_texts_of_any_length_are_refused_since_their_bytes_are_addresses():
    with pytest.raises(TypeError, match="pass key="):
        key(np.array(["a" * 50], np.dtypes.StringDType()))


def test_an_input_that_holds_itself_is_refused():
    x = []
    x.append(x)
    with pytest.raises(RecursionError):
        key(x)


# Tensors


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_tensors_are_told_apart(torch):
    tensors = [
        torch.zeros(4),
        torch.zeros(2, 2),
        torch.zeros(4, dtype=torch.float64),
        torch.zeros(4, dtype=torch.bfloat16),
        torch.zeros(4, dtype=torch.float16),
        torch.zeros(4, dtype=torch.int16),
        torch.zeros(4, dtype=torch.bool),
        torch.zeros(4, dtype=torch.uint8),
        torch.zeros(4, dtype=torch.float8_e4m3fn),
        torch.zeros(4, dtype=torch.complex32),
        torch.zeros(2, dtype=torch.complex64),
        -torch.zeros(4),
        torch.ones(4),
        torch.arange(4.0).reshape(2, 2),
        torch.arange(4.0).reshape(2, 2).T,
        torch.zeros(0, 4),
        torch.zeros(4, 0),
        torch.zeros(()),
        np.zeros(4, "f4"),
        [0.0] * 4,
    ]

    assert len({key(x) for x in tensors}) == len(tensors)
    assert len({key([x]) for x in tensors}) == len(tensors)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2", "complex64", "bool"])
def test_strides_of_tensors_do_not_count(torch, dtype):
    x = torch.arange(12).reshape(3, 4).to(getattr(torch, dtype))
    spread = torch.stack([x, x], dim=-1)[..., 0]
    transposed = x.T.contiguous().T
    offset = torch.cat([x, x])[3:]

    assert {key(y) for y in (x.clone(), spread, transposed, offset)} == {key(x)}
    assert key(x[:1, :1]) == key(x[:1, :1].clone())  # of one element, any stride is contiguous


def test_a_tensor_is_what_it_shows(torch):
    x = torch.tensor([1 + 2j, 3 - 1j])

    assert key(x.conj()) == key(torch.tensor([1 - 2j, 3 + 1j]))
    assert key(x.conj().imag) == key(torch.tensor([-2.0, 1.0]))
    assert key(torch.ones(2, requires_grad=True)) == key(torch.ones(2))
    assert key(torch.ones(2, requires_grad=True, dtype=torch.bfloat16)) == key(
        torch.ones(2, dtype=torch.bfloat16)
    )
    assert key(torch.ones(1).expand(BIG)) == key(torch.ones(BIG))
    assert len(key(torch.ones(BIG))) == 33


@pytest.mark.filterwarnings("ignore")  # some of these are prototypes, and say so
@pytest.mark.parametrize(
    "make",
    [
        lambda torch: torch.eye(2).to_sparse(),
        lambda torch: torch.eye(2).to_sparse_csr(),
        lambda torch: torch.empty(2, device="meta"),
        lambda torch: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8),
        lambda torch: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
    ],
    ids=["sparse", "csr", "meta", "quantized", "nested"],
)
def test_tensors_that_are_no_plain_block_of_numbers_are_refused(torch, make):
    with pytest.raises(TypeError, match=r"^input\[0\] is a tensor that is .*pass key="):
        key([make(torch)])


def test_a_tensor_elsewhere_is_another(torch):
    if not torch.cuda.is_available():
        pytest.skip("no GPU is here")

    assert key(torch.ones(2)) != key(torch.ones(2, device="cuda"))
    assert key(torch.ones(2, device="cuda")) == key(torch.ones(2, device="cuda"))
