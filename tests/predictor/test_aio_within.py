"""A user's coroutine in its caller's own task, left at the deadline in force."""

import asyncio

import pytest

import modelserve as ms
from modelserve.predictor._aio import (
    TICK,
    within,
)
from tests.support.virtual import explore, here, run

SEEDS = range(20)


def request(timeout):
    return ms.request(timeout=timeout, clock=here().time)


async def stay_within(scope):
    await within(here().create_future(), scope, "never")


async def left_at(timeout):
    """Return when a caller is let go."""
    with pytest.raises(ms.DeadlineExceeded, match="while waiting for 'never'"):
        await stay_within(request(timeout))
    return here().time()


def timers():
    return [timer for timer in here()._scheduled if not timer.cancelled()]


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
            await left_at(1.0)
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
