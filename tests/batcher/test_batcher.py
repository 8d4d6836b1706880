import asyncio
import math
import pickle

import numpy as np
import pytest

import modelserve as ms
from modelserve.testing import AsyncGatedPredictor, FakeClock, GatedPredictor
from tests.batcher.asking import (
    HOUR,
    LIMIT,
    as_async,
    both,
    both_gates,
    in_threads,
    one_batch,
    outcome,
    run,
    same,
    taken,
    tenfold,
)


def odd_fails(xs):
    return [ValueError(f"{x} is odd") if x % 2 else x for x in xs]


# Construction


@pytest.mark.parametrize("bound", ["max_batch_size", "max_queue_size", "workers"])
@pytest.mark.parametrize("value", [0, -1])
def test_bounds_below_one_are_refused(bound, value):
    with pytest.raises(ValueError, match=f"{bound}={value}: pass 1 or more"):
        ms.DynamicBatcher(same, **{bound: value})


@pytest.mark.parametrize("value", [-0.001, math.inf, math.nan])
def test_what_is_no_wait_is_refused(value):
    with pytest.raises(ValueError, match=f"max_wait={value} is no wait: pass seconds, 0 or more"):
        ms.DynamicBatcher(same, max_wait=value)


def test_an_unknown_word_is_refused():
    with pytest.raises(ValueError, match="on_error='retry': pass 'isolate' or 'batch'"):
        ms.DynamicBatcher(same, on_error="retry")


@pytest.mark.parametrize(
    "predict", [lambda: None, lambda xs, ys: xs, 5], ids=["none", "two", "no function"]
)
def test_what_takes_no_single_batch_is_refused(predict):
    with pytest.raises(TypeError):
        ms.DynamicBatcher(predict)


@pytest.mark.parametrize(
    ("below", "message"),
    [
        (lambda: ms.DynamicBatcher(same, name="inner"), "'inner' already answers for one item"),
        (
            lambda: ms.TrafficSplitter(ms.Variant("a", same), salt="split"),
            "'split' stands below DynamicBatcher",
        ),
        (
            lambda: ms.PredictionCache(same, maxsize=2, name="kept"),
            "'kept' stands below DynamicBatcher",
        ),
    ],
    ids=["batcher", "splitter", "cache"],
)
def test_what_answers_for_one_caller_may_not_stand_below(below, message):
    with pytest.raises(ms.NestingError, match=message):
        ms.DynamicBatcher(below(), name="outer")


def test_a_batcher_is_named_after_its_function_or_as_told():
    assert (ms.DynamicBatcher(same).name, ms.DynamicBatcher(same, name="rank").name) == (
        "same",
        "rank",
    )


def test_a_copy_made_by_pickle_has_the_same_options():
    p = ms.DynamicBatcher(same, max_batch_size=3, max_wait=0.5, on_error="batch", name="rank")
    copy = pickle.loads(pickle.dumps(p))  # noqa: S301 - made above

    assert dict(copy._spec.options) == dict(p._spec.options)
    assert copy._settings.isolate is False
    assert copy("a") == "a"


# The law where a closure hides it


@both
def test_a_batcher_may_not_wait_for_itself(colour):
    calls = []

    def predict(xs):
        calls.append(xs)
        return [p.submit(x) for x in xs]

    p = one_batch(colour(predict), 2, name="rank")
    errors = [outcome(future) for future in [p.submit(1), p.submit(2)]]

    assert [type(error) for error in errors] == [ms.NestingError] * 2
    assert "'rank' was called from inside a batch that waits for it" in str(errors[0])
    assert len(calls) == 1


def test_batchers_may_not_wait_for_each_other_in_a_circle():
    there = ms.DynamicBatcher(lambda xs: [back(x) for x in xs], name="there")
    back = ms.DynamicBatcher(lambda xs: [there(x) for x in xs], name="back")

    with pytest.raises(ms.NestingError, match="'there' was called from inside a batch"):
        there(1)


def test_a_batch_function_may_ask_another_batcher():
    inner = ms.DynamicBatcher(tenfold)
    outer = ms.DynamicBatcher(lambda xs: list(inner.map(xs)))

    assert list(outer.map(range(5))) == [0, 10, 20, 30, 40]


# The faces


@both
def test_the_faces_agree(colour):
    p = ms.DynamicBatcher(colour(lambda rows: rows * 2))
    x = np.array([1.0, 2.0])
    answers = [p(x), run(lambda: p.acall(x)), p.submit(x).result(LIMIT), next(p.map([x]))]
    answers += run(lambda: taken(p.amap([x])))

    assert [answer.tolist() for answer in answers] == [[2.0, 4.0]] * 5


def test_the_sync_face_of_an_async_batcher_is_refused_on_a_loop():
    async def main():
        p = ms.DynamicBatcher(as_async(same), name="rank")
        for face in (p, p.warm, lambda x: next(p.map([x]))):
            with pytest.raises(RuntimeError, match=r"'rank' .*use `await p.acall\(x\)`"):
                face(1)
        return await p.acall(1), p.stats.calls

    assert run(main) == (1, 1)


def test_calls_that_block_a_loop_are_counted():
    async def main():
        p = ms.DynamicBatcher(same)
        assert (p(1), list(p.map([2, 3])), await p.acall(4)) == (1, [2, 3], 4)
        return p

    p = run(main)
    assert p(5) == 5
    assert p.stats.blocked_loop == 2
    assert "2 calls blocked an event loop" in ms.describe(p)


def passing(clock, gate):
    """Make a batch function in whose run, at the gate, a second passes."""

    def predict(xs):
        clock.advance(1.0)
        return gate(xs)

    async def apredict(xs):
        clock.advance(1.0)
        return await gate(xs)

    return apredict if isinstance(gate, AsyncGatedPredictor) else predict


@both_gates
def test_a_caller_is_let_go_at_its_deadline_on_a_thread(make, gates):
    clock, gate = FakeClock(), gates(make)
    p = ms.DynamicBatcher(passing(clock, gate), name="rank")
    with (
        ms.request(timeout=0.01, clock=clock),
        pytest.raises(ms.DeadlineExceeded, match="waiting for 'rank'"),
    ):
        p("late")
    gate.open()
    assert p("in time") == "in time"


@both_gates
def test_a_caller_is_let_go_at_its_deadline_on_a_loop(make, gates):
    clock, gate = FakeClock(), gates(make)
    p = ms.DynamicBatcher(passing(clock, gate), name="rank")

    async def main():
        with ms.request(timeout=0.01, clock=clock):
            await p.acall("late")

    with pytest.raises(ms.DeadlineExceeded, match="waiting for 'rank'"):
        run(main)


@both
def test_all_faces_mixed_get_their_own_answers(colour):
    p = ms.DynamicBatcher(colour(tenfold), max_batch_size=8, workers=2)

    def by_call(xs):
        assert [p(x) for x in xs] == tenfold(xs)

    def by_map(xs):
        assert list(p.map(xs)) == tenfold(xs)

    def by_submit(xs):
        assert [future.result(LIMIT) for future in [p.submit(x) for x in xs]] == tenfold(xs)

    def by_acall(xs):
        async def main():
            return await asyncio.gather(*map(p.acall, xs))

        assert run(main) == tenfold(xs)

    def by_amap(xs):
        assert run(lambda: taken(p.amap(xs))) == tenfold(xs)

    faces = [by_call, by_map, by_submit, by_acall, by_amap] * 2
    in_threads(
        *(
            lambda k=k, face=face: face(range(1000 * k, 1000 * k + 60))
            for k, face in enumerate(faces)
        )
    )
    assert (p.stats.calls, p.stats.items, p.stats.queued) == (600, 600, 0)
    p.close(timeout=LIMIT)


# Warming


@both
def test_warming_runs_the_smallest_and_the_largest_batch(colour):
    batches = []
    p = ms.DynamicBatcher(colour(lambda xs: batches.append(list(xs)) or xs), max_batch_size=3)
    p.warm("a")
    run(lambda: p.awarm("b"))

    assert batches == [["a"], ["a"] * 3, ["b"], ["b"] * 3]
    assert (p.stats.calls, p.stats.batches) == (0, 0)


def test_warming_arrays_stacks_them():
    shapes = []
    p = ms.DynamicBatcher(lambda rows: shapes.append(rows.shape) or rows, max_batch_size=3)
    p.warm(np.zeros(2))

    assert shapes == [(1, 2), (3, 2)]


def test_a_batch_of_one_is_warmed_once():
    batches = []
    ms.DynamicBatcher(lambda xs: batches.append(xs) or xs, max_batch_size=1).warm("a")

    assert batches == [["a"]]


def test_warm_calls_share_a_batch_with_nobody():
    gate = GatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=4)
    first = p.submit("first")
    gate.wait_entered(1)

    async def main():
        warming = asyncio.gather(p.awarm("w"), p.awarm("w"))
        await asyncio.sleep(0)
        futures = [p.submit("x"), p.submit("y")]
        gate.open()
        await warming
        return futures

    assert [outcome(future) for future in [first, *run(main)]] == ["first", "x", "y"]
    assert sorted(gate.calls) == [["first"], ["w"], ["w"], *[["w"] * 4] * 2, ["x", "y"]]
    assert (p.stats.calls, p.stats.items) == (3, 3)


@both
def test_a_warm_call_reports_the_error_of_the_model(colour):
    p = ms.DynamicBatcher(colour(lambda xs: xs[1:]))
    with pytest.raises(ms.BadOutput):
        p.warm("a")
    with pytest.raises(ms.BadOutput):
        run(lambda: p.awarm("a"))


# What it shows


def test_the_summary_tells_what_happened():
    p = ms.DynamicBatcher(odd_fails, max_batch_size=2, max_wait=HOUR, name="rank")
    assert p.summary() == "up to 2 together, 0 calls in 0 batches"
    for future in [p.submit(0), p.submit(1)]:
        outcome(future)

    assert p.summary() == "up to 2 together, 2 calls in 1 batches, 2.0 a batch, 1 errors"


def test_the_summary_tells_what_was_not_run():
    gate = GatedPredictor()
    p = ms.DynamicBatcher(gate, max_queue_size=1)
    first = p.submit(0)
    gate.wait_entered(1)
    p.submit(1).cancel()
    with pytest.raises(ms.Overloaded):
        p.submit(2)
    gate.open()

    assert outcome(first) == 0
    p.close(timeout=LIMIT)
    assert p.summary().endswith("2 calls in 1 batches, 1.0 a batch, 2 not run")


def test_its_health_is_that_of_its_queue_until_it_is_closed():
    gate = GatedPredictor()
    p = ms.DynamicBatcher(gate, max_queue_size=1, name="rank")
    assert p.health() == ("ready", "")
    p.submit(0)
    gate.wait_entered(1)
    p.submit(1)
    assert p.health() == ("degraded", "the queue is full: 1 calls")
    assert ms.health(p).ready
    gate.open()
    p.close(timeout=LIMIT)
    assert p.health().state == "closed"
