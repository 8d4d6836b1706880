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
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, final, overload

from typing_extensions import Unpack

from modelserve.batcher._core import BatcherStats, Item, Settings
from modelserve.batcher._layout import Layout, Stack
from modelserve.batcher._options import Options
from modelserve.batcher._queues import Queues
from modelserve.errors import DeadlineExceeded, NestingError, Overloaded
from modelserve.predictor import (
    FutureSink,
    LoopSink,
    PartHealth,
    Primitive,
    Sink,
    Spec,
    ThreadSink,
    each,
    lift,
    on_fork,
    refuse_on_loop,
    running_loop,
    wraps,
)
from modelserve.request import current, request, warm_scope

if TYPE_CHECKING:
    from concurrent.futures import Future

    from modelserve.events import Hook
    from modelserve.request import Request
    from modelserve.typing import Clock, Rows

In = TypeVar("In")
Out = TypeVar("Out")
FnIn = TypeVar("FnIn")
FnOut = TypeVar("FnOut")


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
        self: DynamicBatcher[FnIn, FnOut],
        predict: Callable[[list[FnIn]], Awaitable[Rows[FnOut]]],
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: DynamicBatcher[FnIn, FnOut],
        predict: Callable[[list[FnIn]], Rows[FnOut]],
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: DynamicBatcher[FnIn, FnOut],
        predict: Callable[[FnIn], Awaitable[Rows[FnOut]]],
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: DynamicBatcher[FnIn, FnOut],
        predict: Callable[[FnIn], Rows[FnOut]],
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self: DynamicBatcher[FnIn, Any],
        predict: Callable[[FnIn], Any],
        **options: Unpack[Options],
    ) -> None: ...
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
        spec = Spec(DynamicBatcher, (predict,), options)
        super().__init__(self._settings.name, {part.name: part}, spec)
        if part.level == "item":
            raise NestingError(
                f"{part.kind} {part.name!r} already answers for one item, and a DynamicBatcher "
                "takes a predictor of batches: keep one of the two"
            )
        wraps(self, part)
        self._part = part
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew, without the threads and the calls of the parent process."""
        self._queues = Queues(self._settings, self._part)
        self._queues.core.closing = self.life.closed
        self._armed = False

    @property
    def stats(self) -> BatcherStats:
        """A snapshot of what happened so far."""
        return self._queues.stats()

    def __call__(self, x: In, /) -> Out:
        """Answer for one item, blocking until its batch has run."""
        if self.is_async:
            refuse_on_loop(self.name)
        elif running_loop() is not None:
            self.blocked_loop.add()
        scope = current()
        sink = ThreadSink()
        self._push(x, sink, scope)
        return cast("Out", sink.wait(scope, self.name))

    async def acall(self, x: In, /) -> Out:
        """Answer for one item without blocking the event loop."""
        from modelserve.predictor import _aio

        scope = current()
        sink = _aio.sink()
        self._push(x, sink, scope)
        return cast("Out", await _aio.wait(sink, scope, self.name))

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
        if self.is_async:
            refuse_on_loop(self.name)
        scope = current()
        window: deque[ThreadSink] = deque()
        try:
            for x in xs:
                sink = ThreadSink()
                while not self._pushed(x, sink, scope, can_wait=bool(window)):
                    yield self._result(window.popleft(), scope, return_exceptions)
                window.append(sink)
                if len(window) >= self._window():
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
        from modelserve.predictor import _aio

        scope = current()
        window: deque[LoopSink] = deque()
        try:
            async for x in each(xs):
                sink = _aio.sink()
                while not self._pushed(x, sink, scope, can_wait=bool(window)):
                    yield await self._aresult(window.popleft(), scope, return_exceptions)
                window.append(sink)
                if len(window) >= self._window():
                    yield await self._aresult(window.popleft(), scope, return_exceptions)
            while window:
                yield await self._aresult(window.popleft(), scope, return_exceptions)
        finally:
            for sink in window:
                sink.leave()

    def _window(self) -> int:
        settings = self._settings
        return min(2 * settings.max_batch_size * settings.workers, settings.max_queue_size)

    def _pushed(self, x: In, sink: Sink, scope: Request | None, *, can_wait: bool) -> bool:
        try:
            self._push(x, sink, scope)
        except Overloaded:
            if not can_wait:
                raise
            return False
        return True

    def _result(self, sink: ThreadSink, scope: Request | None, return_exceptions: bool) -> Out:  # noqa: FBT001
        try:
            return cast("Out", sink.wait(scope, self.name))
        except Exception as error:
            if not return_exceptions:
                raise
            return cast("Out", error)

    async def _aresult(self, sink: Any, scope: Request | None, return_exceptions: bool) -> Out:  # noqa: FBT001
        from modelserve.predictor import _aio

        try:
            return cast("Out", await _aio.wait(sink, scope, self.name))
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
        lane = self._settings.layout.lane(x)
        item = Item(x, sink, scope, self._settings.clock(), copies)
        if not self._armed:
            self._armed = True
            on_fork(self)
        self._queues.push(item, lane if copies == 1 else (lane, copies))

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
        if self.is_async:
            refuse_on_loop(self.name)
        with warm_scope() as scope:
            for copies in sorted({1, self._settings.max_batch_size}):
                sink = ThreadSink()
                self._push(x, sink, scope, copies=copies)
                sink.wait(scope, self.name)

    async def awarm(self, x: In) -> None:
        """Run an item at the smallest and the largest batch, without blocking the loop."""
        from modelserve.predictor import _aio

        with warm_scope() as scope:
            for copies in sorted({1, self._settings.max_batch_size}):
                sink = _aio.sink()
                self._push(x, sink, scope, copies=copies)
                await _aio.wait(sink, scope, self.name)

    def start(self) -> None:
        """Take calls, again if it was closed."""
        self._queues.core.closing = False

    def stop(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        """Finish accepted work, or refuse it, and end the threads."""
        if self._queues.busy_here():
            self.life.enter()
            raise RuntimeError(
                f"{self.name!r} has work on the event loop of this thread: use `await p.aclose()`"
            )
        sink = ThreadSink()
        self._queues.close(sink, drain=drain)
        try:
            sink.wait(request(timeout=timeout), self.name)
        except DeadlineExceeded:
            self._queues.cancel_queued()

    async def astop(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        """Finish accepted work, or refuse it, without blocking the loop."""
        from modelserve.predictor import _aio

        sink = _aio.sink()
        self._queues.close(sink, drain=drain)
        try:
            await _aio.wait(sink, request(timeout=timeout), self.name)
        except DeadlineExceeded:
            self._queues.cancel_queued()


def _at_least_one(**bounds: int) -> None:
    for name, value in bounds.items():
        if value < 1:
            raise ValueError(f"{name}={value}: pass 1 or more")
