"""The queues of one batcher: its own workers', or one a loop, behind one way of handing over."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from modelserve.batcher._core import BatcherStats, Core, Item, Settings
from modelserve.batcher._workers import Workers
from modelserve.predictor import Primitive, Sink, background_loop, running_loop

if TYPE_CHECKING:
    from modelserve.batcher._tasks import LoopQueue


class Queues:
    """Where calls wait. Sync batch functions have worker threads, async ones a queue a loop."""

    def __init__(self, settings: Settings, part: Primitive[Any, Any]) -> None:
        self.core = Core(settings, part, threading.Lock())
        self._is_async = part.is_async
        self._workers = Workers(self.core)
        self._loops: weakref.WeakKeyDictionary[Any, LoopQueue] = weakref.WeakKeyDictionary()

    def stats(self) -> BatcherStats:
        """A snapshot of what happened so far."""
        queued = self._workers.queued() + sum(q.queued() for q in list(self._loops.values()))
        return self.core.stats(queued)

    def push(self, item: Item, lane: Any) -> None:
        """Queue an item where it will run. Raises Closed or Overloaded."""
        if not self._is_async:
            self._workers.push(item, lane)
            return
        here = running_loop()
        loop = here or background_loop()
        queue = self._loops.get(loop)
        if queue is None:
            from modelserve.batcher._tasks import LoopQueue

            queue = self._loops.setdefault(loop, LoopQueue(self.core))
        if here is not None:
            queue.push(item, lane)
        else:
            loop.call_soon_threadsafe(queue.push_from_thread, item, lane)

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
        self._on_loops("wake")
        self.core.when_empty(sink)

    def cancel_queued(self) -> None:
        """Fail everything that has not started."""
        self._workers.cancel_queued()
        self._on_loops("cancel_queued")

    def _on_loops(self, method: str) -> None:
        here = running_loop()
        for loop, queue in list(self._loops.items()):
            if loop is here:
                getattr(queue, method)()
                continue
            try:
                loop.call_soon_threadsafe(getattr(queue, method))
            except RuntimeError:  # closed: its callers went with it
                continue
