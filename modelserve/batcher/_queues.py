"""The queues of one batcher: its own workers', or one a loop, behind one way of handing over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelserve.batcher._core import Core, Item, Settings
from modelserve.batcher._workers import Workers
from modelserve.predictor import Primitive, Sink, background_loop, running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from modelserve.batcher._tasks import LoopQueue


class Queues:
    """Where calls wait. Sync batch functions have worker threads, async ones a queue a loop."""

    def __init__(self, settings: Settings, part: Primitive[Any, Any]) -> None:
        self.core = Core(settings, part)
        self._is_async = part.is_async
        self._workers = Workers(self.core)
        self._loops: dict[AbstractEventLoop, LoopQueue] = {}

    def push(self, item: Item, lane: Any) -> None:
        """Queue an item where it will run. Raises Closed or Overloaded."""
        if not self._is_async:
            self._workers.push(item, lane)
            return
        here = item.sink.loop or running_loop()
        loop = here or background_loop()
        queue = self._loops.get(loop) or self._queue_of(loop)
        queue.push(item, lane, None if here else loop)

    def _queue_of(self, loop: AbstractEventLoop) -> LoopQueue:
        from modelserve.batcher._tasks import LoopQueue

        self._forget_closed()
        with self.core.lock:
            return self._loops.setdefault(loop, LoopQueue(self.core))

    def _forget_closed(self) -> None:
        """Let go of loops that were closed, and of what they took along."""
        with self.core.lock:
            closed = [loop for loop in self._loops if loop.is_closed()]
            queues = [self._loops.pop(loop) for loop in closed]
        for queue in queues:
            queue.lose()

    def busy_here(self) -> bool:
        """Whether the loop of this thread has work, which it could not do while it is blocked."""
        loop = running_loop()
        queue = None if loop is None else self._loops.get(loop)
        return queue is not None and queue.busy()

    def close(self, sink: Sink, *, drain: bool) -> None:
        """Refuse what comes, and settle the sink when everything accepted is answered."""
        self.core.closing = True
        if not drain:
            self.cancel_queued()
        self._workers.wake()
        for loop, queue in self._loops.copy().items():
            try:
                loop.call_soon_threadsafe(queue.wake)
            except RuntimeError:
                self._forget_closed()
        self.core.when_empty(sink)

    def cancel_queued(self) -> None:
        """Fail everything that has not started."""
        self._workers.cancel_queued()
        for queue in list(self._loops.values()):
            queue.cancel_queued()
