"""Poisson arrivals at a simulated device, set beside an oracle, and how much load it sustains."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

from _batching.device import MAX_BATCH_SIZE, Device, at_device, open_loop
from _batching.fleet import Answer, Fleet, own, rounds
from _batching.limits import Call
from _batching.null import closed_loop
from _batching.oracle import growth, measured, oracle, poisson, quantile
from _batching.tables import Row, Table, at_least, at_most, judged, note, of, shown, sum_up
from _batching.waits import variants

FIXED, PER_ITEM = 0.004, 0.00025
LOADS = (0.3, 0.6, 0.8, 0.9)
LOWEST, HIGHEST = 0.1, 1.0


class Served(NamedTuple):
    """Latencies of one trace, in milliseconds, beside the oracle's; and how the queue grew."""

    p50: float
    p99: float
    oracle_p99: float
    ratio: float
    batch: float
    """Items a batch."""
    grew: float
    """By how many calls more than the oracle's."""


class Sustained(NamedTuple):
    """The largest share of the capacity at which the queue did not grow."""

    share: float


async def serve(call: Call, device: Device, rate: float, seconds: float, seed: int) -> Served:
    """Feed one trace to a batcher, and then to the oracle with what the device then took."""
    arrivals = poisson(rate, seconds, seed)
    device.forget()

    async def ask(index: int) -> float:
        assert await call(index) == index
        return time.perf_counter()

    began, ends = await open_loop(arrivals, ask)
    mine = [end - began - arrival for end, arrival in zip(ends, arrivals, strict=True)]
    runs = [run._replace(start=run.start - began, end=run.end - began) for run in device.runs]
    best = oracle(arrivals, measured(runs, device.nominal), MAX_BATCH_SIZE)
    p99, oracle_p99 = quantile(mine, 0.99), quantile(best, 0.99)
    return Served(
        p50=quantile(mine, 0.5) * 1e3,
        p99=p99 * 1e3,
        oracle_p99=oracle_p99 * 1e3,
        ratio=p99 / oracle_p99,
        batch=statistics.fmean(run.size for run in runs),
        grew=growth(arrivals, mine, seconds) - growth(arrivals, best, seconds),
    )


async def served(
    adapter: str, *, load: float, seconds: float, seed: int, max_wait: float
) -> Served:
    """Measure one batcher at one load."""
    async with at_device(adapter, FIXED, PER_ITEM, max_wait=max_wait) as (device, call):
        await closed_loop(call, 64, 640)
        return await serve(call, device, load * device.capacity(), seconds, seed)


async def sustained(
    adapter: str, *, probes: int, seconds: float, seed: int, max_wait: float
) -> Sustained:
    """Find the largest load, by halving, whose queue grows by no more than a batch."""
    low, high = LOWEST, HIGHEST
    for probe in range(probes):  # each with a new batcher: some do not survive what was too much
        load = (low + high) / 2
        outcome = await served(
            adapter, load=load, seconds=seconds, seed=seed + probe, max_wait=max_wait
        )
        if outcome.grew <= MAX_BATCH_SIZE:
            low = load
        else:
            high = load
    return Sustained(low)


def tables(fleet: Fleet, names: list[str], number: int, *, quick: bool) -> Iterator[Table]:
    """Set everybody beside the oracle, load by load, and search for the load that each sustains."""
    asked_of = variants(names)
    seconds, probes = (1.0, 4) if quick else (2.5, 6)
    loads = LOADS[1::2] if quick else LOADS

    def ask_all(label: str, index: int) -> dict[float, Answer]:
        name, max_wait = asked_of[label]
        return {
            load: fleet.ask(
                name, "served", 60, load=load, seconds=seconds, seed=index, max_wait=max_wait
            )
            for load in loads
        }

    def ask_sustained(label: str, index: int) -> Answer:
        name, max_wait = asked_of[label]
        return fleet.ask(
            name, "sustained", 120, probes=probes, seconds=seconds, seed=index, max_wait=max_wait
        )

    title = f"simulated device: {FIXED * 1e3:g} ms a batch and {PER_ITEM * 1e3:g} ms an item"
    asked = rounds(list(asked_of), number, ask_all)
    yield Table(
        f"{title}, Poisson arrivals, p99 beside an oracle",
        [
            _row(label, load, [answer[load] for answer in own(label, trips)])
            for load in loads
            for label, trips in asked.items()
        ],
    )
    found = {
        label: own(label, trips)
        for label, trips in rounds(list(asked_of), max(1, number // 2), ask_sustained).items()
    }
    yield Table(
        f"{title}, share of its capacity sustained without a growing queue",
        [
            {
                "contestant": label,
                **judged(
                    "share of capacity",
                    sum_up(of(answers, "share")),
                    at_least(0.92) if label == "modelserve" else None,
                ),
                "note": note(answers),
            }
            for label, answers in found.items()
        ],
    )


def _row(label: str, load: float, answers: list[Answer]) -> Row:
    target = at_most(1.25) if label == "modelserve" else None
    return {
        "load": f"{load:.0%}",
        "contestant": label,
        "p50 ms": shown(sum_up(of(answers, "p50"))),
        "p99 ms": shown(sum_up(of(answers, "p99"))),
        "oracle's": shown(sum_up(of(answers, "oracle_p99"))),
        "a batch": shown(sum_up(of(answers, "batch"))),
        **judged("p99, x oracle", sum_up(of(answers, "ratio")), target),
        "note": note(answers),
    }
