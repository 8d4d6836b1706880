"""Arrays by name in files of numpy."""

import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import modelserve as ms
from modelserve.formats import npz
from modelserve.formats._known import NOTHING
from tests.formats.hostile import npy, zipped


def save(write=np.savez, **arrays):
    file = io.BytesIO()
    write(file, **arrays)
    return file.getvalue()


KINDS = [np.dtype(kind) for kind in ("f4", ">f8", "i8", "?", "c8", "U3", "S2", "M8[s]", "f2,i4")]
DTYPES = st.sampled_from(KINDS)


@given(st.data(), st.sampled_from([np.savez, np.savez_compressed]))
def test_arrays_come_back_as_they_were_saved(data, write):
    shape = data.draw(arrays_of.array_shapes(min_dims=0, min_side=0))
    dtype = data.draw(DTYPES)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = data.draw(st.binary(min_size=size, max_size=size)) if dtype.kind in "fi" else bytes(size)
    saved = np.ndarray(shape, dtype, raw)
    loaded = npz.load(save(write, a=saved, b=np.asarray(saved, order="F")), NOTHING)

    assert list(loaded) == ["a", "b"]
    for array in loaded.values():
        assert (array.dtype, array.shape) == (saved.dtype, saved.shape)
        assert array.tobytes() == saved.tobytes()


def test_a_long_header_is_read_too():
    dtype = np.dtype([(f"field {number:05}", "f4") for number in range(3000)])
    file = io.BytesIO()
    np.lib.format.write_array(file, np.zeros(1, dtype), version=(2, 0))
    with pytest.raises(ValueError, match="Header info length"):
        npz.load(zipped([("a.npy", file.getvalue())]), NOTHING)
    short = io.BytesIO()
    np.lib.format.write_array(short, np.arange(3), version=(2, 0))
    assert npz.load(zipped([("a.npy", short.getvalue())]), NOTHING)["a"].tolist() == [0, 1, 2]


def test_objects_are_refused():
    data = save(a=np.array([{}, []], object))
    message = "save arrays of numbers or texts alone, as numpy cannot read it ('a.npy' holds Python"
    with pytest.raises(ms.ModelLoadError, match=re.escape(message)):
        npz.load(data, NOTHING)


@pytest.mark.parametrize(
    ("descr", "shape"),
    [
        ("<f4", (2**40,)),
        ("<f4", (2,)),
        ("<f4", ()),
        ("<f4", (-1, -1)),
        ("<f4", (-1,)),
        ("|S1099511627776", (1,)),
        ("<f4", (10**30,)),
        ("<f4", (2**32, 2**32)),
    ],
)
def test_an_array_of_another_size_than_its_bytes_is_refused(descr, shape):
    data = zipped([("a.npy", npy(descr, shape, bytes(12)))])
    with pytest.raises((ms.ModelLoadError, ValueError, TypeError, OverflowError)) as caught:
        npz.load(data, NOTHING)
    if isinstance(caught.value, ms.ModelLoadError):
        assert "'a.npy' is not of the size it tells" in str(caught.value)


def test_axes_below_zero_are_refused_though_their_product_fits():
    data = zipped([("a.npy", npy("<f4", (-3, -1), bytes(12)))])
    with pytest.raises(ms.ModelLoadError, match=r"'a\.npy' is not of the size it tells"):
        npz.load(data, NOTHING)


@pytest.mark.parametrize(
    "entry", [b"", b"no array", b"\x93NUMPY\x03\x00\x02\x00{}", b"\x93NUMPY\x01\x00\xff\xff{"]
)
def test_what_is_no_array_is_refused(entry):
    with pytest.raises((ValueError, KeyError)):
        npz.load(zipped([("a.npy", entry)]), NOTHING)


def test_a_loader_calls_arrays_by_a_function(tmp_path):
    path = tmp_path / "linear.npz"
    path.write_bytes(save(weights=np.array([[2.0], [3.0]]), bias=np.array([1.0])))
    loader = ms.ModelLoader(path, predict=lambda m, x: x @ m["weights"] + m["bias"])

    assert loader(np.array([[1.0, 1.0]])).tolist() == [[6.0]]
    with pytest.raises(ms.ModelLoadError, match="a dict can neither predict nor be called"):
        ms.ModelLoader(path)([[1.0, 1.0]])
