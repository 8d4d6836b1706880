"""Keys of inputs: equal inputs get equal keys, and different inputs never do.

The encoding is injective by construction: every value is a tag, and every part of variable length
comes after its length. Short encodings are the key, long ones give a SHA-256 digest.

>>> key([1, 2]) == key([1, 2]), key([1, 2]) == key([1.0, 2.0]), key("ab") == key(b"ab")
(True, False, False)
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

_WHOLE = "input"
INLINE = 2048
"""Bytes up to which an encoding is the key itself."""

_LENGTH = struct.Struct("<Q")
_FLOAT = struct.Struct("<d")
_COMPLEX = struct.Struct("<dd")
_headers: dict[tuple[np.dtype[Any], tuple[int, ...]], bytes] = {}
_MAX_HEADERS = 1024


def key(x: Any) -> Hashable:
    """Return the key of an input. Raises TypeError for types that it cannot encode."""
    if type(x) is np.ndarray:
        header = _headers.get((x.dtype, x.shape)) or _header(x, _WHOLE)
        if x.nbytes <= INLINE:
            return header + x.tobytes()
        digest = hashlib.sha256(header)
        digest.update(np.ascontiguousarray(x).view(np.uint8).data if x.ndim else x.tobytes())
        return b"#" + digest.digest()
    parts: list[bytes] = []
    encode(x, parts, _WHOLE)
    whole = b"".join(parts)
    return whole if len(whole) <= INLINE else b"#" + hashlib.sha256(whole).digest()


def encode(x: object, out: list[bytes], where: str) -> None:
    """Append the encoding of a value; ``where`` is its place, for the error message."""
    encoder = _ENCODERS.get(type(x))
    if encoder is not None:
        encoder(x, out, where)
    elif _is_tensor(x):
        _tensor(x, out, where)
    elif issubclass(type(x), np.generic):
        out.append(b"g")
        _array(np.asarray(x), out, where)
    else:
        raise _refused(where, f"a {type(x).__name__}")


def _refused(where: str, what: str) -> TypeError:
    return TypeError(
        f"{where} is {what}, which has no key: pass key=, a function from an input to something "
        "made of arrays, text, numbers, lists and dicts"
    )


def _header(x: np.ndarray[Any, Any], where: str) -> bytes:
    """Tag, dtype and shape; what an array of one dtype and shape begins with."""
    if x.dtype.hasobject:
        raise _refused(where, "an array of objects")
    kind = x.dtype.str if x.dtype.names is None else repr(x.dtype)
    descr = f"{kind} {x.dtype.name}".encode()  # the name tells bfloat16 from two plain bytes
    shape = b"".join(map(_LENGTH.pack, x.shape))
    header = b"a%b%b%b%b" % (_LENGTH.pack(len(descr)), descr, _LENGTH.pack(x.ndim), shape)
    if len(_headers) < _MAX_HEADERS:
        _headers[x.dtype, x.shape] = header
    return header


def _array(x: Any, out: list[bytes], where: str) -> None:
    out.append(_headers.get((x.dtype, x.shape)) or _header(x, where))
    out.append(x.tobytes())


def _is_tensor(x: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def _tensor(x: Any, out: list[bytes], where: str) -> None:
    torch = sys.modules["torch"]
    if x.layout is not torch.strided or x.is_meta or x.is_quantized or x.is_nested:
        raise _refused(where, "a tensor that is sparse, quantized, nested or without data")
    try:
        raw = x.numpy(force=True)
    except TypeError:  # a dtype that NumPy does not know
        same_size = {1: torch.int8, 2: torch.int16, 4: torch.int32}[x.element_size()]
        raw = x.detach().view(same_size).numpy(force=True)
    kind = f"{x.dtype} {x.device}".encode()  # a model answers where its input lies
    shape = b"".join(map(_LENGTH.pack, x.shape))
    out.append(b"t%b%b%b%b" % (_LENGTH.pack(len(kind)), kind, _LENGTH.pack(x.dim()), shape))
    out.append(raw.tobytes())


def _text(x: str, out: list[bytes], where: str) -> None:  # noqa: ARG001 - an encoder's arguments
    raw = x.encode("utf-8", "surrogatepass")
    out += (b"s", _LENGTH.pack(len(raw)), raw)


def _bytes(x: bytes, out: list[bytes], where: str) -> None:  # noqa: ARG001 - as above
    out += (b"b", _LENGTH.pack(len(x)), x)


def _int(x: int, out: list[bytes], where: str) -> None:  # noqa: ARG001 - as above
    raw = b"%x" % x
    out += (b"i", _LENGTH.pack(len(raw)), raw)


def _float(x: float, out: list[bytes], where: str) -> None:  # noqa: ARG001 - as above
    out += (b"f", _FLOAT.pack(x))


def _complex(x: complex, out: list[bytes], where: str) -> None:  # noqa: ARG001 - as above
    out += (b"c", _COMPLEX.pack(x.real, x.imag))


def _bool(x: bool, out: list[bytes], where: str) -> None:  # noqa: ARG001, FBT001 - as above
    out.append(b"T" if x else b"F")


def _none(x: None, out: list[bytes], where: str) -> None:  # noqa: ARG001 - as above
    out.append(b"N")


def _sequence(tag: bytes) -> Callable[[Any, list[bytes], str], None]:
    def encoder(x: Any, out: list[bytes], where: str) -> None:
        out += (tag, _LENGTH.pack(len(x)))
        for index, value in enumerate(x):
            encode(value, out, f"{where}[{index}]")

    return encoder


def _dict(x: dict[Any, Any], out: list[bytes], where: str) -> None:
    """Order does not count: pairs are sorted by the encoding of their keys."""
    pairs: list[tuple[bytes, Any, Any]] = []
    for name, value in x.items():
        encoded: list[bytes] = []
        encode(name, encoded, f"a key of {where}")
        pairs.append((b"".join(encoded), name, value))
    pairs.sort(key=lambda pair: pair[0])
    out += (b"d", _LENGTH.pack(len(pairs)))
    for raw, name, value in pairs:
        out.append(raw)
        encode(value, out, f"{where}[{name!r}]")


_ENCODERS: dict[type, Callable[[Any, list[bytes], str], None]] = {
    np.ndarray: _array,
    str: _text,
    bytes: _bytes,
    int: _int,
    float: _float,
    complex: _complex,
    bool: _bool,
    type(None): _none,
    list: _sequence(b"l"),
    tuple: _sequence(b"u"),
    dict: _dict,
}
