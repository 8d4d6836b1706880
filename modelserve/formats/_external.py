"""Which files beside it an ONNX model names, seen in its bytes before any parser is.

An ONNX file is a protobuf message; a tensor whose values lie elsewhere says so in entries of a key
and a value, such as "location" and the name of a file (https://onnx.ai/onnx/repo-docs/ExternalData).
"""

from __future__ import annotations

from modelserve.errors import ModelLoadError
from modelserve.formats._known import cannot

PARTS = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
"""The fields of each message that lead to a tensor's values, by number."""
KEY, VALUE = 1, 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MORE = 0x80


def locations(data: bytes) -> list[str]:
    """Return the names of the files that hold a model's values, sorted. Raises ModelLoadError."""
    if b"location" not in data:
        return []
    found: set[str] = set()
    try:
        todo = [("ModelProto", 0, len(data))]
        while todo:
            kind, start, end = todo.pop()
            if kind in PARTS:
                inner = PARTS[kind]
                fields = _fields(data, start, end)
                todo += [(inner[number], s, e) for number, s, e in fields if number in inner]
            else:
                entry = {number: data[s:e] for number, s, e in _fields(data, start, end)}
                if entry.get(KEY) == b"location":
                    found.add(entry[VALUE].decode())
    except (IndexError, KeyError, ValueError):
        raise ModelLoadError(cannot("ONNX Runtime", "it is no protobuf message")) from None
    return sorted(found)


def _fields(data: bytes, at: int, end: int) -> list[tuple[int, int, int]]:
    """Return number, start and end of the fields of a message that are messages or texts."""
    fields: list[tuple[int, int, int]] = []
    while at < end:
        tag, at = _varint(data, at)
        wire, number = tag & 7, (tag & 0xFFFFFFFF) >> 3  # parsers read no more of it
        if wire == VARINT:
            _, at = _varint(data, at)
        elif wire == BYTES:
            length, at = _varint(data, at)
            fields.append((number, at, at + length))
            at += length
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise ValueError(wire)
    if at > end:
        raise ValueError(at)
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that stands at a place in groups of seven bits, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & ~MORE) << shift
        if byte < MORE:
            return number & (2**64 - 1), at
    raise ValueError(number)
