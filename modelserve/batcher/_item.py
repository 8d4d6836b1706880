"""One caller's input on its way through a batch, and how answers reach those who wait."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from modelserve.predictor import running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from modelserve._policy.lines import Rank
    from modelserve.request import Request


Fields: TypeAlias = (
    "tuple[Any, Any, AbstractEventLoop | None, float, Hashable, Request | None, float]"
)
Sinks: TypeAlias = Sequence[Any]
Loops: TypeAlias = "Sequence[AbstractEventLoop | None]"
Settle: TypeAlias = Callable[[Sinks, Iterable[Any]], None]


class Call(NamedTuple):
    """One caller's input, and where the answer goes: to a sink, or to a future of ``loop``."""

    x: Any
    sink: Any
    loop: AbstractEventLoop | None
    at: float
    """When it came, by the batcher's clock."""
    lane: Hashable
    scope: Request | None = None
    """The request that its caller is in, if any."""
    due: float = math.inf
    """When its caller's time is over, by the batcher's clock; NaN where the scope must be asked."""


class Item(Call):
    """A call, and what is so of few. It is no other, whatever another holds."""

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

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)


new_item = cast("Callable[[Fields], Item]", partial(cast("Any", tuple).__new__, Item))
"""Make an item of the fields of a call, in half the time that the class takes."""


class Batch:
    """The calls of one run, field by field, since what they share is asked of all at once.

    Most calls never become an :class:`Item`: a plain tuple costs a fifth.
    """

    __slots__ = (
        "_calls",
        "ats",
        "copies",
        "dues",
        "lanes",
        "loops",
        "plain",
        "scopes",
        "sinks",
        "size",
        "xs",
    )

    def __init__(self, calls: Sequence[Fields]) -> None:
        self._calls = calls
        columns = zip(*calls)  # noqa: B905 - each is a call, of as many fields
        self.xs, self.sinks, self.loops, self.ats, self.lanes, self.scopes, self.dues = columns
        self.size = len(calls)
        self.plain = self.scopes.count(None) == self.size
        """Whether nobody is in a request."""
        first = calls[0]
        self.copies = first.copies if isinstance(first, Item) else 1
        """How often its items stand in it: once, but for a warm call."""

    @property
    def items(self) -> list[Item]:
        """The calls one by one."""
        return [call if isinstance(call, Item) else new_item(call) for call in self._calls]

    @property
    def known(self) -> bool:
        """Whether all know when their time is over, if it ever is."""
        return not math.isnan(sum(self.dues))

    @property
    def warming(self) -> bool:
        """Whether nobody asked but to warm the model."""
        return all(scope is not None and scope.warming for scope in self.scopes)


class Ran(NamedTuple):
    """What is so of a run for all who were in it."""

    part: str
    size: int
    started: float
    seconds: float


class BatchNote:
    """What a caller's record says of its batch, and when it came."""

    __slots__ = ("at", "ran")

    def __init__(self, ran: Ran, at: float) -> None:
        self.ran = ran
        self.at = at

    def write(self, record: dict[str, Any]) -> None:
        part, size, started, seconds = self.ran
        record[f"{part}.batch_size"] = size
        record[f"{part}.queue_seconds"] = started - self.at
        record[f"{part}.run_seconds"] = seconds


def answer(sinks: Sinks, loops: Loops, rows: Iterable[Any], here: AbstractEventLoop | None) -> None:
    """Hand each caller its row: one wake-up a loop; a closed loop harms nobody else.

    ``here`` is the loop that runs on this thread, which takes a while to find out.
    """
    if here is not None and loops.count(here) == len(loops):
        _answer(sinks, rows)
    else:
        _deliver(sinks, loops, rows, _answer, _answer_sinks, here)


def fail(sinks: Sinks, loops: Loops, errors: Iterable[BaseException | None]) -> None:
    """Hand each caller its error, or nothing to one who has left."""
    _deliver(sinks, loops, errors, _fail, _fail_sinks, running_loop())


def _deliver(  # noqa: PLR0913, PLR0917 - one call fewer a batch
    sinks: Sinks,
    loops: Loops,
    what: Iterable[Any],
    settle: Settle,
    settle_sinks: Settle,
    here: AbstractEventLoop | None,
) -> None:
    alike = not loops or loops.count(loops[0]) == len(loops)
    whole = [] if alike else list(zip(loops, sinks, what, strict=False))
    for loop in loops[:1] if alike else dict.fromkeys(loops):  # in an order no address decides
        group, given = sinks, what
        if not alike:
            group = [sink for its, sink, _ in whole if its is loop]
            given = [each for its, _, each in whole if its is loop]
        if loop is None:
            settle_sinks(group, given)
        elif loop is here:
            settle(group, given)
        else:
            with contextlib.suppress(RuntimeError):  # closed: its callers went with it
                loop.call_soon_threadsafe(settle, group, given)


def _answer(futures: Sinks, rows: Iterable[Any]) -> None:
    for future, row in zip(futures, rows, strict=False):  # more rows, of a warm call
        if not future.done():
            future.set_result(row)


def _answer_sinks(sinks: Sinks, rows: Iterable[Any]) -> None:
    for sink, row in zip(sinks, rows, strict=False):
        sink.settle(row, None)


def _fail(futures: Sinks, errors: Iterable[BaseException | None]) -> None:
    for future, error in zip(futures, errors, strict=True):
        if error is not None and not future.done():
            future.set_exception(error)


def _fail_sinks(sinks: Sinks, errors: Iterable[BaseException | None]) -> None:
    for sink, error in zip(sinks, errors, strict=True):
        sink.settle(None, error)
