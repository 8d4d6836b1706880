"""Replicas itself: counting who is in progress where."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, final, overload

from modelserve._policy.choice import least
from modelserve.predictor import (
    Primitive,
    Spec,
    Together,
    lift,
    on_fork,
    refuse_on_loop,
)
from modelserve.request import Note, current
from modelserve.typing import In, Out


class ReplicasStats(NamedTuple):
    """Calls in all and by replica, and those in progress by replica."""

    calls: int
    shares: tuple[int, ...]
    outstanding: tuple[int, ...]


@final
class Replicas(Together[In, Out]):
    """Several replicas of one model behind one predictor.

    Each call goes to the replica with the fewest calls in progress; those that tie take turns. The
    replicas answer alike, as loaders of one model on several devices or sessions do, each under a
    ``name`` of its own. An error is the caller's: no other replica is asked.

    Raises ValueError without replicas.

    >>> import modelserve as ms
    >>> model = ms.Replicas(str.upper, str.upper, name="shout")
    >>> model("a"), model("b"), model.stats.shares
    ('A', 'B', (1, 1))
    """

    kind = "Replicas"

    @overload
    def __init__(
        self, *replicas: Callable[[In], Awaitable[Out]], name: str | None = None
    ) -> None: ...
    @overload
    def __init__(self, *replicas: Callable[[In], Out], name: str | None = None) -> None: ...
    def __init__(self, *replicas: Callable[[Any], Any], name: str | None = None) -> None:
        if not replicas:
            raise ValueError("no replicas: pass predictors one by one, as in Replicas(a, b)")
        self._replicas: tuple[Primitive[In, Out], ...] = tuple(map(lift, replicas))
        parts = {str(i): part for i, part in enumerate(self._replicas)}
        spec = Spec(Replicas, self._replicas, {"name": name})
        super().__init__(name or f"{self._replicas[0].name}-replicas", parts, spec)
        self._shares = [0] * len(parts)
        self._turn = 0
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """Forget the calls of threads that the child does not have."""
        self._lock = threading.RLock()  # garbage that ends a call may be collected under it
        self._outstanding = [0] * len(self._replicas)

    @property
    def stats(self) -> ReplicasStats:
        """A snapshot of what happened so far."""
        with self._lock:
            shares, outstanding = tuple(self._shares), tuple(self._outstanding)
        return ReplicasStats(sum(shares), shares, outstanding)

    def _take(self, calls: int) -> tuple[int, list[int]]:
        """Choose a replica for so many calls, and count them in progress there.

        The counts are handed out too: a forked child has others.
        """
        scope = current()
        with self._lock:
            outstanding = self._outstanding
            index = least(outstanding, self._turn)
            self._turn += 1
            outstanding[index] += calls
            if scope is None or not scope.warming:
                self._shares[index] += calls
        if scope is not None and not scope.warming:
            scope.trail.append(Note(self.name, "replica", index))
        return index, outstanding

    def _give(self, index: int, outstanding: list[int], calls: int) -> None:
        with self._lock:
            outstanding[index] -= calls

    def _check(self) -> None:
        if self.life.closed:
            raise self.closed_error()

    def __call__(self, x: In, /) -> Out:
        """Answer by the replica that has the least to do."""
        if self.is_async:
            refuse_on_loop(self.name)
        self._check()
        index, counted = self._take(1)
        try:
            return self._replicas[index](x)
        finally:
            self._give(index, counted, 1)

    async def acall(self, x: In, /) -> Out:
        """Answer by the replica that has the least to do, without blocking the event loop."""
        self._check()
        index, counted = self._take(1)
        try:
            return await self._replicas[index].acall(x)
        finally:
            self._give(index, counted, 1)

    def many(self, chunk: list[In]) -> list[Out | Exception]:
        """Answer for a chunk by one replica."""
        index, counted = self._take(len(chunk))
        try:
            return list(self._replicas[index].map(chunk, return_exceptions=True))
        finally:
            self._give(index, counted, len(chunk))

    async def amany(self, chunk: list[In]) -> list[Out | Exception]:
        """Answer for a chunk by one replica, without blocking the event loop."""
        index, counted = self._take(len(chunk))
        try:
            many = self._replicas[index].amap(chunk, return_exceptions=True)
            return [y async for y in many]
        finally:
            self._give(index, counted, len(chunk))

    def summary(self) -> str:
        """Counts by replica in a few words."""
        stats = self.stats
        shares = ", ".join(f"{n:,}" for n in stats.shares)
        return f"{stats.calls:,} calls ({shares})"
