"""A simulated device, and callers that come whether or not the last was answered."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from threading import Lock, Thread
from typing import Any, Self

from _batching import slot
from _batching.adapters import ADAPTERS
from _batching.limits import Call
from _batching.oracle import Run

MAX_BATCH_SIZE = 32
PATIENCE = 1.0
"""Seconds."""


class Device:
    """One slot; a batch costs a fixed time and one an item, and none of this process's CPU."""

    def __init__(self, fixed: float, per_item: float) -> None:
        self.fixed = fixed
        self.per_item = per_item
        self.runs: list[Run] = []
        self.items: list[Any] = []
        self._turn = Lock()
        self._slot = subprocess.Popen(  # noqa: S603 - our own
            [sys.executable, "-I", slot.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, after the batch that may still run."""
        with self._turn:
            self._slot.communicate()

    def nominal(self, n: int) -> float:
        """Return the seconds that a batch of ``n`` is meant to take."""
        return self.fixed + n * self.per_item

    def __call__(self, xs: Sequence[int]) -> list[int]:
        """Run a batch; note when, and which items."""
        asked, answers = self._slot.stdin, self._slot.stdout
        assert asked is not None
        assert answers is not None
        with self._turn:
            asked.write(slot.ask.pack(self.nominal(len(xs))))
            asked.flush()
            start, end = slot.answer.unpack(answers.read(slot.answer.size))
            self.runs.append(Run(start, end, len(xs)))
            self.items.append(list(xs))
        return list(xs)

    def capacity(self, batches: int = 20) -> float:
        """Measure items a second with nothing but full batches."""
        before = len(self.runs)
        for _ in range(batches):
            self([0] * MAX_BATCH_SIZE)
        seconds = sum(run.end - run.start for run in self.runs[before:])
        return batches * MAX_BATCH_SIZE / seconds

    def forget(self) -> None:
        """Begin anew."""
        self.runs, self.items = [], []


@asynccontextmanager
async def at_device(
    adapter: str, fixed: float, per_item: float, **options: Any
) -> AsyncIterator[tuple[Device, Call]]:
    """Set a batcher before a new device."""
    with Device(fixed, per_item) as device:
        async with ADAPTERS[adapter](
            device, max_batch_size=MAX_BATCH_SIZE, is_async=False, **options
        ) as call:
            yield device, call


async def open_loop(
    arrivals: Sequence[float], ask: Callable[[int], Coroutine[Any, Any, float]]
) -> tuple[float, list[float]]:
    """Have ``ask(i)`` started at each arrival; give when time 0 was, and what they returned.

    A thread keeps the times, since a loop's own timers are a millisecond late. Who has no answer
    ``PATIENCE`` after the last arrival has it then: what collapses need not be waited for.
    """
    loop = asyncio.get_running_loop()
    asked: list[asyncio.Task[float]] = []
    context, over = copy_context(), loop.create_future()
    began = time.perf_counter() + 0.01

    def launch(index: int) -> None:
        asked.append(loop.create_task(ask(index)))

    def feed() -> None:
        for index, arrival in enumerate(arrivals):
            wait = began + arrival - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            loop.call_soon_threadsafe(launch, index, context=context)
        loop.call_soon_threadsafe(over.set_result, None)

    feeder = Thread(target=feed, daemon=True)
    feeder.start()
    await over
    done, late = await asyncio.wait(asked, timeout=PATIENCE)
    now = time.perf_counter()
    for task in late:
        task.cancel()
    return began, [task.result() if task in done else now for task in asked]
