"""Boosters of LightGBM, in its own text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from modelserve.formats._known import Ask, needs

try:
    import lightgbm
except ImportError as missing:
    raise needs("LightGBM", "lightgbm") from missing


def load(data: bytes, ask: Ask) -> lightgbm.Booster:  # noqa: ARG001 - as all do
    """Make a booster of a file's bytes."""
    return lightgbm.Booster(model_str=data.decode())


def knows(model: Any) -> bool:
    """Say whether a model is a booster."""
    return isinstance(model, lightgbm.Booster)


def caller(model: lightgbm.Booster) -> Callable[[Any], Any]:
    """Return how to call a booster: it takes rows, on the caller's thread alone.

    A service has threads of its own; and those of OpenMP would leave a forked child waiting.
    """
    return partial(model.predict, num_threads=1)


def device(model: lightgbm.Booster) -> str:  # noqa: ARG001 - as all do
    """Boosters are called on the CPU."""
    return "cpu"


def after_fork(model: lightgbm.Booster) -> Literal["keep"]:  # noqa: ARG001 - as all do
    """A booster that is called so has no threads to lose."""
    return "keep"
