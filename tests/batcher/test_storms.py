"""Whatever happens, every accepted call ends once, with its own answer or its own error."""

import asyncio
import random
import threading
from collections import Counter

import pytest

import modelserve as ms
from modelserve.predictor._aio import TICK
from tests.batcher.asking import LIMIT, in_threads, run
from tests.support.virtual import explore, here

SCHEDULES = range(1200)


class Poison(Exception):
    """What a bad item raises."""


class Trial:
    """One random service in virtual time, and all that is known of it."""

    def __init__(self):
        self.dice = here().random
        self.options = {
            "max_batch_size": self.dice.choice([1, 2, 3, 8]),
            "max_wait": self.dice.choice([0.0, 0.0, 1.0]),
            "max_queue_size": self.dice.choice([3, 100]),
            "workers": self.dice.choice([1, 1, 2]),
        }
        self.p = ms.DynamicBatcher(self.predict, clock=here().time, **self.options)
        self.batches = []
        self.running = 0
        self.ended = {}
        self.left = {}
        self.cut_short = False

    async def predict(self, xs):
        """Answer after a while, unless an item is bad or the whole batch is unlucky."""
        now = here().time()
        self.batches.append(xs)
        self.running += 1
        assert self.running <= self.options["workers"], "too many batches at once"
        assert all(self.left.get(x, now) >= now for x in xs), "ran after its caller had left"
        try:
            await asyncio.sleep(self.dice.choice([0.0, 1.0, 3.0]))
            if any(x[1] == "poison" for x in xs):
                raise Poison
            if any(x[1] == "cancels" for x in xs):
                raise asyncio.CancelledError
            if any(x[1] == "disk" for x in xs):
                raise OSError(5, "disk")
            return [Poison() if x[1] == "odd" else ("answer", *x) for x in xs]
        finally:
            self.running -= 1

    async def ask(self, number):
        """Ask once, in a random way; note how it ended."""
        kind = self.dice.choice(["fine"] * 8 + ["poison", "odd", "disk", "cancels"])
        x = (number, kind)
        timeout = self.dice.choice([None, None, None, 0.5, 2.0])
        await asyncio.sleep(self.dice.randrange(8) / 2)
        deadline = here().time() + (timeout or 1e9)
        self.left[x] = deadline + 2 * TICK
        ending = "answer"
        try:
            with ms.request(timeout=timeout, clock=here().time):
                answer = await self.dice.choice([self.by_acall, self.by_submit, self.by_amap])(x)
            assert answer == ("answer", *x), "another caller's answer"
        except asyncio.CancelledError:
            self.left[x] = here().time()
            self.note(x, "cancelled")
            raise
        except Exception as error:  # noqa: BLE001 - checked below
            ending = self.checked(x, error, deadline)
        self.note(x, ending)

    def by_acall(self, x):
        return self.p.acall(x)

    async def by_submit(self, x):
        return await asyncio.wrap_future(self.p.submit(x))

    async def by_amap(self, x):
        [y] = [y async for y in self.p.amap([x])]
        return y

    def note(self, x, ending):
        assert x not in self.ended, "ended twice"
        self.ended[x] = ending

    def checked(self, x, error, deadline):
        """Check that an error is its caller's own, and give its name."""
        name = type(error).__name__
        shared = any("disk" in kinds(batch) for batch in self.batches if x in batch)
        cancels = any("cancels" in kinds(batch) for batch in self.batches if x in batch)
        allowed = {
            "Poison": x[1] in {"poison", "odd"},
            "OSError": shared,
            "RuntimeError": cancels,
            "DeadlineExceeded": here().time() >= deadline,
            "Closed": self.cut_short or self.p.life.closed,
            "Overloaded": self.options["max_queue_size"] < 100,
        }
        assert allowed.get(name), f"{x} ended with {error!r}"
        return name

    async def close_and_open(self):
        """Close at a random time, in a random way, and open again."""
        await asyncio.sleep(self.dice.randrange(10) / 2)
        drain, timeout = self.dice.choice([(True, None), (True, 1.0), (False, None)])
        self.cut_short = not drain or timeout is not None
        await self.p.aclose(drain=drain, timeout=timeout)
        await self.p.aopen()

    async def cancel_some(self, tasks):
        for task in tasks:
            if self.dice.random() < 0.2:
                await asyncio.sleep(self.dice.random())
                task.cancel()

    async def main(self):
        asking = [asyncio.create_task(self.ask(n)) for n in range(12)]
        around = [asyncio.create_task(self.cancel_some(asking))]
        if self.dice.random() < 0.3:
            around.append(asyncio.create_task(self.close_and_open()))
        await asyncio.gather(*asking, *around, return_exceptions=True)
        for task in (*asking, *around):
            if not task.cancelled():
                task.result()
        await asyncio.sleep(10)  # for what runs on after its callers have left
        await self.p.aclose()
        self.check()

    def check(self):
        """Compare the counts with what happened."""
        stats, ends = self.p.stats, Counter(self.ended.values())
        ran = {x for batch in self.batches for x in batch}
        assert all(len(batch) <= self.options["max_batch_size"] for batch in self.batches)
        assert (stats.queued, stats.refused) == (0, ends["Overloaded"])
        assert self.running == 0
        if here()._pace or self.cut_short:
            return  # between the cut and the call a deadline passed, or the function was closed
        assert stats.batches == len(self.batches)
        assert stats.items == sum(map(len, self.batches))
        not_run = stats.expired + stats.abandoned
        assert len(ran) + not_run <= stats.calls <= len(ran) + not_run + ends["Closed"]
        if not ends["cancelled"] and not ends["DeadlineExceeded"]:
            assert stats.errors == ends["Poison"] + ends["OSError"] + ends["RuntimeError"]
            assert not_run == 0


def kinds(batch):
    return {kind for _, kind in batch}


async def trial():
    await Trial().main()


def test_thousands_of_schedules_lose_swap_or_double_nothing():
    explore(trial, SCHEDULES)


def test_schedules_in_which_work_takes_time_lose_swap_or_double_nothing():
    explore(trial, range(300), pace=0.01)


# Threads, tasks and loops


def answer(x):
    return ("answer", x)


def stormy(xs):
    """Answer, unless an item is bad (or one in whose batch nobody is answered)."""
    if any(x % 97 == 1 for x in xs):
        raise Poison
    return [Poison() if x % 89 == 1 else answer(x) for x in xs]


async def astormy(xs):
    await asyncio.sleep(0)
    return stormy(xs)


def bad(x):
    return x % 97 == 1 or x % 89 == 1


class Storm:
    """Callers of every kind, who note how each call ended."""

    def __init__(self, p):
        self.p = p
        self.lock = threading.Lock()
        self.ends = Counter()

    def note(self, x, ending):
        if isinstance(ending, tuple):
            assert ending == answer(x)
            assert not bad(x)
        elif isinstance(ending, Poison):
            assert bad(x)
        with self.lock:
            self.ends[type(ending).__name__] += 1

    def by_call(self, xs):
        for x in xs:
            try:
                with ms.request(unit=str(x)) as r:
                    self.note(x, self.p(x))
                assert 1 <= r.record["storm.batch_size"] <= 8
            except Exception as error:  # noqa: BLE001 - checked by note
                self.note(x, error)

    def by_map(self, xs):
        for x, y in zip(xs, self.p.map(xs, return_exceptions=True), strict=True):
            self.note(x, y)

    def by_submit(self, xs):
        dice = random.Random(xs[0])  # noqa: S311 - who leaves is no secret
        futures = {x: self.p.submit(x) for x in xs}
        for x, future in futures.items():
            if dice.random() < 0.3 and future.cancel():
                self.note(x, None)
            else:
                self.note(x, future.exception(LIMIT) or future.result())

    def by_acall(self, xs):
        dice = random.Random(xs[0])  # noqa: S311 - as above

        async def ask(x):
            try:
                self.note(x, await self.p.acall(x))
            except asyncio.CancelledError:
                self.note(x, None)
            except Exception as error:  # noqa: BLE001 - checked by note
                self.note(x, error)

        async def main():
            tasks = [asyncio.create_task(ask(x)) for x in xs]
            await asyncio.sleep(0)
            for task in tasks:
                if dice.random() < 0.3:
                    task.cancel()
            await asyncio.gather(*tasks)

        run(main)

    def by_amap(self, xs):
        async def main():
            answers = self.p.amap(xs, return_exceptions=True)
            for x, y in zip(xs, [y async for y in answers], strict=True):
                self.note(x, y)

        run(main)


@pytest.mark.parametrize("predict", [stormy, astormy])
@pytest.mark.parametrize("max_wait", [0.0, 0.0001])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_storm_of_callers_of_every_kind_loses_swaps_or_doubles_nothing(
    predict, max_wait, workers
):
    p = ms.DynamicBatcher(
        predict, max_batch_size=8, max_wait=max_wait, workers=workers, name="storm"
    )
    storm = Storm(p)
    faces = [storm.by_call, storm.by_map, storm.by_submit, storm.by_acall, storm.by_amap] * 2
    in_threads(
        *(
            lambda k=k, face=face: face(range(1000 * k, 1000 * k + 150))
            for k, face in enumerate(faces)
        )
    )
    p.close(timeout=LIMIT)

    stats, ends = p.stats, storm.ends
    assert sum(ends.values()) == 150 * len(faces)
    assert set(ends) <= {"tuple", "Poison", "NoneType"}
    assert stats.calls == 150 * len(faces)
    assert (stats.queued, stats.refused, stats.expired) == (0, 0, 0)
    assert stats.abandoned <= ends["NoneType"]
    assert ends["Poison"] <= stats.errors <= ends["Poison"] + ends["NoneType"]
    assert stats.items >= stats.calls - stats.abandoned
