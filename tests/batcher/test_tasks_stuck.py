"""Async calls that last too long: cancelled, and given up whether they end or not."""

import asyncio

import pytest

import modelserve as ms
from tests.batcher.asking import run
from tests.support.virtual import explore, here

SEEDS = range(20)
LONG = 1000.0


class Model:
    """A batch function that hangs for some items; notes what it is called with, and its ends."""

    __name__ = "model"

    def __init__(self, *, hangs=lambda xs: "hangs" in xs, at_last=None):
        self.hangs = hangs
        self.at_last = at_last
        self.calls = []
        self.cancelled = []

    async def __call__(self, xs):
        self.calls.append(list(xs))
        if self.hangs(xs):
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                self.cancelled.append(here().time())
                if self.at_last is None:
                    raise
                return await self.at_last()
        return xs


def limited(model, **options):
    options = {"max_batch_size": 1, "max_run": 2.0, "name": "rank", **options}
    return ms.DynamicBatcher(model, clock=here().time, **options)


async def ask(p, *xs):
    """Ask for items in this order; return what each comes to, and when."""

    async def wait(future):
        try:
            return await asyncio.wrap_future(future), here().time()
        except Exception as error:  # noqa: BLE001 - compared by the tests
            return error, here().time()

    return await asyncio.gather(*map(wait, [p.submit(x) for x in xs]))


def test_a_call_that_lasts_too_long_is_cancelled_and_its_callers_are_told():
    async def main():
        model = Model()
        p = limited(model)
        [(error, when)] = await ask(p, "hangs")

        assert isinstance(error, ms.Stuck)
        assert str(error) == "a call of 'model' had not ended after 2.0 s: given up"
        await asyncio.sleep(0.5)
        assert (when, model.cancelled) == (2.0, [2.0])
        assert (p.stats.stuck, p.stats.errors, p.stats.running) == (1, 1, 0)
        assert await p.acall("fine") == "fine"
        assert (p.stats.batches, p.stats.items) == (1, 1)

    explore(main, SEEDS)


def test_the_rest_is_served_and_callers_that_hang_together_get_an_error_each():
    async def main():
        p = limited(Model(), max_batch_size=2, max_wait=0.5)
        one, two, three, four = await ask(p, "hangs", "hangs", "a", "b")

        assert type(one[0]) is type(two[0]) is ms.Stuck
        assert one[0] is not two[0]
        assert (three, four) == (("a", 2.0), ("b", 2.0))

    explore(main, SEEDS)


def test_a_call_that_ends_in_time_is_as_good_as_any():
    async def main():
        async def slow(xs):
            await asyncio.sleep(1.9)
            if xs == ["bad"]:
                raise ValueError("bad")
            if xs == ["cancels"]:
                raise asyncio.CancelledError
            return xs

        p = limited(slow)
        answers = [answer for x in ("fine", "bad", "cancels") for answer in await ask(p, x)]

        assert answers[0] == ("fine", 1.9)
        assert [type(answer) for answer, _ in answers[1:]] == [ValueError, RuntimeError]
        assert p.stats.stuck == 0

    explore(main, SEEDS)


def test_what_a_call_answers_after_it_was_given_up_is_heard_by_nobody():
    async def late():
        await asyncio.sleep(5.0)
        return ["late"]

    async def main():
        p = limited(Model(at_last=late))
        [(error, when)] = await ask(p, "hangs")
        assert isinstance(error, ms.Stuck)
        assert when == 2.0
        assert await p.acall("fine") == "fine"
        await asyncio.sleep(LONG)
        assert (p.stats.items, p.stats.errors, p.stats.running) == (1, 1, 0)

    explore(main, SEEDS)


def test_what_a_call_raises_after_it_was_given_up_is_heard_by_nobody():
    async def late():
        await asyncio.sleep(5.0)
        raise ValueError("late")

    async def main():
        p = limited(Model(at_last=late))
        [(error, _)] = await ask(p, "hangs")
        assert isinstance(error, ms.Stuck)
        await asyncio.sleep(LONG)  # an error that nobody saw would be an error here
        assert p.stats.errors == 1

    explore(main, SEEDS)


def test_a_call_that_ignores_its_cancellation_keeps_nobody_waiting():
    async def never():
        await asyncio.sleep(10 * LONG)

    async def main():
        p = limited(Model(at_last=never))
        answers = await ask(p, "hangs", "fine")
        assert answers[1] == ("fine", 2.0)
        await p.aclose(timeout=1.0)
        assert here().time() <= 3.0

    explore(main, SEEDS)


def test_those_who_wait_to_be_run_again_are_served_when_a_rerun_hangs():
    async def main():
        model = Model(hangs=lambda xs: xs == [0, 1])

        async def predict(xs):
            if len(xs) == 4:
                model.calls.append(list(xs))
                raise ValueError("poison")
            return await model(xs)

        p = limited(predict, max_batch_size=4, max_wait=1.0)
        answers = await ask(p, *range(4))

        assert [type(answer) for answer, _ in answers] == [ms.Stuck, ms.Stuck, int, int]
        assert [answer for answer, _ in answers[2:]] == [2, 3]
        assert model.calls == [[0, 1, 2, 3], [0, 1], [2, 3]]
        await p.aclose(timeout=1.0)
        assert p._queues.core._untold == 0

    explore(main, SEEDS)


def test_a_warm_call_that_hangs_is_counted_nowhere():
    async def main():
        p = limited(Model())
        with pytest.raises(ms.Stuck):
            await p.awarm("hangs")
        assert (p.stats.stuck, p.stats.errors, p.stats.calls, p.stats.batches) == (0, 0, 0, 0)

    explore(main, SEEDS)


def test_a_loop_that_ends_cancels_a_call_that_may_still_last():
    ended = []

    async def main():
        async def predict(xs):
            begun.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.append(xs)

        begun = asyncio.Event()
        p = ms.DynamicBatcher(predict, max_run=LONG, name="rank")
        future = p.submit("x")
        await begun.wait()
        return p, future

    p, future = run(main)

    assert isinstance(future.exception(1.0), ms.Closed)
    assert ended == [["x"]]
    assert p.stats.running == 0
