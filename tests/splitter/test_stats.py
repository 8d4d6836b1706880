"""Counts that are true: whose call, whose error."""

import asyncio

import pytest

import modelserve as ms
from modelserve.testing import GatedPredictor
from tests.splitter.arms import counts, errors, splitter


def raises(error):
    def fail(x):
        raise error

    return lambda name: fail


def by_call(split):
    return split("x")


def by_acall(split):
    return asyncio.run(split.acall("x"))


by_both = pytest.mark.parametrize("ask", [by_call, by_acall])


@by_both
@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (KeyError("k"), 1),
        (ms.DeadlineExceeded("late"), 1),
        (ms.Overloaded("full"), 1),
        (ms.BadOutput("none"), 1),
        (ms.BadInput("what is this"), 0),
    ],
)
def test_an_error_is_the_variants_unless_the_input_was_bad(ask, error, counted):
    split = splitter("demo", raises(error), weights={"a": 1.0, "b": 0.0})
    with pytest.raises(type(error)):
        ask(split)

    assert counts(split) == {"a": 1, "b": 0}
    assert errors(split) == {"a": counted, "b": 0}


@by_both
def test_answers_are_no_errors(ask):
    split = splitter(weights={"a": 1.0, "b": 0.0})
    ask(split)

    assert errors(split) == {"a": 0, "b": 0}


def test_a_cancelled_call_is_nobodys_error():
    gated = GatedPredictor.asynchronous()
    split = ms.TrafficSplitter(ms.Variant("a", gated), salt="demo")

    async def main():
        call = asyncio.create_task(split.acall("x"))
        await gated.await_entered()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert (counts(split), errors(split)) == ({"a": 1}, {"a": 0})


def test_a_cancellation_that_the_model_raises_is_its_error():
    async def fail(x):
        raise asyncio.CancelledError

    split = ms.TrafficSplitter(ms.Variant("a", fail), salt="demo")
    with pytest.raises(RuntimeError, match="raised CancelledError"):
        asyncio.run(split.acall("x"))

    assert errors(split) == {"a": 1}


def test_a_snapshot_stays_as_it_was_taken():
    split = splitter(weights={"a": 1.0, "b": 0.0})
    split("x")
    before = split.stats
    split("x")
    split.set_weights({"b": 1.0})

    assert before.variants["a"] == (1.0, 1, 0)
    assert split.stats.variants["a"] == (0.0, 2, 0)
    assert before.random == 1
