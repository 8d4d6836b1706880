import asyncio
import gc
from contextvars import ContextVar

import pytest

import modelserve as ms
from modelserve.batcher._tasks import IDLE, LoopQueue
from modelserve.predictor import background_loop
from modelserve.testing import AsyncGatedPredictor
from tests.batcher.asking import LIMIT, as_async, run, same
from tests.support import virtual
from tests.support.virtual import here

SEEDS = range(20)


def timed(batches, seconds=0.0):
    """Make a batch function that notes when it is called and with what, and takes some time."""

    async def predict(xs):
        batches.append((here().time(), list(xs)))
        await asyncio.sleep(seconds)
        return xs

    return predict


def at(p, *arrivals):
    """Ask for items at given times; return the answers and when each came."""

    async def ask(when, x):
        await asyncio.sleep(when)
        return await p.acall(x), here().time()

    return asyncio.gather(*(ask(when, x) for when, x in arrivals))


# Just in time


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lone_request_runs_alone_at_once(seed):
    async def main():
        batches = []
        p = ms.DynamicBatcher(timed(batches, 1.0), clock=here().time)
        assert await at(p, (3.0, "a"), (7.0, "b")) == [("a", 4.0), ("b", 8.0)]
        assert batches == [(3.0, ["a"]), (7.0, ["b"])]

    virtual.run(main, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_callers_accumulate_while_a_batch_runs(seed):
    async def main():
        batches = []
        p = ms.DynamicBatcher(timed(batches, 1.0), max_batch_size=3, clock=here().time)
        await at(p, (0.0, 0), *((n / 10, n) for n in range(1, 6)))
        assert batches == [(0.0, [0]), (1.0, [1, 2, 3]), (2.0, [4, 5])]

    virtual.run(main, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_max_wait_is_a_ceiling_from_the_first_item_on(seed):
    async def main():
        batches = []
        p = ms.DynamicBatcher(timed(batches), max_wait=1.0, max_batch_size=9, clock=here().time)
        await at(p, (2.0, "a"), (2.5, "b"), (2.75, "c"), (3.5, "d"))
        assert batches == [(3.0, ["a", "b", "c"]), (4.5, ["d"])]

    virtual.run(main, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_full_batch_does_not_wait(seed):
    async def main():
        batches = []
        p = ms.DynamicBatcher(timed(batches), max_wait=1.0, max_batch_size=2, clock=here().time)
        await at(p, (2.0, "a"), (2.5, "b"), (2.75, "c"))
        assert batches == [(2.5, ["a", "b"]), (3.75, ["c"])]

    virtual.run(main, seed=seed)


def test_items_that_come_after_a_batch_is_full_run_in_the_next():
    async def main():
        batches = []
        p = ms.DynamicBatcher(timed(batches), max_wait=1.0, max_batch_size=2, clock=here().time)
        futures = [p.submit("a")]
        await asyncio.sleep(0.5)
        futures += [p.submit(x) for x in "bcd"]  # while the task is held back, and once more
        assert [await asyncio.wrap_future(future) for future in futures] == list("abcd")
        assert batches == [(0.5, ["a", "b"]), (0.5, ["c", "d"])]

    virtual.run(main)


def test_a_full_batch_leaves_no_timer_behind():
    async def main():
        p = ms.DynamicBatcher(as_async(same), max_wait=9.0, max_batch_size=2, clock=here().time)
        await at(p, (0.0, "a"), (1.0, "b"))
        assert not any(
            timer.when() > 2 * IDLE for timer in here()._scheduled if not timer.cancelled()
        )

    virtual.run(main)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_clock_that_lags_behind_the_loop_is_waited_for(seed):
    async def main():
        batches = []
        p = ms.DynamicBatcher(
            timed(batches), max_wait=1.0, max_batch_size=9, clock=lambda: here().time() / 2
        )
        await at(p, (2.0, "a"))
        assert batches == [(4.0, ["a"])]

    virtual.run(main, seed=seed)


class Kinds:
    """A layout of lanes by the first letter."""

    def lane(self, item):
        return item[0]

    def join(self, items):
        return items

    def cut(self, result, items):
        return result


@pytest.mark.parametrize("seed", SEEDS)
def test_a_free_task_looks_after_what_another_leaves(seed):
    async def main():
        batches = []
        p = ms.DynamicBatcher(
            timed(batches, 10.0),
            max_wait=1.0,
            max_batch_size=2,
            workers=2,
            clock=here().time,
            layout=Kinds(),
        )
        await at(p, (0.0, "a1"), (0.25, "b1"), (0.5, "a2"))
        assert batches == [(0.5, ["a1", "a2"]), (1.25, ["b1"])]

    virtual.run(main, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_at_most_so_many_batches_run_at_once(seed):
    async def main():
        gate = AsyncGatedPredictor()
        p = ms.DynamicBatcher(gate, max_batch_size=1, workers=3, clock=here().time)
        asking = asyncio.gather(*map(p.acall, range(9)))
        await here_is_idle()
        assert (gate.peak, gate.entered) == (3, 3)
        gate.open()
        assert await asking == list(range(9))
        assert gate.peak == 3

    virtual.run(main, seed=seed)


async def here_is_idle():
    await asyncio.sleep(1)


# Who runs


def test_the_batch_function_runs_on_the_loop_that_calls_without_a_callers_variables():
    secret = ContextVar("secret", default="nobody's")
    seen = []

    async def predict(xs):
        seen.append((asyncio.get_running_loop(), secret.get()))
        return xs

    async def main():
        secret.set("ann's")
        assert await p.acall(1) == 1
        assert await p.acall(2) == 2
        return asyncio.get_running_loop()

    p = ms.DynamicBatcher(predict)
    loops = [run(main), run(main)]

    assert seen == [(loop, "nobody's") for loop in loops for _ in range(2)]


def test_callbacks_of_a_future_see_no_other_callers_variables():
    secret = ContextVar("secret", default="nobody's")
    seen = []

    async def main():
        p = ms.DynamicBatcher(as_async(same))
        secret.set("ann's")
        asking = asyncio.create_task(p.acall(1))
        await asyncio.sleep(0)
        p.submit(2).add_done_callback(lambda _: seen.append(secret.get()))
        asking.cancel()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(main)
    assert seen == ["nobody's"]


def test_a_thread_without_a_loop_has_its_calls_run_on_the_background_loop():
    ran_on = []

    async def predict(xs):
        ran_on.append(asyncio.get_running_loop())
        return xs

    p = ms.DynamicBatcher(predict)

    assert [p(1), p.submit(2).result(LIMIT)] == [1, 2]
    assert ran_on == [background_loop()] * 2


def test_a_loop_is_needed_as_long_as_it_has_work():
    gate = AsyncGatedPredictor()
    p = ms.DynamicBatcher(gate)

    async def main():
        assert not p.needs_this_loop()
        asking = asyncio.ensure_future(p.acall(1))
        await gate.await_entered(1)
        assert p.needs_this_loop()
        gate.open()
        assert await asking == 1
        assert not p.needs_this_loop()

    run(main)


def test_a_queue_whose_loop_is_gone_wakes_nobody():
    p = ms.DynamicBatcher(as_async(same))
    loop = asyncio.new_event_loop()
    queue = LoopQueue(p._queues.core, loop)
    loop.close()
    queue.wake()
    del loop
    gc.collect()
    queue.wake()

    assert queue._alive == 0


# Callers that leave


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cancelled_caller_hurts_nobody(seed):
    async def main():
        batches = []
        p = ms.DynamicBatcher(timed(batches, 1.0), max_batch_size=4, clock=here().time)
        first, *others = [asyncio.create_task(p.acall(n)) for n in range(4)]
        await asyncio.sleep(0.5)
        first.cancel()
        queued = asyncio.create_task(p.acall("never"))
        await asyncio.sleep(0)
        queued.cancel()
        assert await asyncio.gather(*others) == [1, 2, 3]
        await here_is_idle()
        assert first.cancelled()
        assert queued.cancelled()
        assert "never" not in [x for _, batch in batches for x in batch]
        assert p.stats.calls == 5 - (p.stats.items + p.stats.abandoned < 5)  # "never" may not ask

    virtual.run(main, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_callers_are_let_go_at_their_deadline_and_the_work_goes_on_for_the_others(seed):
    async def main():
        batches = []
        p = ms.DynamicBatcher(timed(batches, 2.0), clock=here().time)
        ended = []

        async def ask(x, timeout):
            with ms.request(timeout=timeout, clock=here().time):
                try:
                    return await p.acall(x)
                except ms.DeadlineExceeded:
                    ended.append((x, here().time()))

        assert await asyncio.gather(ask("a", 1.0), ask("b", None), ask("c", 5.0)) == [
            None,
            "b",
            "c",
        ]
        [(who, when)] = ended
        assert who == "a"
        assert 1.0 <= when <= 1.01
        assert p.stats.items == 3 - p.stats.expired

    virtual.run(main, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_ends_when_nobody_has_time_left(seed):
    async def main():
        cancelled = []

        async def predict(xs):
            try:
                await asyncio.sleep(100.0)
            except asyncio.CancelledError:
                cancelled.append(here().time())
                raise

        p = ms.DynamicBatcher(predict, clock=here().time)
        with ms.request(timeout=1.0, clock=here().time), pytest.raises(ms.DeadlineExceeded):
            await p.acall("a")
        await here_is_idle()
        assert len(cancelled) == 1
        assert cancelled[0] < 1.02
        assert p.stats.errors == 0

    virtual.run(main, seed=seed)
