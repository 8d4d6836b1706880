"""Who waits no longer leaves nothing behind."""

import asyncio

import modelserve as ms
from modelserve.predictor import _aio
from modelserve.request import shared_scope
from tests.support.virtual import here, run


def test_an_error_that_came_before_its_caller_left_is_nobodys():
    async def main():
        future = here().create_future()
        future.set_exception(LookupError())
        _aio.leave(future)

    run(main)  # which raises Unseen if nobody was told


def test_a_caller_that_was_answered_is_off_the_wheel():
    async def main():
        future = here().create_future()
        here().call_later(1.0, future.set_result, "answer")
        with ms.request(timeout=1000.0, clock=here().time) as r:
            assert await _aio.wait(future, r, "p") == "answer"
        return [len(callers) for callers in _aio._wheel(here())._ticks.values()]

    assert run(main) == [0]


def kept():
    return [waiter for waiters in _aio._wheel(here())._ticks.values() for waiter in waiters]


def raised(waits):
    """Wait with a deadline that another raises twice, and be answered then."""

    async def main():
        now = here().time
        waiters = [ms.request(timeout=1.0, clock=now)]
        future = here().create_future()
        caller = asyncio.create_task(waits(future, shared_scope(waiters, "flight", object())))
        for timeout in (2.0, 1000.0):
            await asyncio.sleep(0.5)
            waiters.append(ms.request(timeout=timeout, clock=now))
            await asyncio.sleep(1.0)
        assert len(kept()) == 1
        future.set_result("answer")
        return await caller, kept()

    return main


def test_a_caller_whose_deadline_was_raised_is_off_the_wheel_when_it_is_answered():
    def waits(future, scope):
        return _aio.wait(future, scope, "p")

    assert run(raised(waits)) == ("answer", [])


def test_a_call_within_a_deadline_that_was_raised_is_off_the_wheel_when_it_ends():
    def waits(future, scope):
        return _aio.within(future, scope, "p")

    assert run(raised(waits)) == ("answer", [])
