"""Keys of inputs: equal inputs get equal keys, and different inputs never do.

The encoding is injective by construction: every value is a tag, and every part of variable length
comes after its length. Short encodings are the key. Long ones give a digest of 256 bits: BLAKE3
where it is installed (the extra ``fast``), else SHA-256.

>>> key([1, 2]) == key([1, 2]), key([1, 2]) == key([1.0, 2.0]), key("ab") == key(b"ab")
(True, False, False)
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import struct
import sys
from collections.abc import Callable, Hashable, Mapping
from operator import countOf, itemgetter
from typing import Any, NamedTuple

import numpy as np

from modelserve._policy.classes import VALUES, encoder_of, encoders_by
from modelserve._policy.encoding import Encoder, Encoders, NoKey, length, part, sized

INLINE = 2048
"""Bytes up to which an encoding is the key itself."""

_FLOAT = struct.Struct("<d")
_COMPLEX = struct.Struct("<dd")
_headers: dict[tuple[np.dtype[Any], tuple[int, ...]], bytes] = {}
_forms: dict[tuple[str, ...], Form] = {}
_REMEMBERED = 1024
"""Headers and forms at most that are not made anew: strangers may choose what they send."""


class Table(dict[type, Encoder]):
    """Encoders by type, and how to find more. Those of classes are not kept: classes may go."""

    def __missing__(self, kind: type[Any]) -> Encoder:
        if np.generic in kind.__mro__:
            return _scalar
        torch: Any = sys.modules.get("torch")
        if torch is not None and torch.Tensor in kind.__mro__:
            return _tensor
        found = encoder_of(kind, ENCODERS)
        if found is None:
            raise NoKey(f"a {kind.__name__}")
        return found


def by(
    give: Callable[[Any], Any] | None, own: Mapping[type, Callable[[Any], Any]] | None
) -> Callable[[Any], Hashable]:
    """Compose how an input becomes a key: through a user's function, with encoders of theirs.

    Without either it is :func:`key` itself, the shortest way.
    """
    if own:
        known = Table(ENCODERS | encoders_by(own, ENCODERS))
        return lambda x: key(x if give is None else give(x), known)
    return key if give is None else lambda x: key(give(x))


def key(x: Any, encoders: Encoders | None = None) -> Hashable:
    """Return the key of an input. Raises TypeError for types that it cannot encode."""
    if type(x) is np.ndarray:
        try:  # only headers of what is small are there
            return _headers[x.dtype, x.shape] + x.tobytes()
        except KeyError:
            return _array_key(x)
    out: list[bytes] = []
    encoders = ENCODERS if encoders is None else encoders
    try:
        encoders[type(x)](x, out, encoders)
    except NoKey as error:
        raise TypeError(error.message()) from None
    if len(out) == 2 and len(out[1]) > INLINE:  # noqa: PLR2004 - of a tensor, which needs no copy
        return _digest(out[0], out[1])
    whole = b"".join(out)
    return whole if len(whole) <= INLINE else _digest(whole)


def encode(x: object, out: list[bytes]) -> None:
    """Append the encoding of a value."""
    ENCODERS[type(x)](x, out, ENCODERS)


def _array_key(x: np.ndarray[Any, Any]) -> bytes:
    try:
        header = _header(x)
    except NoKey as error:
        raise TypeError(error.message()) from None
    return header + x.tobytes() if x.nbytes <= INLINE else _digest(header, _raw(x))


def _digest(*parts: bytes) -> bytes:
    tag, new = _hash()
    digest = new()
    for raw in parts:
        digest.update(raw)
    return tag + bytes(digest.digest())


@functools.cache
def _hash() -> tuple[bytes, Callable[[], Any]]:
    """Choose how to digest, at first need."""
    try:
        blake3: Any = importlib.import_module("blake3")
    except ImportError:
        return b"#", hashlib.sha256
    return b"%", blake3.blake3


def _header(x: np.ndarray[Any, Any]) -> bytes:
    """Tag, dtype and shape; what an array of one dtype and shape begins with."""
    if x.dtype.hasobject:
        raise NoKey("an array of objects")
    kind = x.dtype.str if x.dtype.names is None else repr(x.dtype)
    descr = f"{kind} {x.dtype.name}".encode()  # the name tells bfloat16 from two plain bytes
    shape = b"".join(map(length, x.shape))
    header = b"a%b%b%b" % (sized(descr), length(x.ndim), shape)
    if x.nbytes <= INLINE and len(_headers) < _REMEMBERED:
        _headers[x.dtype, x.shape] = header
    return header


def _raw(x: np.ndarray[Any, Any]) -> bytes:
    """Show the bytes of an array in logical order, without a copy if they are many."""
    if x.nbytes <= INLINE or not x.ndim:
        return x.tobytes()
    shown: Any = np.ascontiguousarray(x).reshape(-1).view(np.uint8).data
    return shown  # type: ignore[no-any-return]


def _array(x: np.ndarray[Any, Any], out: list[bytes], encoders: Encoders) -> None:  # noqa: ARG001 - an encoder
    out += (_headers.get((x.dtype, x.shape)) or _header(x), _raw(x))


def _scalar(x: np.generic, out: list[bytes], encoders: Encoders) -> None:
    out.append(b"g")
    _array(np.asarray(x), out, encoders)


def _tensor(x: Any, out: list[bytes], encoders: Encoders) -> None:  # noqa: ARG001 - an encoder
    torch = sys.modules["torch"]
    if x.layout is not torch.strided or x.is_meta or x.is_quantized or x.is_nested:
        raise NoKey("a tensor that is sparse, quantized, nested or without data")
    try:
        raw = x.numpy(force=True)
    except TypeError:  # a dtype that NumPy does not know
        same_size = {1: torch.int8, 2: torch.int16, 4: torch.int32}[x.element_size()]
        raw = x.detach().view(same_size).numpy(force=True)
    kind = f"{x.dtype} {x.device}".encode()  # a model answers where its input lies
    shape = b"".join(map(length, x.shape))
    out += (b"t%b%b%b" % (sized(kind), length(x.dim()), shape), _raw(raw))


def _text(x: str, out: list[bytes], encoders: Encoders) -> None:  # noqa: ARG001 - an encoder
    out += (b"s", sized(x.encode("utf-8", "surrogatepass")))


def _bytes(x: bytes, out: list[bytes], encoders: Encoders) -> None:  # noqa: ARG001 - an encoder
    out += (b"b", length(len(x)), x)


def _int(x: int, out: list[bytes], encoders: Encoders) -> None:  # noqa: ARG001 - an encoder
    out += (b"i", sized(b"%x" % x))


def _float(x: float, out: list[bytes], encoders: Encoders) -> None:  # noqa: ARG001 - an encoder
    out += (b"f", _FLOAT.pack(x))


def _complex(x: complex, out: list[bytes], encoders: Encoders) -> None:  # noqa: ARG001 - an encoder
    out += (b"c", _COMPLEX.pack(x.real, x.imag))


def _bool(x: bool, out: list[bytes], encoders: Encoders) -> None:  # noqa: ARG001, FBT001 - as above
    out.append(b"T" if x else b"F")


def _none(x: None, out: list[bytes], encoders: Encoders) -> None:  # noqa: ARG001 - an encoder
    out.append(b"N")


def _sequence(tag: bytes, of_floats: bytes) -> Encoder:
    """Numbers of one kind lie together: it is the commonest input, and no other encoding's tag."""

    def encoder(x: Any, out: list[bytes], encoders: Encoders) -> None:
        count = len(x)
        if count and countOf(map(type, x), float) == count:
            out += (of_floats, length(count), struct.pack(f"<{count}d", *x))
            return
        out += (tag, length(count))
        for index, value in enumerate(x):
            try:
                encoders[type(value)](value, out, encoders)
            except NoKey as error:
                error.place = f"[{index}]{error.place}"
                raise

    return encoder


class Form(NamedTuple):
    """What dicts of the same names share: the names, encoded, and how to read them in order."""

    names: bytes
    values: Callable[[dict[str, Any]], tuple[Any, ...]]
    pack: Callable[..., bytes]


def _form(names: tuple[str, ...]) -> Form:
    order = sorted(names)
    raw = length(len(order)) + b"".join(sized(n.encode("utf-8", "surrogatepass")) for n in order)
    values: Callable[[dict[str, Any]], tuple[Any, ...]] = itemgetter(*order)
    if len(order) == 1:  # of one name an itemgetter gives the value itself
        values = lambda x: (x[order[0]],)  # noqa: E731 - what stands for an itemgetter
    form = Form(raw, values, struct.Struct(f"<{len(order)}d").pack)
    if len(raw) <= INLINE and len(_forms) < _REMEMBERED:
        _forms[names] = form
    return form


def _dict(x: dict[Any, Any], out: list[bytes], encoders: Encoders) -> None:
    """Order does not count: values follow the order of their names."""
    count = len(x)
    if not count or countOf(map(type, x), str) != count:
        _dict_of_any(x, out, encoders)
        return
    names = tuple(x)
    form = _forms.get(names) or _form(names)
    if countOf(map(type, x.values()), float) == count:
        out += (b"k", form.names, form.pack(*form.values(x)))
        return
    out += (b"j", form.names)
    for index, value in enumerate(form.values(x)):
        try:
            encoders[type(value)](value, out, encoders)
        except NoKey as error:
            error.place = f"[{sorted(names)[index]!r}]{error.place}"
            raise


def _dict_of_any(x: dict[Any, Any], out: list[bytes], encoders: Encoders) -> None:
    pairs: list[tuple[bytes, Any, Any]] = []
    for name, value in x.items():
        encoded: list[bytes] = []
        try:
            encoders[type(name)](name, encoded, encoders)
        except NoKey as error:
            error.of, error.place = "a key of ", ""
            raise
        pairs.append((b"".join(encoded), name, value))
    pairs.sort(key=lambda pair: pair[0])
    out += (b"d", length(len(pairs)))
    for raw, name, value in pairs:
        out.append(raw)
        part(value, out, encoders, f"[{name!r}]")


ENCODERS = Table(
    {
        **VALUES,
        np.ndarray: _array,
        str: _text,
        bytes: _bytes,
        int: _int,
        float: _float,
        complex: _complex,
        bool: _bool,
        type(None): _none,
        list: _sequence(b"l", b"L"),
        tuple: _sequence(b"u", b"V"),
        dict: _dict,
    }
)
