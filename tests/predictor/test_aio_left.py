"""Who waits no longer leaves nothing behind."""

import modelserve as ms
from modelserve.predictor import _aio
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
