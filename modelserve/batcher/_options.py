"""What a batcher can be told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, Literal, TypedDict

from modelserve.batcher._layout import Layout
from modelserve.events import Hook
from modelserve.typing import Clock


class Options(TypedDict, total=False):
    """What a batcher can be told; see :class:`DynamicBatcher`."""

    max_batch_size: int
    max_wait: float
    max_queue_size: int
    max_queue_bytes: float
    overflow: Literal["reject", "wait"]
    workers: int
    slo: float | None
    layout: Layout | None
    size: Callable[[Any], float] | None
    max_run: float | None
    on_error: Literal["isolate", "batch"]
    name: str | None
    clock: Clock
    on_event: Hook | None


def check(given: Mapping[str, Any]) -> None:
    """Refuse what cannot be meant. Raises ValueError."""
    for name in ("max_batch_size", "max_queue_size", "workers"):
        value = given[name]
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name}={value}: pass 1 or more, a whole number")
    if not 0 <= given["max_wait"] < math.inf:
        raise ValueError(f"max_wait={given['max_wait']} is no wait: pass seconds, 0 or more")
    for name in ("max_queue_bytes", "slo", "max_run"):
        value = given[name]
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value}: pass a number above 0")
    if given["overflow"] not in {"reject", "wait"}:
        raise ValueError(f"overflow={given['overflow']!r}: pass 'reject' or 'wait'")
    if given["on_error"] not in {"isolate", "batch"}:
        raise ValueError(f"on_error={given['on_error']!r}: pass 'isolate' or 'batch'")
