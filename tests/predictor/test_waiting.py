"""How callers wait: on threads, on loops and by futures; and how many are settled at once."""

import asyncio
import logging
import math
import sys
import threading
from concurrent.futures import Future

import pytest

import modelserve as ms
from modelserve.predictor import FutureSink, LoopSink, ThreadSink, deliver, running_loop
from modelserve.predictor._waiting import Tally
from modelserve.testing import FakeClock
from tests.contract.calling import LIMIT, start
from tests.support.processes import fresh


class TestThreadSink:
    def test_waits_for_the_answer(self):
        sink = ThreadSink()
        waiting = start(sink.wait, None, "p")
        assert not sink.done()
        sink.settle("y", None)

        assert waiting.result(LIMIT) == "y"

    def test_raises_the_error(self):
        sink = ThreadSink()
        sink.settle(None, KeyError("k"))
        with pytest.raises(KeyError, match="k"):
            sink.wait(None, "p")

    @pytest.mark.parametrize("timeout", [math.inf, LIMIT, 1e9])
    def test_waits_in_a_request(self, timeout):
        sink = ThreadSink()
        waiting = start(sink.wait, ms.request(timeout=timeout), "p")
        sink.settle("y", None)

        assert waiting.result(LIMIT) == "y"

    @pytest.mark.parametrize("timeout", [-1.0, 0.0, 0.01])
    def test_leaves_at_the_deadline(self, timeout):
        sink = ThreadSink()
        with pytest.raises(ms.DeadlineExceeded, match="while waiting for 'p'"):
            sink.wait(ms.request(timeout=timeout), "p")
        assert sink.done()
        sink.settle("nobody is there", None)

    def test_gives_an_answer_that_is_there_however_late(self):
        sink = ThreadSink()
        sink.settle("y", None)

        assert sink.done()
        assert sink.wait(ms.request(timeout=-1.0), "p") == "y"

    def test_waits_on_if_the_deadline_was_raised(self):
        clock = FakeClock()

        def moving():
            clock.advance(0.6)  # each look finds less, and the third finds nothing left
            return clock()

        sink = ThreadSink()
        with pytest.raises(ms.DeadlineExceeded):
            sink.wait(ms.request(timeout=1.201, clock=moving), "p")
        assert clock() == pytest.approx(0.6 * 4)

    @pytest.mark.parametrize("timeout", [-1.0, 0.0, 0.01])
    def test_settles_waits_no_longer_than_asked(self, timeout):
        assert not ThreadSink().settles(timeout)

    @pytest.mark.parametrize("timeout", [None, LIMIT, 1e9])
    def test_settles_waits_for_the_answer(self, timeout):
        sink = ThreadSink()
        waiting = start(sink.settles, timeout)
        sink.settle(None, None)

        assert waiting.result(LIMIT)


INTERRUPTED = """
import os, signal, threading
import modelserve as ms

def work(xs):
    os.kill(os.getpid(), signal.SIGINT)
    assert free.wait(30)
    return xs

free = threading.Event()
p = ms.DynamicBatcher(work, max_batch_size=1)
try:
    p(1)
except KeyboardInterrupt:
    free.set()
    p.close()
    print(p.stats.calls)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_an_interrupted_caller_leaves():
    assert fresh(INTERRUPTED) == "1\n"


class TestLoopSink:
    def test_hands_over_answers_and_errors_once(self):
        async def main():
            loop = asyncio.get_running_loop()
            good, bad = LoopSink(loop), LoopSink(loop)
            good.settle("y", None)
            good.settle("z", None)
            bad.settle(None, KeyError("k"))
            assert good.done()
            assert await good.future == "y"
            with pytest.raises(KeyError):
                await bad.future

        asyncio.run(main())


class TestFutureSink:
    def test_hands_over_answers_and_errors(self):
        good, bad = FutureSink(Future()), FutureSink(Future())
        assert not good.done()
        good.settle("y", None)
        bad.settle(None, KeyError("k"))

        assert good.done()
        assert good.future.result(0) == "y"
        assert isinstance(bad.future.exception(0), KeyError)

    def test_of_a_cancelled_future_takes_no_answer(self):
        sink = FutureSink(Future())
        sink.future.cancel()
        assert sink.done()
        sink.settle("y", None)

        assert sink.future.cancelled()

    def test_survives_what_a_callback_raises(self, caplog):
        def end_the_process(_):
            raise SystemExit

        sink, other = FutureSink(Future()), FutureSink(Future())
        sink.future.add_done_callback(end_the_process)
        with caplog.at_level(logging.ERROR, logger="modelserve"):
            deliver([(sink, "y", None), (other, "z", None)])

        assert (sink.future.result(0), other.future.result(0)) == ("y", "z")
        assert "a callback of" in caplog.text


class TestDeliver:
    def test_settles_callers_of_every_kind(self):
        async def caller(x):
            sink = LoopSink(asyncio.get_running_loop())
            sinks.append(sink)
            if len(sinks) == 4:
                ready.set()
            return x, await sink.future

        async def main():
            return await asyncio.gather(caller(1), caller(2))

        sinks = [ThreadSink(), FutureSink(Future())]
        ready = threading.Event()
        loop = start(asyncio.run, main())
        assert ready.wait(LIMIT)
        deliver((sink, "y", None) for sink in sinks)

        assert loop.result(LIMIT) == [(1, "y"), (2, "y")]
        assert sinks[0].wait(None, "p") == sinks[1].future.result(0) == "y"

    def test_settles_at_once_on_the_loop_itself(self):
        async def main():
            sink = LoopSink(asyncio.get_running_loop())
            deliver([(sink, "y", None)])
            return sink.future.result()

        assert asyncio.run(main()) == "y"

    def test_wakes_a_loop_once_for_many(self):
        class Loop:
            calls = ()

            def create_future(self):
                return Future()

            def call_soon_threadsafe(self, *call):
                self.calls += (call,)

        one, other = Loop(), Loop()
        sinks = [LoopSink(loop) for loop in (one, other, one, one)]
        deliver((sink, i, None) for i, sink in enumerate(sinks))

        assert (len(one.calls), len(other.calls)) == (1, 1)
        for fn, outcomes in one.calls + other.calls:
            fn(outcomes)
        assert [sink.future.result(0) for sink in sinks] == [0, 1, 2, 3]

    def test_a_loop_that_has_closed_harms_nobody_else(self):
        closed, last = asyncio.new_event_loop(), ThreadSink()
        gone = LoopSink(closed)
        closed.close()
        deliver([(gone, "y", None), (last, "y", None)])

        assert last.wait(None, "p") == "y"
        assert not gone.done()

    def test_of_nobody_is_nothing(self):
        deliver([])


class TestRunningLoop:
    def test_is_the_loop_of_this_thread(self):
        async def main():
            here = asyncio.get_running_loop()
            return running_loop() is here, await asyncio.to_thread(running_loop)

        assert running_loop() is None
        assert asyncio.run(main()) == (True, None)

    def test_asks_without_importing_asyncio(self, monkeypatch):
        monkeypatch.delitem(sys.modules, "asyncio.events")

        assert running_loop() is None


class TestTally:
    def test_counts_by_loop(self):
        one, other = asyncio.new_event_loop(), asyncio.new_event_loop()
        tally = Tally()
        for loop in (one, other, one):
            tally.enter(loop)
        tally.leave(one)
        assert tally.is_on(one)
        assert tally.is_on(other)
        tally.leave(one)
        assert not tally.is_on(one)
        assert not tally.is_on(None)
        one.close()
        other.close()

    def test_tells_those_who_wait_until_there_are_none(self):
        loop = asyncio.new_event_loop()
        tally = Tally()
        tally.enter(loop)
        tally.enter(loop)
        sinks = [ThreadSink(), ThreadSink()]
        for sink in sinks:
            tally.when_empty(sink)
        tally.leave(loop)
        assert not any(sink.done() for sink in sinks)
        tally.leave(loop)

        assert all(sink.done() for sink in sinks)
        loop.close()

    def test_tells_at_once_if_there_are_none(self):
        sink = ThreadSink()
        Tally().when_empty(sink)

        assert sink.done()

    def test_calls_of_a_closed_loop_are_gone_and_may_still_leave(self):
        loop, sink, tally = asyncio.new_event_loop(), ThreadSink(), Tally()
        tally.enter(loop)
        loop.close()
        tally.when_empty(sink)
        assert sink.done()
        tally.leave(loop)

        assert not tally.is_on(loop)
