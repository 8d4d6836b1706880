"""Who is gone harms nobody who stays."""

import asyncio
import threading

import pytest

from modelserve.predictor import LoopSink, ThreadSink, deliver

LIMIT = 10.0


class Interrupted:
    """A request in which the wait is broken off, as by Ctrl-C."""

    def remaining(self):
        raise KeyboardInterrupt


def test_a_caller_whose_wait_is_broken_off_has_left():
    sink = ThreadSink()

    with pytest.raises(KeyboardInterrupt):
        sink.wait(Interrupted(), "p")

    assert sink.done()


def test_a_loop_that_has_closed_costs_no_other_loop_its_answers():
    closed = asyncio.new_event_loop()
    gone = LoopSink(closed)
    closed.close()

    async def main():
        sink = LoopSink(asyncio.get_running_loop())
        outcomes = [(gone, "lost", None), (sink, "answer", None)]
        thread = threading.Thread(target=deliver, args=(outcomes,))
        thread.start()
        async with asyncio.timeout(LIMIT):
            answer = await sink.future
        thread.join(LIMIT)
        return answer

    assert asyncio.run(main()) == "answer"
