"""Worker threads that pull: a free one cuts the next batch itself, and parks when there is none.

A parked worker holds nothing of its batcher, so that a dropped batcher goes. Whoever queues an item
hands itself over with the call, so that accepted work is finished even then.
"""

from __future__ import annotations

import math
import threading
import weakref
from _thread import allocate_lock
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING

from modelserve.batcher._runs import Runs, run
from modelserve.batcher._watch import Watch
from modelserve.predictor._waiting import LONGEST

if TYPE_CHECKING:
    from modelserve._policy.lanes import Lanes
    from modelserve.batcher._core import Core, Gone
    from modelserve.batcher._item import Batch, Fields, Item
    from modelserve.predictor import Sink


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
        self.lanes: Lanes[Item] = core.lanes()
        self.staged: deque[Fields] = deque()
        core.door.add(self)
        self._most = core.settings.workers
        self.idle = True
        """Whether there may be nobody who will look at what is staged."""
        self._parked: list[Place] = []
        self._holds = False
        """Whether somebody is held back for company, and looks again in time."""
        self._alive = 0
        max_run = core.settings.max_run
        self._watch = None if max_run is None else Watch(self, core, max_run)
        self._dismiss = weakref.finalize(self, _dismiss, self._parked)
        self._dismiss.atexit = False

    def attend(self) -> None:
        """See to it that what was staged is run."""
        core = self.core
        if not self._is_due():
            return
        with core.lock:
            look = len(self.staged) > 0
            if look and self._holds and self.lanes.size:
                look = core.door.stage(self, busy=core.running > 0)
            start = look and self._call()
        if start:
            self._start()

    def enter(self, item: Item, seated: Sink | None) -> None:
        """Queue an item after a closer look. Raises Closed or Overloaded."""
        core = self.core
        with core.lock:
            look, refusal = core.door.let_in(item, self, seated, busy=core.running > 0)
            start = look and self._call()
        if start:
            self._start()
        if refusal is not None:
            raise refusal

    def _call(self) -> bool:
        """Wake a parked worker, under the lock; say whether one is to be started instead."""
        start = False
        if self._parked:
            place = self._parked.pop()
            place.workers = self
            place.lock.release()
        elif self._alive < self._most:
            self._alive += 1
            start = True
        self.idle = bool(self._parked) or self._alive < self._most
        return start

    def _start(self) -> None:
        name = f"modelserve-{self.core.settings.name}"
        thread = threading.Thread(target=_work, args=(Place(self),), name=name, daemon=True)
        try:
            Context().run(thread.start)
        except BaseException as error:
            with self.core.lock:
                self._alive -= 1
                self.idle = True
                alone = not self._alive
            if alone:
                self.core.fail(self, self.core.broken(error))
                raise

    def serve(self, place: Place) -> bool:
        """Run batches as long as there are any; say whether to park then."""
        while True:
            batch, pause = self._take(place)
            if batch is not None:
                if not self._run(batch):
                    return False
            elif not 0 < pause < math.inf:
                return pause > 0
            elif place.lock.acquire(timeout=min(pause, LONGEST)):
                place.workers = None

    def _run(self, batch: Batch) -> bool:
        """Run a batch; say whether this worker has not been replaced meanwhile."""
        runs = Runs(self.core, batch)
        if self._watch is None:
            run(self.core, runs)
            return True
        try:
            self._watch.began(runs)
        except BaseException as error:
            runs.give_up(self.core.broken(error))
            raise
        run(self.core, runs)
        return self._watch.ended(runs)

    def replace(self, hanging: int) -> None:
        """Let others take the place of workers that hang, and have somebody look in any case."""
        with self.core.lock:
            self._alive -= hanging
            self.idle = True
            start = self.lanes.size + len(self.staged) > 0 and self._call()
        if start:
            self._start()

    def _take(self, place: Place) -> tuple[Batch | None, float]:
        """Cut the next batch, or park: what to run, else how long to wait (0: end)."""
        core = self.core
        gone: list[Gone] = []
        start = False
        with core.lock:
            if place in self._parked:
                self._parked.remove(place)
            elif not place.lock.locked():  # called after its wait had timed out
                place.lock.acquire()
                place.workers = None
            self._holds = False
            batch, pause = core.cut(self, gone)
            if batch is not None:
                start = self.lanes.size + len(self.staged) > 0 and self._call()
            else:
                if core.closing:
                    self._alive -= 1
                    pause = 0.0
                else:
                    self._parked.append(place)
                    self._holds = pause < math.inf
                self.idle = True
                # asked after idle was set: by one who saw it was not
                start = self._is_due() and self._call()
        if gone:
            core.dismiss(gone)
        if start:
            self._start()
        return batch, pause

    def _is_due(self) -> bool:
        """Say whether somebody should look at what is staged, though a worker may be held back."""
        held = self._holds and not self.lanes.size
        return len(self.staged) >= (self.core.limit if held else 1)

    def broke(self, error: BaseException) -> None:
        """Leave nobody waiting for a worker that ends of an error; the next call starts another."""
        with self.core.lock:
            self._alive -= 1
            self.idle = True
        self.core.fail(self, self.core.broken(error))

    def wake(self) -> None:
        """Have every parked worker look again."""
        with self.core.lock:
            while self._parked:
                self._call()

    def cancel_queued(self) -> None:
        """Fail everything that has not started."""
        self.core.refuse(self)


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
