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

from modelserve.batcher._layout import Layout
from modelserve.batcher._options import Options
from modelserve.batcher._queues import Queues
from modelserve.batcher._settings import Settings
from modelserve.batcher._stats import BatcherStats
from modelserve.errors import NestingError, Overloaded
from modelserve.predictor import (
    FutureSink,
    PartHealth,
    Primitive,
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
    import asyncio
    from concurrent.futures import Future

    from modelserve._policy.costs import Costs
    from modelserve.events import Hook
    from modelserve.request import Request
    from modelserve.typing import Clock, Rows


APART = (
    ", {:,} batches of one beside items that differ in shape, dtype or structure: make them alike, "
    "or see Pad and AsList"
)


@final
class DynamicBatcher(Primitive[In, Out]):
    """Turn a batch predictor into an item predictor: concurrent calls run as one batch.

    A batch is cut only when a worker is free, so a lone call never waits and a busy model fills
    its own batches.

    ``predict`` takes a batch of at most ``max_batch_size`` items and gives their results. How
    items lie together and results are told apart is up to ``layout``; by default arrays and
    tensors are stacked along a new first axis, and anything else travels as a list. With ``size``,
    a function of an item, ``max_batch_size`` bounds the sum of the sizes instead, such as tokens,
    or what :class:`~modelserve.Pad` makes of it; an item above it alone is refused with
    :class:`~modelserve.BadInput`. Sync functions run on ``workers`` threads of the batcher's own,
    async ones as at most ``workers`` tasks on the loop that calls. ``max_wait``, in seconds, holds
    an idle worker back for company for the oldest item; a hold in vain is not repeated until calls
    overlap.

    At most ``max_queue_size`` calls wait, whose items take ``max_queue_bytes`` as far as can be
    told. More are refused with :class:`~modelserve.Overloaded`, or with ``overflow="wait"`` wait
    for room. With ``slo``, in seconds, no batch is larger than its learned cost allows, and who
    would be answered later than that is refused. Of requests it reads ``priority``, a level a
    second of waiting; ``tenant``, served in turn; and the deadline: who is late never runs, and
    who would probably be answered too late gives its place to others where places are scarce.

    With ``on_error="isolate"`` a batch that raises is halved until the items that fail are alone
    and only their callers get the error; choose "batch" for functions that must not run twice. An
    ``Exception`` among the results of a list fails its own item. A run of more than ``max_run``
    seconds is given up, and its callers get :class:`~modelserve.Stuck`.

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
        max_queue_bytes: float = 64 * 2**20,
        overflow: Literal["reject", "wait"] = "reject",
        workers: int = 1,
        slo: float | None = None,
        layout: Layout | None = None,
        size: Callable[[Any], float] | None = None,
        max_run: float | None = None,
        on_error: Literal["isolate", "batch"] = "isolate",
        name: str | None = None,
        clock: Clock = time.monotonic,
        on_event: Hook | None = None,
    ) -> None:
        options = {
            "max_batch_size": max_batch_size,
            "max_wait": max_wait,
            "max_queue_size": max_queue_size,
            "max_queue_bytes": max_queue_bytes,
            "overflow": overflow,
            "workers": workers,
            "slo": slo,
            "layout": layout,
            "size": size,
            "max_run": max_run,
            "on_error": on_error,
            "name": name,
            "clock": clock,
            "on_event": on_event,
        }
        part = lift(predict)
        self._settings = Settings.of(options, part.name)
        spec = Spec(DynamicBatcher, (part,), options)
        super().__init__(self._settings.name, {part.name: part}, spec)
        if part.level == "item":
            raise NestingError(
                f"{part.kind} {part.name!r} already answers for one item, and a DynamicBatcher "
                "takes a predictor of batches: keep one of the two"
            )
        wraps(self, part)
        self._part = part
        self._window = 2 * max_batch_size * workers
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """Begin anew, without the threads and the calls of the parent process."""
        before: Queues | None = getattr(self, "_queues", None)
        if before is not None:
            before.core.forked = True
        self._queues = Queues(self._settings, self._part)
        self._push, self._stage = self._queues.push, self._queues.stage
        if self.life.closed:
            self._queues.core.shut(closed=True)

    @property
    def stats(self) -> BatcherStats:
        """A snapshot of what happened so far."""
        return self._queues.core.stats(self.blocked_loop.read())

    def __call__(self, x: In, /) -> Out:
        """Answer for one item, blocking until its batch has run."""
        self._may_block()
        scope = current()
        sink = ThreadSink()
        self._push(x, sink, None, scope)
        y: Out = sink.wait(scope, self.name)
        return y

    async def acall(self, x: In, /) -> Out:
        """Answer for one item without blocking the event loop."""
        scope = current()
        loop = aio.here()
        future: asyncio.Future[Out] = loop.create_future()
        if scope is None:
            if not self._stage(x, future, loop):
                self._queues.admit(x, future, loop)
            return await future
        left = self._push(x, future, loop, scope)
        if left == math.inf:
            return await future
        kept = aio.keep(future, scope, self.name, left)
        try:
            return await future
        finally:
            aio.forget(kept, future)

    def submit(self, x: In, /) -> Future[Out]:
        """Queue one item and return at once; cancelling the future abandons the item.

        With ``overflow="wait"`` it returns when there is room, and on the thread of an event loop
        it is refused instead.

        >>> import modelserve as ms
        >>> lengths = ms.DynamicBatcher(lambda texts: [len(text) for text in texts])
        >>> lengths.submit("four").result()
        4
        """
        from concurrent.futures import Future

        future: Future[Out] = Future()
        scope = current()
        seated = ThreadSink() if self._settings.waits and running_loop() is None else None
        self._push(x, FutureSink(future), None, scope, seated=seated)
        if seated is not None:
            try:
                seated.wait(scope, self.name)
            except BaseException:
                future.cancel()
                raise
        return future

    def map(self, xs: Iterable[In], /, *, return_exceptions: bool = False) -> Iterator[Out]:
        """Answer for many items, in order, lazily, in whole batches."""
        self._may_block()
        scope = current()
        window: deque[ThreadSink] = deque()
        try:
            for x in xs:
                sink = ThreadSink()
                while not self._pushed(x, sink, None, scope, can_wait=bool(window)):
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
        loop = aio.here()
        window: deque[asyncio.Future[Out]] = deque()
        try:
            async for x in each(xs):
                future = loop.create_future()
                while not self._pushed(x, future, loop, scope, can_wait=bool(window)):
                    yield await self._aresult(window.popleft(), scope, return_exceptions)
                window.append(future)
                if len(window) >= self._window:
                    yield await self._aresult(window.popleft(), scope, return_exceptions)
            while window:
                yield await self._aresult(window.popleft(), scope, return_exceptions)
        finally:
            for future in window:
                aio.leave(future)

    def _may_block(self) -> None:
        if running_loop() is not None:
            if self.is_async:
                refuse_on_loop(self.name)
            self.blocked_loop.add()

    def _pushed(
        self,
        x: In,
        sink: Any,
        loop: asyncio.AbstractEventLoop | None,
        scope: Request | None,
        *,
        can_wait: bool,
    ) -> bool:
        try:
            self._push(x, sink, loop, scope)
        except Exception as error:  # noqa: BLE001 - it stands in this item's place
            if can_wait and isinstance(error, Overloaded):
                self._queues.core.not_refused(error)
                return False
            if loop is None:
                sink.settle(None, error)
            else:
                sink.set_exception(error)
        return True

    def _result(self, sink: ThreadSink, scope: Request | None, return_exceptions: bool) -> Out:  # noqa: FBT001
        try:
            return cast("Out", sink.wait(scope, self.name))
        except Exception as error:
            if not return_exceptions:
                raise
            return cast("Out", error)

    async def _aresult(
        self,
        future: asyncio.Future[Out],
        scope: Request | None,
        return_exceptions: bool,  # noqa: FBT001
    ) -> Out:
        try:
            return await aio.wait(future, scope, self.name)
        except Exception as error:
            if not return_exceptions:
                raise
            return cast("Out", error)

    def summary(self) -> str:
        """Configuration and counts in a few words, and what keeps batches small."""
        stats = self.stats
        lost = stats.expired + stats.abandoned + stats.refused
        mean = f", {stats.mean_batch_size:.1f} a batch" if stats.batches else ""
        return (
            f"up to {self._settings.form.limit} together, {stats.calls:,} calls in "
            f"{stats.batches:,} batches{mean}"
            + (f", {stats.errors:,} errors" if stats.errors else "")
            + (f", {lost:,} not run" if lost else "")
            + (f", {stats.padding:.0%} padding" if stats.padding else "")
            + (APART.format(stats.apart) if stats.apart * 4 > stats.batches else "")
        )

    def health(self) -> PartHealth:
        """How full the queue is and what had to be given up, beside being closed."""
        core, queued = self._queues.core, self.stats.queued
        if not self.life.closed:
            if queued >= self._settings.max_queue_size:
                return PartHealth("degraded", f"the queue is full: {queued} calls")
            if core.door.hangs is not None:
                return PartHealth("failed", str(core.door.hangs))
            if core.limit < self._settings.form.limit:
                why = f"out of memory with more than {core.limit} together"
                return PartHealth("degraded", why)
        return super().health()

    def costs(self) -> Costs:
        """What batches have cost so far by their size, as learned from those that ran."""
        core = self._queues.core
        with core.lock:
            return core.pace.costs.copy()

    def warm(self, x: In) -> None:
        """Run an item at the smallest and the largest batch, on a worker."""
        self._may_block()
        with warm_scope() as scope:
            for copies in self._settings.form.warm_sizes(x):
                sink = ThreadSink()
                self._queues.push_warm(x, sink, None, scope, copies)
                sink.wait(scope, self.name)

    async def awarm(self, x: In) -> None:
        """Run an item at the smallest and the largest batch, without blocking the loop."""
        loop = aio.here()
        with warm_scope() as scope:
            for copies in self._settings.form.warm_sizes(x):
                future = loop.create_future()
                self._queues.push_warm(x, future, loop, scope, copies)
                await aio.wait(future, scope, self.name)

    def start(self) -> None:
        """Take calls, again if it was closed."""
        self._queues.core.shut(closed=False)

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
