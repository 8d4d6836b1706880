"""Nothing is lost or swapped, however many ask at once."""

import asyncio
import sys
import threading

import pytest

import modelserve as ms
from tests.contract.calling import LIMIT, start
from tests.contract.leaves import answer
from tests.contract.primitives import Traffic, every, totals
from tests.support.virtual import explore, here

THREADS, CALLS, TASKS = 32, 200, 200
SEEDS = range(20)


@pytest.fixture
def restless():
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
@every()
def test_many_threads_get_their_own_answers(case):
    together = threading.Barrier(THREADS, timeout=LIMIT)

    def ask(who):
        together.wait()
        return [p((who, i)) for i in range(CALLS)] == [answer((who, i)) for i in range(CALLS)]

    p = case.make(case.leaf())
    threads = [start(ask, who) for who in range(THREADS)]

    assert all(thread.result(LIMIT) for thread in threads)
    assert case.counts(Traffic(THREADS * CALLS)).items() <= totals(p.stats).items()


@every()
def test_many_tasks_get_their_own_answers(case):
    async def main():
        return await asyncio.gather(*map(p.acall, range(TASKS)))

    p = case.make(case.leaf())

    assert asyncio.run(main()) == [answer(i) for i in range(TASKS)]
    assert case.counts(Traffic(TASKS)).items() <= totals(p.stats).items()


@every()
def test_threads_and_tasks_that_ask_the_same_agree(case):
    async def main():
        return await asyncio.gather(*(p.acall(i % 5) for i in range(TASKS)))

    p = case.make(case.leaf())
    threads = [start(lambda: [p(i % 5) for i in range(TASKS)]) for _ in range(4)]
    loops = [start(asyncio.run, main()) for _ in range(2)]

    expected = [answer(i % 5) for i in range(TASKS)]
    assert [each.result(LIMIT) for each in threads + loops] == [expected] * 6


@every(is_async=True)
def test_those_who_stay_are_answered_whoever_leaves(case):
    async def caller(p, x):
        luck = here().random.random()
        timeout = luck if luck < 0.3 else None
        await asyncio.sleep(luck)
        with ms.request(timeout=timeout, clock=here().time):
            return await p.acall(x)

    async def main():
        p = case.make(case.leaf())
        with here().external():
            await p.aopen()
        callers = [asyncio.create_task(caller(p, i % 6)) for i in range(30)]
        leaving = callers[::4]
        for task in leaving:
            here().call_later(here().random.random(), task.cancel)
        results = await asyncio.gather(*callers, return_exceptions=True)
        for i, result in enumerate(results):
            left = isinstance(result, asyncio.CancelledError) and callers[i] in leaving
            assert left or isinstance(result, ms.DeadlineExceeded) or result == answer(i % 6)
        assert await p.acall("after") == answer("after")

    explore(main, SEEDS, pace=0.02)
