"""What a pool does: loads on threads of their own, lets models go, and keeps to its budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextvars import Context
from typing import TYPE_CHECKING, Any, cast

from modelserve.errors import Closed, ModelLoadError, Overloaded, own
from modelserve.events import Admitted, Event, Evicted, LoadFailed, tell
from modelserve.pool._keeper import Keeper
from modelserve.pool._memory import give_back, resident, trim
from modelserve.pool._room import Room, overloaded
from modelserve.pool._scales import Scales
from modelserve.pool._stats import PoolStats
from modelserve.pool._weigh import EVERYWHERE
from modelserve.predictor import Sink, deliver, on_fork

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from modelserve._policy.eviction import Plan
    from modelserve.pool._seat import Seat
    from modelserve.pool._settings import Settings
    from modelserve.pool._weigh import Spaces


class Engine:
    """The loads and evictions of one pool."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.seats: dict[str, Seat] = {}
        self.scales = Scales(settings)
        self.room = Room(settings.budget, self.seats, settings.min_residency)
        self.closed = False
        self.loads = self.failures = self.evictions = self.refused = 0
        self.load_seconds = 0.0
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """Go on in the child with what is in memory there."""
        self.lock = threading.RLock()  # garbage that ends a lease may be collected under it
        self.changed = threading.Condition(self.lock)
        self._moves = self._moving = 0
        self._keeper: Keeper | None = None
        for seat in self.seats.values():
            seat.after_fork()

    def add(self, seat: Seat) -> None:
        """Take up a model."""
        with self.lock:
            self.seats[seat.name] = seat

    def stats(self) -> PoolStats:
        """Take a snapshot."""
        self.weigh_again()
        with self.lock:
            seats = list(self.seats.values())
            misses = sum(seat.misses.read() for seat in seats)
            return PoolStats(
                tuple(seat.name for seat in seats if seat.live is not None),
                dict.fromkeys(self.settings.budget, 0) | self.room.held(),
                sum(seat.calls.read() for seat in seats) - misses,
                misses,
                self.loads,
                self.failures,
                self.evictions,
                self.refused,
                self.load_seconds,
            )

    def weigh_again(self) -> None:
        """Bring the books up to what models weigh that their loaders have renewed since."""
        with self.lock:
            seats = list(self.seats.values())
        for seat in seats:
            found = Context().run(self.scales.weigh_again, seat)  # which no request asked for
            with self.lock:
                if found is not None and seat.live is not None:
                    kind, told, seat.nbytes = found
                    self.room.sizing.observe(seat.name, kind, told, seat.nbytes)

    def begin(self, seat: Seat, sink: Sink) -> None:
        """Hand over the predictor of a model; join the load in progress, or begin one."""
        with self.lock:
            if self.closed:
                raise Closed("the pool is closed: open it again with `with pool:`")
            live = seat.live
            first = live is None and seat.waiting is None
            if live is None:
                seat.waiting = seat.waiting or []
                seat.waiting.append(sink)
        if live is not None:
            sink.settle(live, None)
        elif first:
            self._spawn(self._bring, seat)

    def _spawn(self, work: Callable[..., None], seat: Seat, *args: Any) -> None:
        name = f"modelserve-pool-{seat.name}"
        thread = threading.Thread(target=work, args=(seat, *args), name=name, daemon=True)
        try:
            Context().run(thread.start)
        except RuntimeError:  # the system has no thread left
            work(seat, *args)

    def _bring(self, seat: Seat) -> None:
        """Load a model for all who wait for it."""
        live, failure = None, None
        try:
            live = self._try(seat)
        except BaseException as error:  # noqa: BLE001 - handed to everybody who waits
            failure = error
        with self.lock:
            seat.unpromise()
            waiting, seat.waiting = seat.waiting or [], None
            self.changed.notify_all()
        deliver((sink, live, None if failure is None else own(failure)) for sink in waiting)

    def _try(self, seat: Seat) -> Any:
        started = self.settings.clock()
        try:
            return self._load(seat, *self._find_room(seat))
        except BaseException as error:  # noqa: BLE001 - an exit too would end those who wait
            failure = self._failed(seat, error, self.settings.clock() - started)
            raise failure from failure.__cause__

    def _failed(self, seat: Seat, error: BaseException, seconds: float) -> BaseException:
        """Count and tell a failure, and return it as it may be shown."""
        with self.lock:
            if isinstance(error, Overloaded | Closed):
                self.refused += isinstance(error, Overloaded)
                return error
            if error is seat.error:  # told before: nothing was tried
                return error
            self.failures += 1
            failure = error
            if not isinstance(error, ModelLoadError):
                failure = ModelLoadError(
                    f"{seat.name!r} could not be loaded: "
                    f"{type(error).__name__} was raised on the way"
                )
                failure.__cause__ = error
            seat.fail(failure, self.settings.clock())
        self._tell(LoadFailed(seat.name, failure, seconds))
        return failure

    def _find_room(self, seat: Seat) -> tuple[str, Spaces | None, Spaces]:
        """Promise a load what it will take, and wait until that is free.

        Who must go is settled before anybody does: a load without room evicts nobody.
        """
        end = time.monotonic() + self.settings.max_wait
        self.weigh_again()
        kind, told = self.scales.told(seat)
        with self.lock:
            while (plan := self._promise(seat, kind, told)) is None:
                self._wait(seat, end)
            victims = [self.seats[name] for name in plan.victims]
            need = seat.promised
            self._dismiss(victims)
        self._see_out(victims, "room")
        with self.lock:
            while seat.drained is not None or not self.room.is_free(need):
                self._wait(seat, end)
            seat.loading = True
            return kind, told, dict(need)

    def _promise(self, seat: Seat, kind: str, told: Spaces | None) -> Plan | None:
        """Promise room and say who goes for it; None where it pays to wait for others' loads.

        Raises Overloaded or ModelLoadError where there will be none.
        """
        loading = [s for s in self.seats.values() if s.waiting is not None and s.promised_to]
        need = self.room.sizing.predict(seat.name, kind, told)
        if any(s.guessed for s in loading) or (need is None and loading):
            return None
        seat.guessed = need is None
        need = self.room.all_that_is_left() if need is None else need
        self.room.check(seat, need, "is expected to take")
        now = self.settings.clock()
        plan = self.room.plan(seat, need, now)
        if plan.short:
            if loading:
                return None
            raise overloaded(seat, need, plan)
        if plan.victims and seat.error is not None and now < seat.retry_at:
            raise seat.error
        seat.promised, seat.promised_to = need, True
        return plan

    def _wait(self, seat: Seat, end: float) -> None:
        """Wait until anything changes, for so long as a load may."""
        if self.closed:
            raise Closed("the pool was closed before the model was loaded")
        for each in self.seats.values():
            each.tell()  # loops may have closed on their calls
        left = end - time.monotonic()
        if left <= 0 or not self.changed.wait(left):
            raise Overloaded(
                f"{seat.name!r} found no room within {self.settings.max_wait:g} s: calls or loads "
                "of other models hold it",
                reason="room",
            )

    def _load(self, seat: Seat, kind: str, told: Spaces | None, expected: Spaces) -> Any:
        started = self.settings.clock()
        alone = self._move()
        before = self._resident()
        try:
            seat.open()
        except BaseException:
            self._moved(alone)
            raise
        seconds = self.settings.clock() - started
        try:
            after, alone = self._resident(), self._moved(alone)
            grown = None if before is None or after is None else max(after - before, 0)
            nbytes = self.scales.weigh(seat, told, grown, alone=alone, expected=expected)
            self._admit(seat, nbytes, seconds, kind, told)
        except BaseException:
            seat.close(drain=False)
            raise
        self._tell(Admitted(seat.name, expected, nbytes, seconds))
        return seat.part

    def _resident(self) -> int | None:
        """Return what the process holds, without what it could give back; None if not needed."""
        if self.settings.weigh is not None:
            return None
        trim()
        return resident()

    def _move(self) -> int:
        """Note that memory changes from now on; return what to hand back when it has."""
        with self.lock:
            self._moves += 1
            self._moving += 1
            return self._moves if self._moving == 1 else 0

    def _moved(self, began: int) -> bool:
        """Note that a change has ended; say whether it was the only one all the time."""
        with self.lock:
            self._moving -= 1
            return began == self._moves

    def _admit(
        self, seat: Seat, nbytes: Spaces, seconds: float, kind: str, told: Spaces | None
    ) -> None:
        """Let callers in, and others go if it takes more than was promised."""
        with self.lock:
            if self.closed:
                raise Closed("the pool was closed while the model was loaded")
            now = self.settings.clock()
            seat.unpromise()
            self.room.sizing.observe(seat.name, kind, told, nbytes)
            self.room.check(seat, nbytes, "takes")
            plan = self.room.plan(seat, nbytes, now)
            if plan.short:
                raise overloaded(seat, nbytes, plan)
            victims = [self.seats[name] for name in plan.victims]
            self._dismiss(victims)
            seat.admit(nbytes, now, seconds)
            self.loads += 1
            self.load_seconds += seconds
            self.changed.notify_all()
        self._see_out(victims, "room")
        self._watch()

    def _watch(self) -> None:
        """Have somebody look after those that may become idle."""
        with self.lock:
            if self._keeper is not None or not self._watched():
                return
            keeper = self._keeper = Keeper(self)
        keeper.start()

    def _dismiss(self, seats: Iterable[Seat]) -> None:
        for seat in seats:
            seat.dismiss()

    def _see_out(
        self, seats: Iterable[Seat], reason: Literal["room", "idle", "asked", "closed"]
    ) -> None:
        for seat in seats:
            self._spawn(self._let_go, seat, reason)

    def _let_go(self, seat: Seat, reason: Literal["room", "idle", "asked", "closed"]) -> None:
        """Close a model when its last call has ended, and free its bytes."""
        cast("threading.Event", seat.drained).wait()
        self._move()
        seat.close(drain=not seat.busy, returns=reason != "closed")
        give_back()
        with self.lock:
            self._moving -= 1
            gone, seat.nbytes, seat.drained = seat.nbytes, {}, None
            self.evictions += reason != "closed"
            self.changed.notify_all()
        self._tell(Evicted(seat.name, gone, reason))

    def evict(
        self, seats: Iterable[Seat], reason: Literal["room", "idle", "asked", "closed"]
    ) -> list[Seat]:
        """Begin to let models go; return those that are in memory and may go."""
        with self.lock:
            gone = [s for s in seats if s.live is not None and (reason == "closed" or not s.kept)]
            self._dismiss(gone)
        self._see_out(gone, reason)
        return gone

    def idle(self) -> list[Seat]:
        """Return the models that nobody has called for ``keep_alive`` seconds."""
        with self.lock:
            return [seat for seat, left in self._watched() if left <= 0]

    def spare(self, device: str) -> list[Seat]:
        """Return the models that hold memory of a device and that nobody calls now."""
        now, stay = self.settings.clock(), self.settings.min_residency
        with self.lock:
            return [
                seat
                for seat in self.seats.values()
                if (seat.nbytes.get(device) or seat.nbytes.get(EVERYWHERE))
                and not seat.busy
                and now - seat.since >= stay
            ]

    def have_gone(self, seats: list[Seat], timeout: float) -> bool:
        """Wait until models have been let go; say whether there were any and all have."""
        with self.changed:
            gone = self.changed.wait_for(lambda: not any(s.drained for s in seats), timeout)
        return bool(seats) and gone

    def _watched(self) -> list[tuple[Seat, float]]:
        """Return the models that will go when they are idle, and the seconds left to each."""
        now, keep_alive = self.settings.clock(), self.settings.keep_alive
        return [
            (seat, keep_alive if seat.busy else seat.used + keep_alive - now)
            for seat in self.seats.values()
            if keep_alive is not None and seat.live is not None and not seat.kept
        ]

    def next_look(self, keeper: Keeper) -> float | None:
        """Return the seconds until a model may be idle; None ends the keeper."""
        with self.lock:
            if self._keeper is not keeper:
                return None
            watched = [max(left, 0.0) for _, left in self._watched()]
            if not watched:
                self._keeper = None
            return min(watched, default=None)

    def close(self, timeout: float | None, *, drain: bool) -> None:
        """Let all models go, and no load begin."""
        with self.lock:
            self.closed = True
            keeper, self._keeper = self._keeper, None
            self.changed.notify_all()
        if keeper is not None:
            keeper.stop()
        self.evict(self.seats.values(), "closed")
        self.settle(self.seats.values(), timeout, drain=drain)

    def settle(self, seats: Iterable[Seat], timeout: float | None, *, drain: bool) -> None:
        """Wait until models have been let go; after ``timeout`` seconds, whoever calls them."""
        seats = list(seats)
        end = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            while drain and any(seat.in_motion for seat in seats):
                left = None if end is None else end - time.monotonic()
                if (left is not None and left <= 0) or not self.changed.wait(left):
                    break
            for seat in seats:
                if seat.drained is not None:
                    seat.drained.set()

    def _tell(self, event: Event) -> None:
        if self.settings.on_event is not None:
            tell(self.settings.on_event, event)
