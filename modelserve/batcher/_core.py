"""What the workers of one batcher share: the next batch, the counts, the end of the work."""

from __future__ import annotations

import math
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeAlias

from modelserve._policy.pace import Pace
from modelserve._policy.reruns import Reruns
from modelserve.batcher._door import Door
from modelserve.batcher._item import Batch, Item, fail
from modelserve.batcher._stats import BatcherStats, Counts
from modelserve.errors import Closed, DeadlineExceeded, Overloaded, own
from modelserve.predictor import deliver
from modelserve.request import unread_scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelserve._policy.lanes import Lanes
    from modelserve.batcher._door import Queue
    from modelserve.batcher._settings import Settings
    from modelserve.predictor import Primitive, Sink

Gone: TypeAlias = tuple[Item, BaseException | None]
"""One who is not served, and the error; None for one who has left already."""


class Core:
    """One batcher without its queues. It does not know the batcher, which may be dropped.

    ``lock`` is held by whoever reads or changes what is below it, and by the callers of methods
    that say "under the lock".
    """

    def __init__(self, settings: Settings, predict: Primitive[Any, Any]) -> None:
        self.settings = settings
        self.predict = predict
        self.nobody = unread_scope("batch", self)
        """The scope of a batch whose callers are in no request."""
        self.lock = RLock()
        """Reentrant, since the garbage of a closed loop may be collected while it is held."""
        self.closing = self.forked = False
        self.counts = Counts()
        self.pace = Pace(settings.slo, settings.form.limit, settings.workers)
        self.door = Door(settings, self.pace, self.counts)
        self.reruns = Reruns()
        self.limit = settings.form.limit
        """What a batch may hold: halved whenever one took more memory than there is."""
        self.running = 0
        """How many items are run right now."""
        self._untold = 0
        """How many were taken from the queue and are not yet told how it ended."""
        self._usual = 0.0
        """What the last batch took, in the measure of costs."""
        self._emptied: list[Sink] = []

    def lanes(self) -> Lanes[Item]:
        """Make a queue."""
        return self.settings.form.lanes(self.settings.max_wait, self.pace.costs)

    def shut(self, *, closed: bool) -> None:
        """Accept nothing from now on, or everything again."""
        with self.lock:
            self.closing = closed
            self.door.shut(closed=closed)
            if not closed:
                self.limit = self.pace.limit = self.settings.form.limit

    def not_refused(self, error: Overloaded) -> None:
        """Take back the count of a refusal, by who tries again."""
        with self.lock:
            if self.counts.refusals[error.reason]:
                self.counts.refusals[error.reason] -= 1

    def cut(self, queue: Queue, gone: list[Gone]) -> tuple[Batch | None, float]:
        """Take the next batch, under the lock, or say in how many seconds to look again.

        ``gone`` gets those who left or whose time is over; they never run and are to be
        dismissed.
        """
        if queue.staged:
            straight, pause = self._cut_staged(queue)
            if straight is not None or pause > 0:
                return straight, pause
        while True:
            left: list[Gone] = []
            batch, pause, seated = self._cut_and_seat(queue, left)
            gone += left
            if batch is not None or not seated:
                return batch, pause

    def _cut_and_seat(self, queue: Queue, gone: list[Gone]) -> tuple[Batch | None, float, bool]:
        """Cut, and say whether those who had waited for room were queued here."""
        before = queue.lanes.size
        batch, pause = self._cut_lanes(queue.lanes, gone)
        items = [] if batch is None else batch.items
        taken = before - queue.lanes.size
        seated = False
        if taken:
            self._count_gone(gone)
            self.door.leave([*items, *(item for item, _ in gone)])
            self.running += len(items)
            self._untold += taken
            for other in self.door.seat():
                seated |= other is queue
                if other is not queue:
                    other.wake()
        return batch, pause, seated

    def _cut_lanes(self, lanes: Lanes[Item], gone: list[Gone]) -> tuple[Batch | None, float]:
        late: list[Item] = []

        def sift(items: list[Item]) -> list[Item]:
            kept = [item for item in items if item.scope is None and not item.sink.done()]
            return kept if len(kept) == len(items) else self._sift(items, gone, late)

        now = self.settings.clock()
        while True:
            if lanes.size:
                lanes.limit = self._limit(now, lanes)
            pause = lanes.wait(now)
            if pause > 0 and not (self.closing and lanes.size):
                return None, pause
            mixed = lanes.mixed
            items = lanes.cut(now, sift)
            if late:
                self._fill_up(items, late, gone)
                late.clear()
            if items:
                batch = Batch(items)
                reason = "full" if lanes.full else "waited" if lanes.waited else "free"
                self._count_cut(batch, now, reason)
                self.counts.apart += mixed and batch.size == 1
                return batch, pause

    def _cut_staged(self, queue: Queue) -> tuple[Batch | None, float]:
        """Cut what was staged as it came, if nothing about it is special; else put it into lanes.

        Most batches are of that kind, and lanes cost as much as all else about them.
        """
        staged, lanes = queue.staged, queue.lanes
        now, count = self.settings.clock(), min(len(staged), self.limit)
        if self.door.bound and not lanes.size:
            came = staged[0][3]  # `at` of a call
            if count > 1 or self.running or came < self.door.ran_until:
                lanes.overlap()
            full = count >= self.limit
            pause = 0.0 if full or self.closing else lanes.hold(came, now)
            if pause > 0:
                return None, pause
            take = staged.popleft
            calls = [take() for _ in range(count)]
            batch = Batch(calls)
            try:
                ready = self._is_ready(batch, now)
            except BaseException:  # of lanes that cannot be compared: somebody must tell them
                staged.extendleft(reversed(calls))
                raise
            if ready:
                waited = 0 < self.settings.max_wait <= now - came
                if waited:
                    lanes.held(alone=count == 1 and not staged)
                self.running += count
                self._untold += count
                self.counts.calls += count
                self._count_cut(batch, now, "full" if full else "waited" if waited else "free")
                return batch, 0.0
            staged.extendleft(reversed(calls))
        self.door.stage(queue, busy=self.running > 0)
        return None, 0.0

    def _is_ready(self, batch: Batch, now: float) -> bool:
        """Say whether all can run together, are waited for and will be in time."""
        alike = batch.lanes.count(batch.lanes[0]) == batch.size
        left = True in [sink.done() for sink in batch.sinks]
        return alike and not left and (batch.plain or self._all_in_time(batch, now))

    def _all_in_time(self, batch: Batch, now: float) -> bool:
        """Say whether all can probably be answered before their time is over."""
        first: float = min(batch.dues)
        if first == math.inf or not batch.known:
            return batch.known
        return first > now + self.pace.reach(batch.size)

    def _limit(self, now: float, lanes: Lanes[Item]) -> float:
        settings = self.settings
        if settings.slo is None or (settings.form.pads and not settings.form.sized):
            return self.limit
        head = lanes.head()
        left = head.at + settings.slo - now
        if head.due < math.inf:  # and no NaN
            left = min(left, head.due - now)
        return min(self.limit, self.pace.cap(self.door.load, left))

    def _sift(self, items: list[Item], gone: list[Gone], late: list[Item]) -> list[Item]:
        """Tell apart who runs, who is gone, and who would probably be answered too late."""
        kept: list[Item] = []
        reach = -1.0
        for item in items:
            left = math.inf
            try:
                if item.scope is not None:
                    left = item.scope.remaining()
            except BaseException as error:  # noqa: BLE001 - of one caller's clock, which is its own
                gone.append((item, self.broken(error)))
                continue
            if left < math.inf and reach < 0:
                reach = self._reach()
            if left <= 0:
                gone.append((item, self._expired("passed in")))
            elif item.sink.done():
                gone.append((item, None))
            elif left < reach:
                late.append(item)
            else:
                kept.append(item)
        return kept

    def _reach(self) -> float:
        """Return how many seconds one should have left to go with the next batch."""
        if self.settings.form.measures:
            return self.pace.reach(self._usual)
        return self.pace.reach(min(self.limit, self.door.queued))

    def _fill_up(self, batch: list[Item], late: list[Item], gone: list[Gone]) -> None:
        """Let those who would be late run where there is room, the latest first."""
        bounded = self.settings.form.bounded
        while late and (not batch or bounded([*batch, late[-1]]) <= self.limit):
            batch.append(late.pop())
        gone.extend(
            (item, self._expired("would pass before the answer came from")) for item in late
        )

    def _expired(self, how: str) -> DeadlineExceeded:
        return DeadlineExceeded(f"the deadline {how} the queue of {self.settings.name!r}")

    def _count_gone(self, gone: Sequence[Gone]) -> None:
        left = sum(error is None for _, error in gone)
        self.counts.abandoned += left
        self.counts.expired += len(gone) - left

    def _count_cut(self, batch: Batch, now: float, reason: str) -> None:
        if batch.plain or not batch.warming:
            self.counts.releases["drain" if self.closing and reason != "full" else reason] += 1
            self.counts.queued.since(now, batch.ats)

    def ran(
        self, batch: Batch, seconds: float, errors: int, *, failed: bool, warming: bool
    ) -> None:
        """Count one run of the model, under the lock, and learn what it cost."""
        form, counts, size = self.settings.form, self.counts, batch.size
        self.running -= size
        if not failed:
            self._usual = form.taken(batch) * batch.copies
            self.pace.costs.observe(self._usual, seconds)
            self.reruns.refill()
        if warming:
            return
        counts.batches += 1
        counts.items += size
        counts.errors += errors
        counts.sizes[(size - 1).bit_length()] += 1
        counts.ran.add(seconds)
        if form.pads:
            counts.room += form.measure(batch.items)
            counts.used += sum(item.size for item in batch.items)

    def halve_limit(self, batch: Batch) -> None:
        """Let no batch be larger than half of one that took more memory than there is."""
        half = int(self.settings.form.bounded(batch.items) * batch.copies / 2)
        with self.lock:
            self.limit = self.pace.limit = max(1, min(self.limit, half))

    def dismiss(self, gone: Sequence[Gone]) -> None:
        """Tell those who are not served."""
        sinks, loops = [item.sink for item, _ in gone], [item.loop for item, _ in gone]
        fail(sinks, loops, [error for _, error in gone])
        self.landed(len(gone))

    def still_waiting(self, items: list[Item]) -> list[Item]:
        """Return those of a failed batch who wait on; the others are told."""
        gone: list[Gone] = []
        with self.lock:
            late: list[Item] = []
            kept = self._sift(items, gone, late) + late
        if gone:
            self.dismiss(gone)
        return kept

    def refuse(self, queue: Queue) -> int:
        """Fail all that is queued, and say how much of it was still waited for."""
        gone: list[Gone] = []
        late: list[Item] = []
        with self.lock:
            items = self._clear(queue)
            waiting = self._sift(items, gone, late) + late
            self._count_gone(gone)
        error = Closed(f"{self.settings.name!r} was closed before it ran")
        self.dismiss([*gone, *((item, own(error)) for item in waiting)])
        return len(waiting)

    def fail(self, queue: Queue, failure: Exception) -> None:
        """Fail all that is queued, where nobody will run it."""
        with self.lock:
            items = self._clear(queue)
        self.dismiss([(item, own(failure)) for item in items])

    def put_back(self, queue: Queue, items: Sequence[Item]) -> None:
        """Queue again those who were taken and not run, since another's run hangs."""
        with self.lock:
            for item in reversed(items):
                self.door.seat_again(item, queue)
            self._untold -= len(items)
        queue.wake()

    def _clear(self, queue: Queue) -> list[Item]:
        items = queue.lanes.clear()
        self.door.leave(items)
        items += self.door.unstage(queue)
        guests = self.door.dismiss(queue)
        for other in self.door.seat():
            other.wake()
        self._untold += len(items) + len(guests)
        return items + guests

    def landed(self, count: int) -> None:
        """Note that so many were told how it ended, and tell who waits for the last."""
        with self.lock:
            self._untold -= count
            if not self._emptied or self._untold or self.door.waiting():
                return
            emptied, self._emptied = self._emptied, []
        deliver([(sink, None, None) for sink in emptied])

    def when_empty(self, sink: Sink) -> None:
        """Settle a sink when everything accepted has ended."""
        with self.lock:
            self._emptied.append(sink)
        self.landed(0)

    def broken(self, error: BaseException) -> RuntimeError:
        """Say that something around the model failed, of which no caller could be told better."""
        failure = RuntimeError(f"{self.settings.name!r} could not finish a batch")
        failure.__cause__ = error
        return failure

    def stats(self, blocked_loop: int) -> BatcherStats:
        """Take a snapshot."""
        with self.lock:
            stats = self.counts.snapshot(self.door.waiting(), self.running, blocked_loop)
            return stats._replace(calls=stats.calls + self.door.held() - self.door.queued)
