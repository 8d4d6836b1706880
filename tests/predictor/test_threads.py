"""The library's pools and its one loop: they answer, wait for nobody in a circle, and end."""

import asyncio
import gc
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import wait as wait_all

import pytest

import modelserve as ms
from modelserve.predictor import background_loop
from modelserve.predictor._threads import POOL_SIZE, threads
from modelserve.testing import GatedPredictor
from tests.contract.calling import LIMIT, start
from tests.contract.test_dropped import collect, tells_when_gone
from tests.support.processes import fresh

CROWD = POOL_SIZE + 4
"""More callers than a pool has threads."""


def increment(x):
    return x + 1


async def until(holds):
    while not holds():  # noqa: ASYNC110 - of what stands in stats nobody tells
        await asyncio.sleep(0)


def ended(used):
    """Whether all these threads end."""
    for thread in used:
        thread.join(LIMIT)
    return not any(thread.is_alive() for thread in used)


def on_which_thread(x):
    return threading.current_thread()


class TestHops:
    @pytest.mark.parametrize("depth", [1, 5])
    def test_at_any_depth_wait_for_nobody_in_a_circle(self, depth):
        def hopping(p):
            async def hop(x):
                return await p.acall(x)

            awaited = ms.predictor(hop, uses=[p])
            return ms.predictor(lambda x: awaited(x) + 1, uses=[awaited])

        async def main():
            return await asyncio.gather(*(p.acall(i) for i in range(CROWD)))

        p = ms.predictor(increment)
        for _ in range(depth):
            p = hopping(p)

        assert asyncio.run(main()) == [i + depth + 1 for i in range(CROWD)]

    def test_of_a_run_that_a_whole_pool_waits_for_go_on(self):
        async def led(x):
            await lead(x)
            return await leaf.acall(x)

        async def main():
            first = asyncio.create_task(cache.acall(1))
            await lead.await_entered()
            others = [asyncio.create_task(caller.acall(1)) for _ in range(CROWD)]
            await joined.await_entered(POOL_SIZE)
            await until(lambda: cache.stats.joins >= POOL_SIZE)
            lead.open()
            return await first, await asyncio.gather(*others)

        lead, joined = GatedPredictor.asynchronous(limit=LIMIT), GatedPredictor(limit=LIMIT)
        joined.open()
        leaf = ms.predictor(increment)
        cache = ms.PredictionCache(led, maxsize=8)
        caller = ms.predictor(lambda x: cache(joined(x)), uses=[cache], name="caller")

        assert asyncio.run(main()) == (2, [2] * CROWD)

    def test_of_a_leader_with_a_deadline_go_on_though_a_whole_pool_follows(self):
        async def main():
            others = [asyncio.create_task(caller.acall(1)) for _ in range(CROWD)]
            await gate.await_entered(POOL_SIZE)
            leader = start(with_deadline, 1)
            await model.await_entered()
            gate.open()
            await until(lambda: cache.stats.joins >= POOL_SIZE)
            model.open()
            return await asyncio.to_thread(leader.result, LIMIT), await asyncio.gather(*others)

        def with_deadline(x):
            with ms.request(timeout=LIMIT):
                return cache(x)

        gate, model = GatedPredictor(limit=LIMIT), GatedPredictor(increment, limit=LIMIT)
        cache = ms.PredictionCache(model, maxsize=8)
        caller = ms.predictor(lambda x: cache(gate(x)), uses=[cache], name="caller")

        assert asyncio.run(main()) == (2, [2] * CROWD)

    def test_of_a_batch_that_a_whole_pool_waits_for_go_on(self):
        async def asks(x):
            return await leaf.acall(x)

        async def main():
            first = asyncio.create_task(batcher.acall(1))
            await lead.await_entered()
            others = [asyncio.create_task(caller.acall(1)) for _ in range(CROWD)]
            await until(lambda: batcher.stats.queued >= POOL_SIZE)
            lead.open()
            return await first, await asyncio.gather(*others)

        lead = GatedPredictor(limit=LIMIT)
        leaf = ms.predictor(increment)
        asking = ms.predictor(asks)
        batcher = ms.DynamicBatcher(lambda xs: [asking(x) for x in lead(xs)], name="batcher")
        caller = ms.predictor(lambda x: batcher(x) + 0, uses=[batcher], name="caller")

        assert asyncio.run(main()) == (2, [2] * CROWD)

    def test_carry_the_request_and_the_callers_variables(self):
        async def main():
            with ms.request(unit="u", timeout=LIMIT) as r:
                return await p.acall(1) == ("u", r.trail)

        def look(x):
            return ms.current_request().unit, ms.current_request().trail

        p = ms.predictor(look)

        assert asyncio.run(main())

    def test_leave_the_callers_variables_as_they_were(self):
        def enter(x):
            ms.request(unit="left open").__enter__()

        async def main():
            await p.acall(1)
            return ms.current_request()

        p = ms.predictor(enter)

        assert asyncio.run(main()) is None

    def test_share_threads(self):
        async def main():
            return {await p.acall(1) for _ in range(3 * POOL_SIZE)}

        p = ms.predictor(on_which_thread)

        assert len(asyncio.run(main())) <= POOL_SIZE


class TestExecutors:
    def test_that_were_shut_down_refuse_at_once(self):
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        p = ms.predictor(increment, executor=executor)
        with pytest.raises(RuntimeError, match="after shutdown"):
            asyncio.run(p.acall(1))

    def test_that_drop_a_call_let_its_caller_go(self):
        async def main():
            first, second = (asyncio.create_task(p.acall(x)) for x in (1, 2))
            await gate.await_entered()
            await asyncio.to_thread(executor.shutdown, wait=False, cancel_futures=True)
            with pytest.raises(RuntimeError, match="the executor of 'gated' dropped a call"):
                await second
            gate.open()
            return await first

        gate = GatedPredictor(limit=LIMIT)
        executor = ThreadPoolExecutor(1)
        p = ms.predictor(gate, executor=executor)

        assert asyncio.run(main()) == 1

    def test_of_processes_are_refused_at_the_call(self):
        with ProcessPoolExecutor(1) as executor:
            p = ms.predictor(increment, executor=executor)
            with pytest.raises(RuntimeError, match="pass one of threads") as caught:
                asyncio.run(p.acall(1))

        assert caught.value.__cause__ is not None


class TestPools:
    def make(self):
        cache = ms.PredictionCache(on_which_thread, maxsize=8)
        return cache, {asyncio.run(cache.acall(x)) for x in range(3)}

    def test_of_who_shares_end_when_it_is_closed(self):
        cache, used = self.make()
        assert used <= {*threading.enumerate()}
        cache.close()
        gc.collect()

        assert ended(used)

    def test_of_who_shares_end_when_it_is_dropped(self):
        cache, used = self.make()
        gone = tells_when_gone(cache._table)
        del cache

        assert collect(gone)
        assert ended(used)

    def test_finish_what_they_began_though_their_owner_closed(self):
        async def main():
            calling = asyncio.create_task(cache.acall(1))
            await gate.await_entered()
            await cache.aclose(drain=False)
            gate.open()
            return await calling

        gate = GatedPredictor(increment, limit=LIMIT)
        cache = ms.PredictionCache(gate, maxsize=8)

        assert asyncio.run(main()) == 2

    def test_of_who_has_none_end_without_ado(self):
        threads.end(self)

        assert threads.pool(ms.request()) is threads.pool(ms.request())


class TestBackgroundLoop:
    def test_is_one_for_all(self):
        found = [start(background_loop) for _ in range(8)]

        assert {id(each.result(LIMIT)) for each in found} == {id(background_loop())}

    def test_outlives_asyncio_run(self):
        async def identity(x):
            return asyncio.get_running_loop()

        p = ms.predictor(identity)
        first = p(1)
        asyncio.run(p.acall(1))

        assert p(1) is first is background_loop()

    def test_carries_the_request_of_the_caller(self):
        async def unit(x):
            return ms.current_request().unit

        with ms.request(unit="u"):
            assert ms.predictor(unit)(1) == "u"

    def test_lets_a_caller_go_at_its_deadline(self):
        gate = GatedPredictor.asynchronous(limit=LIMIT)
        with ms.request(timeout=0.05), pytest.raises(ms.DeadlineExceeded):
            ms.predictor(gate)(1)

    def test_refuses_to_wait_for_itself(self):
        async def asks_itself(x):
            return inner(x)

        async def aincrement(x):
            return x + 1

        inner = ms.predictor(aincrement)
        with pytest.raises(RuntimeError, match=r"await p\.acall\(x\)"):
            ms.predictor(asks_itself)(1)

    def test_runs_many_calls_together(self):
        gate = GatedPredictor.asynchronous(limit=LIMIT)
        p = ms.predictor(gate)
        with ThreadPoolExecutor(8) as executor:
            futures = [executor.submit(p, i) for i in range(8)]
            gate.wait_entered(8)
            gate.open()
            wait_all(futures, LIMIT)

        assert [future.result() for future in futures] == [*range(8)]
        assert gate.peak == 8


INTERRUPTED = """
import asyncio, os, signal, sys, threading
import modelserve as ms

ended = threading.Event()
caller = threading.get_ident()

async def work(x):
    while sys._current_frames()[caller].f_code.co_name != "wait":
        await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        ended.set()

try:
    ms.predictor(work)(1)
except KeyboardInterrupt:
    print("ended" if ended.wait(30) else "goes on")
"""
LEFT_ALONE = """
import asyncio
import modelserve as ms

async def aid(x):
    return x

loader = ms.ModelLoader(lambda: (lambda xs: xs), name="model")
batcher = ms.DynamicBatcher(loader, workers=4, max_wait=0.001)
cache = ms.PredictionCache(batcher, maxsize=8)
abatcher = ms.DynamicBatcher(aid, name="async")
split = ms.TrafficSplitter(ms.Variant("a", cache, 0.5), ms.Variant("b", abatcher, 0.5), salt="s")

async def main():
    await asyncio.gather(*(split.acall(i) for i in range(100)))
    await ms.predictor(lambda x: x).acall(1)

with ms.request(timeout=30.0):
    asyncio.run(main())
    print([split(i) for i in range(4)])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_an_interrupted_caller_ends_its_call_on_the_background_loop():
    assert fresh(INTERRUPTED) == "ended\n"


def test_an_interpreter_ends_with_everything_alive_and_says_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LEFT_ALONE],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )

    assert (done.stdout, done.stderr, done.returncode) == ("[0, 1, 2, 3]\n", "", 0)
