"""What is looked at before a call is queued: its request, its size, its length, its lane."""

import asyncio
import math

import numpy as np
import pytest

import modelserve as ms
from modelserve.batcher import Pad
from modelserve.testing import AsyncGatedPredictor, FakeClock, GatedPredictor
from tests.batcher.asking import LIMIT, both, outcome, run, same, tenfold
from tests.support.virtual import explore, here


@pytest.fixture(params=[GatedPredictor, AsyncGatedPredictor])
def busy(request):
    """Make a batcher whose worker is at the gate: what is queued meanwhile is cut afterwards."""
    gate = request.param()

    def make(**options):
        p = ms.DynamicBatcher(gate, **{"max_batch_size": 1, "name": "rank", **options})
        p.submit("first")
        gate.wait_entered(1)
        return p, gate

    yield make
    gate.open()


def ask(p, x, **asked):
    with ms.request(**asked):
        return p.submit(x)


def order(gate):
    return [x for batch in gate.calls[1:] for x in batch]


def answers(futures):
    return [outcome(future) for future in futures]


# Priorities and tenants


def test_a_higher_priority_goes_first(busy):
    p, gate = busy(clock=FakeClock())
    futures = [ask(p, f"{priority}{n}", priority=priority) for n in "ab" for priority in (0, 2, 1)]
    futures += [p.submit("plain"), ask(p, "lowest", priority=-1)]
    gate.open()

    assert answers(futures) == ["0a", "2a", "1a", "0b", "2b", "1b", "plain", "lowest"]
    assert order(gate) == ["2a", "2b", "1a", "1b", "0a", "0b", "plain", "lowest"]


def test_who_has_waited_long_goes_before_who_is_a_little_more_urgent(busy):
    clock = FakeClock()
    p, gate = busy(clock=clock)
    futures = [p.submit("patient")]
    clock.advance(1.5)
    futures.append(ask(p, "urgent", priority=1))
    clock.advance(0.0)
    futures.append(ask(p, "very urgent", priority=2))
    gate.open()

    assert answers(futures) == ["patient", "urgent", "very urgent"]
    assert order(gate) == ["very urgent", "patient", "urgent"]


def test_tenants_take_turns(busy):
    p, gate = busy(clock=FakeClock())
    futures = [ask(p, f"a{n}", tenant="a") for n in range(4)]
    futures += [ask(p, f"b{n}", tenant="b") for n in range(2)]
    futures.append(p.submit("nobody's"))
    gate.open()

    assert len(answers(futures)) == 7
    assert order(gate) == ["a0", "b0", "nobody's", "a1", "b1", "a2", "a3"]


def test_priorities_and_tenants_hold_for_tasks_too():
    async def main():
        gate = AsyncGatedPredictor()
        p = ms.DynamicBatcher(gate, max_batch_size=1, clock=here().time)

        async def called(x, at, **asked):
            await asyncio.sleep(at)
            with ms.request(**asked):
                return await p.acall(x)

        asking = asyncio.gather(
            called("first", 0.0),
            called("low", 1e-3),
            called("a1", 2e-3, tenant="a"),
            called("a2", 3e-3, tenant="a"),
            called("urgent", 4e-3, priority=1, tenant="a"),
        )
        await asyncio.sleep(0.5)
        gate.open()
        assert await asking == ["first", "low", "a1", "a2", "urgent"]
        assert order(gate) == ["urgent", "low", "a1", "a2"]

    explore(main, range(10))


# Deadlines, and the law of nesting


@both
def test_who_is_late_already_is_refused_before_the_queue(colour):
    clock = FakeClock()
    p = ms.DynamicBatcher(colour(same), clock=clock, name="rank")
    assert p("first") == "first"
    for asked in (clock, FakeClock()):
        with pytest.raises(ms.DeadlineExceeded, match="passed before 'rank' was called"):
            ask(p, "late", timeout=0.0, clock=asked)

    assert (p.stats.calls, p.stats.queued) == (1, 0)


@both
def test_a_call_from_inside_the_batch_that_waits_for_it_is_refused(colour):
    calls = []
    p = one_batch(colour(lambda xs: calls.append(xs) or [p.submit(x) for x in xs]), 2, name="rank")
    with ms.request(unit="u"):
        futures = [p.submit(1), p.submit(2)]

    assert {type(error) for error in answers(futures)} == {ms.NestingError}
    assert len(calls) == 1


# Sizes


@both
def test_the_sizes_of_a_batch_add_up_to_no_more_than_it_holds(colour):
    calls = []
    p = one_batch(colour(lambda xs: calls.append(list(xs)) or xs), 10, size_of=float)
    futures = [p.submit(x) for x in (4, 4, 4, 10, 1, 1)]
    p.close(timeout=LIMIT)

    assert answers(futures) == [4, 4, 4, 10, 1, 1]
    assert calls == [[4, 4], [4], [10], [1, 1]]


def one_batch(predict, size, *, size_of=None, **options):
    options = {"max_wait": 3600.0, "clock": FakeClock(), **options}
    return ms.DynamicBatcher(predict, max_batch_size=size, size=size_of, **options)


BAD = {
    "too large": (11.0, "size 11.0 fits no batch: raise max_batch_size=10"),
    "below nothing": (-1.0, "size=-1.0 of an item: give a number, 0 or more"),
    "no number": (math.nan, "size=nan of an item"),
    "endless": (math.inf, "size=inf of an item"),
}


@both
@pytest.mark.parametrize(("size", "message"), BAD.values(), ids=BAD)
def test_an_item_of_no_possible_size_is_refused_and_nobody_else(colour, size, message):
    p = one_batch(colour(same), 10, size_of=float)
    good = p.submit(5.0)
    for face in (p, p.submit, lambda x: run(lambda: p.acall(x))):
        with pytest.raises(ms.BadInput, match=message):
            face(size)

    assert (p.stats.calls, p.stats.queued) == (1, 1)
    assert outcome_of_close(p, good) == 5.0


def outcome_of_close(p, future):
    p.close(timeout=LIMIT)
    return outcome(future)


@both
def test_a_size_that_cannot_be_told_is_that_callers_error(colour):
    p = ms.DynamicBatcher(colour(same), size=len)
    with pytest.raises(TypeError, match="has no len"):
        p(5)

    assert p("abc") == "abc"
    assert list(p.map(["a", 5, "b"], return_exceptions=True))[::2] == ["a", "b"]
    assert p.stats.calls == 3


@both
def test_the_largest_batch_that_is_warmed_holds_as_many_as_fit(colour):
    calls = []
    p = ms.DynamicBatcher(
        colour(lambda xs: calls.append(list(xs)) or xs), max_batch_size=10, size=float
    )
    p.warm(3.0)
    run(lambda: p.awarm(10.0))

    assert calls == [[3.0], [3.0] * 3, [10.0]]


# Lengths


@both
def test_items_of_other_lengths_run_together_padded(colour):
    shapes = []

    def double(batch):
        rows, mask = batch
        shapes.append((rows.shape, mask.sum(axis=1).tolist()))
        return rows * 2

    p = one_batch(colour(double), 3, layout=Pad(trim=True))
    futures = [p.submit(np.arange(1.0, n + 1)) for n in (1, 3, 2)]

    assert [y.tolist() for y in answers(futures)] == [[2.0], [2.0, 4.0, 6.0], [2.0, 4.0]]
    assert shapes == [((3, 3), [1, 3, 2])]
    assert p.stats.batches == 1


@both
def test_an_item_longer_than_any_batch_may_be_is_refused_alone(colour):
    p = one_batch(colour(same), 2, layout=Pad(sizes=[2, 4], mask=None, trim=True))
    good = p.submit(np.ones(3))
    with pytest.raises(ms.BadInput):
        p.submit(np.ones(5))

    assert p.stats.calls == 1
    assert outcome_of_close(p, good).tolist() == [1.0] * 3


@both
def test_long_and_short_items_share_a_budget_of_padded_lengths(colour):
    shapes = []
    p = one_batch(
        colour(lambda rows: shapes.append(rows.shape) or rows),
        8,
        size_of=len,
        layout=Pad(mask=None, trim=True),
    )
    futures = [p.submit(np.ones(n)) for n in (2, 2, 2, 2, 8)]
    p.close(timeout=LIMIT)

    assert [len(y) for y in answers(futures)] == [2, 2, 2, 2, 8]
    assert sorted(shapes) == [(1, 8), (4, 2)]


# Loops


def test_a_queue_that_another_call_has_just_made_is_used():
    async def predict(xs):
        return await asyncio.get_running_loop().create_future() if xs == [1] else tenfold(xs)

    p = ms.DynamicBatcher(predict, name="rank")
    loop = asyncio.new_event_loop()

    async def leave():
        return p.submit(1)

    lost = loop.run_until_complete(leave())
    tasks = asyncio.all_tasks(loop)  # which would end when they are collected
    loop.set_exception_handler(lambda *_: None)  # of those that are destroyed
    loop.close()
    again = []
    lost.add_done_callback(lambda _: again.append(p.submit(2)))  # in the midst of the next call
    with pytest.warns(ResourceWarning, match="'rank' lost 1 accepted calls"):
        assert p(3) == 30

    assert len(tasks) == 1
    assert isinstance(outcome(lost), ms.Closed)
    assert answers(again) == [20]
    assert len(p._queues.loops) == 1
    p.close(timeout=LIMIT)
