"""What a batcher costs when nobody asks, and what it keeps."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from _batching.adapters import ADAPTERS
from _batching.fleet import Answer, Fleet, own, rounds
from _batching.null import KINDS, Null, closed_loop
from _batching.tables import Row, Table, at_least, at_most, judged, note, of, shown, sum_up
from _batching.waits import WAIT

MAX_QUEUE_SIZE = 1024
"""Our default."""

MAX_BATCH_SIZE = 64
SETTLED = 100_000
"""Requests after which what is bounded has reached its bound, such as windows of statistics."""


class Idle(NamedTuple):
    """CPU seconds a second."""

    share: float


class Stalled(NamedTuple):
    """Calls that wait for a model that does not answer, and megabytes more than before."""

    waiting: int
    megabytes: float


class Kept(NamedTuple):
    """What is there after many requests that was not there before them."""

    blocks: float
    """Blocks of the interpreter's memory, a thousand requests."""
    megabytes: float


def resident() -> float:
    """Return megabytes of memory in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def idle(adapter: str, *, is_async: bool, max_wait: float, seconds: float) -> Idle:
    """Measure an open batcher after some traffic."""
    model = Null()
    fn = model.on_loop if is_async else model.sync
    make = ADAPTERS[adapter]
    async with make(fn, max_batch_size=64, max_wait=max_wait, is_async=is_async) as call:
        await closed_loop(call, 64, 6_400)
        await asyncio.sleep(0.1)
        cpu = time.process_time()
        await asyncio.sleep(seconds)
        return Idle((time.process_time() - cpu) / seconds)


async def stalled(adapter: str, *, calls: int, max_wait: float) -> Stalled:
    """Let many calls come at a model that does not answer, and then answer all that were kept."""
    go = Event()

    def model(xs: Any) -> Any:
        go.wait()
        return xs

    make = ADAPTERS[adapter]
    async with make(
        model, max_batch_size=MAX_BATCH_SIZE, max_wait=max_wait, is_async=False
    ) as call:
        waiting: set[asyncio.Task[Any]] = set()
        before = resident()
        for x in range(calls):
            task = asyncio.create_task(call(x))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            task.add_done_callback(asyncio.Task.exception)
            if x % 100 == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        figures = Stalled(len(waiting), resident() - before)
        go.set()
        while waiting:
            await asyncio.wait(list(waiting))
    return figures


async def kept(adapter: str, *, calls: int, is_async: bool) -> Kept:
    """Count what many requests leave behind, beyond what the first of them did."""
    model = Null()
    fn = model.on_loop if is_async else model.sync
    make = ADAPTERS[adapter]
    async with make(fn, max_batch_size=64, max_wait=0.0, is_async=is_async) as call:
        await closed_loop(call, 64, SETTLED)
        gc.collect()
        blocks, memory = sys.getallocatedblocks(), resident()
        await closed_loop(call, 64, calls)
        gc.collect()
        return Kept((sys.getallocatedblocks() - blocks) / calls * 1e3, resident() - memory)


def tables(fleet: Fleet, names: list[str], number: int, *, quick: bool) -> Iterator[Table]:
    """Ask each question once or twice, and show that the last can catch a leak."""
    number = min(number, 2)
    rows: list[Row] = []
    for kind, is_async in KINDS.items():

        def ask_idle(name: str, _: int, *, is_async: bool = is_async) -> Answer:
            seconds = 0.5 if quick else 3.0
            wait = 0.0 if name == "modelserve" else WAIT
            return fleet.ask(name, "idle", 60, is_async=is_async, seconds=seconds, max_wait=wait)

        asked = rounds(names, number, ask_idle)
        rows += [_idle_row(name, kind, own(name, trips)) for name, trips in asked.items()]
    yield Table("an open batcher that nobody asks", rows)

    def ask_stalled(name: str, _: int) -> Answer:
        wait = 0.0 if name == "modelserve" else WAIT
        return fleet.ask(name, "stalled", 180, calls=10_000 if quick else 100_000, max_wait=wait)

    asked = rounds(names, 1, ask_stalled)
    rows = [_stalled_row(name, own(name, trips)) for name, trips in asked.items()]
    yield Table("arrivals at a stalled model", rows)

    calls, rows = 20_000 if quick else 1_000_000, []
    for kind, is_async in KINDS.items():
        for name in ("modelserve", "naive", "leaking control"):
            answers = [fleet.ask(name, "kept", 300, calls=calls, is_async=is_async)]
            rows += _kept_rows(name, kind, answers)
    yield Table(f"memory after {calls:,} requests", rows)


def _idle_row(name: str, kind: str, answers: list[Answer]) -> Row:
    share = sum_up(of(answers, "share"))
    target = at_most(0.001) if name == "modelserve" else None
    judgement = judged("share of a core", share, target)
    return {"contestant": name, "function": kind, **judgement, "note": note(answers)}


def _stalled_row(name: str, answers: list[Answer]) -> Row:
    waiting = sum_up(of(answers, "waiting"))
    target = at_most(MAX_QUEUE_SIZE + MAX_BATCH_SIZE) if name == "modelserve" else None
    return {
        "contestant": name,
        "MB more": shown(sum_up(of(answers, "megabytes"))),
        **judged("calls kept", waiting, target),
        "note": note(answers),
    }


def _kept_rows(name: str, kind: str, answers: list[Answer]) -> Iterator[Row]:
    control = name == "leaking control"
    judge_it = name != "naive"
    for what, field, bound in (
        ("blocks a thousand requests", "blocks", 1.0),
        ("MB more", "megabytes", 1.0),
    ):
        # What leaks must be seen to; by its blocks, since a short run hides megabytes.
        target = at_least(bound) if control else at_most(bound)
        judged_here = judge_it and not (control and field == "megabytes")
        yield {
            "contestant": name,
            "function": kind,
            **judged(what, sum_up(of(answers, field)), target if judged_here else None),
            "note": note(answers),
        }
