"""One batcher's queue, counts and way of running a batch, whoever runs it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple

from modelserve.errors import (
    BadOutput,
    Closed,
    DeadlineExceeded,
    ModelServeError,
    Overloaded,
    from_model,
    own,
)
from modelserve.events import BatchDone, tell
from modelserve.predictor import Outcome, Sink, deliver
from modelserve.request import Fact, Request, in_scope, shared_scope

if TYPE_CHECKING:
    from modelserve.batcher._layout import Layout
    from modelserve.events import Hook
    from modelserve.predictor import Primitive
    from modelserve.typing import Clock


class BatcherStats(NamedTuple):
    """Counts of a batcher.

    ``calls`` were accepted, ``batches`` ran, ``items`` ran in them (again, after a failure), and
    ``mean_batch_size`` is their quotient. ``queued`` wait now. ``expired`` had no time left and
    ``abandoned`` nobody waiting when their turn came: they never ran. ``refused`` found the queue
    full. ``errors`` is callers that got an error of the model.
    """

    calls: int
    batches: int
    items: int
    mean_batch_size: float
    queued: int
    expired: int
    abandoned: int
    refused: int
    errors: int


class BatchNote(NamedTuple):
    """What a caller's record says of its batch."""

    part: str
    size: int
    queue_seconds: float
    run_seconds: float

    def write(self, record: dict[str, Any]) -> None:
        record[f"{self.part}.batch_size"] = self.size
        record[f"{self.part}.queue_seconds"] = self.queue_seconds
        record[f"{self.part}.run_seconds"] = self.run_seconds


class Item:
    """One caller's input on its way through a batch."""

    __slots__ = ("at", "copies", "scope", "sink", "x")

    def __init__(self, x: Any, sink: Sink, scope: Request | None, at: float, copies: int) -> None:
        self.x = x
        self.sink = sink
        self.scope = scope
        self.at = at
        self.copies = copies
        """How often it stands in its batch: once, but for a warm call."""


class Settings(NamedTuple):
    """What a batcher was told."""

    name: str
    max_batch_size: int
    max_wait: float
    max_queue_size: int
    workers: int
    layout: Layout
    isolate: bool
    clock: Clock
    on_event: Hook | None


class Runs:
    """A batch and, if it fails, the halves to run instead; with what each caller gets."""

    __slots__ = ("_core", "_left", "outcomes")

    def __init__(self, core: Core, items: list[Item]) -> None:
        self._core = core
        self._left = [items]
        self.outcomes: list[Outcome] = []

    def __iter__(self) -> Iterator[Run]:
        while self._left:
            yield Run(self._core, self._left.pop(), self.outcomes)

    def failed(self, run: Run, error: BaseException) -> None:
        """Take a failure: two halves to run instead, or its own error for each caller."""
        settings = self._core.settings
        failure = from_model(error, repr(settings.name))
        run.note(failure)
        ours = isinstance(failure, OSError | ModelServeError) or failure is not error
        if settings.isolate and len(run.items) > 1 and not ours:
            middle = len(run.items) // 2
            self._left += [run.items[middle:], run.items[:middle]]
        else:
            self.outcomes += [(item.sink, None, own(failure)) for item in run.items]


class Run:
    """One batch, from its items to what each caller gets; the two colours differ by the call."""

    __slots__ = ("_core", "_outcomes", "_started", "items", "scope")

    def __init__(self, core: Core, items: list[Item], outcomes: list[Outcome]) -> None:
        self._core = core
        self._outcomes = outcomes
        self._started = core.settings.clock()
        self.items = items
        self.scope = shared_scope([item.scope for item in items], "batch", core)

    def batch(self) -> Any:
        """Join the items."""
        return self._core.settings.layout.join([i.x for i in self.items] * self.items[0].copies)

    def finish(self, result: Any) -> None:
        """Tell the results apart; raises BadOutput."""
        settings = self._core.settings
        n = len(self.items) * self.items[0].copies
        try:
            rows = settings.layout.cut(result, n)
        except BadOutput as error:
            raise BadOutput(f"{settings.name!r} returned {error}") from None
        self.note(None)
        for item, row in zip(self.items, rows, strict=False):
            if isinstance(row, Exception):
                error = own(from_model(row, repr(settings.name)))
                self._outcomes.append((item.sink, None, error))
            else:
                self._outcomes.append((item.sink, row, None))

    def note(self, error: BaseException | None) -> None:
        """Count the run, tell who listens, and extend the trail of every caller by its own."""
        settings = self._core.settings
        seconds = settings.clock() - self._started
        trail: Sequence[Fact] = self.scope.trail
        size = len(self.items)
        for item in self.items:
            if item.scope is not None:
                note = BatchNote(settings.name, size, self._started - item.at, seconds)
                item.scope.trail.extend((*trail, note))
        if self.scope.warming:
            return
        self._core.ran(size)
        if settings.on_event is not None:
            waited = self._started - min(item.at for item in self.items)
            tell(settings.on_event, BatchDone(settings.name, size, waited, seconds, error))


class Core:
    """What the workers of one batcher share. It does not know the batcher, which may be dropped."""

    def __init__(self, settings: Settings, predict: Primitive[Any, Any], lock: Any) -> None:
        self.settings = settings
        self.predict = predict
        self.lock = lock
        self.closing = False
        self.pending = 0
        self._emptied: list[Sink] = []
        self._calls = self._batches = self._items = 0
        self._expired = self._abandoned = self._refused = self._errors = 0

    def accept(self, item: Item, queued: int) -> None:
        """Take one call in, under the lock, or raise Closed or Overloaded."""
        if self.closing:
            raise Closed(f"{self.settings.name!r} is closed: open it again with `with predictor:`")
        if queued >= self.settings.max_queue_size:
            self._refused += 1
            raise Overloaded(
                f"{self.settings.name!r} has {queued} calls queued: raise max_queue_size, "
                "or ask less"
            )
        self.pending += 1
        if not (item.scope is not None and item.scope.warming):
            self._calls += 1

    def keep(self, item: Item, late: list[Item]) -> bool:
        """Whether an item whose turn has come still wants to run; under the lock."""
        if item.sink.done():
            self._abandoned += 1
            self.pending -= 1
            return False
        if item.scope is not None and item.scope.remaining() <= 0:
            self._expired += 1
            late.append(item)
            return False
        return True

    def expire(self, late: list[Item]) -> None:
        """Let go those whose deadline passed while they were queued."""
        name = self.settings.name
        self.settle(
            [
                (item.sink, None, DeadlineExceeded(f"the deadline passed in the queue of {name!r}"))
                for item in late
            ]
        )

    def refuse(self, items: list[Item]) -> None:
        """Fail accepted work that will never run."""
        name = self.settings.name
        self.settle([(i.sink, None, Closed(f"{name!r} was closed before it ran")) for i in items])

    def settle(self, outcomes: list[Outcome]) -> None:
        """Hand over answers and count them."""
        errors = sum(
            error is not None and not isinstance(error, DeadlineExceeded | Closed)
            for _, _, error in outcomes
        )
        with self.lock:
            self._errors += errors
            self.pending -= len(outcomes)
        deliver(outcomes)
        self.tell_if_empty()

    def tell_if_empty(self) -> None:
        """Wake those who wait until nothing is pending."""
        with self.lock:
            waiting = self._emptied if not self.pending else []
            if waiting:
                self._emptied = []
        deliver([(sink, None, None) for sink in waiting])

    def when_empty(self, sink: Sink) -> None:
        """Settle a sink when nothing is pending."""
        with self.lock:
            self._emptied.append(sink)
        self.tell_if_empty()

    def ran(self, size: int) -> None:
        """Count one run of the model."""
        with self.lock:
            self._batches += 1
            self._items += size

    def run(self, items: list[Item]) -> None:
        """Run a batch on this thread and hand over what comes of it."""
        runs = Runs(self, items)
        for run in runs:
            try:
                result = Context().run(in_scope, run.scope, self.predict, run.batch())
                run.finish(result)
            except BaseException as error:  # noqa: BLE001 - a worker outlives its model
                runs.failed(run, error)
        self.settle(runs.outcomes)

    def stats(self, queued: int) -> BatcherStats:
        """Take a snapshot."""
        with self.lock:
            return BatcherStats(
                calls=self._calls,
                batches=self._batches,
                items=self._items,
                mean_batch_size=self._items / self._batches if self._batches else math.nan,
                queued=queued,
                expired=self._expired,
                abandoned=self._abandoned,
                refused=self._refused,
                errors=self._errors,
            )
