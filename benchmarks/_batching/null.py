"""A model that does nothing, asked by callers that each wait for their answer: what is overhead."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from _batching.adapters import ADAPTERS
from _batching.fleet import Answer, Fleet, rounds
from _batching.limits import Call
from _batching.tables import (
    Figure,
    Row,
    Table,
    Target,
    Values,
    at_least,
    at_most,
    differences,
    judged,
    note,
    of,
    ratios,
    shown,
    sum_up,
)
from _batching.waits import WAIT

Judgement = tuple[str, Figure | None, Target | None]
Trip = dict[str, dict[int, Answer]]
KINDS = {"async on the loop": True, "sync in a thread": False}
CALLERS = LONE, CROWD, THRONG = (1, 64, 512)
WAITS = (0.0, WAIT)


class Cost(NamedTuple):
    """What one request took: microseconds of CPU in all threads, and requests a second."""

    cpu_us: float
    rate: float
    batch: float
    """Requests a batch."""


class Null:
    """Models that return what they get, and count."""

    def __init__(self) -> None:
        self.batches = 0

    def sync(self, xs: Any) -> Any:
        self.batches += 1
        return xs

    async def on_loop(self, xs: Any) -> Any:
        self.batches += 1
        return xs


async def closed_loop(call: Call, callers: int, calls: int) -> None:
    """Have each caller ask its share of ``calls``, one by one, and check every answer."""

    async def ask(xs: range) -> None:
        for x in xs:
            if await call(x) != x:
                raise AssertionError("a caller got the answer of another")

    share = max(1, calls // callers)
    await asyncio.gather(*(ask(range(i * share, (i + 1) * share)) for i in range(callers)))


async def null(adapter: str, *, is_async: bool, callers: int, calls: int, max_wait: float) -> Cost:
    """Measure one batcher."""
    model = Null()
    fn = model.on_loop if is_async else model.sync
    make = ADAPTERS[adapter]
    async with make(fn, max_batch_size=64, max_wait=max_wait, is_async=is_async) as call:
        await closed_loop(call, callers, max(callers, calls // 10))
        gc.collect()
        gc.freeze()
        model.batches, cpu, wall = 0, time.process_time(), time.perf_counter()
        await closed_loop(call, callers, calls)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        gc.unfreeze()
    done = max(1, calls // callers) * callers
    return Cost(cpu / done * 1e6, done / wall, done / model.batches)


def calls_of(callers: int, max_wait: float, *, quick: bool) -> int:
    """Fit the number of calls to a fraction of a second."""
    calls = 20_000 if callers > 1 else 200 if max_wait else 2_000
    return calls // 5 if quick else calls


def tables(fleet: Fleet, names: list[str], number: int, *, quick: bool) -> Iterator[Table]:
    """Set everybody beside the limit of the same moment, for each kind of function and wait."""
    names = ["limit", "modelserve", "modelserve, in a request", *names[1:]]
    for kind, is_async in KINDS.items():
        for max_wait in WAITS:

            def ask(
                name: str, _: int, plan: tuple[bool, float] = (is_async, max_wait)
            ) -> dict[int, Answer]:
                is_async, max_wait = plan
                return {
                    callers: fleet.ask(
                        name,
                        "null",
                        60,
                        is_async=is_async,
                        callers=callers,
                        max_wait=max_wait,
                        calls=calls_of(callers, max_wait, quick=quick),
                    )
                    for callers in CALLERS
                }

            trips = rounds(names, number, ask, beside=["limit", "modelserve"])
            most = at_most(1.6 if is_async else 1.5)
            rows = [_row(name, n, trips[name], most) for n in CALLERS for name in names]
            yield Table(f"null model, {kind}, max_wait={max_wait * 1e3:g} ms", rows)


def _row(name: str, callers: int, trips: list[Trip], most: Target) -> Row:
    def of_one(who: str, field: str, n: int = callers) -> Values:
        return of([trip[who][n] for trip in trips], field)

    cpu, rate = of_one(name, "cpu_us"), of_one(name, "rate")
    if callers == LONE:
        by = ratios(of_one("limit", "rate"), rate)
    else:
        by = ratios(cpu, of_one("limit", "cpu_us"))
    judgement: Judgement = ("", None, None)
    if name == "modelserve":
        kept = ratios(rate, of_one(name, "rate", CROWD))
        judgement = {
            LONE: ("time, x limit", sum_up(by), at_most(1.7)),
            CROWD: ("CPU, x limit", sum_up(by), most),
            THRONG: ("rate, x that of 64", sum_up(kept), at_least(0.9)),
        }[callers]
    elif name != "limit" and callers == CROWD:
        ours = of_one("modelserve", "cpu_us")
        if name == "modelserve, in a request":
            added = sum_up(differences(cpu, ours))
            judgement = ("CPU us more than without", added, at_most(2.8))
        else:
            least = at_least(1 if name == "BentoML" else 3)
            judgement = ("CPU, x modelserve", sum_up(ratios(cpu, ours)), least)
    return {
        "callers": callers,
        "contestant": name,
        "CPU us": shown(sum_up(cpu)),
        "requests/s": shown(sum_up(rate)),
        "x limit": shown(sum_up(by)),
        **judged(*judgement),
        "note": note([trip[name][callers] for trip in trips]),
    }
