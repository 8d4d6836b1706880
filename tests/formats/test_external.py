"""The files that an ONNX model names, as seen in its bytes."""

import re

import pytest

import modelserve as ms
from modelserve.formats import _external
from tests.formats import models
from tests.formats.hostile import flipped, truncated

onnx = models.onnx


def test_every_number_is_that_of_a_field_of_onnx():
    for message, fields in _external.PARTS.items():
        known = getattr(onnx, message).DESCRIPTOR.fields_by_number
        assert {number: known[number].message_type.name for number in fields} == fields


def test_no_field_that_leads_to_a_tensor_is_left_out():
    def leads(descriptor, seen=frozenset()):
        if descriptor.name in seen:
            return False
        inner = [f.message_type for f in descriptor.fields if f.message_type]
        return descriptor.name == "TensorProto" or any(
            leads(d, seen | {descriptor.name}) for d in inner
        )

    for message, fields in _external.PARTS.items():
        if message != "TensorProto":
            descriptor = getattr(onnx, message).DESCRIPTOR
            inner = {f.number: f.message_type for f in descriptor.fields if f.message_type}
            assert {n for n, d in inner.items() if leads(d)} <= set(fields)


@pytest.mark.parametrize("where", ["initializer", "constant"])
def test_the_file_of_a_tensor_is_found(where):
    assert _external.locations(models.outside("a/w.bin", where=where)[0]) == ["a/w.bin"]


def everywhere():
    """Return a model with a file's name in every place that has tensors, and those names."""
    made = onnx.ModelProto()
    names = iter(f"file {number:02}" for number in range(100))
    used = []

    def put(tensor):
        used.append(next(names))
        models.move_out(tensor, used[-1])

    def fill(graph, depth):
        put(graph.initializer.add())
        sparse = graph.sparse_initializer.add()
        put(sparse.values)
        put(sparse.indices)
        attribute = graph.node.add().attribute.add()
        put(attribute.t)
        put(attribute.tensors.add())
        put(attribute.sparse_tensor.values)
        put(attribute.sparse_tensors.add().indices)
        if depth:
            fill(attribute.g, depth - 1)
            fill(attribute.graphs.add(), depth - 1)

    fill(made.graph, 2)
    fill(made.training_info.add().initialization, 0)
    fill(made.training_info.add().algorithm, 0)
    function = made.functions.add()
    put(function.node.add().attribute.add().t)
    put(function.attribute_proto.add().t)
    return made.SerializeToString(), used


def test_files_are_found_wherever_tensors_are():
    data, names = everywhere()

    assert len(names) > 60
    assert _external.locations(data) == names


def test_a_model_that_only_speaks_of_a_location_names_no_file():
    made = onnx.load_from_string(models.times(3.0))
    made.graph.initializer[0].name = made.graph.node[0].input[1] = "location"

    assert _external.locations(made.SerializeToString()) == []


def test_other_kinds_of_fields_are_passed_over():
    entry = b"\x0a\x08location\x12\x01w"
    tensor = b"\x6a" + bytes([len(entry)]) + entry
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    other = b"\x09" + b"8" * 8 + b"\x0d" + b"4" * 4 + b"\x08\xff\x01"

    assert _external.locations(other + b"\x3a" + bytes([len(graph)]) + graph) == ["w"]


def test_a_number_too_large_for_a_field_is_read_as_parsers_read_it():
    entry = b"\x0a\x08location\x12\x01w"
    tensor = b"\x6a" + bytes([len(entry)]) + entry
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    tag = b"\xba\x80\x80\x80\x10"  # field 7, and a bit beyond the 32 that count

    assert _external.locations(tag + bytes([len(graph)]) + graph) == ["w"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a\x7flocation",
        b"\x3b location",
        b"location\xff\xff",
        b"\xff" * 11 + b"location",
        b"\x3a\x0e\x2a\x0c\x6a\x0a\x0a\x08location",
        b"\x3a\x11\x2a\x0f\x6a\x0d\x0a\x08location\x12\x01\xff",
    ],
    ids=["too long", "a group", "an open number", "a large number", "no value", "no text"],
)
def test_what_is_no_message_is_refused(data):
    message = "copy or export it again, as ONNX Runtime cannot read it (it is no protobuf message)"
    with pytest.raises(ms.ModelLoadError, match=re.escape(message)):
        _external.locations(data)


def test_broken_bytes_are_refused_or_read_and_nothing_else():
    data, names = everywhere()
    refused = 0
    for broken in truncated(data, 60) + flipped(data, 200):
        try:
            assert len(_external.locations(broken)) <= len(names)
        except ms.ModelLoadError:
            refused += 1
    assert refused > 50
