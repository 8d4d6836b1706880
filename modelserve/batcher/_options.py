"""What a batcher can be told."""

from __future__ import annotations

from typing import Literal, TypedDict

from modelserve.batcher._layout import Layout
from modelserve.events import Hook
from modelserve.typing import Clock


class Options(TypedDict, total=False):
    """What a batcher can be told; see :class:`DynamicBatcher`."""

    max_batch_size: int
    max_wait: float
    max_queue_size: int
    workers: int
    layout: Layout | None
    on_error: Literal["isolate", "batch"]
    name: str | None
    clock: Clock
    on_event: Hook | None
