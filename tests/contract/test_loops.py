"""Every primitive works on loops that come, go and run side by side, and never blocks one."""

import asyncio
import gc
import threading
import weakref

import pytest

import modelserve as ms
from modelserve.testing import GatedPredictor
from tests.contract.calling import LIMIT, start, taken
from tests.contract.leaves import answer
from tests.contract.primitives import every


@every()
def test_three_loops_in_a_row(case):
    p = case.make(case.leaf())

    assert [asyncio.run(p.acall(x)) for x in "aba"] == [answer(x) for x in "aba"]


@every()
def test_two_loops_at_once(case):
    together = threading.Barrier(2, timeout=LIMIT)

    async def ask(who):
        together.wait()
        inputs = [(who, i) for i in range(50)]
        return await asyncio.gather(*map(p.acall, inputs)) == [answer(x) for x in inputs]

    p = case.make(case.leaf())
    loops = [start(asyncio.run, ask(who)) for who in range(2)]

    assert [loop.result(LIMIT) for loop in loops] == [True, True]


def run_and_cancel(main):
    return asyncio.run(main)


def run_and_leave(main):
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # the tasks that are left behind
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


@pytest.mark.filterwarnings("ignore:.*lost.*accepted:ResourceWarning")
@pytest.mark.parametrize("run", [run_and_cancel, run_and_leave])
@every(on_loop=False)
def test_a_loop_that_closed_on_calls_in_flight_hurts_no_other(case, run):
    async def leave():
        calls = [asyncio.create_task(p.acall(x)) for x in "ab"]
        await leaf.await_entered()
        return calls

    with case.gated() as leaf:
        p = case.make(leaf)
        left = run(leave())
        leaf.open()

        assert [asyncio.run(p.acall(x)) for x in "abc"] == [answer(x) for x in "abc"]
        assert [p(x) for x in "abd"] == [answer(x) for x in "abd"]
        p.close(timeout=LIMIT / 2)
    assert len(left) == 2


class CollectingStore(dict):
    """A store in which garbage is collected at the worst moment, under the cache's lock."""

    def __getitem__(self, key):
        gc.collect()
        return super().__getitem__(key)


def test_garbage_of_a_closed_loop_may_be_collected_anywhere():
    async def leave():
        call = asyncio.create_task(p.acall("a"))
        await leaf.await_entered()
        return weakref.ref(call)

    leaf = GatedPredictor.asynchronous(answer)
    p = ms.PredictionCache(leaf, store=CollectingStore())
    left = run_and_leave(leave())
    leaf.open()

    assert asyncio.run(p.acall("a")) == answer("a")
    assert left() is None


@every(is_async=True)
def test_async_trees_refuse_to_block_a_loop(case):
    async def main():
        await p.acall("a")
        before = repr(p)
        for block in (p, lambda x: list(p.map([x])), lambda x: ms.warm(p, x)):
            with pytest.raises(RuntimeError, match="await"):
                block("a")
        assert repr(p) == before
        return await p.acall("a")

    p = case.make(case.leaf())

    assert asyncio.run(main()) == answer("a")


@every(is_async=False)
def test_sync_trees_answer_where_a_loop_runs(case):
    async def main():
        return p("a"), list(p.map("ab")), await p.acall("b")

    p = case.make(case.leaf())

    assert asyncio.run(main()) == (answer("a"), [answer("a"), answer("b")], answer("b"))


@every(on_loop=False)
def test_a_leaf_that_waits_leaves_the_loop_free(case):
    async def main():
        calls = [asyncio.create_task(taken(p.amap("a"))), asyncio.create_task(p.acall("b"))]
        await leaf.await_entered()
        leaf.open()
        return await asyncio.gather(*calls)

    with case.gated() as leaf:
        p = case.make(leaf)

        assert asyncio.run(main()) == [[answer("a")], answer("b")]


@every(on_loop=False)
def test_a_cancelled_caller_hurts_nobody(case):
    async def main():
        first, *others = [asyncio.create_task(p.acall(x)) for x in "aabcd"]
        await leaf.await_entered()
        queued = others.pop()
        for call in (first, queued):
            call.cancel()
        gone = await asyncio.gather(first, queued, return_exceptions=True)
        leaf.open()
        return gone, await asyncio.gather(*others), await p.acall("d")

    with case.gated() as leaf:
        p = case.make(leaf)
        gone, answers, later = asyncio.run(main())

    assert [type(error) for error in gone] == [asyncio.CancelledError] * 2
    assert answers == [answer(x) for x in "abc"]
    assert later == answer("d")
