"""The way into a model of a pool: it is there when one has come in, and stays until one leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, final

from modelserve.predictor import Counter, Primitive, ThreadSink, aio, running_loop
from modelserve.request import current

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from types import TracebackType

    from modelserve.pool._engine import Engine
    from modelserve.pool._seat import Seat


Inside: TypeAlias = "tuple[Primitive[Any, Any], int]"
"""The model, and how many forks there were when its caller came in."""


class Door:
    """How callers come into one model."""

    __slots__ = ("_blocked", "_engine", "_seat")

    def __init__(self, engine: Engine, seat: Seat, blocked: Counter) -> None:
        self._engine = engine
        self._seat = seat
        self._blocked = blocked

    def enter(self, calls: int) -> Inside:
        """Count so many calls in, or a lease if none; wait while the model is loaded.

        What was counted in is counted out by :meth:`leave`, which is told since when.
        """
        live = self._try(calls)
        if live is None and running_loop() is not None:
            self._blocked.add()
        while live is None:
            self._seat.refuse_itself()
            sink = ThreadSink()
            self._engine.begin(self._seat, sink)
            sink.wait(current(), self._seat.name)
            live = self._try(calls, missed=True)
        return live

    async def aenter(self, calls: int, loop: AbstractEventLoop) -> Inside:
        """Come in like :meth:`enter`, without blocking the event loop; leave by :meth:`aleave`."""
        live = self._try(calls, loop)
        while live is None:
            self._seat.refuse_itself()
            sink = aio.sink()
            self._engine.begin(self._seat, sink)
            await aio.wait(sink.future, current(), self._seat.name)
            live = self._try(calls, loop, missed=True)
        return live

    def _try(
        self, calls: int, loop: AbstractEventLoop | None = None, *, missed: bool = False
    ) -> Inside | None:
        seat = self._seat
        with self._engine.lock:  # who dismisses holds it too
            if seat.live is None:
                return None
            seat.leases += not calls
            for _ in range(calls):
                next(seat.enter)
            for _ in range(calls if missed else 0):
                seat.misses.add()
            if loop is not None and calls:
                seat.awaited.enter(loop)
                for _ in range(calls):
                    next(seat.exit)
            return seat.live, seat.forks

    def leave(self, calls: int, since: int) -> None:
        """Count out what was counted in, unless a fork since then made that nobody's."""
        seat = self._seat
        seat.used = self._engine.settings.clock()
        with self._engine.lock:
            if since != seat.forks:
                return
            for _ in range(calls):
                next(seat.exit)
            seat.leases -= not calls
            seat.tell()

    def aleave(self, calls: int, since: int, loop: AbstractEventLoop) -> None:
        """Count out what :meth:`aenter` counted in."""
        if not calls:
            self.leave(0, since)
            return
        seat = self._seat
        if since != seat.forks:
            return
        seat.used = self._engine.settings.clock()
        seat.awaited.leave(loop)
        if seat.live is None:
            seat.tell()


@final
class Lease:
    """A model that stays in memory while a ``with`` block lasts. Made by ``pool.lease(name)``.

    >>> import modelserve as ms
    >>> pool = ms.ModelPool(lambda name: str.upper, budget=1_000, weigh=lambda p: 10)
    >>> with pool.lease("shout") as shout:
    ...     shout("a"), pool.evict("shout")
    ('A', False)
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._since: list[int] = []

    def __enter__(self) -> Primitive[Any, Any]:
        """Load the model if it is not there, and keep it."""
        return self._kept(self._door.enter(0))

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Keep it no longer."""
        self._door.leave(0, self._since.pop())

    async def __aenter__(self) -> Primitive[Any, Any]:
        """Load the model if it is not there, without blocking the event loop, and keep it."""
        return self._kept(await self._door.aenter(0, aio.here()))

    def _kept(self, inside: Inside) -> Primitive[Any, Any]:
        live, since = inside
        self._since.append(since)
        return live

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Keep it no longer."""
        self._door.leave(0, self._since.pop())
