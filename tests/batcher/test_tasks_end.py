import asyncio
import gc
import warnings

import pytest

import modelserve as ms
from modelserve.testing import AsyncGatedPredictor
from tests.batcher.asking import LIMIT, as_async, run, same


def test_calls_in_flight_when_a_loop_ends_are_told_and_the_next_loop_works():
    gate = AsyncGatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=1, name="rank")
    futures = []

    async def leave():
        futures.extend(p.submit(n) for n in range(3))
        await gate.await_entered(1)

    run(leave)

    errors = [future.exception(LIMIT) for future in futures]
    assert [type(error) for error in errors] == [ms.Closed] * 3
    assert str(errors[0]) == "the event loop ended while 'rank' ran"
    assert len({id(error) for error in errors}) == 3
    gate.open()
    assert run(lambda: p.acall("again")) == "again"
    p.close(timeout=LIMIT)


def test_a_task_cancelled_before_its_first_step_leaves_nobody_waiting():
    p = ms.DynamicBatcher(as_async(same))

    async def leave():
        futures = [p.submit(n) for n in range(3)]
        [task] = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        return futures

    futures = run(leave)

    assert [type(future.exception(LIMIT)) for future in futures] == [ms.Closed] * 3
    assert run(lambda: p.acall("again")) == "again"
    p.close(timeout=LIMIT)


def test_a_held_back_batch_ends_with_its_loop():
    p = ms.DynamicBatcher(as_async(same), max_wait=3600.0)

    async def leave():
        future = p.submit("held")
        await asyncio.sleep(0)
        return future

    assert isinstance(run(leave).exception(LIMIT), ms.Closed)
    p.close(timeout=LIMIT)


def test_callers_that_ask_while_the_loop_ends_are_answered():
    p = ms.DynamicBatcher(as_async(same))
    answers = []

    async def main():
        async def at_last():
            try:
                await asyncio.Event().wait()
            finally:
                answers.append(await p.acall("bye"))

        asyncio.create_task(at_last())  # noqa: RUF006 - asyncio.run cancels it
        await asyncio.sleep(0)

    run(main)
    assert answers == ["bye"]


def test_an_interrupt_in_a_model_ends_the_loop_and_leaves_nobody_waiting():
    async def predict(xs):
        raise KeyboardInterrupt

    p = ms.DynamicBatcher(predict, max_batch_size=1)
    futures = []

    async def main():
        futures.extend(p.submit(n) for n in range(3))
        async with asyncio.timeout(LIMIT):
            await asyncio.get_running_loop().create_future()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())

    assert [type(future.exception(LIMIT)) for future in futures] == [ms.Closed] * 3


def closed_with_work(p, gate):
    """Run a loop, and close it by hand with one call running and one queued.

    Return their futures, and the tasks, which would end when they are collected.
    """
    loop = asyncio.new_event_loop()

    async def leave():
        futures = [p.submit(n) for n in range(2)]
        await gate.await_entered(1)
        return futures

    futures = loop.run_until_complete(leave())
    tasks = list(asyncio.all_tasks(loop))
    loop.set_exception_handler(lambda *_: None)  # of tasks that are destroyed
    loop.close()
    return futures, tasks


LOST = "'rank' lost 2 accepted calls: their event loop was closed"


def test_a_loop_closed_by_hand_loses_calls_and_says_so_when_the_batcher_is_closed():
    gate = AsyncGatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=1, name="rank")
    futures, _tasks = closed_with_work(p, gate)
    with pytest.warns(ResourceWarning, match=LOST):
        p.close(timeout=LIMIT)

    assert [type(future.exception(LIMIT)) for future in futures] == [ms.Closed] * 2
    assert (p.stats.queued, p._queues.core._untold) == (0, 0)


def test_what_a_closed_loop_leaves_suspended_answers_nobody_twice(caplog):
    held = [AsyncGatedPredictor()]
    p = ms.DynamicBatcher(through(held), max_batch_size=1, name="rank")
    _, tasks = closed_with_work(p, held[0])
    with pytest.warns(ResourceWarning, match=LOST):
        p.close(timeout=LIMIT)
    held.clear()
    tasks.clear()
    gc.collect()  # throws GeneratorExit into the coroutine that ran

    assert p._queues.core._untold == 0
    assert caplog.messages == []


def through(held):
    async def predict(xs):
        return await held[0](xs)

    return predict


def test_a_loop_closed_by_hand_loses_calls_and_says_so_when_another_loop_asks():
    gate = AsyncGatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=1, name="rank")
    futures, _tasks = closed_with_work(p, gate)
    gate.open()
    with pytest.warns(ResourceWarning, match=LOST):
        assert run(lambda: p.acall("again")) == "again"

    assert [type(future.exception(LIMIT)) for future in futures] == [ms.Closed] * 2
    p.close(timeout=LIMIT)


def test_a_dropped_batcher_says_what_a_closed_loop_took_along():
    held = [AsyncGatedPredictor()]
    held.append(ms.DynamicBatcher(held[0], max_batch_size=1, name="rank"))
    futures, tasks = closed_with_work(held[1], held[0])
    held.clear()
    tasks.clear()
    with pytest.warns(ResourceWarning, match="'rank' lost . accepted calls"):
        gc.collect()

    assert [type(future.exception(LIMIT)) for future in futures] == [ms.Closed] * 2


def test_nothing_lost_is_nothing_said():
    held = [ms.DynamicBatcher(as_async(same))]
    assert run(lambda: held[0].acall(1)) == 1
    held.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gc.collect() >= 0


def test_work_that_was_accepted_is_finished_though_the_batcher_is_dropped():
    async def main():
        future = asyncio.wrap_future(ms.DynamicBatcher(as_async(same)).submit(1))
        gc.collect()
        return await future

    assert run(main) == 1
