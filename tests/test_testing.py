import asyncio
import itertools
import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelserve as ms
from modelserve.events import Loaded, Retired
from modelserve.testing import EventLog, FakeClock, GatedPredictor
from tests.support.virtual import explore, here, run

SEEDS = range(50)


@pytest.fixture
def threads():
    with ThreadPoolExecutor() as executor:
        yield executor


class Slow(float):
    """Lets other threads in while it is added to something."""

    def __radd__(self, other):
        total = other + float(self)
        for _ in range(100):
            pass
        return total


@pytest.fixture
def hasty():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def together(work, times=8):
    start = threading.Barrier(times)

    def one():
        start.wait(10.0)
        work()

    with ThreadPoolExecutor(times) as executor:
        for future in [executor.submit(one) for _ in range(times)]:
            future.result(10.0)


def test_asyncio_is_not_imported():
    code = "import sys, modelserve.testing; sys.exit('asyncio' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


class TestFakeClock:
    def test_it_starts_where_told(self):
        assert FakeClock()() == 0.0
        assert FakeClock(now=7.0)() == 7.0

    @given(st.lists(st.floats(min_value=0.0, max_value=1e9)))
    def test_it_moves_by_what_it_is_told(self, steps):
        clock, now = FakeClock(), 0.0
        for step in steps:
            clock.advance(step)
            now += step
            assert clock() == now

    @pytest.mark.parametrize("seconds", [-1.0, -1e-300, -math.inf, math.inf, math.nan])
    def test_it_refuses_to_run_backwards_or_away(self, seconds):
        clock = FakeClock(now=1.0)

        with pytest.raises(ValueError, match="a clock only moves on"):
            clock.advance(seconds)
        assert clock() == 1.0

    @pytest.mark.usefixtures("hasty")
    def test_threads_lose_no_time(self):
        clock = FakeClock()

        together(lambda: [clock.advance(Slow(1.0)) for _ in range(1000)])

        assert clock() == 8000.0


class TestGatedPredictor:
    def test_a_call_waits_until_the_gate_is_open(self, threads):
        gated = GatedPredictor(str.upper)

        answer = threads.submit(gated, "a")
        gated.wait_entered()
        assert not answer.done()
        gated.open()

        assert answer.result(10.0) == "A"
        assert gated("b") == "B"

    def test_it_answers_with_the_input_by_default(self):
        gated = GatedPredictor()
        gated.open()

        assert gated("a") == "a"

    def test_open_one_lets_the_longest_waiting_pass(self, threads):
        gated = GatedPredictor()
        answers = []
        for x in range(3):
            answers.append(threads.submit(gated, x))
            gated.wait_entered(x + 1)

        for x in range(3):
            assert not any(answer.done() for answer in answers[x:])
            gated.open_one()
            assert answers[x].result(10.0) == x

    def test_open_one_lets_one_pass_that_is_to_come(self):
        gated = GatedPredictor(limit=0.0)
        gated.open_one()

        assert gated("a") == "a"
        with pytest.raises(TimeoutError):
            gated("b")

    @pytest.mark.parametrize("opened", [GatedPredictor.open, GatedPredictor.open_one])
    def test_close_holds_calls_again(self, opened):
        gated = GatedPredictor(limit=0.0)
        opened(gated)
        gated.close()

        with pytest.raises(TimeoutError):
            gated("a")

    def test_a_call_gives_up_at_its_limit(self):
        gated = GatedPredictor(name="ranker", limit=0.0)

        with pytest.raises(TimeoutError, match=r"^nobody opened 'ranker' within 0\.0 s$"):
            gated("a")

    def test_who_gave_up_takes_nobodys_turn(self):
        gated = GatedPredictor(limit=0.0)
        with pytest.raises(TimeoutError):
            gated("a")

        gated.open_one()

        assert gated("b") == "b"

    def test_waiting_for_entries_gives_up(self):
        gated = GatedPredictor(name="ranker")
        gated.open()
        gated("a")

        with pytest.raises(TimeoutError, match="fewer than 2 calls came to 'ranker' within 0"):
            gated.wait_entered(2, timeout=0.0)
        gated("b")
        gated.wait_entered(2, timeout=0.0)

    def test_it_tells_the_calls_and_the_most_at_once(self, threads):
        gated = GatedPredictor()
        waiting = [threads.submit(gated, x) for x in range(3)]
        gated.wait_entered(3)
        gated.open()
        for call in waiting:
            call.result(10.0)
        gated("last")

        calls = gated.calls
        assert sorted(calls[:3]) == [0, 1, 2]
        assert calls[3:] == ["last"]
        assert (gated.entered, gated.peak) == (4, 3)
        calls.clear()
        assert gated.entered == 4

    def test_a_failed_call_has_left(self):
        gated = GatedPredictor(lambda x: 1 / x)
        gated.open()

        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                gated(0)

        assert gated.peak == 1

    def test_it_is_a_predictor(self):
        gated = GatedPredictor(str.upper)
        gated.open()

        assert ms.predictor(gated)("a") == "A"


class TestAsynchronous:
    def test_a_call_waits_until_a_task_opens_the_gate(self):
        async def main():
            gated = GatedPredictor.asynchronous(str.upper)
            answer = asyncio.create_task(gated("a"))
            await gated.await_entered()
            await asyncio.sleep(1.0)
            assert not answer.done()
            gated.open()
            assert await answer == "A"
            assert await gated("b") == "B"
            assert gated.calls == ["a", "b"]

        explore(main, SEEDS)

    def test_a_thread_may_open_the_gate(self, threads):
        gated = GatedPredictor.asynchronous()

        def opener():
            gated.wait_entered(2)
            gated.open()

        async def main():
            with here().external():
                return await asyncio.gather(gated(1), gated(2))

        opened = threads.submit(opener)
        assert run(main) == [1, 2]
        opened.result(10.0)
        assert gated.peak == 2

    def test_one_gate_serves_several_loops(self):
        gated = GatedPredictor.asynchronous()

        async def main():
            gated.open_one()
            return await gated("a")

        assert run(main) == asyncio.run(main()) == "a"

    def test_open_one_lets_the_longest_waiting_pass(self):
        async def main():
            gated = GatedPredictor.asynchronous()
            calls = [asyncio.create_task(gated(x)) for x in "abc"]
            await gated.await_entered(3)
            for x in gated.calls:
                gated.open_one()
                await asyncio.sleep(1.0)
                assert [call.result() for call in calls if call.done()] == [x]
                calls = [call for call in calls if not call.done()]

        explore(main, SEEDS)

    def test_a_cancelled_caller_takes_nobodys_turn(self):
        async def main():
            gated = GatedPredictor.asynchronous()
            leaver = asyncio.create_task(gated("leaver"))
            await gated.await_entered(1)
            stayer = asyncio.create_task(gated("stayer"))
            await gated.await_entered(2)
            leaver.cancel()
            await asyncio.wait([leaver])
            gated.open_one()
            assert await stayer == "stayer"

        explore(main, SEEDS)

    def test_a_call_gives_up_at_its_limit(self):
        async def main():
            gated = GatedPredictor.asynchronous(name="ranker")
            with pytest.raises(TimeoutError, match=r"^nobody opened 'ranker' within 30\.0 s$"):
                await gated("a")
            assert here().time() == 30.0

        run(main)

    def test_waiting_for_entries_gives_up(self):
        async def main():
            gated = GatedPredictor.asynchronous()
            with pytest.raises(TimeoutError, match="fewer than 1 calls"):
                await gated.await_entered(timeout=5.0)
            assert here().time() == 5.0

        run(main)

    def test_it_is_a_predictor(self):
        async def main():
            gated = GatedPredictor.asynchronous(str.upper)
            gated.open()
            return await ms.predictor(gated).acall("a")

        assert asyncio.run(main()) == "A"


class TestEventLog:
    def test_it_keeps_events_in_order(self):
        log = EventLog()
        events = [Loaded("ranker", "v1", 0.5), Retired("ranker", "v1"), Loaded("ranker", "v2", 0.5)]
        for event in events:
            log(event)

        assert list(log) == events
        assert len(log) == 3
        assert log.of(Loaded) == events[::2]
        assert log.of(Retired) == events[1:2]

    def test_it_forgets_when_told(self):
        log = EventLog()
        log(Retired("ranker", "v1"))
        log.clear()

        assert (len(log), list(log), log.of(Retired)) == (0, [], [])

    def test_events_may_come_while_it_is_read(self):
        log = EventLog()
        log(Retired("ranker", "v1"))
        for event in itertools.islice(log, 10):
            log(event)

        assert len(log) == 2

    def test_threads_lose_no_event(self):
        log = EventLog()

        together(lambda: [log(Retired("ranker", "v1")) for _ in range(100)])

        assert len(log) == 800
