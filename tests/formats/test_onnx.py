"""ONNX models: made here, run by ONNX Runtime."""

import re

import numpy as np
import pytest

import modelserve as ms
from tests.formats import models

onnx = pytest.importorskip("modelserve.formats.onnx")


def call(data):
    return onnx.caller(onnx.load(data))


def array(*rows, dtype=np.float32):
    return np.array(rows, dtype)


def test_a_model_of_one_input_and_output_takes_and_gives_an_array():
    y = call(models.times(3.0))(array([1, 2], [3, 4]))

    np.testing.assert_array_equal(y, array([3, 6], [9, 12]))
    assert y.dtype == np.float32


def test_a_model_of_one_input_takes_it_by_name_too():
    y = call(models.times(3.0))({"x": array([1, 2])})

    np.testing.assert_array_equal(y, array([3, 6]))


def test_several_inputs_and_outputs_travel_by_name():
    y = call(models.two_ways())({"b": array([1, 1]), "a": array([3, 4])})

    assert list(y) == ["sum", "difference"]
    np.testing.assert_array_equal(y["sum"], array([4, 5]))
    np.testing.assert_array_equal(y["difference"], array([2, 3]))


def test_one_array_for_several_inputs_is_refused_by_their_names():
    message = "the model has the inputs ['a', 'b']: pass a dict of arrays"
    with pytest.raises(ms.BadInput, match=re.escape(message)):
        call(models.two_ways())(array([1, 2]))


@pytest.mark.parametrize("names", [["a"], ["a", "c"], ["a", "b", "c"], []])
def test_other_names_are_refused(names):
    message = f"the model has the inputs ['a', 'b'], and not {names}"
    with pytest.raises(ms.BadInput, match=re.escape(message)):
        call(models.two_ways())(dict.fromkeys(names, array([1, 2])))


@pytest.mark.parametrize(
    ("kind", "dtype", "given"),
    [
        ("FLOAT", np.float32, np.float64),
        ("FLOAT", np.float32, np.float16),
        ("FLOAT", np.float32, ">f4"),
        ("FLOAT", np.float32, np.int64),
        ("DOUBLE", np.float64, np.float32),
        ("FLOAT16", np.float16, np.float64),
        ("INT64", np.int64, np.int32),
        ("INT32", np.int32, np.int64),
        ("INT16", np.int16, np.int64),
        ("INT8", np.int8, np.int64),
        ("UINT64", np.uint64, np.uint8),
        ("UINT32", np.uint32, np.uint64),
        ("UINT16", np.uint16, np.uint64),
        ("UINT8", np.uint8, np.bool_),
        ("BOOL", np.bool_, np.bool_),
    ],
)
def test_arrays_of_the_same_kind_are_cast(kind, dtype, given):
    y = call(models.passes(kind))(array([0, 1], dtype=given))

    assert y.dtype == dtype
    np.testing.assert_array_equal(y, array([0, 1]))


@pytest.mark.parametrize("rows", [[[1, 2, 3]], [1, 2], [[[1, 2]]]], ids=str)
def test_an_array_of_another_shape_is_refused_with_the_axes_that_are_taken(rows):
    message = "the model takes 'x' tensor(float)[n, 2]: [ONNXRuntimeError] : 2 : INVALID_ARGUMENT"
    with pytest.raises(ms.BadInput, match=f"^{re.escape(message)}") as caught:
        call(models.times(3.0))(np.array(rows, np.float32))
    assert type(caught.value.__cause__).__name__ == "InvalidArgument"


def test_an_axis_of_no_name_is_shown_as_such():
    data = models.model(
        [("Identity", ["x"], ["y"])],
        [models.value("x", shape=(None, 2))],
        [models.value("y", shape=(None, 2))],
    )
    with pytest.raises(ms.BadInput, match=r"^the model takes 'x' tensor\(float\)\[\?, 2\]: "):
        call(data)(array([1, 2, 3]))


def test_lists_of_numbers_are_taken_as_arrays():
    y = call(models.times(3.0))([[1.0, 2.0], [3.0, 4.0]])

    np.testing.assert_array_equal(y, array([3, 6], [9, 12]))


def test_an_array_as_it_should_be_is_not_copied():
    x = array([1, 2])

    assert onnx._cast("x", x, np.float32) is x


@pytest.mark.parametrize(
    ("kind", "wanted", "given"),
    [
        ("INT64", "int64", "float64"),
        ("INT64", "int64", "float32"),
        ("UINT8", "uint8", "int64"),
        ("BOOL", "bool", "int64"),
        ("FLOAT", "float32", "complex64"),
        ("FLOAT", "float32", "object"),
    ],
)
def test_arrays_of_another_kind_are_refused_with_the_fix(kind, wanted, given):
    message = f"the input 'x' wants {wanted}, and {given} does not turn into it without loss of "
    with pytest.raises(ms.BadInput, match=message + "kind: cast it first"):
        call(models.passes(kind))(array([1, 2], dtype=given))


@pytest.mark.parametrize("dtype", [object, "U3"])
def test_strings_are_taken_as_either_kind_of_array(dtype):
    y = call(models.passes("STRING"))(np.array([["a", "bcd"]], dtype))

    assert y.tolist() == [["a", "bcd"]]


def test_what_numpy_has_no_like_of_passes_as_it_is():
    y = call(models.joined())([array([1, 2]), array([3, 4], [5, 6])])

    np.testing.assert_array_equal(y, array([1, 2], [3, 4], [5, 6]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "No graph was found"),
        (b"no model at all", "protobuf parsing failed"),
        (models.times(3.0)[:-20], "protobuf parsing failed"),
        (b"\x18\x00\x00\x00ORTM" + bytes(200), "protobuf parsing failed"),
    ],
    ids=["empty", "other", "truncated", "ONNX Runtime's own format"],
)
def test_what_is_no_model_is_refused_with_a_remedy(data, reason):
    with pytest.raises(ms.ModelLoadError, match=f"copy or export it again, as .*{reason}"):
        onnx.load(data)


def test_a_file_that_fails_is_tried_once(capfd):
    with pytest.raises(ms.ModelLoadError, match="ONNX Runtime cannot read it"):
        onnx.load(models.times(3.0).replace(b"Mul", b"M\xe1l"))
    assert "Falling back" not in capfd.readouterr().out


def test_sessions_are_known_and_nothing_else_is():
    assert onnx.knows(onnx.load(models.times(3.0)))
    assert not onnx.knows(models.times(3.0))
    assert not onnx.knows(str.upper)


def test_sessions_are_loaded_anew_after_a_fork():
    assert onnx.after_fork(onnx.load(models.times(3.0))) == "reload"
