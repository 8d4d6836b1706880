"""Deadlines of a loop's callers, kept by one wheel; tasks that see nothing of any caller."""

import asyncio
import gc
import math
import weakref

import pytest

import modelserve as ms
from modelserve.predictor import _aio
from modelserve.predictor._aio import (
    TICK,
    leave,
    settles,
    sink,
    wait,
    within,
)
from modelserve.request import shared_scope, warm_scope
from modelserve.testing import FakeClock
from tests.support.virtual import explore, here, run

SEEDS = range(20)


def request(timeout):
    return ms.request(timeout=timeout, clock=here().time)


async def wait_for_ever(scope):
    await wait(sink().future, scope, "never")


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
        scopes = (None, ms.request(), ms.request(timeout=math.inf), warm_scope())
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


@both
def test_a_wait_that_ends_after_its_deadline_was_raised_is_left_alone(waits):
    async def main():
        waiters = [request(1.0)]
        scope = shared_scope(waiters, "flight", object())
        caller = asyncio.create_task(waits(scope))
        await asyncio.sleep(0.5)
        waiters.append(request(2.0))
        await asyncio.sleep(1.0)
        caller.cancel()
        await asyncio.sleep(10.0)
        assert caller.cancelled()

    run(main)  # which raises what a timer raised


def test_an_answer_that_came_after_its_deadline_was_raised_stays():
    async def main():
        waiters = [request(1.0)]
        answer = sink()
        scope = shared_scope(waiters, "flight", object())
        caller = asyncio.create_task(wait(answer.future, scope, "p"))
        await asyncio.sleep(0.5)
        waiters.append(request(2.0))
        await asyncio.sleep(1.0)
        answer.settle("y", None)
        assert await caller == "y"
        await asyncio.sleep(10.0)
        return answer.future.result()

    assert run(main) == "y"


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


@both
def test_a_callers_clock_that_breaks_lets_that_caller_go_and_nobody_else(waits):
    def breaks():
        if here().time() > 1.0:
            raise OSError("the clock is broken")
        return here().time() / 2

    async def main():
        callers = [
            asyncio.create_task(waits(ms.request(timeout=1.0, clock=breaks))),
            asyncio.create_task(waits(request(1.0))),
            asyncio.create_task(waits(request(5.0))),
        ]
        await asyncio.wait(callers[:2], timeout=2.0)
        assert [type(caller.exception()) for caller in callers[:2]] == [ms.DeadlineExceeded] * 2
        with pytest.raises(ms.DeadlineExceeded):
            await callers[2]
        assert 5.0 <= here().time() <= 5.0 + TICK * 1.001

    run(main)


def test_an_answer_at_the_deadline_is_given_or_not_but_never_both():
    async def main():
        answer = here().create_future()
        caller = asyncio.create_task(wait(answer, request(1.0), "p"))
        await asyncio.sleep(math.floor(1.0 / TICK + 1) * TICK)
        if not answer.done():
            answer.set_result("y")
        ended.add(repr((await asyncio.gather(caller, return_exceptions=True))[0])[:16])

    ended = set()
    explore(main, range(100))

    assert ended == {"'y'", "DeadlineExceeded"}


def test_seconds_left_that_are_known_are_not_asked_for():
    async def main():
        request = ms.request(timeout=9.0, clock=lambda: looks.append("a look") or here().time())
        looks.clear()
        answer = here().create_future()
        kept = _aio.keep(answer, request, "p", 9.0)
        await asyncio.sleep(1.0)
        assert (list(kept), looks) == ([answer], [])
        answer.set_result("y")

    looks = []
    run(main)


def test_loops_in_turn_keep_their_wheels():
    async def begin():
        return asyncio.create_task(wait_for_ever(ms.request(timeout=3600.0)))

    async def wheel():
        return _aio._wheel(asyncio.get_running_loop())

    loops = [asyncio.new_event_loop(), asyncio.new_event_loop()]
    callers = [loop.run_until_complete(begin()) for loop in loops]
    wheels = [loop.run_until_complete(wheel()) for loop in loops]
    again = [loop.run_until_complete(wheel()) for loop in loops]
    for loop, caller in zip(loops, callers, strict=True):
        caller.cancel()
        loop.run_until_complete(asyncio.wait([caller]))
        loop.close()

    assert again == wheels
    assert wheels[0] is not wheels[1]


def test_who_left_takes_no_answer_and_reports_no_error():
    async def main():
        left, failed, answered = (here().create_future() for _ in range(3))
        leave(left)
        assert left.cancelled()
        leave(left)
        failed.set_exception(KeyError("k"))
        leave(failed)
        answered.set_result("y")
        leave(answered)
        assert answered.result() == "y"

    run(main)  # errors that nobody saw would be an error here


def test_an_answer_in_time_is_given_and_nothing_is_left_behind():
    async def main():
        answer, error = sink(), sink()
        first = asyncio.create_task(wait(answer.future, request(1.0), "p"))
        second = asyncio.create_task(wait(error.future, request(1.0), "p"))
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
        assert await wait(answer.future, request(0.0), "p") == "y"

    run(main)


def test_who_is_late_already_does_not_wait():
    async def main():
        late = sink()
        with pytest.raises(ms.DeadlineExceeded, match="'p'"):
            await wait(late.future, request(0.0), "p")
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
        answering = asyncio.create_task(wait(answer.future, scope, "p"))
        left = asyncio.create_task(wait_for_ever(scope))
        await asyncio.sleep(0)
        answer.settle("y", None)
        assert await answering == "y"
        return (
            weakref.ref(_aio._wheel(asyncio.get_running_loop())),
            weakref.ref(asyncio.get_running_loop()),
            left,
        )

    loop = asyncio.new_event_loop()
    wheel, ref, left = loop.run_until_complete(main())
    loop.close()
    assert wheel() is not None
    left._log_destroy_pending = False
    del left, loop
    gc.collect()

    assert (wheel(), ref()) == (None, None)


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
