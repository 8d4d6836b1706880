"""What encoders of keys have in common: lengths, names of types and refusals."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal
from weakref import WeakKeyDictionary

Encoder = Callable[[Any, list[bytes], "Encoders"], None]
"""Appends the encoding of a value to a list; the encoders are those of its parts, by type."""
Encoders = Mapping[type, Encoder]

length = struct.Struct("<Q").pack

_names: WeakKeyDictionary[type, bytes] = WeakKeyDictionary()
_serials: dict[str, itertools.count[int]] = {}


class NoKey(TypeError):
    """A part of an input has no key; what holds it adds the place on the way out."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.place = ""
        self.of: Literal["", "a key of "] = ""

    def message(self) -> str:
        """Say what is refused, where, and what to do."""
        return (
            f"{self.of}input{self.place} is {self.what}, which has no key: pass key=, a function "
            "from an input to something made of arrays, text, numbers, lists and dicts, or "
            "encoders=, such functions by type"
        )


def sized(raw: bytes) -> bytes:
    """Put its length before it."""
    return length(len(raw)) + raw


def type_of(x: object) -> type[Any]:
    """Say what it is; ``__class__`` may say something else."""
    return type(x)


def name_of(kind: type) -> bytes:
    """Name a type; two that live at the same time never share a name, called alike or not."""
    name = _names.get(kind)
    if name is None:
        called = f"{kind.__module__}.{kind.__qualname__}"
        serial = next(_serials.setdefault(called, itertools.count()))
        name = _names.setdefault(kind, sized(called.encode("utf-8", "replace")) + length(serial))
    return name


def part(value: object, out: list[bytes], encoders: Encoders, place: str) -> None:
    """Append the encoding of a part that has a name."""
    try:
        encoders[type(value)](value, out, encoders)
    except NoKey as error:
        error.place = place + error.place
        raise


def attributes(pairs: Iterable[tuple[str, object]], out: list[bytes], encoders: Encoders) -> None:
    """Append names and values, as many as there are."""
    pairs = list(pairs)
    out.append(length(len(pairs)))
    for name, value in pairs:
        out.append(sized(name.encode("utf-8", "surrogatepass")))
        part(value, out, encoders, f".{name}")
