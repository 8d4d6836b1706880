"""Tasks of the library's own, and which errors end them."""

import asyncio
import contextlib
from contextvars import ContextVar

import pytest

import modelserve as ms
from modelserve.predictor._aio import is_ours_to_end, spawn
from tests.support.virtual import run

MINE = ContextVar("mine", default=None)


def test_a_spawned_task_sees_nothing_of_its_caller():
    async def look():
        return MINE.get(), ms.current_request()

    async def main():
        MINE.set("mine")
        with ms.request():
            return await spawn(look())

    assert asyncio.run(main()) == (None, None)


class TestWhoseToEnd:
    def ask(self, error, *, cancelled=False):
        async def main():
            if cancelled:
                asyncio.current_task().cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
            return is_ours_to_end(error)

        return run(main)

    def test_a_cancellation_is_ours_if_this_task_was_cancelled(self):
        assert self.ask(asyncio.CancelledError(), cancelled=True)
        assert not self.ask(asyncio.CancelledError())

    def test_a_closed_coroutine_and_an_interrupt_are_ours(self):
        assert self.ask(GeneratorExit())
        assert self.ask(KeyboardInterrupt())

    @pytest.mark.parametrize("error", [ValueError(), SystemExit()], ids=repr)
    def test_all_else_is_the_models(self, error):
        assert not self.ask(error)
        assert not self.ask(error, cancelled=True)
