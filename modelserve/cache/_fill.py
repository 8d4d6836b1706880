"""Running the model for flights: on the caller's thread, on one it can leave, or in a task."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import Context
from typing import Any

from modelserve.cache._flight import Abandoned, Flight
from modelserve.cache._table import Marks, Table
from modelserve.predictor import Primitive, ThreadSink, aio, hop
from modelserve.request import Request, in_scope

Leads = list[tuple[Flight, Any]]
"""Flights that fill together, and the input of each; they share one scope."""


class Filler:
    """What runs the model of one cache. Whatever happens, every flight lands."""

    def __init__(self, part: Primitive[Any, Any], table: Table, marks: Callable[[], Marks]) -> None:
        self._part = part
        self._table = table
        self._marks = marks

    def lead(self, leads: Leads, sink: ThreadSink, scope: Request | None) -> bool:
        """Run on this thread; with a deadline, on one that can be left: then wait for the sink."""
        if scope is None or scope.remaining() == math.inf:
            self._fill(leads)
            return False
        shared = leads[0][0].scope
        shared.depth += 1
        try:
            hop(sink, self._fill, leads, self._part.name, scope=shared)
        except BaseException:
            self.abandon(leads)
            raise
        return True

    def spawn(self, leads: Leads) -> None:
        """Run in a task of nobody's own; cancelled, even before its first step, it is landed."""

        def ended(task: Any) -> None:
            if task.cancelled() or task.exception() is not None:
                self.abandon(leads)

        aio.spawn(self._afill(leads)).add_done_callback(ended)

    def abandon(self, leads: Leads) -> None:
        """Land flights that nobody runs any more."""
        self._table.fail([flight for flight, _ in leads], Abandoned())

    def _fill(self, leads: Leads) -> None:
        flights = [flight for flight, _ in leads]
        try:
            before = self._marks()
            ys = Context().run(in_scope, flights[0].scope, self._run, [x for _, x in leads])
        except Exception as error:  # noqa: BLE001 - for everybody who waits
            self._table.fail(flights, error)
        except BaseException:
            self.abandon(leads)
            raise
        else:
            self._land(flights, ys, before)

    def _run(self, xs: list[Any]) -> list[Any]:
        if len(xs) == 1:
            return [self._part(xs[0])]
        return list(self._part.map(xs, return_exceptions=True))

    async def _afill(self, leads: Leads) -> None:
        flights = [flight for flight, _ in leads]
        try:
            before = self._marks()
            with flights[0].scope:
                ys = await self._arun([x for _, x in leads])
        except Exception as error:  # noqa: BLE001 - for everybody who waits
            self._table.fail(flights, error)
        else:
            self._land(flights, ys, before)

    async def _arun(self, xs: list[Any]) -> list[Any]:
        if len(xs) == 1:
            return [await self._part.acall(xs[0])]
        return [y async for y in self._part.amap(xs, return_exceptions=True)]

    def _land(self, flights: list[Flight], ys: list[Any], before: Marks) -> None:
        many = len(flights) > 1
        for flight, y in zip(flights, ys, strict=True):
            failed = many and isinstance(y, Exception)
            self._table.land(flight, None if failed else y, y if failed else None, before)
