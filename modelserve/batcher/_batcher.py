"""DynamicBatcher itself: its two faces and what it shows of itself."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, final, overload

from modelserve.batcher._core import BatcherStats, Item, Settings
from modelserve.batcher._layout import Layout, Stack
from modelserve.batcher._options import Options
from modelserve.batcher._queues import Queues
from modelserve.errors import NestingError, Overloaded
from modelserve.predictor import (
    FutureSink,
    LoopSink,
    PartHealth,
    Primitive,
    Sink,
    Spec,
    ThreadSink,
    aio,
    each,
    end_pools,
    lift,
    on_fork,
    refuse_on_loop,
    running_loop,
    wraps,
)
from modelserve.request import current, warm_scope
from modelserve.typing import In, Out

if TYPE_CHECKING:
    from concurrent.futures import Future

    from modelserve.events import Hook
    from modelserve.request import Request
    from modelserve.typing import Clock, Rows


@final
class DynamicBatcher(Primitive[In, Out]):
    """Turn a batch predictor into an item predictor: concurrent calls run as one batch.

    A batch is cut only when a worker is free, so a lone call never waits and a busy model fills
    its own batches.

    ``predict`` takes a batch of at most ``max_batch_size`` items and gives their results. How
    items lie together and results are told apart is up to ``layout``; by default arrays and
    tensors are stacked along a new first axis, and anything else travels as a list. Sync functions
    run on ``workers`` threads of the batcher's own, async ones as at most ``workers`` tasks on the
    loop that calls. ``max_wait``, in seconds, holds an idle worker back for company for the oldest
    item. More than ``max_queue_size`` waiting calls are refused with
    :class:`~modelserve.Overloaded`.

    With ``on_error="isolate"`` a batch that raises is halved until the items that fail are alone
    and only their callers get the error; choose "batch" for functions that must not run twice. An
    ``Exception`` among the results of a list fails its own item.

    Raises ValueError for bounds below one, TypeError for a predictor that takes no single batch
    and :class:`~modelserve.NestingError` for a splitter, a cache or another batcher below.

    >>> import numpy as np
    >>> import modelserve as ms
    >>> double = ms.DynamicBatcher(lambda rows: rows * 2, max_batch_size=64)
    >>> double(np.array([1.0, 2.0]))
    array([2., 4.])
    """

    kind = "DynamicBatcher"
    level = "item"
    parts_level = "batch"
    shares = "batch"

    @overload
    def __init__(
        self, predict: Callable[[list[In]], Awaitable[Rows[Out]]], **options: Unpack[Options]
    ) -> None: ...
    @overload
    def __init__(
        self, predict: Callable[[list[In]], Rows[Out]], **options: Unpack[Options]
    ) -> None: ...
    @overload
    def __init__(self, predict: Callable[[list[In]], Any], **options: Unpack[Options]) -> None: ...
    @overload
    def __init__(
        self, predict: Callable[[In], Awaitable[Rows[Out]]], **options: Unpack[Options]
    ) -> None: ...
    @overload
    def __init__(self, predict: Callable[[In], Rows[Out]], **options: Unpack[Options]) -> None: ...
    @overload
    def __init__(self, predict: Callable[[In], Any], **options: Unpack[Options]) -> None: ...
    def __init__(  # noqa: PLR0913 - one word each, all of them of the field
        self,
        predict: Callable[[Any], Any],
        *,
        max_batch_size: int = 32,
        max_wait: float = 0.0,
        max_queue_size: int = 1024,
        workers: int = 1,
        layout: Layout | None = None,
        on_error: Literal["isolate", "batch"] = "isolate",
        name: str | None = None,
        clock: Clock = time.monotonic,
        on_event: Hook | None = None,
    ) -> None:
        _at_least_one(max_batch_size=max_batch_size, max_queue_size=max_queue_size, workers=workers)
        if not 0 <= max_wait < math.inf:
            raise ValueError(f"max_wait={max_wait} is no wait: pass seconds, 0 or more")
        if on_error not in {"isolate", "batch"}:
            raise ValueError(f"on_error={on_error!r}: pass 'isolate' or 'batch'")
        part = lift(predict)
        self._settings = Settings(
            name=name or part.name,
            max_batch_size=max_batch_size,
            max_wait=max_wait,
            max_queue_size=max_queue_size,
            workers=workers,
            layout=layout or Stack(),
            isolate=on_error == "isolate",
            clock=clock,
            on_event=on_event,
        )
        options = {
            "max_batch_size": max_batch_size,
            "max_wait": max_wait,
            "max_queue_size": max_queue_size,
            "workers": workers,
            "layout": layout,
            "on_error": on_error,
            "name": name,
            "clock": clock,
            "on_event": on_event,
        }
        spec = Spec(DynamicBatcher, (part,), options)
        super().__init__(self._settings.name, {part.name: part}, spec)
        if part.level == "item":
            raise NestingError(
                f"{part.kind} {part.name!r} already answers for one item, and a DynamicBatcher "
                "takes a predictor of batches: keep one of the two"
            )
        wraps(self, part)
        self._part = part
        self._lane, self._clock = self._settings.layout.lane, clock
        self._window = 2 * max_batch_size * workers
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew, without the threads and the calls of the parent process."""
        self._queues = Queues(self._settings, self._part)
        self._queues.core.closing = self.life.closed
        self._armed = False

    @property
    def stats(self) -> BatcherStats:
        """A snapshot of what happened so far."""
        return self._queues.core.stats(self.blocked_loop.read())

    def __call__(self, x: In, /) -> Out:
        """Answer for one item, blocking until its batch has run."""
        self._may_block()
        scope = current()
        sink = ThreadSink()
        self._push(x, sink, scope)
        y: Out = sink.wait(scope, self.name)
        return y

    async def acall(self, x: In, /) -> Out:
        """Answer for one item without blocking the event loop."""
        scope = current()
        sink = aio.sink()
        self._push(x, sink, scope)
        y: Out = await aio.wait(sink, scope, self.name)
        return y

    def submit(self, x: In, /) -> Future[Out]:
        """Queue one item and return at once; cancelling the future abandons the item.

        >>> import modelserve as ms
        >>> lengths = ms.DynamicBatcher(lambda texts: [len(text) for text in texts])
        >>> lengths.submit("four").result()
        4
        """
        from concurrent.futures import Future

        future: Future[Out] = Future()
        self._push(x, FutureSink(future), current())
        return future

    def map(self, xs: Iterable[In], /, *, return_exceptions: bool = False) -> Iterator[Out]:
        """Answer for many items, in order, lazily, in whole batches."""
        self._may_block()
        scope = current()
        window: deque[ThreadSink] = deque()
        try:
            for x in xs:
                sink = ThreadSink()
                while not self._pushed(x, sink, scope, can_wait=bool(window)):
                    yield self._result(window.popleft(), scope, return_exceptions)
                window.append(sink)
                if len(window) >= self._window:
                    yield self._result(window.popleft(), scope, return_exceptions)
            while window:
                yield self._result(window.popleft(), scope, return_exceptions)
        finally:
            for sink in window:
                sink.leave()

    async def amap(
        self, xs: Iterable[In] | AsyncIterable[In], /, *, return_exceptions: bool = False
    ) -> AsyncIterator[Out]:
        """Answer for many items, in order, lazily, in whole batches."""
        scope = current()
        window: deque[LoopSink] = deque()
        try:
            async for x in each(xs):
                sink = aio.sink()
                while not self._pushed(x, sink, scope, can_wait=bool(window)):
                    yield await self._aresult(window.popleft(), scope, return_exceptions)
                window.append(sink)
                if len(window) >= self._window:
                    yield await self._aresult(window.popleft(), scope, return_exceptions)
            while window:
                yield await self._aresult(window.popleft(), scope, return_exceptions)
        finally:
            for sink in window:
                sink.leave()

    def _may_block(self) -> None:
        if running_loop() is not None:
            if self.is_async:
                refuse_on_loop(self.name)
            self.blocked_loop.add()

    def _pushed(self, x: In, sink: Sink, scope: Request | None, *, can_wait: bool) -> bool:
        try:
            self._push(x, sink, scope)
        except Exception as error:  # noqa: BLE001 - it stands in this item's place
            if can_wait and isinstance(error, Overloaded):
                self._queues.core.not_refused()
                return False
            sink.settle(None, error)
        return True

    def _result(self, sink: ThreadSink, scope: Request | None, return_exceptions: bool) -> Out:  # noqa: FBT001
        try:
            return cast("Out", sink.wait(scope, self.name))
        except Exception as error:
            if not return_exceptions:
                raise
            return cast("Out", error)

    async def _aresult(self, sink: Any, scope: Request | None, return_exceptions: bool) -> Out:  # noqa: FBT001
        try:
            return cast("Out", await aio.wait(sink, scope, self.name))
        except Exception as error:
            if not return_exceptions:
                raise
            return cast("Out", error)

    def _push(self, x: In, sink: Sink, scope: Request | None, *, copies: int = 1) -> None:
        if scope is not None:
            scope.check(self.name)
            if self._queues.core in scope.inside:
                raise NestingError(
                    f"{self.name!r} was called from inside a batch that waits for it: "
                    "call the batch function itself there"
                )
        lane = self._lane(x)
        item = Item(x, sink, scope, self._clock(), copies)
        if not self._armed:
            self._armed = True
            on_fork(self)
        warming = scope is not None and scope.warming
        self._queues.push(item, (lane, sink) if warming else lane)

    def summary(self) -> str:
        """Configuration and counts in a few words."""
        stats = self.stats
        mean = f", {stats.mean_batch_size:.1f} a batch" if stats.batches else ""
        lost = stats.expired + stats.abandoned + stats.refused
        return (
            f"up to {self._settings.max_batch_size} together, {stats.calls:,} calls in "
            f"{stats.batches:,} batches{mean}"
            + (f", {stats.errors:,} errors" if stats.errors else "")
            + (f", {lost:,} not run" if lost else "")
        )

    def health(self) -> PartHealth:
        """How full the queue is, beside being closed."""
        queued = self.stats.queued
        if not self.life.closed and queued >= self._settings.max_queue_size:
            return PartHealth("degraded", f"the queue is full: {queued} calls")
        return super().health()

    def warm(self, x: In) -> None:
        """Run an item at the smallest and the largest batch, on a worker."""
        self._may_block()
        with warm_scope() as scope:
            for copies in sorted({1, self._settings.max_batch_size}):
                sink = ThreadSink()
                self._push(x, sink, scope, copies=copies)
                sink.wait(scope, self.name)

    async def awarm(self, x: In) -> None:
        """Run an item at the smallest and the largest batch, without blocking the loop."""
        with warm_scope() as scope:
            for copies in sorted({1, self._settings.max_batch_size}):
                sink = aio.sink()
                self._push(x, sink, scope, copies=copies)
                await aio.wait(sink, scope, self.name)

    def start(self) -> None:
        """Take calls, again if it was closed."""
        self._queues.core.closing = False

    def needs_this_loop(self) -> bool:
        """Whether batches run or wait on the loop of this thread."""
        return self._queues.busy_here()

    def stop(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        """Finish accepted work, or refuse it, and end the threads."""
        sink = ThreadSink()
        self._queues.close(sink, drain=drain)
        if not sink.settles(timeout):
            self._queues.cancel_queued()
        end_pools(self._queues.core)

    async def astop(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        """Finish accepted work, or refuse it, without blocking the loop."""
        sink = aio.sink()
        self._queues.close(sink, drain=drain)
        if not await aio.settles(sink, timeout):
            self._queues.cancel_queued()
        end_pools(self._queues.core)


def _at_least_one(**bounds: int) -> None:
    for name, value in bounds.items():
        if value < 1:
            raise ValueError(f"{name}={value}: pass 1 or more")
