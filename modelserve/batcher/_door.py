"""Who is let into the queue, who waits for room, and who is refused."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn, Protocol

from modelserve.batcher._item import Item, new_item
from modelserve.errors import Closed, Overloaded, Stuck, own

if TYPE_CHECKING:
    from modelserve._policy.lanes import Lanes
    from modelserve._policy.pace import Pace
    from modelserve.batcher._item import Fields
    from modelserve.batcher._settings import Settings
    from modelserve.batcher._stats import Counts
    from modelserve.predictor import Sink

CROWD = 1024
"""Calls that wait for room before it is first looked which of them have left."""


PATIENCE = 1e-6
"""Seconds of being late that are none: what rounding makes."""


class Queue(Protocol):
    """Where the items that run in one place wait: staged as they came, then in lanes."""

    lanes: Lanes[Item]
    staged: deque[Fields]

    def wake(self) -> None:
        """Have whoever is free look, on any thread, whether there is something to run."""


class Guest(NamedTuple):
    """A call that waits for room."""

    item: Item
    queue: Queue
    seated: Sink | None


class Door:
    """The bounds of one batcher's queues; who calls it holds the batcher's lock.

    Where nothing stands against it, a call is staged without the lock: as long as fewer than
    ``bound`` are queued and the item is ``small``, since as many small ones as may be queued are
    within the bound of bytes. With several queues none could tell how many are queued in all.
    """

    def __init__(self, settings: Settings, pace: Pace, counts: Counts) -> None:
        self.queued = 0
        """How many are in lanes."""
        self.load = 0.0
        """What they take of batches: their number, or their sizes."""
        self.staged: list[deque[Fields]] = []
        """What is staged in each of the queues."""
        self.ran_until = -math.inf
        """When the last run ended: who came before that came while others ran."""
        self.small = settings.max_queue_bytes / settings.max_queue_size
        self.bound = 0
        self._settings = settings
        self._pace = pace
        self._counts = counts
        self._large = self._bytes = 0
        """How many of the queued are not small, and their bytes."""
        self._closed = False
        self.hangs: Stuck | None = None
        """Why nobody is let in, where nobody could be served."""
        self._lobby: deque[Guest] = deque()
        self._crowd = CROWD
        self._paced = settings.slo is not None
        self._weighs = self._paced or settings.form.pads
        self._set_bound()

    def _set_bound(self) -> None:
        free = not (self._closed or self.hangs or self._large)
        settings = self._settings
        asks = settings.slo or settings.waits or settings.form.measures
        free = free and not asks and len(self.staged) <= 1
        self.bound = settings.max_queue_size if free else 0

    def add(self, queue: Queue) -> None:
        """Let calls come to one more queue."""
        self.staged.append(queue.staged)
        self._set_bound()

    def remove(self, queue: Queue) -> None:
        """Let no more calls come to a queue whose loop was closed."""
        self.staged = [staged for staged in self.staged if staged is not queue.staged]
        self._set_bound()

    def held(self) -> int:
        """How many are queued, staged ones among them."""
        return self.queued + sum(map(len, self.staged))

    def waiting(self) -> int:
        """How many are queued, or wait to be."""
        return self.held() + len(self._lobby)

    def hang(self, why: Stuck | None) -> None:
        """Let nobody in while nobody could be served."""
        self.hangs = why
        self._set_bound()

    def shut(self, *, closed: bool) -> None:
        """Let nobody in from now on, or everybody again."""
        self._closed = closed
        self._set_bound()

    def stage(self, queue: Queue, *, busy: bool) -> bool:
        """Put into lanes what was staged; say whether somebody should look."""
        staged = queue.staged
        look = False
        while staged:
            item = new_item(staged.popleft())
            look |= self._seat(item, queue, busy=busy or item.at < self.ran_until)
        return look

    def unstage(self, queue: Queue) -> list[Item]:
        """Take out what was staged, without a look at its lanes, which may not be comparable."""
        items: list[Item] = []
        while queue.staged:
            items.append(new_item(queue.staged.popleft()))
        self._counts.calls += len(items)
        return items

    def enter(self, item: Item, queue: Queue, seated: Sink | None, *, busy: bool) -> bool:
        """Queue a call, or have it wait for room; say whether somebody should look.

        ``seated`` is settled when it is queued. Raises Closed or Overloaded.
        """
        if not self._has_room(item):
            if len(self._lobby) >= self._crowd:
                self._thin_out()
            self._lobby.append(Guest(item, queue, seated))
            self._set_bound()
            return False
        look = self._seat(item, queue, busy=busy)
        if seated is not None:
            seated.settle(None, None)
        return look

    def let_in(
        self, item: Item, queue: Queue, seated: Sink | None, *, busy: bool
    ) -> tuple[bool, Exception | None]:
        """Queue what was staged, and then a call as ``enter`` does.

        Returns whether somebody should look, which may be for others where this one is refused.
        """
        look = self.stage(queue, busy=busy)
        try:
            return self.enter(item, queue, seated, busy=busy) or look, None
        except Exception as refusal:  # noqa: BLE001 - raised when others were seen to
            return look, refusal

    def _seat(self, item: Item, queue: Queue, *, busy: bool) -> bool:
        if item.scope is None or not item.scope.warming:
            self._counts.calls += 1
        self._add(item)
        return queue.lanes.push(item, item.lane, item.rank, busy=busy)

    def seat_again(self, item: Item, queue: Queue) -> None:
        """Queue a call before the others, which was taken already and not run."""
        self._add(item)
        queue.lanes.put_back(item, item.lane, item.rank)

    def _add(self, item: Item) -> None:
        self.queued += 1
        if self._weighs:
            self.load += item.size
        if item.nbytes:
            self._large += 1
            self._bytes += item.nbytes
            self._set_bound()

    def leave(self, items: Sequence[Item]) -> None:
        """Make room: these are queued no more."""
        self.queued -= len(items)
        if self._large:
            self._large -= sum(item.nbytes > 0 for item in items)
            self._bytes -= sum(item.nbytes for item in items)
            self._set_bound()
        if self._weighs:
            self.load -= sum(item.size for item in items) if self.queued else self.load

    def seat(self) -> list[Queue]:
        """Queue those who wait for room, as far as there is; return where somebody should look."""
        looks: list[Queue] = []
        while self._lobby:
            item, queue, seated = guest = self._lobby[0]
            left = item.sink.done()  # perhaps with a loop that has ended, where nobody would look
            if self._lack(item) and not left:
                break
            self._lobby.popleft()
            if left:
                self._let_go(guest)
                continue
            if self._seat(item, queue, busy=True):
                looks.append(queue)
            if seated is not None:
                seated.settle(None, None)
        self._set_bound()
        return looks

    def _thin_out(self) -> None:
        """Let go of those who have left while they waited for room, lest they pile up."""
        stay: deque[Guest] = deque()
        for guest in self._lobby:
            if guest.item.sink.done():
                self._let_go(guest)
            else:
                stay.append(guest)
        self._lobby = stay
        self._crowd = len(stay) * 2 + CROWD

    def _let_go(self, guest: Guest) -> None:
        self._counts.calls += 1
        self._counts.abandoned += 1
        if guest.seated is not None:
            guest.seated.settle(None, None)

    def dismiss(self, queue: Queue) -> list[Item]:
        """Take out all who wait for room in one queue."""
        guests = [guest for guest in self._lobby if guest.queue is queue]
        self._lobby = deque(guest for guest in self._lobby if guest.queue is not queue)
        self._set_bound()
        for guest in guests:
            if guest.seated is not None:
                guest.seated.settle(None, None)
        return [guest.item for guest in guests]

    def _has_room(self, item: Item) -> bool:
        """Say whether a call may be queued now, or else has to wait. Raises Closed, Overloaded."""
        if self._closed:
            name = self._settings.name
            raise Closed(f"{name!r} is closed: open it again with `with predictor:`")
        if self.hangs is not None:
            raise own(self.hangs)
        lack = self._lack(item)
        if lack is not None or self._lobby:
            if self._settings.waits and item.waits:
                return False
            self._refuse(lack or "full", item, self._pace.next_end(self._each()))
        if self._paced:
            now = self._settings.clock()
            left = math.inf if item.scope is None else item.scope.remaining()
            late = self._pace.lateness(now, self.load, item.size, left, self._each())
            if late > PATIENCE:
                self._refuse("late", item, late)
        return True

    def _each(self) -> float:
        """How long those who are queued are on average, where a batch is bounded by their number.

        Then batches cost by length all the same.
        """
        form = self._settings.form
        return self.load / self.queued if form.pads and not form.sized and self.load else 1.0

    def _lack(self, item: Item) -> Literal["full", "bytes"] | None:
        """Say what is lacking for an item to be queued; it fits where nothing is."""
        held = self.held()
        if held >= self._settings.max_queue_size:
            return "full"
        if not (self._large or item.nbytes) or not held:
            return None
        small = (held - self._large) * self.small
        after = self._bytes + small + (item.nbytes or self.small)
        return "bytes" if after > self._settings.max_queue_bytes else None

    def _refuse(
        self, why: Literal["full", "bytes", "late"], item: Item, after: float | None
    ) -> NoReturn:
        self._counts.refusals[why] += 1
        held = self.held()
        size = f"{item.nbytes:,} bytes" if item.nbytes else "one more"
        what = {
            "full": f"has {held} calls queued: raise max_queue_size, or ask less",
            "bytes": f"has no room for {size} beside {held} calls queued: raise max_queue_bytes, "
            "or ask less",
            "late": f"would answer {after or 0:.3g} s too late: ask less, or raise slo",
        }
        raise Overloaded(f"{self._settings.name!r} {what[why]}", retry_after=after, reason=why)
