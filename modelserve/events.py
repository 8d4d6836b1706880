"""What happened, as values for a hook (``on_event=``).

A hook is any callable of one event. It runs where the event happens, so it should be quick; what
it raises is logged and never reaches a caller.

>>> from modelserve.events import Loaded
>>> Loaded(part="ranker", version="v1", seconds=0.5).version
'v1'
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

__all__ = [
    "Admitted",
    "BatchDone",
    "Event",
    "Evicted",
    "Hook",
    "LoadFailed",
    "Loaded",
    "Retired",
    "RolledBack",
    "StageDone",
]

_log = logging.getLogger("modelserve")


class Loaded(NamedTuple):
    """A loader serves a new version; ``seconds`` is what loading and warming took.

    ``device`` is where it is, as torch names it; None where its kind does not tell.

    >>> Loaded("ranker", "v1", 0.5).part
    'ranker'
    """

    part: str
    version: str
    seconds: float
    device: str | None = None


class LoadFailed(NamedTuple):
    """A loader could not load; the last good version, if any, serves on.

    >>> LoadFailed("ranker", OSError("gone"), 0.1).seconds
    0.1
    """

    part: str
    error: BaseException
    seconds: float


class StageDone(NamedTuple):
    """A loader has done one stage of its work on a version, in so many seconds.

    "load" reads ``nbytes`` bytes and makes a model of them, "warm" runs the inputs of ``warmup``,
    "check" compares with the version that serves, "swap" hands the new one out, and "close" closes
    a retired one, on a thread of its own. A stage that fails ends in ``LoadFailed``.

    >>> StageDone("ranker", "warm", "v1", 0.25).stage
    'warm'
    """

    part: str
    stage: Literal["load", "warm", "check", "swap", "close"]
    version: str
    seconds: float
    nbytes: int = 0


class RolledBack(NamedTuple):
    """A loader hands out the version before again.

    >>> RolledBack("ranker", "v1").version
    'v1'
    """

    part: str
    version: str


class Retired(NamedTuple):
    """A version is no longer handed out; requests in flight keep it.

    >>> Retired("ranker", "v1").version
    'v1'
    """

    part: str
    version: str


class BatchDone(NamedTuple):
    """One batch ran: its ``size``, the wait of its oldest item and the run, in seconds.

    >>> BatchDone("ranker", 32, 0.001, 0.004, None).size
    32
    """

    part: str
    size: int
    queue_seconds: float
    run_seconds: float
    error: BaseException | None


class Admitted(NamedTuple):
    """A pool loaded a model; bytes by memory space, as they were expected and as they are.

    >>> Admitted("ranker", {"cpu": 100}, {"cpu": 143}, 0.5).nbytes
    {'cpu': 143}
    """

    part: str
    expected: Mapping[str, int]
    nbytes: Mapping[str, int]
    seconds: float


class Evicted(NamedTuple):
    """A pool let a model go: for another's sake ("room"), idle for too long, asked to, or closed.

    >>> Evicted("ranker", {"cpu": 143}, "room").reason
    'room'
    """

    part: str
    nbytes: Mapping[str, int]
    reason: Literal["room", "idle", "asked", "closed"]


Event: TypeAlias = (
    StageDone | Loaded | LoadFailed | RolledBack | Retired | BatchDone | Admitted | Evicted
)
Hook: TypeAlias = Callable[[Event], object]


def tell(hook: Hook, event: Event) -> None:
    """Hand an event to a hook and keep what the hook raises away from callers."""
    try:
        hook(event)
    except Exception:  # noqa: BLE001 - whatever it is, it is the hook's
        _log.exception("the on_event hook %r raised", hook)
