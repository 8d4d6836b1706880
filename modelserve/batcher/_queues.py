"""The queues of one batcher: its own workers', or one a loop, behind one way of handing over."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from modelserve._policy.lines import Rank
from modelserve.batcher._core import Core
from modelserve.batcher._form import SCALARS, nbytes
from modelserve.batcher._item import Item, new_item
from modelserve.batcher._layout import AsList, Stack
from modelserve.batcher._workers import Workers
from modelserve.errors import NestingError
from modelserve.predictor import FutureSink, Primitive, Sink, background_loop, running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from modelserve.batcher._door import Door
    from modelserve.batcher._settings import Settings
    from modelserve.batcher._tasks import LoopQueue
    from modelserve.request import Request
    from modelserve.typing import Clock

    Stage: TypeAlias = Callable[..., bool]


class Queues:
    """Where calls wait. Sync batch functions have worker threads, async ones a queue a loop."""

    def __init__(self, settings: Settings, part: Primitive[Any, Any]) -> None:
        self.core = Core(settings, part)
        self._door, self._clock = self.core.door, settings.clock
        form = settings.form
        self._lane = form.layout.lane if isinstance(form.layout, Stack | AsList) else form.lane
        self._size = form.size if form.measures else None
        self.workers = Workers(self.core) if not part.is_async else None
        self.loops: dict[AbstractEventLoop | None, LoopQueue] = {}
        self.stage = _stager(self.workers, self.loops, self._door, self._clock, self._lane)

    def push(
        self,
        x: Any,
        sink: Any,
        loop: AbstractEventLoop | None,
        scope: Request | None,
        *,
        seated: Sink | None = None,
    ) -> float:
        """Queue an item where it will run.

        Returns the seconds that its caller has left, NaN where that may change. Raises Closed,
        Overloaded, DeadlineExceeded, NestingError, and what the layout raises for a bad item.
        """
        if scope is None:
            if not self.stage(x, sink, loop):
                self.admit(x, sink, loop, seated=seated)
            return math.inf
        at = self._clock()
        due = self._due(scope, at)
        if scope.priority or scope.tenant or not self.stage(x, sink, loop, scope, due):
            self.admit(x, sink, loop, scope, due, seated=seated)
        return due - at

    def admit(  # noqa: PLR0913 - the fields of a call
        self,
        x: Any,
        sink: Any,
        loop: AbstractEventLoop | None,
        scope: Request | None = None,
        due: float = math.inf,
        *,
        seated: Sink | None = None,
    ) -> None:
        """Queue a call after a closer look. Raises what ``push`` does."""
        item = self._measured(new_item((x, sink, loop, self._clock(), self._lane(x), scope, due)))
        item.waits = seated is not None or not isinstance(sink, FutureSink)
        self._enter(item, seated)

    def push_warm(
        self,
        x: Any,
        sink: Any,
        loop: AbstractEventLoop | None,
        scope: Request,
        copies: int,
    ) -> None:
        """Queue an item that makes a whole batch of its own."""
        at, lane = self._clock(), (self._lane(x), id(sink))
        item = Item(x, sink, loop, at, lane, scope, self._due(scope, at))
        item.copies = copies
        self._enter(item, None)

    def _due(self, scope: Request, now: float) -> float:
        """Check that a request may call this now; return when its time is over."""
        if scope.inside and self.core in scope.inside:
            name = self.core.settings.name
            raise NestingError(
                f"{name!r} was called from inside a batch that waits for it: "
                "call the batch function itself there"
            )
        if scope.plain:
            return math.inf
        due = scope.due(self._clock)
        if not due > now:
            scope.check(self.core.settings.name)
        return due

    def _measured(self, item: Item) -> Item:
        """Measure an item that cannot be staged as it is."""
        scope = item.scope
        if scope is not None and (scope.priority or scope.tenant):
            item.rank = Rank(scope.priority, scope.tenant)
        size = nbytes(item.x)
        item.nbytes = size if size > self._door.small else 0
        if self._size is not None:
            item.size = self._size(item.x)
        return item

    def _enter(self, item: Item, seated: Sink | None) -> None:
        if self.workers is not None:
            self.workers.enter(item, seated)
            return
        here = item.loop or running_loop()
        loop = here or background_loop()
        queue = self.loops.get(loop) or self._queue_of(loop)
        queue.enter(item, seated, None if here else loop)

    def _queue_of(self, loop: AbstractEventLoop) -> LoopQueue:
        from modelserve.batcher._tasks import LoopQueue

        self._forget_closed()
        with self.core.lock:
            queue = self.loops.get(loop)
            if queue is None:
                queue = self.loops[loop] = LoopQueue(self.core, loop)
                self.core.door.add(queue)
            return queue

    def _forget_closed(self) -> None:
        """Let go of loops that were closed, and of what they took along."""
        with self.core.lock:
            closed = [loop for loop in self.loops if loop is not None and loop.is_closed()]
            queues = [self.loops.pop(loop) for loop in closed]
        for queue in queues:
            queue.lose()

    def busy_here(self) -> bool:
        """Whether the loop of this thread has work, which it could not do while it is blocked."""
        loop = running_loop()
        queue = None if loop is None else self.loops.get(loop)
        return queue is not None and queue.busy()

    def close(self, sink: Sink, *, drain: bool) -> None:
        """Refuse what comes, and settle the sink when everything accepted is answered."""
        self.core.shut(closed=True)
        self._forget_closed()
        if not drain:
            self.cancel_queued()
        for queue in self._all():
            queue.wake()
        self.core.when_empty(sink)

    def cancel_queued(self) -> None:
        """Fail everything that has not started."""
        for queue in self._all():
            queue.cancel_queued()

    def _all(self) -> list[Workers | LoopQueue]:
        workers = [] if self.workers is None else [self.workers]
        return [*workers, *self.loops.copy().values()]


def _stager(
    workers: Workers | None,
    loops: Mapping[AbstractEventLoop | None, LoopQueue],
    door: Door,
    clock: Clock,
    lane: Callable[[Any], Hashable],
) -> Stage:
    """Make the function of the shortest way in: of variables, as fields take half as long again."""
    inf = math.inf

    def stage(
        x: Any,
        sink: Any,
        loop: AbstractEventLoop | None,
        scope: Request | None = None,
        due: float = inf,
    ) -> bool:
        """Queue a call as it came, if nothing stands against it; say whether that was so.

        Raises what the layout raises for a bad item.
        """
        queue = workers or loops.get(loop)
        if queue is None or not door.bound:
            return False
        call = (x, sink, loop, clock(), lane(x), scope, due)  # by the user's code, so before a look
        if door.queued + len(queue.staged) >= door.bound or (
            x.__class__ not in SCALARS and nbytes(x) > door.small
        ):
            return False
        queue.staged.append(call)
        if queue.idle:
            queue.attend()
        return True

    return stage
