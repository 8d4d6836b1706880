"""The schedule explorer finds what it should, and nothing else."""

import asyncio
import contextlib
import gc
import itertools
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.virtual import Deadlock, Unseen, VirtualLoop, _Future, explore, here, run

SEEDS = range(100)


async def two_of_three_steps():
    steps = []

    async def walk(name):
        for _ in range(3):
            steps.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(walk("a"), walk("b"))
    return "".join(steps)


async def lost_update(guard):
    total = 0

    async def add(delay):
        nonlocal total
        await asyncio.sleep(delay)
        async with guard():
            seen = total
            if here().random.random() < 0.5:
                await asyncio.sleep(0)
            total = seen + 1

    await asyncio.gather(*(add(delay) for delay in (0.0, 1.0, 1.0)))
    assert total == 3


class NoGuard:
    async def __aenter__(self):
        pass

    async def __aexit__(self, *error):
        pass


async def trusts_the_order_of_tasks():
    box = []

    async def fill():
        await asyncio.sleep(0)
        box.append("filled")

    async def take():
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return box[0]

    return (await asyncio.gather(fill(), take()))[1]


class TestSchedules:
    def test_seeds_reach_every_interleaving_of_two_tasks(self):
        assert len({run(two_of_three_steps, seed=seed) for seed in range(300)}) == 20

    @given(st.integers())
    def test_the_same_seed_gives_the_same_schedule(self, seed):
        assert run(two_of_three_steps, seed=seed) == run(two_of_three_steps, seed=seed)

    def test_sets_of_tasks_and_futures_have_an_order_of_their_own(self):
        async def main():
            tasks = {asyncio.create_task(asyncio.sleep(1.0)) for _ in range(20)}
            done, _ = await asyncio.wait(tasks)
            futures = {here().create_future() for _ in range(20)}
            return [made.number for made in (*done, *futures)]

        first = run(main, seed=1)
        spare = VirtualLoop()
        scattered = [_Future(0, spare) for _ in range(2000)]
        random.shuffle(scattered)
        while scattered:
            del scattered[:50]
            assert run(main, seed=1) == first
        spare.close()

    def test_a_lost_update_is_found_by_a_seed_that_shows_it_again(self):
        async def main():
            await lost_update(NoGuard)

        with pytest.raises(AssertionError) as found:
            explore(main, SEEDS)
        note = found.value.__notes__[-1]
        seed = int(note.split("found by seed ")[1].split(";")[0])
        assert f"run(main, seed={seed})" in note
        with pytest.raises(AssertionError):
            run(main, seed=seed)

    def test_the_update_under_a_lock_survives(self):
        async def main():
            lock = asyncio.Lock()
            await lost_update(lambda: lock)

        explore(main, SEEDS)

    def test_a_bug_is_found_that_asyncio_alone_never_shows(self):
        for _ in range(10):
            assert asyncio.run(trusts_the_order_of_tasks()) == "filled"

        with pytest.raises(IndexError):
            explore(trusts_the_order_of_tasks, SEEDS)

    def test_every_seed_is_run(self):
        seeds = []

        async def main():
            seeds.append(here().seed)

        explore(main, [3, 1, 2])

        assert seeds == [3, 1, 2]


class TestPromisesKept:
    def test_callbacks_run_in_the_order_of_call_soon(self):
        async def main():
            order = []
            for i in range(5):
                here().call_soon(order.append, i)
                asyncio.create_task(asyncio.sleep(0))  # noqa: RUF006 - it only stirs
            await asyncio.sleep(1.0)
            assert order == [0, 1, 2, 3, 4]

        explore(main, SEEDS)

    def test_who_waits_for_a_future_comes_in_order(self):
        async def main():
            order, future = [], here().create_future()

            async def wait(name):
                await future
                order.append(name)

            future.add_done_callback(lambda _: order.append("first"))
            for name in ("second", "third"):
                task = asyncio.create_task(wait(name))
                await asyncio.sleep(1.0)
            future.add_done_callback(lambda _: order.append("last"))
            here().call_soon(future.set_result, None)
            await task
            await asyncio.sleep(1.0)
            assert order == ["first", "second", "third", "last"]

        explore(main, SEEDS)

    def test_what_a_waiter_comes_after_comes_in_order(self):
        async def main():
            order, future = [], here().create_future()

            async def wait():
                await future
                order.append(2)

            task = asyncio.create_task(wait())
            future.add_done_callback(lambda _: order.append(1))
            await asyncio.sleep(1.0)
            here().call_soon(order.append, 0)
            future.set_result(None)
            await task
            assert order[:2] == [0, 1]

        explore(main, SEEDS)

    def test_a_cancel_by_callback_keeps_its_place_among_callbacks(self):
        async def main():
            order, task = [], asyncio.create_task(asyncio.sleep(5.0))
            task.add_done_callback(lambda _: order.append(2))
            here().call_soon(order.append, 0)
            here().call_soon(task.cancel)
            here().call_soon(lambda: order.append(task.cancelling()))
            await asyncio.wait([task])
            assert order == [0, 1, 2]

        explore(main, SEEDS)


class TestTime:
    def test_an_hour_takes_no_time(self):
        async def main():
            await asyncio.sleep(3600.0)
            return here().time()

        began = time.monotonic()

        assert run(main) == 3600.0
        assert time.monotonic() - began < 60.0

    def test_timers_run_in_order_and_in_any_order_within_an_instant(self):
        async def main():
            order = []
            for when, name in [(2.0, "c"), (1.0, "a"), (1.0, "b")]:
                here().call_at(when, order.append, name)
            await asyncio.sleep(5.0)
            return "".join(order)

        for pace in (0.0, 10.0):
            assert {run(main, seed=seed, pace=pace) for seed in SEEDS} == {"abc", "bac"}

    def test_a_cancelled_timer_moves_nothing(self):
        async def main():
            here().call_later(1.0, list).cancel()
            await here().create_future()

        with pytest.raises(Deadlock, match=r"nothing can go on at 0\.0 s"):
            run(main)

    def test_sleep_returns_when_all_else_is_idle(self):
        async def main():
            steps = []

            async def walk():
                for i in range(10):
                    steps.append(i)
                    await asyncio.sleep(0)

            walker = asyncio.create_task(walk())
            await asyncio.sleep(1e-9)
            assert walker.done()

        explore(main, SEEDS)

    def test_at_a_pace_timers_fire_in_the_middle_of_work(self):
        async def main():
            async def work():
                for _ in range(10):
                    await asyncio.sleep(0)

            try:
                async with asyncio.timeout(0.5):
                    await work()
            except TimeoutError:
                return "late"
            return "in time"

        assert {run(main, seed=seed) for seed in SEEDS} == {"in time"}
        assert {run(main, seed=seed, pace=0.1) for seed in SEEDS} == {"in time", "late"}


class TestDeadlock:
    def test_it_names_the_seed_and_those_who_wait(self):
        async def main():
            first, second = asyncio.Lock(), asyncio.Lock()

            async def both(one, other):
                async with one:
                    await asyncio.sleep(0)
                    async with other:
                        pass

            async with asyncio.TaskGroup() as group:
                group.create_task(both(first, second), name="there")
                group.create_task(both(second, first), name="back")

        with pytest.raises(Deadlock) as found:
            explore(main, SEEDS)
        assert [task.get_name() for task in found.value.tasks][1:] == ["there", "back"]
        assert f"found by seed {found.value.seed}" in found.value.__notes__[-1]
        assert "'there'" in str(found.value)

    def test_a_lone_future_is_waited_for_by_nobody_else(self):
        async def main():
            await here().create_future()

        with pytest.raises(Deadlock):
            run(main)

    def test_spinning_is_found(self):
        async def main():
            for turn in itertools.count():
                turns[:] = [turn]
                await asyncio.sleep(0)

        turns = []

        with pytest.raises(Deadlock, match=r"still busy at 0\.0 s after 100 steps"):
            run(main, max_steps=100)
        assert turns[0] < 100

    def test_waiting_for_ever_by_the_clock_is_found(self):
        async def main():
            await asyncio.sleep(float("inf"))

        with pytest.raises(Deadlock):
            run(main)


class TestUnseen:
    def test_the_error_of_a_task_that_nobody_awaits(self):
        async def fail():
            raise LookupError("nobody looks")

        async def main():
            kept.append(asyncio.create_task(fail()))
            await asyncio.sleep(1.0)

        kept = []

        with pytest.raises(Unseen, match=r"seed 7: never retrieved.*nobody looks") as found:
            run(main, seed=7)
        assert isinstance(found.value.__cause__, LookupError)

    def test_the_error_of_a_future_that_nobody_awaits(self):
        async def main():
            here().create_future().set_exception(LookupError("nobody looks"))

        with pytest.raises(Unseen, match="nobody looks"):
            run(main)

    def test_the_error_of_a_callback(self):
        async def main():
            here().call_soon({}.pop, "absent")
            await asyncio.sleep(1.0)

        with pytest.raises(Unseen, match="KeyError"):
            run(main)

    def test_an_error_that_somebody_saw_is_nothing(self):
        async def fail():
            raise LookupError

        async def main():
            await asyncio.gather(fail(), return_exceptions=True)

        run(main)

    def test_the_error_of_main_keeps_its_type_and_notes_the_others(self):
        async def main():
            here().create_future().set_exception(LookupError("nobody looks"))
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as found:
            run(main)
        assert "nobody looks" in found.value.__notes__[0]


class TestEnd:
    def test_what_is_left_is_cancelled(self):
        ended = []

        async def linger():
            try:
                await here().create_future()
            except asyncio.CancelledError:
                await asyncio.sleep(1.0)
                ended.append(here().time())
                raise

        async def main():
            task = asyncio.create_task(linger())
            await asyncio.sleep(1.0)
            return task

        assert run(main).cancelled()
        assert ended == [2.0]

    def test_what_swallows_its_cancellation_is_found(self):
        async def linger():
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await here().create_future()

        async def main():
            task = asyncio.create_task(linger(), name="stubborn")
            await asyncio.sleep(1.0)
            return task

        with pytest.raises(Unseen, match=r"after cancelling all tasks: nothing can.*\n.*stubborn"):
            run(main)

    def test_what_starts_anew_at_the_end_is_found(self):
        async def linger():
            try:
                await here().create_future()
            finally:
                kept.append(asyncio.create_task(asyncio.sleep(60.0), name="late"))
                await asyncio.sleep(1.0)

        async def main():
            kept.append(asyncio.create_task(linger()))
            await asyncio.sleep(1.0)

        kept = []

        with pytest.raises(Unseen, match=r"never ended.*late"):
            run(main)

    def test_async_generators_are_closed(self):
        closed = []

        async def numbers():
            try:
                yield 1
            finally:
                await asyncio.sleep(1.0)
                closed.append(here().time())

        async def main():
            kept.append(numbers())
            return await anext(kept[0])

        kept = []

        assert run(main) == 1
        assert closed == [1.0]

    def test_garbage_collection_is_on_again(self):
        async def main():
            return gc.isenabled()

        assert not run(main)
        assert gc.isenabled()


class WhenIdle(threading.Event):
    """Lets a thread go on only when the loop really waits."""

    def __init__(self):
        super().__init__()
        self.idle = threading.Event()

    def wait(self, timeout=None):
        self.idle.set()
        return super().wait(timeout)


@pytest.fixture
def threads():
    with ThreadPoolExecutor() as executor:
        yield executor


class TestThreads:
    def test_time_stands_still_while_they_work(self, threads):
        async def main():
            loop, answer = here(), here().create_future()
            loop._awake = awake = WhenIdle()

            def work():
                assert awake.idle.wait(10.0)
                loop.call_soon_threadsafe(answer.set_result, "answer")

            async with asyncio.timeout(3600.0):
                with loop.external():
                    threads.submit(work)
                    return await answer, loop.time()

        assert run(main) == ("answer", 0.0)

    def test_without_external_nobody_waits_for_them(self, threads):
        async def main():
            await here().create_future()

        never = threading.Event()
        waiting = threads.submit(never.wait, 10.0)
        with pytest.raises(Deadlock):
            run(main)
        never.set()
        assert waiting.result(10.0)

    def test_a_thread_may_release_what_the_loop_holds(self, threads):
        async def main():
            loop, answers = here(), []
            loop._awake = awake = WhenIdle()

            def work(x):
                assert awake.idle.wait(10.0)
                loop.call_soon_threadsafe(answers.append, x)
                loop.release()

            for x in range(3):
                loop.hold()
                threads.submit(work, x)
            await asyncio.sleep(1.0)
            assert loop.time() == 1.0
            return Counter(answers)

        assert run(main) == Counter(range(3))

    def test_a_release_alone_lets_time_go_on(self, threads):
        async def main():
            loop = here()
            loop._awake = awake = WhenIdle()

            def work():
                assert awake.idle.wait(10.0)
                loop.release()

            loop.hold()
            threads.submit(work)
            await asyncio.sleep(1.0)

        run(main)

    def test_asyncio_to_thread_needs_nothing(self):
        async def main():
            here()._awake = awake = WhenIdle()
            assert await asyncio.to_thread(awake.idle.wait, 10.0)
            assert here().time() == 0.0
            await asyncio.sleep(1.0)

        run(main)

    def test_work_that_never_ends_is_found(self):
        async def main():
            with here().external():
                await here().create_future()

        began = time.monotonic()

        with pytest.raises(Deadlock, match=r"no outside work ended for 0\.0 s"):
            run(main, patience=0.0)
        assert time.monotonic() - began < 60.0


def test_a_task_factory_is_respected():
    made = []

    def factory(loop, coro, **options):
        made.append(asyncio.Task(coro, loop=loop, **options))
        return made[-1]

    async def main():
        here().set_task_factory(factory)
        task = asyncio.create_task(asyncio.sleep(1.0))
        await task
        return task

    assert run(main) is made[0]


def test_here_is_only_inside():
    async def main():
        with pytest.raises(AssertionError):
            here()

    asyncio.run(main())


def test_a_closed_loop_takes_no_callback():
    loop = VirtualLoop()
    loop.close()

    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon(list)


def test_in_debug_mode_callbacks_are_checked_as_elsewhere():
    async def main():
        here().set_debug(True)
        with pytest.raises(TypeError, match="coroutines cannot be used with call_soon"):
            here().call_soon(main)
        await asyncio.sleep(1.0)
        return here().time()

    assert run(main) == 1.0


def test_it_stops_as_other_loops_do():
    loop = VirtualLoop()
    loop.stop()
    loop.run_forever()
    loop.close()

    assert loop.is_closed()
