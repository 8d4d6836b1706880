"""Random services in virtual time: a batcher, its callers and its model, drawn from one seed.

``Trial.play`` lets them run, and the oracle compares what happens with what may.
"""

import asyncio
import contextlib
import logging
import math
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np

import modelserve as ms
from modelserve.batcher import AsList, Pad
from modelserve.predictor import _life
from tests.batcher.oracle import NEVER, Batch, Call, Oracle, answer_to, item_of, number_of
from tests.support.virtual import here

IDLE = 10.0
"""Seconds after which nothing of a batcher may be left on its loop."""
WARM = -1
KINDS = ["fine"] * 12 + ["poison", "odd", "disk", "cancels", "short", "long", "none"]
HANGING = ["hangs", "stubborn"]


class Poison(Exception):
    """What a bad item raises."""


class Trusting:
    """A user's own layout, which counts nothing."""

    def lane(self, item):
        return None

    def join(self, items):
        return items

    def cut(self, result, items):
        return result or []


def weight(x):
    return 1 + number_of(x) % 4


class Trial:
    """One service with its callers and its model."""

    def __init__(self, fixed):
        loop = here()
        self.dice = loop.random
        self.now = loop.time
        self.options = {**self.drawn_options(), **fixed}
        self.memory = self.dice.choice([math.inf, math.inf, math.inf, 2])
        """How many items a batch may have before there is no memory for it."""
        self.kinds = KINDS if self.options["max_run"] is None else KINDS + HANGING
        self.lanes = [0, 0, 0, 1, 2]
        if isinstance(self.options["layout"], Pad):
            self.lanes = [1, 2, 5]
        self.calls = []
        self.batches = []
        self.events = []
        self.cut_short = False
        self.refused_warm = 0
        self.closed = NEVER, -NEVER
        self.oracle = Oracle(self)
        self.p = ms.DynamicBatcher(
            self.predict,
            name="service",
            clock=self.now,
            on_event=self.events.append,
            **self.options,
        )

    def drawn_options(self):
        pick = self.dice.choice
        return {
            "max_batch_size": pick([1, 2, 3, 8]),
            "max_wait": pick([0.0, 0.0, 1.0]),
            "max_queue_size": pick([3, 100, 100]),
            "max_queue_bytes": pick([100, 10_000, 10_000]),
            "overflow": pick(["reject", "reject", "wait"]),
            "workers": pick([1, 1, 2]),
            "slo": pick([None, None, None, 4.0]),
            "layout": pick([None, None, AsList(), Pad(mask=None, trim=True), Trusting()]),
            "size": pick([None, None, None, weight]),
            "max_run": pick([None, None, 2.0]),
            "on_error": pick(["isolate", "isolate", "batch"]),
        }

    # The model

    async def predict(self, xs):
        """Answer after a while, unless an item is bad or the whole batch is unlucky."""
        numbers = [number_of(x) for x in xs]
        batch = Batch([self.calls[number] for number in numbers if number != WARM], self.now())
        self.oracle.starts(batch, len(xs))
        self.batches.append(batch)
        try:
            if "hangs" in batch.kinds:
                await here().create_future()
            if "stubborn" in batch.kinds:
                with contextlib.suppress(asyncio.CancelledError):
                    await here().create_future()
            await asyncio.sleep(self.dice.choice([0.0, 1.0, 3.0]))
            if len(xs) > self.memory:
                self.oracle.takes_too_much(batch, len(xs))
                raise MemoryError
            return self.answers(batch, xs)
        finally:
            batch.ended = self.now()

    def answers(self, batch, xs):
        """Give what a batch comes to: its worst item decides."""
        if "poison" in batch.kinds:
            raise Poison
        if "cancels" in batch.kinds:
            raise asyncio.CancelledError
        if "disk" in batch.kinds:
            raise OSError(5, "disk")
        if "none" in batch.kinds:
            return None
        rows = [answer_to(x) for x in xs]
        if "odd" in batch.kinds:
            rows = [
                Poison() if call.kind == "odd" else row
                for call, row in zip(batch.calls, rows, strict=True)
            ]
        if "short" in batch.kinds:
            return rows[1:]
        if "long" in batch.kinds:
            return [*rows, rows[0]]
        return rows

    # The callers

    def drawn_calls(self):
        """Draw what one caller asks for: one item, or several by one ``amap``."""
        pick = self.dice.choice
        face = pick(["acall", "acall", "submit", "amap"])
        asked = {
            "timeout": pick([None, None, None, 0.5, 2.0]),
            "priority": pick([0, 0, 0, 1, -1]),
            "tenant": pick([None, None, "a", "b"]),
        }
        count = pick([1, 1, 4]) if face == "amap" else 1
        first = len(self.calls)
        calls = [
            Call(first + i, pick(self.kinds), pick(self.lanes), face, asked) for i in range(count)
        ]
        self.calls += calls
        return calls

    async def ask(self, calls):
        """Ask at a random time, and note how each call ended."""
        await asyncio.sleep(self.dice.randrange(8) / 2)
        asked = calls[0].asked
        for call in calls:
            call.deadline = self.now() + (asked["timeout"] or NEVER)
        try:
            clock = self.dice.choice([self.now, here().time])  # equal, and yet another object
            with ms.request(clock=clock, **asked) as r:
                await getattr(self, f"by_{calls[0].face}")(calls)
        except asyncio.CancelledError:
            for call in calls:
                if call.ending is None:
                    self.oracle.ended(call, "cancelled")
            raise
        if len(calls) == 1:
            self.oracle.recorded(calls[0], r.record)

    async def by_acall(self, calls):
        await self.one(calls[0], self.p.acall)

    async def by_submit(self, calls):
        await self.one(calls[0], lambda x: asyncio.wrap_future(self.p.submit(x)))

    async def one(self, call, ask):
        self.oracle.asks(call)
        try:
            y = await ask(item_of(call))
        except Exception as error:  # noqa: BLE001 - the oracle judges it
            y = error
        self.oracle.came(call, y)

    async def by_amap(self, calls):
        def xs():
            for call in calls:
                self.oracle.asks(call)
                yield item_of(call)

        waiting = iter(calls)
        async for y in self.p.amap(xs(), return_exceptions=True):
            self.oracle.came(next(waiting), y)

    # What happens around them

    async def close_and_open(self):
        """Close at a random time, in a random way, and open again."""
        await asyncio.sleep(self.dice.randrange(10) / 2)
        drain, timeout = self.dice.choice([(True, None), (True, 1.0), (False, None)])
        self.cut_short = not drain or timeout is not None
        self.closed = self.now(), NEVER
        await self.p.aclose(drain=drain, timeout=timeout)
        self.oracle.caps.clear()
        await self.p.aopen()
        self.closed = self.closed[0], self.now()

    async def warm(self):
        await asyncio.sleep(self.dice.randrange(10) / 2)
        try:
            await self.p.awarm(np.full(1, WARM))
        except ms.Overloaded:
            self.refused_warm = 1
        except (ms.BadInput, ms.Closed, ms.Stuck, MemoryError):
            return

    async def cancel_some(self, asking):
        for task, calls in asking:
            if self.dice.random() < 0.2:
                await asyncio.sleep(self.dice.random())
                for call in calls:
                    call.left = self.now()
                task.cancel()

    async def play(self):
        groups = [self.drawn_calls() for _ in range(self.dice.randrange(4, 13))]
        asking = [(asyncio.create_task(self.ask(calls)), calls) for calls in groups]
        tasks = [task for task, _ in asking]
        tasks.append(asyncio.create_task(self.cancel_some(asking)))
        if self.dice.random() < 0.3:
            tasks.append(asyncio.create_task(self.close_and_open()))
        if self.dice.random() < 0.1:
            tasks.append(asyncio.create_task(self.warm()))
        with silence(), patch.object(_life, "time", SimpleNamespace(monotonic=self.now)):
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in tasks:
                if not task.cancelled():
                    task.result()
            await asyncio.sleep(IDLE)  # for what runs on after its callers have left
            self.oracle.nothing_is_left()
            await self.p.aclose()
            await asyncio.sleep(IDLE)
            self.oracle.nothing_is_left()
        self.oracle.judge()


class Loud(logging.Handler):
    """Keeps what the library logs: only a user's broken hook or callback is worth a word."""

    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


@contextlib.contextmanager
def silence():
    """Check that nothing is logged."""
    loud, log = Loud(), logging.getLogger("modelserve")
    log.addHandler(loud)
    try:
        yield
    finally:
        log.removeHandler(loud)
    assert not loud.said


PLAIN = {
    "max_queue_bytes": 10_000,
    "overflow": "reject",
    "slo": None,
    "layout": None,
    "size": None,
}
"""Options with which calls are staged without a lock, as most batchers have them."""


def service(fixed):
    """Make what plays one trial, with some options fixed, and tells its story."""

    async def main():
        trial = Trial(fixed)
        await trial.play()
        return [repr(told) for told in (*trial.batches, *trial.calls)]

    return main


TRIALS = {
    "service": (service({}), {}),
    "service at a pace": (service({}), {"pace": 0.01}),
    "plain service": (service(PLAIN), {}),
}
"""What ``python -m tests.schedules`` explores: a coroutine function and options of its loop."""
