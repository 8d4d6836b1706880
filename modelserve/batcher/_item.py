"""One caller's input on its way through a batch, and how answers reach those who wait."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from modelserve.predictor import running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from modelserve._policy.lines import Rank
    from modelserve.request import Request


Settle: TypeAlias = Callable[[Sequence[Any], Iterable[Any]], None]
LOOP = attrgetter("loop")


class Plain:
    """What is so of most items."""

    __slots__ = ()
    scope: Request | None = None
    """The request that its caller is in, if any."""
    due = math.inf
    """When its caller's time is over, by the batcher's clock; NaN where the scope must be asked."""
    rank: Rank | None = None
    """Priority and tenant, if the caller has any."""
    size = 1.0
    """What it takes of a batch's room."""
    nbytes = 0
    """Bytes, where so many that they are counted."""
    copies = 1
    """How often it stands in its batch: once, but for a warm call."""
    waits = True
    """Whether its caller can wait for room in the queue."""


class Item(Plain):
    """One caller's input, and where the answer goes: to a sink, or to a future of ``loop``."""

    __slots__ = ("at", "lane", "loop", "sink", "x")

    def __init__(
        self,
        x: Any,
        sink: Any,
        loop: AbstractEventLoop | None,
        at: float,
        lane: Hashable,
    ) -> None:
        self.x = x
        self.sink = sink
        self.loop = loop
        self.at = at
        self.lane = lane


class ScopedItem(Item):
    """One of a caller who is in a request."""

    __slots__ = ("due", "scope")


class SpecialItem(Item):
    """One of which something is so that is not of most: its fields are its own."""


class BatchNote:
    """What a caller's record says of its batch."""

    __slots__ = ("part", "queue_seconds", "run_seconds", "size")

    def __init__(self, part: str, size: int, queue_seconds: float, run_seconds: float) -> None:
        self.part = part
        self.size = size
        self.queue_seconds = queue_seconds
        self.run_seconds = run_seconds

    def write(self, record: dict[str, Any]) -> None:
        record[f"{self.part}.batch_size"] = self.size
        record[f"{self.part}.queue_seconds"] = self.queue_seconds
        record[f"{self.part}.run_seconds"] = self.run_seconds


def answer(items: Sequence[Item], rows: Iterable[Any]) -> None:
    """Hand each caller its row: one wake-up a loop; a closed loop harms nobody else."""
    _deliver(items, rows, _answer, _answer_sinks)


def fail(items: Sequence[Item], errors: Iterable[BaseException | None]) -> None:
    """Hand each caller its error, or nothing to one who has left."""
    _deliver(items, errors, _fail, _fail_sinks)


def _deliver(
    items: Sequence[Item], what: Iterable[Any], settle: Settle, settle_sinks: Settle
) -> None:
    loops = dict.fromkeys(map(LOOP, items))  # in an order that no address decides
    here = running_loop()
    for loop in loops:
        group, given = items, what
        if len(loops) > 1:
            pairs = [pair for pair in zip(items, what, strict=False) if pair[0].loop is loop]
            group, given = [item for item, _ in pairs], [each for _, each in pairs]
        if loop is None:
            settle_sinks(group, given)
        elif loop is here:
            settle(group, given)
        else:
            with contextlib.suppress(RuntimeError):  # closed: its callers went with it
                loop.call_soon_threadsafe(settle, group, given)


def _answer(items: Sequence[Item], rows: Iterable[Any]) -> None:
    for item, row in zip(items, rows, strict=False):  # more rows, of a warm call
        future = item.sink
        if not future.done():
            future.set_result(row)


def _answer_sinks(items: Sequence[Item], rows: Iterable[Any]) -> None:
    for item, row in zip(items, rows, strict=False):
        item.sink.settle(row, None)


def _fail(items: Sequence[Item], errors: Iterable[BaseException | None]) -> None:
    for item, error in zip(items, errors, strict=True):
        future = item.sink
        if error is not None and not future.done():
            future.set_exception(error)


def _fail_sinks(items: Sequence[Item], errors: Iterable[BaseException | None]) -> None:
    for item, error in zip(items, errors, strict=True):
        item.sink.settle(None, error)
