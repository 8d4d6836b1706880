"""Tasks that have nothing to do: they park, end when nothing comes, and are replaced."""

import asyncio
import gc
from concurrent.futures import Future

import pytest

import modelserve as ms
from modelserve.batcher._core import Core
from modelserve.batcher._item import Item
from modelserve.batcher._tasks import IDLE, LoopQueue
from modelserve.predictor import FutureSink
from tests.batcher.asking import as_async, run, same
from tests.support import virtual
from tests.support.virtual import explore

SEEDS = range(20)


def timed(seconds):
    """Make a batch function that takes some time."""

    async def predict(xs):
        await asyncio.sleep(seconds)
        return xs

    return predict


def test_tasks_stay_for_what_comes_soon_and_end_when_nothing_does():
    p = ms.DynamicBatcher(timed(0.1), max_batch_size=1, workers=2)

    async def main():
        tasks = []
        for _ in range(3):
            assert await asyncio.gather(p.acall([1]), p.acall([2])) == [[1], [2]]
            await asyncio.sleep(IDLE / 2)
            tasks.append(asyncio.all_tasks())
        await asyncio.sleep(2 * IDLE)
        assert await p.acall([3]) == [3]
        return tasks, asyncio.all_tasks()

    tasks, left = virtual.run(main)
    assert len(tasks[0]) == 3  # main and two
    assert tasks[0] == tasks[1] == tasks[2]
    assert len(left) == 2
    assert len(left & tasks[0]) == 1  # main


def test_a_parked_task_that_is_cancelled_leaves_its_place_to_another():
    p = ms.DynamicBatcher(as_async(same))

    async def main():
        assert await p.acall(1) == 1
        [parked] = asyncio.all_tasks() - {asyncio.current_task()}
        parked.cancel()
        assert await p.acall(2) == 2
        await asyncio.wait({parked})

    run(main)


def test_a_parked_task_that_was_cancelled_is_not_told_to_end():
    p = ms.DynamicBatcher(timed(0.1), max_batch_size=1, workers=2)

    async def main():
        assert await asyncio.gather(p.acall(1), p.acall(2)) == [1, 2]
        [one, other] = asyncio.all_tasks() - {asyncio.current_task()}
        one.cancel()
        await asyncio.sleep(3 * IDLE)
        assert one.cancelled()
        assert other.done()
        assert not other.cancelled()
        assert await p.acall(3) == 3

    explore(main, SEEDS)


def test_a_batcher_dropped_while_its_tasks_were_parked_leaves_nothing_behind():
    async def main():
        p = ms.DynamicBatcher(as_async(same))
        assert await p.acall(1) == 1
        del p
        gc.collect()
        await asyncio.sleep(2 * IDLE)  # the look whether they are tired finds nobody
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual.run(main)


def test_parked_tasks_end_with_a_batcher_that_was_dropped():
    async def main():
        p = ms.DynamicBatcher(as_async(same))
        assert await p.acall(1) == 1
        [parked] = asyncio.all_tasks() - {asyncio.current_task()}
        del p
        gc.collect()
        await asyncio.wait({parked})
        assert not parked.cancelled()

    run(main)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_pushed_after_the_last_look_is_run(workers):
    """Between the last step of a task and its farewell, any thread may push."""
    settings = ms.DynamicBatcher(as_async(same), workers=workers)._settings
    core = Core(settings, ms.predictor(as_async(same)))
    core.closing = True  # so that a task that finds nothing ends at once
    future = Future()

    async def main():
        loop = asyncio.get_running_loop()
        queue = LoopQueue(core, loop)
        core.door.add(queue)
        queue.look()
        [task] = asyncio.all_tasks() - {asyncio.current_task()}
        item = Item("x", FutureSink(future), None, 0.0, None)
        loop.call_soon(queue.staged.append, item)  # after the step that finds nothing
        await asyncio.sleep(0)
        assert task.done()
        return await asyncio.wrap_future(future)

    assert run(main) == "x"


@pytest.mark.parametrize("looks_before", [1, 2], ids=["as it is cut", "as it is run"])
def test_a_clock_that_breaks_ends_no_call_in_silence_and_no_batcher(looks_before):
    looks = iter([0.0] * looks_before + [OSError("the clock is broken")])

    def clock():
        look = next(looks, 0.0)
        if isinstance(look, Exception):
            raise look
        return look

    batcher = ms.DynamicBatcher(as_async(same), clock=clock, name="timed")

    async def main():
        with pytest.raises(RuntimeError, match="'timed' could not finish a batch") as caught:
            await batcher.acall("first")
        assert isinstance(caught.value.__cause__, OSError)
        assert await batcher.acall("second") == "second"

    run(main)
