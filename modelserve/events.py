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
]

_log = logging.getLogger("modelserve")


class Loaded(NamedTuple):
    """A loader serves a new version; ``seconds`` is what loading and warming took.

    >>> Loaded("ranker", "v1", 0.5).part
    'ranker'
    """

    part: str
    version: str
    seconds: float


class LoadFailed(NamedTuple):
    """A loader could not load; the last good version, if any, serves on.

    >>> LoadFailed("ranker", OSError("gone"), 0.1).seconds
    0.1
    """

    part: str
    error: BaseException
    seconds: float


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


Event: TypeAlias = Loaded | LoadFailed | Retired | BatchDone | Admitted | Evicted
Hook: TypeAlias = Callable[[Event], object]


def tell(hook: Hook, event: Event) -> None:
    """Hand an event to a hook and keep what the hook raises away from callers."""
    try:
        hook(event)
    except Exception:  # noqa: BLE001 - whatever it is, it is the hook's
        _log.exception("the on_event hook %r raised", hook)
