"""How it is known that memory was short, whoever says so."""

import numpy as np
import pytest

from modelserve.errors import is_out_of_memory


def of_torch():
    pytest.importorskip("torch").empty(10**15)


def of_torch_on_a_gpu():
    error = pytest.importorskip("torch").OutOfMemoryError
    raise error("CUDA out of memory. Tried to allocate 2 GiB")


def of_onnx_runtime():
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    node = onnx.helper.make_node("ConstantOfShape", ["shape"], ["y"])
    shape = onnx.helper.make_tensor_value_info("shape", onnx.TensorProto.INT64, [1])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None])
    graph = onnx.helper.make_graph([node], "huge", [shape], [y])
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    session.run(None, {"shape": np.array([10**14])}, onnxruntime.RunOptions())


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: np.empty(10**15),
        of_torch,
        of_torch_on_a_gpu,
        lambda: raises(RuntimeError("CUDA error: out of memory")),
        of_onnx_runtime,
    ],
    ids=["numpy", "torch", "torch on a GPU", "CUDA", "ONNX Runtime"],
)
def test_it_is_known_how_libraries_say_that_memory_is_short(allocate):
    with pytest.raises(Exception, match=r"emory|allocate") as caught:
        allocate()

    assert is_out_of_memory(caught.value)


def raises(error):
    raise error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory"),
        RuntimeError("out of range"),
        OSError(28, "No space left on device"),
    ],
    ids=repr,
)
def test_what_only_sounds_like_it_is_not_short_memory(error):
    assert not is_out_of_memory(error)
