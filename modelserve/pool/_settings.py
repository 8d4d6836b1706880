"""How a pool was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from modelserve.events import Hook
    from modelserve.pool._weigh import Weight
    from modelserve.typing import Clock


class Settings(NamedTuple):
    """What :class:`~modelserve.ModelPool` was told."""

    budget: Mapping[str, int]
    weigh: Callable[[Any], Weight] | None
    size: Callable[[str], Weight] | None
    keep_alive: float | None
    min_residency: float
    max_wait: float
    clock: Clock
    on_event: Hook | None
