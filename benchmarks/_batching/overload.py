"""Three times what a device can do, by callers who leave at a deadline: what is still answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import NamedTuple

from _batching.adapters import within
from _batching.device import MAX_BATCH_SIZE, Device, at_device, open_loop
from _batching.fleet import Answer, Fleet, own, rounds
from _batching.limits import Call
from _batching.oracle import poisson, quantile
from _batching.tables import Row, Table, at_least, at_most, judged, note, of, shown, sum_up, worst
from _batching.waits import WAIT

FIXED, PER_ITEM = 0.010, 0.0005
TIMES, DEADLINE = 3.0, 0.1
SETTLED = 1.0
"""Seconds of each run that are not counted, in which a batcher finds its balance."""

TOLERATED = 0.005
"""Seconds after its deadline at which an item may start, since it was cut before: as long as a
thread may wait for the interpreter (``sys.getswitchinterval``)."""


class Overload(NamedTuple):
    """What came of it; shares of 1, rates a second, times in microseconds."""

    saturated: float
    """Answers a second to callers enough for two full batches, without a deadline."""
    goodput: float
    """Answers a second in time."""
    of_saturated: float
    of_capacity: float
    """Goodput, as a share of what the device does with nothing but full batches."""
    expired: int
    """Items that started after their callers' deadline."""
    wasted: float | None
    """The share of the items run whose caller got no answer in time."""
    refused: float
    """The share of the calls that were turned away, rather than let go at the deadline."""
    refusal_p50: float | None
    refusal_p99: float | None


class Caller:
    """One caller's fate."""

    __slots__ = ("ended", "started", "verdict")

    def __init__(self) -> None:
        self.started = self.ended = 0.0
        self.verdict = "never asked"

    @property
    def took(self) -> float:
        """Seconds from the call to what came of it."""
        return self.ended - self.started

    def in_time(self) -> bool:
        """Whether there was an answer before the deadline."""
        return self.verdict == "answered" and self.took <= DEADLINE


async def overload(adapter: str, *, seconds: float, seed: int) -> Overload:
    """Measure one batcher."""
    wait = 0.0 if adapter.startswith("modelserve") else WAIT
    async with at_device(adapter, FIXED, PER_ITEM, max_wait=wait, deadline=DEADLINE) as (
        device,
        call,
    ):
        await saturate(call, 0.2)
        saturated = await saturate(call, 1.0)
        capacity = device.capacity()
        device.forget()
        arrivals = poisson(TIMES * capacity, seconds, seed)
        callers = [Caller() for _ in arrivals]
        ask = within(adapter, call, DEADLINE)

        async def live(index: int) -> float:
            caller = callers[index]
            caller.started = time.perf_counter()
            try:
                assert await ask(index) == index
                caller.verdict = "answered"
            except TimeoutError:
                caller.verdict = "let go"
            except AssertionError:
                raise
            except Exception:  # noqa: BLE001 - each has errors of its own
                caller.verdict = "refused"
            caller.ended = time.perf_counter()
            return caller.ended

        began, _ = await open_loop(arrivals, live)
        return Ended(device, began, callers, seconds).judge(saturated, capacity)


async def saturate(call: Call, seconds: float) -> float:
    """Give the answers a second to callers who ask again at once, or soon if turned away."""
    over = time.perf_counter() + seconds
    answered = 0

    async def ask() -> None:
        nonlocal answered
        while time.perf_counter() < over:
            try:
                await call(0)
                answered += 1
            except Exception:  # noqa: BLE001 - each has errors of its own
                await asyncio.sleep(0.001)

    await asyncio.gather(*(ask() for _ in range(2 * MAX_BATCH_SIZE)))
    return answered / seconds


class Ended(NamedTuple):
    """A run of overload, its times in seconds since it began."""

    device: Device
    began: float
    callers: list[Caller]
    seconds: float

    def counts(self, at: float) -> bool:
        """Whether something that happened then counts."""
        return SETTLED <= at - self.began < self.seconds

    def judge(self, saturated: float, capacity: float) -> Overload:
        """Count the answers, the runs and the refusals after the first second."""
        callers = self.callers
        ran = [
            (callers[index], run.start)
            for run, items in zip(self.device.runs, self.device.items, strict=True)
            for index in items
            if self.counts(run.start)
        ]
        ended = [caller for caller in callers if self.counts(caller.ended)]
        refused = [caller.took * 1e6 for caller in ended if caller.verdict == "refused"]
        goodput = sum(caller.in_time() for caller in ended) / (self.seconds - SETTLED)
        return Overload(
            saturated=saturated,
            goodput=goodput,
            of_saturated=goodput / max(1, saturated),
            of_capacity=goodput / capacity,
            expired=sum(start - c.started > DEADLINE + TOLERATED for c, start in ran),
            wasted=sum(not caller.in_time() for caller, _ in ran) / len(ran) if ran else None,
            refused=len(refused) / max(1, len(ended)),
            refusal_p50=quantile(refused, 0.5) if refused else None,
            refusal_p99=quantile(refused, 0.99) if refused else None,
        )


def tables(fleet: Fleet, names: list[str], number: int, *, quick: bool) -> Iterator[Table]:
    """Ask everybody, ours with and without ``slo``."""

    def ask(name: str, index: int) -> Answer:
        return fleet.ask(name, "overload", 60, seconds=2.0 if quick else 4.0, seed=index)

    names = ["modelserve, slo", *names]
    asked = rounds(names, number, ask)
    answers = {name: own(name, trips) for name, trips in asked.items()}
    title = f"overload: {TIMES:g} x the capacity, deadline {DEADLINE * 1e3:g} ms"
    yield Table(title, [_row(name, answers[name]) for name in names])
    ours = [name for name in names if name.startswith("modelserve")]
    yield Table(
        f"{title}, judged", [row for name in ours for row in _verdicts(name, answers[name])]
    )


def _row(name: str, answers: list[Answer]) -> Row:
    columns = {
        "in time/s": "goodput",
        "x saturated": "of_saturated",
        "x capacity": "of_capacity",
        "started late": "expired",
        "wasted": "wasted",
        "refused": "refused",
        "refusal us, p50": "refusal_p50",
        "p99": "refusal_p99",
    }
    figures = {column: shown(sum_up(of(answers, field))) for column, field in columns.items()}
    return {"contestant": name, **figures, "note": note(answers)}


def _verdicts(name: str, answers: list[Answer]) -> Iterator[Row]:
    targets = {
        "of_saturated": ("goodput, x saturated rate", at_least(0.95)),
        "expired": ("items started after their deadline, at worst", at_most(0)),
        "wasted": ("share of work wasted", at_most(0.02)),
        "refusal_p50": ("refusal, p50 us", at_most(100)),
        "refusal_p99": ("refusal, p99 us", at_most(100)),
    }
    for field, (what, target) in targets.items():
        values = of(answers, field)
        value = worst(values) if field == "expired" else sum_up(values)
        if value is not None or not field.startswith("refusal"):  # there may be none
            yield {"contestant": name, **judged(what, value, target)}
