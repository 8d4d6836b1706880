"""Small ONNX models, made as they are needed."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

OPSET = 17
IR_VERSION = 9


def value(name, kind="FLOAT", shape=("n", 2)):
    return onnx.helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape)


def make_node(kind, inputs, outputs, attributes=None):
    return onnx.helper.make_node(kind, inputs, outputs, **(attributes or {}))


def model(nodes, inputs, outputs, constants=()):
    """Return the bytes of a model of nodes: ``(operator, inputs, outputs[, attributes])``."""
    graph = onnx.helper.make_graph(
        [make_node(*node) for node in nodes],
        "graph",
        inputs,
        outputs,
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants],
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    made = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def times(factor, kind="FLOAT", dtype=np.float32):
    """Return the bytes of a model that multiplies its one input."""
    return model(
        [("Mul", ["x", "factor"], ["y"])],
        [value("x", kind)],
        [value("y", kind)],
        [("factor", dtype(factor))],
    )


def passes(kind):
    """Return the bytes of a model that gives what it takes."""
    return model([("Identity", ["x"], ["y"])], [value("x", kind)], [value("y", kind)])


def two_ways():
    """Return the bytes of a model of two inputs and two outputs."""
    return model(
        [("Add", ["a", "b"], ["sum"]), ("Sub", ["a", "b"], ["difference"])],
        [value("a"), value("b")],
        [value("sum"), value("difference")],
    )


def joined():
    """Return the bytes of a model that joins a list of arrays."""
    array = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, ["n", 2])
    arrays = onnx.helper.make_sequence_type_proto(array)
    return model(
        [("ConcatFromSequence", ["xs"], ["y"], {"axis": 0})],
        [onnx.helper.make_value_info("xs", arrays)],
        [value("y")],
    )


def outside(location="weights.bin", *, where="initializer", factor=3.0, tensor=None):
    """Return the bytes of a model whose one tensor lies in a file, and what that file holds."""
    weights = np.full((1, 2), factor, np.float32)
    constant = onnx.numpy_helper.from_array(weights, "factor")
    if where == "initializer":
        made = onnx.load_from_string(
            model(
                [("Mul", ["x", "factor"], ["y"])], [value("x")], [value("y")], [("factor", weights)]
            )
        )
        inside = made.graph.initializer[0]
    else:
        nodes = [("Constant", [], ["factor"], {"value": constant}), ("Mul", ["x", "factor"], ["y"])]
        made = onnx.load_from_string(model(nodes, [value("x")], [value("y")]))
        inside = made.graph.node[0].attribute[0].t
    move_out(inside, location, **(tensor or {}))
    return made.SerializeToString(), weights.tobytes()


def move_out(tensor, location, *, offset=0, length=8, dims=None):
    """Have a tensor say that its values lie in a file."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.dims[:] = dims or tensor.dims
    for key, word in {"location": location, "offset": offset, "length": length}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(word)
