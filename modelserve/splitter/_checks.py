"""What is refused at construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelserve.splitter._policies import Learning
from modelserve.splitter._variant import Variant


def name_of(variant: object) -> str:
    if not isinstance(variant, Variant):
        raise TypeError(
            f"a {type(variant).__name__} is no Variant: pass them one by one, as in "
            "TrafficSplitter(Variant('a', ...), Variant('b', ...), salt=...)"
        )
    return variant.name


def check_words(names: tuple[str, ...], salt: str, overrides: Mapping[Any, str]) -> None:
    if not names:
        raise ValueError("a splitter needs variants: pass at least one Variant")
    if not salt:
        raise ValueError("the salt is empty: name this split, as in salt='ranker-2026-11'")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two variants are called {name!r}: give each a name of its own")
    for unit, name in overrides.items():
        if not isinstance(unit, str):
            raise TypeError(f"overrides: {unit!r} is no unit: units are strings")
        if name not in names:
            raise ValueError(
                f"overrides: {unit!r} is forced to {name!r}, and the variants are {list(names)}"
            )


def check_learning(name: str, policy: object, weights: Sequence[float | None] = ()) -> None:
    """A policy that learns sets the shares itself."""
    if isinstance(policy, Learning) and any(weight is not None for weight in weights or [1.0]):
        raise ValueError(f"{name!r} learns its shares by {policy!r}: give its variants no weights")
