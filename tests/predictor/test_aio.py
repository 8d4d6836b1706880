"""Deadlines of a loop's callers, kept by one wheel; tasks that see nothing of any caller."""

import asyncio
import contextlib
import gc
import math
import weakref
from contextvars import ContextVar

import pytest

import modelserve as ms
from modelserve.predictor import _aio
from modelserve.predictor._aio import (
    TICK,
    Wheel,
    is_ours_to_end,
    settles,
    sink,
    spawn,
    wait,
    within,
)
from modelserve.request import shared_scope
from modelserve.testing import FakeClock
from tests.support.virtual import explore, here, run

SEEDS = range(20)
MINE = ContextVar("mine", default=None)


def request(timeout):
    return ms.request(timeout=timeout, clock=here().time)


async def wait_for_ever(scope):
    await wait(sink(), scope, "never")


async def stay_within(scope):
    await within(here().create_future(), scope, "never")


async def left_at(waits, timeout):
    """Return when a caller is let go."""
    with pytest.raises(ms.DeadlineExceeded, match="while waiting for 'never'"):
        await waits(request(timeout))
    return here().time()


def timers():
    return [timer for timer in here()._scheduled if not timer.cancelled()]


both = pytest.mark.parametrize("waits", [wait_for_ever, stay_within])


@both
@pytest.mark.parametrize("timeout", [0.001, TICK, 0.1, 1.0, 3600.0, 1e7])
def test_a_caller_is_let_go_within_a_tick_of_the_deadline(waits, timeout):
    async def main():
        await asyncio.sleep(0.0017)
        start = here().time()
        return await left_at(waits, timeout) - start

    assert timeout <= run(main) <= timeout + TICK * 1.001


@both
def test_many_callers_leave_each_in_time(waits):
    async def main():
        timeouts = [here().random.uniform(0.001, 2.0) for _ in range(100)]
        left = await asyncio.gather(*(left_at(waits, timeout) for timeout in timeouts))
        assert all(t <= at <= t + TICK * 1.001 for t, at in zip(timeouts, left, strict=True))

    explore(main, SEEDS)


@both
def test_a_loop_has_one_timer_however_many_callers_come(waits):
    async def main():
        long = asyncio.create_task(left_at(waits, 1_000.0))
        for i in range(200):
            callers = [asyncio.create_task(left_at(waits, 0.1 + 0.01 * j)) for j in range(10)]
            await asyncio.sleep(0.02)
            most.append(len(timers()))
            for caller in callers[::2]:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
            assert i or not long.done()
        await long

    most = []
    run(main)

    assert max(most) <= 2  # the wheel's, and that of the sleep which has just rung


@both
def test_callers_without_a_deadline_need_no_timer(waits):
    async def main():
        scopes = (None, ms.request(), ms.request(timeout=math.inf))
        callers = [asyncio.create_task(waits(scope)) for scope in scopes]
        await asyncio.sleep(1.0)
        assert timers() == []
        for caller in callers:
            assert not caller.done()
            caller.cancel()

    run(main)


@both
def test_a_deadline_that_others_raise_is_waited_for(waits):
    async def main():
        waiters = [request(1.0)]
        caller = asyncio.create_task(waits(shared_scope(waiters, "flight", object())))
        await asyncio.sleep(0.5)
        waiters.append(request(2.0))
        with pytest.raises(ms.DeadlineExceeded):
            await caller
        assert 2.5 <= here().time() <= 2.5 + 2 * TICK

    explore(main, SEEDS)


@both
def test_a_deadline_that_somebody_without_one_lifts_is_forgotten(waits):
    async def main():
        waiters = [request(1.0)]
        caller = asyncio.create_task(waits(shared_scope(waiters, "flight", object())))
        await asyncio.sleep(0.5)
        waiters.append(None)
        await asyncio.sleep(1e5)
        assert not caller.done()
        caller.cancel()

    run(main)


def test_a_clock_that_stands_still_is_asked_again_and_again_but_not_at_once():
    async def main():
        clock = FakeClock()
        caller = asyncio.create_task(wait_for_ever(ms.request(timeout=1.0, clock=clock)))
        await asyncio.sleep(10.0)
        assert not caller.done()
        assert here().steps < 100
        clock.advance(1.0)
        with pytest.raises(ms.DeadlineExceeded):
            await caller

    run(main)


def test_an_answer_in_time_is_given_and_nothing_is_left_behind():
    async def main():
        answer, error = sink(), sink()
        first = asyncio.create_task(wait(answer, request(1.0), "p"))
        second = asyncio.create_task(wait(error, request(1.0), "p"))
        await asyncio.sleep(0.5)
        answer.settle("y", None)
        error.settle(None, KeyError("k"))
        assert await first == "y"
        with pytest.raises(KeyError):
            await second
        await asyncio.sleep(5.0)

    run(main)


def test_an_answer_that_is_there_is_given_however_late():
    async def main():
        answer = sink()
        answer.settle("y", None)
        assert await wait(answer, request(0.0), "p") == "y"

    run(main)


def test_who_is_late_already_does_not_wait():
    async def main():
        late = sink()
        with pytest.raises(ms.DeadlineExceeded, match="'p'"):
            await wait(late, request(0.0), "p")
        assert late.done()
        late.settle("nobody is there", None)

    run(main)


@both
def test_a_cancelled_caller_is_cancelled_and_forgotten(waits):
    async def main():
        caller = asyncio.create_task(waits(request(1.0)))
        await asyncio.sleep(0.5)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await asyncio.sleep(5.0)
        assert timers() == []

    explore(main, SEEDS)


@both
def test_a_caller_cancelled_at_the_deadline_is_one_or_the_other(waits):
    async def main():
        caller = asyncio.create_task(waits(request(1.0)))
        await asyncio.sleep(math.floor(1.0 / TICK + 1) * TICK)
        caller.cancel()
        with pytest.raises((asyncio.CancelledError, ms.DeadlineExceeded)):
            await caller

    explore(main, range(100))


def test_several_loops_have_a_wheel_each_which_goes_with_its_loop():
    async def main():
        await left_at(wait_for_ever, 0.01)
        return _aio._wheels[here()], weakref.ref(here())

    refs = [*run(main), *run(main)]
    gc.collect()

    assert [ref() for ref in refs] == [None] * 4


def test_a_loop_that_ends_before_its_deadlines_is_collected():
    async def main():
        scope = ms.request(timeout=3600.0)
        answer = sink()
        answering = asyncio.create_task(wait(answer, scope, "p"))
        left = asyncio.create_task(wait_for_ever(scope))
        await asyncio.sleep(0)
        answer.settle("y", None)
        assert await answering == "y"
        return weakref.ref(_aio._wheel()), weakref.ref(asyncio.get_running_loop()), left

    loop = asyncio.new_event_loop()
    wheel, ref, left = loop.run_until_complete(main())
    loop.close()
    assert wheel() is not None
    left._log_destroy_pending = False
    del left, loop
    gc.collect()

    assert (wheel(), ref()) == (None, None)


def test_a_wheel_forgets_whom_it_does_not_know():
    async def main():
        wheel = Wheel()
        wheel.discard(_aio.Caller(request(1.0), print))
        assert timers() == []

    run(main)


class TestWithin:
    def test_gives_the_answer_and_the_errors_of_the_coroutine(self):
        async def answer():
            await asyncio.sleep(0.5)
            return "y"

        async def fail():
            await asyncio.sleep(0.5)
            raise TimeoutError("its own")

        async def main():
            assert await within(answer(), request(1.0), "p") == "y"
            with pytest.raises(TimeoutError, match="its own") as caught:
                await within(fail(), request(1.0), "p")
            assert not isinstance(caught.value, ms.DeadlineExceeded)
            await asyncio.sleep(5.0)
            assert timers() == []

        run(main)

    def test_runs_in_the_callers_own_task_which_is_none_the_worse(self):
        async def task():
            return asyncio.current_task()

        async def main():
            assert await within(task(), request(1.0), "p") is asyncio.current_task()
            await left_at(stay_within, 1.0)
            assert asyncio.current_task().cancelling() == 0

        run(main)

    def test_lets_the_coroutine_clean_up(self):
        async def careful():
            try:
                await here().create_future()
            finally:
                await asyncio.sleep(1.0)
                cleaned.append(here().time())

        async def main():
            with pytest.raises(ms.DeadlineExceeded):
                await within(careful(), request(1.0), "p")

        cleaned = []
        run(main)

        assert 2.0 <= cleaned[0] < 2.1

    def test_of_a_coroutine_that_answers_all_the_same_gives_the_answer(self):
        async def stubborn():
            try:
                await here().create_future()
            except asyncio.CancelledError:
                return "late"

        async def main():
            return await within(stubborn(), request(1.0), "p")

        assert run(main) == "late"

    def test_in_one_another_leave_together(self):
        async def inner():
            await stay_within(request(1.0))

        async def main():
            with pytest.raises(ms.DeadlineExceeded):
                await within(inner(), request(1.0), "outer")
            assert asyncio.current_task().cancelling() == 0
            assert here().time() <= 1.0 + 2 * TICK

        explore(main, SEEDS)


def test_a_predictor_keeps_its_callers_deadlines_on_the_wheel():
    async def forever(x):
        await here().create_future()

    async def main():
        p = ms.predictor(forever)

        async def ask(timeout):
            with request(timeout), pytest.raises(ms.DeadlineExceeded):
                await p.acall(1)

        callers = [asyncio.create_task(ask(1.0 + i / 1_000)) for i in range(50)]
        await asyncio.sleep(0.5)
        assert len(timers()) == 1
        await asyncio.gather(*callers)
        return here().time()

    assert 1.0 <= run(main) <= 1.05 + 2 * TICK


def test_settles_waits_for_an_answer_at_most_so_long():
    async def main():
        waiting = sink()
        assert not await settles(waiting, 1.0)
        assert here().time() == 1.0
        waiting.settle(None, None)
        assert await settles(waiting, None)

    run(main)


def test_a_spawned_task_sees_nothing_of_its_caller():
    async def look():
        return MINE.get(), ms.current_request()

    async def main():
        MINE.set("mine")
        with ms.request():
            return await spawn(look())

    assert asyncio.run(main()) == (None, None)


class TestWhoseToEnd:
    def ask(self, error, *, cancelled=False):
        async def main():
            if cancelled:
                asyncio.current_task().cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
            return is_ours_to_end(error)

        return run(main)

    def test_a_cancellation_is_ours_if_this_task_was_cancelled(self):
        assert self.ask(asyncio.CancelledError(), cancelled=True)
        assert not self.ask(asyncio.CancelledError())

    def test_a_closed_coroutine_and_an_interrupt_are_ours(self):
        assert self.ask(GeneratorExit())
        assert self.ask(KeyboardInterrupt())

    @pytest.mark.parametrize("error", [ValueError(), SystemExit()], ids=repr)
    def test_all_else_is_the_models(self, error):
        assert not self.ask(error)
        assert not self.ask(error, cancelled=True)
