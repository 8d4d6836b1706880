"""A task that is cancelled takes along what it runs, and one that parks keeps nothing of it."""

import asyncio
import gc
import weakref

import pytest

import modelserve as ms
from tests.support.virtual import here, run


def test_the_call_of_the_model_ends_with_the_task_that_runs_it():
    seen = []

    async def predict(xs):
        try:
            await here().create_future()
        finally:
            seen.append(here().time())

    async def main():
        p = ms.DynamicBatcher(predict, max_run=100.0, clock=here().time)
        asking = asyncio.create_task(p.acall(1))
        await asyncio.sleep(1.0)
        [work] = [task for task in here().pending() if task.get_coro().__name__ == "_work"]
        work.cancel()
        with pytest.raises(ms.Closed):
            await asking
        await asyncio.sleep(1.0)
        return seen

    assert run(main) == [1.0]


class Unit(str):
    """Who asks, and can be seen to be forgotten."""

    __slots__ = ("__weakref__",)


def test_a_parked_task_forgets_who_asked():
    async def predict(xs):
        return xs

    async def main():
        p = ms.DynamicBatcher(predict, clock=here().time)
        unit = Unit("user-42")
        with ms.request(unit=unit, timeout=5.0):  # by another clock, so that the scope is asked
            assert await p.acall(1) == 1
        ref = weakref.ref(unit)
        del unit
        await asyncio.sleep(0.5)
        assert len(here().pending()) == 2
        gc.collect()
        return ref()

    assert run(main) is None
