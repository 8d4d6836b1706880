"""Running the model for flights: on the caller's thread, on one it can leave, or in a task."""

from __future__ import annotations

import math
from contextvars import Context
from typing import Any

from modelserve.cache._flight import Abandoned, Flight
from modelserve.cache._table import Table
from modelserve.cache._witness import Witness
from modelserve.predictor import Primitive, ThreadSink, aio, crowd_of, hop
from modelserve.request import Request, in_scope

Leads = list[tuple[Flight, Any]]
"""Flights that fill together, and the input of each; they share one run."""


class Filler:
    """What runs the model of one cache. Whatever happens, every flight lands."""

    def __init__(self, part: Primitive[Any, Any], table: Table, witness: Witness) -> None:
        self._part = part
        self._table = table
        self._witness = witness

    def lead(self, leads: Leads, sink: ThreadSink, scope: Request | None) -> bool:
        """Run on this thread; with a deadline, on one that can be left: then wait for the sink."""
        if scope is None or scope.remaining() == math.inf:
            self._fill(leads)
            return False
        shared = leads[0][0].run.scope
        shared.depth += 1
        try:
            hop(sink, self._fill, leads, self._part.name, crowd_of(self._table), scope=shared)
        except BaseException:
            self.abandon(leads)
            raise
        return True

    def spawn(self, leads: Leads) -> None:
        """Run in a task of nobody's own; cancelled before its first step, it is landed as well."""

        def ended(task: Any) -> None:
            if task.cancelled() or task.exception() is not None:
                self.abandon(leads)

        aio.spawn(self._afill(leads)).add_done_callback(ended)

    def abandon(self, leads: Leads) -> None:
        """Land flights that nobody runs any more."""
        self._table.fail([flight for flight, _ in leads], Abandoned())

    def _fill(self, leads: Leads) -> None:
        run = leads[0][0].run
        self._witness.begin(run)
        try:
            ys = Context().run(in_scope, run.scope, self._ask, [x for _, x in leads])
            self._table.land([flight for flight, _ in leads], ys)
        except Exception as error:  # noqa: BLE001 - for everybody who waits
            self._table.fail([flight for flight, _ in leads], error)
        except BaseException:
            self.abandon(leads)
            raise

    def _ask(self, xs: list[Any]) -> list[Any]:
        if len(xs) == 1:
            return [self._part(xs[0])]
        return list(self._part.map(xs, return_exceptions=True))

    async def _afill(self, leads: Leads) -> None:
        run = leads[0][0].run
        self._witness.begin(run)
        try:
            with run.scope:
                ys = await self._aask([x for _, x in leads])
            self._table.land([flight for flight, _ in leads], ys)
        except Exception as error:  # noqa: BLE001 - for everybody who waits
            self._table.fail([flight for flight, _ in leads], error)
        except BaseException:  # also when what is left on a closed loop is collected
            self.abandon(leads)
            raise

    async def _aask(self, xs: list[Any]) -> list[Any]:
        if len(xs) == 1:
            return [await self._part.acall(xs[0])]
        return [y async for y in self._part.amap(xs, return_exceptions=True)]
