"""Worker threads that pull: a free one cuts the next batch itself, and parks when there is none.

A parked worker holds nothing of its batcher, so that a dropped batcher goes. Whoever queues an item
hands itself over with the call, so that accepted work is finished even then.
"""

from __future__ import annotations

import math
import threading
import weakref
from _thread import allocate_lock
from contextvars import Context
from typing import TYPE_CHECKING, Any

from modelserve._policy.lanes import Lanes
from modelserve.predictor._waiting import LONGEST

if TYPE_CHECKING:
    from modelserve.batcher._core import Core, Item
    from modelserve.predictor import Outcome


class Place:
    """Where one worker parks: the lock is free when it was called, and then it knows by whom."""

    __slots__ = ("lock", "workers")

    def __init__(self, workers: Workers) -> None:
        self.lock = allocate_lock()
        self.workers: Workers | None = workers


class Workers:
    """The queue of a sync batch function and the threads that serve it."""

    def __init__(self, core: Core) -> None:
        self.core = core
        settings = core.settings
        self._lanes: Lanes[Item] = Lanes(settings.max_batch_size, settings.max_wait)
        self._parked: list[Place] = []
        self._alive = 0
        self._dismiss = weakref.finalize(self, _dismiss, self._parked)
        self._dismiss.atexit = False

    def push(self, item: Item, lane: Any) -> None:
        """Queue an item. Raises Closed or Overloaded."""
        core = self.core
        with core.lock:
            start = core.accept(item, lane, self._lanes) and self._call()
        if start:
            self._start()

    def _call(self) -> bool:
        """Wake a parked worker, under the lock; say whether one is to be started instead."""
        if self._parked:
            place = self._parked.pop()
            place.workers = self
            place.lock.release()
        elif self._alive < self.core.settings.workers:
            self._alive += 1
            return True
        return False

    def _start(self) -> None:
        name = f"modelserve-{self.core.settings.name}"
        thread = threading.Thread(target=_work, args=(Place(self),), name=name, daemon=True)
        try:
            Context().run(thread.start)
        except BaseException:
            with self.core.lock:
                self._alive -= 1
                alone = not self._alive
            if alone:
                self.cancel_queued()
                raise

    def serve(self, place: Place) -> bool:
        """Run batches as long as there are any; say whether to park then."""
        while True:
            batch, pause = self._take(place)
            if batch:
                self.core.run(batch)
            elif not 0 < pause < math.inf:
                return pause > 0
            elif place.lock.acquire(timeout=min(pause, LONGEST)):
                place.workers = None

    def _take(self, place: Place) -> tuple[list[Item], float]:
        """Cut the next batch, or park: what to run, else how long to wait (0: end)."""
        core = self.core
        gone: list[Outcome] = []
        start = False
        with core.lock:
            if place in self._parked:
                self._parked.remove(place)
            elif not place.lock.locked():  # called after its wait had timed out
                place.lock.acquire()
                place.workers = None
            batch, pause = core.cut(self._lanes, gone)
            if batch:
                start = len(self._lanes) > 0 and self._call()
            elif core.closing:
                self._alive -= 1
                pause = 0.0
            else:
                self._parked.append(place)
        if gone:
            core.settle(gone)
        if start:
            self._start()
        return batch, pause

    def broke(self, error: BaseException) -> None:
        """Leave nobody waiting for a worker that ends of an error; the next call starts another."""
        with self.core.lock:
            self._alive -= 1
        self.core.fail(self._lanes, error)

    def wake(self) -> None:
        """Have every parked worker look again."""
        with self.core.lock:
            while self._parked:
                self._call()

    def cancel_queued(self) -> None:
        """Fail everything that has not started."""
        self.core.refuse(self._lanes)


def _dismiss(parked: list[Place]) -> None:
    while parked:
        parked.pop().lock.release()


def _work(place: Place) -> None:
    while True:
        place.lock.acquire()
        workers, place.workers = place.workers, None
        if workers is None:
            return
        try:
            parks = workers.serve(place)
        except BaseException as error:  # noqa: BLE001 - of a clock, that callers must hear of
            workers.broke(error)
            return
        if not parks:
            return
        del workers
