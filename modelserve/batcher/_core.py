"""One batcher's queue, counts and way of running a batch, whoever runs it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from contextvars import Context
from threading import RLock
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
    from modelserve._policy.lanes import Lanes
    from modelserve.batcher._layout import Layout
    from modelserve.events import Hook
    from modelserve.predictor import Primitive
    from modelserve.typing import Clock


class BatcherStats(NamedTuple):
    """Counts of a batcher.

    ``calls`` were accepted, ``batches`` ran, ``items`` ran in them (again, after a failure), and
    ``mean_batch_size`` is their quotient. ``queued`` wait now. ``expired`` had no time left and
    ``abandoned`` nobody waiting when their turn came: they never ran. ``refused`` found the queue
    full. ``errors`` is callers that got an error of the model. ``blocked_loop`` is sync calls that
    kept an event loop waiting.
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
    blocked_loop: int


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

    __slots__ = ("_core", "_items", "_left", "outcomes")

    def __init__(self, core: Core, items: list[Item]) -> None:
        self._core = core
        self._items = items
        self._left: list[list[Item]] = []
        self.outcomes: list[Outcome] = []

    def __iter__(self) -> Iterator[Run]:
        yield Run(self._core, self._items)
        while self._left:
            items = [item for item in self._left.pop() if self._waits(item)]
            if items:
                yield Run(self._core, items)

    def _waits(self, item: Item) -> bool:
        gone = self._core.gone(item)
        if gone is not None:
            self.outcomes.append(gone)
        return gone is None

    def done(self, run: Run, result: Any) -> None:
        """Take a result: to each caller its own. Raises BadOutput."""
        where = repr(self._core.settings.name)
        outcomes: list[Outcome] = []
        errors = 0
        for item, row in zip(run.items, run.cut(result), strict=False):  # one, of a warm call
            if isinstance(row, Exception):
                outcomes.append((item.sink, None, own(from_model(row, where))))
                errors += 1
            else:
                outcomes.append((item.sink, row, None))
        run.note(None, errors)
        self.outcomes += outcomes

    def failed(self, run: Run, error: BaseException) -> None:
        """Take a failure: two halves to run instead, or its own error for each caller."""
        settings = self._core.settings
        failure = from_model(error, repr(settings.name))
        ours = isinstance(failure, OSError | ModelServeError) or failure is not error
        if settings.isolate and len(run.items) > 1 and not ours:
            run.note(failure, 0)
            middle = len(run.items) // 2
            self._left += [run.items[middle:], run.items[:middle]]
        else:
            run.note(failure, 0 if isinstance(failure, DeadlineExceeded) else len(run.items))
            self.outcomes += [(item.sink, None, own(failure)) for item in run.items]

    def give_up(self, failure: Exception) -> int:
        """Fail the callers that have no answer yet, so that nobody waits for ever; count them."""
        self._left = []
        answered = {id(sink) for sink, _, _ in self.outcomes}
        left = [item.sink for item in self._items if id(item.sink) not in answered]
        self.outcomes += [(sink, None, own(failure)) for sink in left]
        return len(left)

    def hand_over(self) -> None:
        """Settle every caller; once, though the end of a loop may ask again."""
        outcomes, self.outcomes, self._items = self.outcomes, [], []
        if outcomes:
            self._core.settle(outcomes)


class Run:
    """One run of the model, from the items to the results; the two colours differ by the call."""

    __slots__ = ("_core", "_started", "items", "scope")

    def __init__(self, core: Core, items: list[Item]) -> None:
        self._core = core
        self._started = core.settings.clock()
        self.items = items
        self.scope = shared_scope([item.scope for item in items], "batch", core, core)

    def batch(self) -> Any:
        """Join the items."""
        return self._core.settings.layout.join([i.x for i in self.items] * self.items[0].copies)

    def cut(self, result: Any) -> Sequence[Any]:
        """Tell the results apart. Raises BadOutput."""
        settings = self._core.settings
        n = len(self.items) * self.items[0].copies
        try:
            rows = settings.layout.cut(result, n)
        except BadOutput as error:
            raise BadOutput(f"{settings.name!r} returned {error}") from None
        if len(rows) != n:
            raise BadOutput(
                f"{settings.layout!r} of {settings.name!r} cut {len(rows)} results for {n} items"
            )
        return rows

    def note(self, error: BaseException | None, errors: int) -> None:
        """Count the run, tell who listens, and extend the trail of every caller by its own."""
        settings = self._core.settings
        seconds = settings.clock() - self._started
        trail: Sequence[Fact] = self.scope.trail
        size = len(self.items)
        for scope, item in {item.scope: item for item in self.items}.items():
            if scope is not None:
                note = BatchNote(settings.name, size, self._started - item.at, seconds)
                scope.trail.extend((*trail, note))
        if self.scope.warming:
            return
        self._core.ran(size, errors)
        if settings.on_event is not None:
            waited = self._started - min(item.at for item in self.items)
            tell(settings.on_event, BatchDone(settings.name, size, waited, seconds, error))


class Core:
    """What the workers of one batcher share. It does not know the batcher, which may be dropped."""

    def __init__(self, settings: Settings, predict: Primitive[Any, Any]) -> None:
        self.settings = settings
        self.predict = predict
        self.lock = RLock()
        """Reentrant, since the garbage of a closed loop may be collected while it is held."""
        self.closing = False
        self._pending = self._queued = 0
        self._emptied: list[Sink] = []
        self._calls = self._batches = self._items = 0
        self._expired = self._abandoned = self._refused = self._errors = 0

    def accept(self, item: Item, lane: Hashable, lanes: Lanes[Item]) -> bool:
        """Queue one call, under the lock, and say whether somebody should look.

        Raises Closed or Overloaded, and TypeError for a lane that cannot be hashed.
        """
        settings = self.settings
        if self.closing:
            raise Closed(f"{settings.name!r} is closed: open it again with `with predictor:`")
        if self._queued >= settings.max_queue_size:
            self._refused += 1
            raise Overloaded(
                f"{settings.name!r} has {self._queued} calls queued: raise max_queue_size, "
                "or ask less"
            )
        look = lanes.push(item, lane, item.at)
        self._pending += 1
        self._queued += 1
        if item.scope is None or not item.scope.warming:
            self._calls += 1
        return look

    def not_refused(self) -> None:
        """Take back the count of a refusal, by who tries again."""
        with self.lock:
            self._refused -= 1

    def cut(self, lanes: Lanes[Item], gone: list[Outcome]) -> tuple[list[Item], float]:
        """Take the next batch, under the lock, or say in how many seconds to look again.

        ``gone`` gets the answers of those who left or whose time is over: they never run.
        """
        before = len(lanes)
        batch: list[Item] = []
        pause = 0.0

        def keep(item: Item) -> bool:  # a call an item: the common case is decided here
            if item.scope is None and not item.sink.done():
                return True
            return self._keep(item, gone)

        while not batch:
            now = self.settings.clock()
            pause = lanes.wait(now)
            if pause > 0 and not (self.closing and len(lanes)):
                break
            batch = lanes.cut(now, keep)
        self._queued -= before - len(lanes)
        return batch, pause

    def _keep(self, item: Item, gone: list[Outcome]) -> bool:
        outcome = self.gone(item)
        if outcome is None:
            return True
        gone.append(outcome)
        if outcome[2] is None:
            self._abandoned += 1
        else:
            self._expired += 1
        return False

    def gone(self, item: Item) -> Outcome | None:
        """Return how it ended for a caller whose time is over or who left, else None."""
        try:
            late = item.scope is not None and item.scope.remaining() <= 0
        except BaseException as error:  # noqa: BLE001 - of one caller's clock, which is its own
            return item.sink, None, self.broken(error)
        if late:
            where = f"the queue of {self.settings.name!r}"
            return item.sink, None, DeadlineExceeded(f"the deadline passed in {where}")
        return (item.sink, None, None) if item.sink.done() else None

    def refuse(self, lanes: Lanes[Item]) -> int:
        """Fail all that is queued, and say how much of it was still waited for."""
        outcomes: list[Outcome] = []
        with self.lock:
            items = lanes.clear()
            self._queued -= len(items)
            waiting = [item for item in items if self._keep(item, outcomes)]
        name = self.settings.name
        closed = f"{name!r} was closed before it ran"
        self.settle([*outcomes, *((item.sink, None, Closed(closed)) for item in waiting)])
        return len(waiting)

    def fail(self, lanes: Lanes[Item], error: BaseException) -> None:
        """Fail all that is queued where even looking at it has failed, as by a broken clock."""
        with self.lock:
            items = lanes.clear()
            self._queued -= len(items)
        failure = self.broken(error)
        self.settle([(item.sink, None, own(failure)) for item in items])

    def settle(self, outcomes: list[Outcome]) -> None:
        """Hand over answers, and tell those who wait until nothing is pending."""
        deliver(outcomes)
        with self.lock:
            self._pending -= len(outcomes)
            waiting = [] if self._pending else self._emptied
            if waiting:
                self._emptied = []
        deliver([(sink, None, None) for sink in waiting])

    def when_empty(self, sink: Sink) -> None:
        """Settle a sink when nothing is pending."""
        with self.lock:
            self._emptied.append(sink)
        self.settle([])

    def ran(self, size: int, errors: int) -> None:
        """Count one run of the model, and the callers that got an error of it."""
        with self.lock:
            self._batches += 1
            self._items += size
            self._errors += errors

    def run(self, items: list[Item]) -> None:
        """Run a batch on this thread and hand over what comes of it."""
        runs = Runs(self, items)
        try:
            for run in runs:
                try:
                    result = Context().run(in_scope, run.scope, self.predict, run.batch())
                    runs.done(run, result)
                except BaseException as error:  # noqa: BLE001 - a worker outlives its model
                    runs.failed(run, error)
        except BaseException as error:  # noqa: BLE001 - and a hook, a clock, a broken exception
            runs.give_up(self.broken(error))
        runs.hand_over()

    def broken(self, error: BaseException) -> RuntimeError:
        """Say that something around the model failed, of which no caller could be told better."""
        failure = RuntimeError(f"{self.settings.name!r} could not finish a batch")
        failure.__cause__ = error
        return failure

    def stats(self, blocked_loop: int) -> BatcherStats:
        """Take a snapshot."""
        with self.lock:
            return BatcherStats(
                calls=self._calls,
                batches=self._batches,
                items=self._items,
                mean_batch_size=self._items / self._batches if self._batches else math.nan,
                queued=self._queued,
                expired=self._expired,
                abandoned=self._abandoned,
                refused=self._refused,
                errors=self._errors,
                blocked_loop=blocked_loop,
            )
