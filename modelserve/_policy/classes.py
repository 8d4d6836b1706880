"""Keys of objects: dataclasses, pydantic models, named tuples, members of an Enum, and times.

A type is part of the key of what it makes, so that equal fields of two types are told apart.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum, Flag
from functools import cached_property
from typing import Any

from modelserve._policy.encoding import (
    Encoder,
    Encoders,
    NoKey,
    attributes,
    length,
    name_of,
    part,
    sized,
    type_of,
)

_OWN = frozenset({"__dict__", "__weakref__"})


def encoder_of(kind: type[Any], plain: Encoders) -> Encoder | None:
    """Find how to encode objects of a type, if all they are made of can be seen.

    A type that is made of a ``plain`` one has content that no field shows.
    """
    if issubclass(kind, Enum):
        return _member
    if tuple in kind.__mro__:
        return _named if hasattr(kind, "_fields") and not kind.__dictoffset__ else None
    found = _imported(kind)
    if found is not None or any(base in plain or _imported(base) for base in kind.__mro__):
        return found
    if dataclasses.is_dataclass(kind):
        return _dataclass
    pydantic: Any = sys.modules.get("pydantic")
    return _pydantic if pydantic is not None and issubclass(kind, pydantic.BaseModel) else None


def encoders_by(own: Mapping[Any, Callable[[Any], Any]], known: Encoders) -> dict[type, Encoder]:
    """Make encoders of a user's functions from objects to what has a key."""
    for kind, give in own.items():
        if not isinstance(kind, type) or not callable(give):
            raise TypeError(f"encoders={{{kind!r}: {give!r}}}: pass functions by type")
        if kind in known or _imported(kind) is not None:
            raise ValueError(f"encoders= of {kind.__name__}, which has a key: pass key= instead")
    return {kind: _by(give) for kind, give in own.items()}


def _by(give: Callable[[Any], Any]) -> Encoder:
    def encoder(x: object, out: list[bytes], encoders: Encoders) -> None:
        out += (b"o", name_of(type(x)))
        part(give(x), out, encoders, "")

    return encoder


def _member(x: Any, out: list[bytes], encoders: Encoders) -> None:
    """Members of a flag may have no name of their own."""
    kind = type_of(x)
    out += (b"e", name_of(kind))
    part(x.value if isinstance(x, Flag) else x.name, out, encoders, ".value")


def _named(x: Any, out: list[bytes], encoders: Encoders) -> None:
    kind = type_of(x)
    out += (b"n", name_of(kind), length(len(x)))
    for name, value in zip(x._fields, x, strict=True):
        part(value, out, encoders, f".{name}")


def _dataclass(x: Any, out: list[bytes], encoders: Encoders) -> None:
    kind = type_of(x)
    fields = [field.name for field in dataclasses.fields(x)]
    slots = {slot for base in kind.__mro__ for slot in _slots(base)}
    if not slots <= {*fields, *_OWN}:
        raise NoKey(f"a {kind.__name__} with slots that are no fields")
    out += (b"D", name_of(kind))
    attributes(_held(x, fields), out, encoders)


def _slots(kind: type) -> tuple[str, ...]:
    slots: str | Iterable[str] = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _held(x: Any, fields: list[str]) -> Iterator[tuple[str, object]]:
    """Show the fields that are set, and what else was: ``__post_init__`` may keep an InitVar."""
    for name in fields:
        if hasattr(x, name):
            yield name, getattr(x, name)
    kind = type_of(x)
    for name in sorted(getattr(x, "__dict__", {}).keys() - fields):
        if not isinstance(getattr(kind, name, None), cached_property):
            yield name, getattr(x, name)


def _pydantic(x: Any, out: list[bytes], encoders: Encoders) -> None:
    kind: Any = type_of(x)
    held: dict[str, Any] = x.__dict__
    names: list[str] = [name for name in kind.model_fields if name in held]
    out += (b"P", name_of(kind))
    attributes([(name, held[name]) for name in names], out, encoders)
    more: dict[str, Any] | None
    for more in (x.__pydantic_extra__, x.__pydantic_private__):
        attributes(sorted((more or {}).items()), out, encoders)


def _date(x: dt.date, out: list[bytes], encoders: Encoders) -> None:  # noqa: ARG001 - an encoder
    out += (b"y", length(x.toordinal()))


def _clock(x: dt.time | dt.datetime, out: list[bytes], encoders: Encoders) -> None:
    day = x.toordinal() if isinstance(x, dt.datetime) else 0
    micros = ((x.hour * 60 + x.minute) * 60 + x.second) * 1_000_000 + x.microsecond
    out += (b"z" if day else b"h", length(day), length(micros), length(x.fold))
    part(x.tzinfo, out, encoders, ".tzinfo")


def _delta(x: dt.timedelta, out: list[bytes], encoders: Encoders) -> None:
    out.append(b"q")
    micros = (x.days * 86_400 + x.seconds) * 1_000_000 + x.microseconds
    part(micros, out, encoders, "")


def _offset(x: dt.timezone, out: list[bytes], encoders: Encoders) -> None:
    out.append(b"O")
    part(x.utcoffset(None), out, encoders, "")
    part(x.tzname(None), out, encoders, "")


def _zone(x: Any, out: list[bytes], encoders: Encoders) -> None:  # noqa: ARG001 - an encoder
    if x.key is None:
        raise NoKey("a ZoneInfo without a name")
    out += (b"Z", sized(x.key.encode()))


def _fraction(x: Any, out: list[bytes], encoders: Encoders) -> None:
    out.append(b"r")
    part(x.numerator, out, encoders, "")
    part(x.denominator, out, encoders, "")


def _as_text(tag: bytes) -> Encoder:
    def encoder(x: object, out: list[bytes], encoders: Encoders) -> None:  # noqa: ARG001 - as such
        out += (tag, sized(str(x).encode()))

    return encoder


VALUES: Encoders = {
    dt.date: _date,
    dt.datetime: _clock,
    dt.time: _clock,
    dt.timedelta: _delta,
    dt.timezone: _offset,
}
_LATER: Mapping[str, tuple[str, Encoder]] = {
    "ZoneInfo": ("zoneinfo", _zone),
    "Decimal": ("decimal", _as_text(b"m")),
    "UUID": ("uuid", _as_text(b"U")),
    "Fraction": ("fractions", _fraction),
}
"""Encoders of what takes milliseconds to import: who has such a value has imported it."""


def _imported(kind: type[Any]) -> Encoder | None:
    module, encoder = _LATER.get(kind.__name__, ("", None))
    return encoder if getattr(sys.modules.get(module), kind.__name__, None) is kind else None
