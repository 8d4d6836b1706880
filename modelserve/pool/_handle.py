"""What a pool hands out: predictors that stay good however often their models come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from modelserve.pool._door import Door, Lease
from modelserve.pool._stats import PooledStats
from modelserve.predictor import (
    PartHealth,
    Spec,
    Together,
    aio,
    hop,
    refuse_on_loop,
    running_loop,
    walk,
)
from modelserve.request import Request, current

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelserve.pool._engine import Engine
    from modelserve.pool._seat import Seat


@final
class Pooled(Together[Any, Any]):
    """A model of a :class:`~modelserve.ModelPool` as a predictor. Made by ``pool[name]``.

    A call loads the model if it is not in memory, and keeps it there until it ends. Closing lets
    the model go, unless it is leased or pinned. What the model is made of stands behind it and is
    no part of the tree: the pool opens and closes that.

    >>> import modelserve as ms
    >>> pool = ms.ModelPool({"shout": str.upper}.__getitem__, budget=1_000, weigh=lambda p: 10)
    >>> pool["shout"]("a"), pool["shout"].stats.loads
    ('A', 1)
    """

    kind = "Pooled"
    records = False

    def __init__(self, pool: Mapping[str, Pooled], engine: Engine, seat: Seat) -> None:
        super().__init__(seat.name, {}, Spec(_again, (pool,), {"name": seat.name}))
        self.level = seat.part.level
        self.is_async = seat.part.is_async
        self._pool = pool  # which lives as long as its predictors
        self._engine = engine
        self._seat = seat
        self._clock = engine.settings.clock
        self._door = Door(engine, seat, self.blocked_loop)
        self._quick = not self.is_async
        """Whether a call that finds its model has nothing else to look at."""

    @property
    def stats(self) -> PooledStats:
        """A snapshot of what happened so far."""
        seat, blocked = self._seat, self.blocked_loop.read()
        nbytes = sum(seat.nbytes.values())
        return PooledStats(seat.calls.read(), seat.misses.read(), seat.loads, nbytes, blocked)

    def __call__(self, x: Any, /) -> Any:
        """Answer by the model, which is loaded if it is not there."""
        seat = self._seat
        live = seat.live
        scope = current()
        if live is None or not self._quick or (scope is not None and scope.warming):
            return self._slowly(x, scope)
        leave = seat.exit  # another after a fork
        next(seat.enter)
        try:
            if seat.live is live:
                return live(x)
        finally:
            seat.used = self._clock()
            next(leave)
            if seat.live is None:
                seat.tell()
        return self._slowly(x, scope)  # it was let go between the two looks

    def _slowly(self, x: Any, scope: Request | None) -> Any:
        """Answer where there is more to look at: a load, the end, a call that does not count."""
        self._check()
        if self.is_async:
            refuse_on_loop(self.name)
        calls = _counted(scope)
        live, since = self._door.enter(calls)
        try:
            return live(x)
        finally:
            self._door.leave(calls, since)

    async def acall(self, x: Any, /) -> Any:
        """Answer by the model, without blocking the event loop while it is loaded."""
        self._check()
        calls, loop = _counted(current()), aio.here()
        live, since = await self._door.aenter(calls, loop)
        try:
            return await live.acall(x)
        finally:
            self._door.aleave(calls, since, loop)

    def _check(self) -> None:
        if self.life.closed:
            raise self.closed_error()

    def many(self, chunk: list[Any]) -> list[Any]:
        """Answer for a chunk, by a model that stays meanwhile."""
        try:
            self._check()
            live, since = self._door.enter(len(chunk))
        except Exception as error:  # noqa: BLE001 - given in place of each answer
            return [error] * len(chunk)
        try:
            return list(live.map(chunk, return_exceptions=True))
        finally:
            self._door.leave(len(chunk), since)

    async def amany(self, chunk: list[Any]) -> list[Any]:
        """Answer for a chunk, without blocking the event loop while the model is loaded."""
        loop = aio.here()
        try:
            self._check()
            live, since = await self._door.aenter(len(chunk), loop)
        except Exception as error:  # noqa: BLE001 - given in place of each answer
            return [error] * len(chunk)
        try:
            return [y async for y in live.amap(chunk, return_exceptions=True)]
        finally:
            self._door.aleave(len(chunk), since, loop)

    def summary(self) -> str:
        """Size and counts in a few words."""
        stats = self.stats
        there = f"{stats.nbytes:,} bytes" if self._seat.live is not None else "not in memory"
        pinned = ", pinned" if self._seat.pinned else ""
        return f"{there}{pinned}, {stats.calls:,} calls, {stats.loads:,} loads"

    def health(self) -> PartHealth:
        """Whether the model is there, comes when it is called, loads, or could not be loaded."""
        seat = self._seat
        if self.life.closed or self._engine.closed:
            return PartHealth("closed")
        if seat.live is not None:
            worst = (node.part.health() for node in walk(seat.part))
            return next((part for part in worst if part.state != "ready"), PartHealth("ready"))
        if seat.waiting is not None:
            return PartHealth("loading")
        if seat.error is not None:
            return PartHealth("failed", str(seat.error))
        return PartHealth("cold")

    def warm(self, x: Any) -> None:
        """Load the model, and send an input down all of it."""
        with Lease(self._door) as live:
            live.warm(x)

    async def awarm(self, x: Any) -> None:
        """Warm like :meth:`warm`, without blocking the event loop."""
        async with Lease(self._door) as live:
            await live.awarm(x)

    def start(self) -> None:
        """Load the model."""
        with Lease(self._door):
            self._quick = not self.is_async

    async def astart(self) -> None:
        """Load the model without blocking the event loop."""
        async with Lease(self._door):
            self._quick = not self.is_async

    def needs_this_loop(self) -> bool:
        """Whether an awaited call is in progress on the loop of this thread."""
        return self._seat.awaited.is_on(running_loop())

    def stop(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        """Let the model go, when its calls have ended."""
        self._quick = False
        self._engine.settle(self._engine.evict([self._seat], "asked"), timeout, drain=drain)

    async def astop(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        """Let the model go, without blocking the event loop while its calls end."""
        sink = aio.sink()
        hop(sink, lambda _: self.stop(drain, timeout), None, self.name)
        await sink.future


def _counted(scope: Request | None) -> int:
    """How many calls one is: none while warming."""
    return 0 if scope is not None and scope.warming else 1


def _again(pool: Mapping[str, Pooled], *, name: str) -> Pooled:
    return pool[name]
