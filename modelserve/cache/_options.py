"""What a cache can be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TypedDict

from modelserve.typing import Clock


class Options(TypedDict, total=False):
    """What a cache can be told; see :class:`PredictionCache`."""

    maxsize: int | None
    max_bytes: int | None
    store: MutableMapping[Any, Any] | None
    ttl: float | Callable[[Any], float] | None
    key: Callable[[Any], Any] | None
    encoders: Mapping[type, Callable[[Any], Any]] | None
    version: str | Callable[[], str] | None
    name: str | None
    clock: Clock
