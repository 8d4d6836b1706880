import asyncio
import math
import threading
from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve.batcher import _item
from modelserve.batcher._item import Batch, BatchNote, Item, Ran
from modelserve.predictor import FutureSink, ThreadSink, running_loop
from modelserve.request import Request
from modelserve.testing import FakeClock
from tests.batcher.asking import LIMIT, run


class CountingLoop(asyncio.SelectorEventLoop):
    """A loop that counts how often it is woken."""

    woken = 0

    def call_soon_threadsafe(self, *args, **options):
        self.woken += 1
        return super().call_soon_threadsafe(*args, **options)


@pytest.fixture
def loops():
    made = [CountingLoop(), CountingLoop()]
    yield made
    for loop in made:
        loop.close()


def of_loop(loop):
    return Item("x", loop.create_future(), loop, 0.0, None)


def of_thread():
    return Item("x", FutureSink(Future()), None, 0.0, None)


def outcome(item):
    """Return what an item came to, letting its loop run first if it has one."""
    if item.loop is None:
        future = item.sink.future
    else:
        item.loop.run_until_complete(asyncio.sleep(0))
        future = item.sink
    if future.cancelled() or not future.done():
        return "cancelled" if future.cancelled() else "waits"
    return future.exception() or future.result()


# What an item is


def test_most_items_are_in_no_request_and_of_size_one():
    item = Item("x", "sink", None, 1.5, "lane")

    assert (item.x, item.sink, item.loop, item.at, item.lane) == ("x", "sink", None, 1.5, "lane")
    assert (item.scope, item.rank, item.due) == (None, None, math.inf)
    assert (item.size, item.nbytes, item.copies) == (1, 0, 1)


def test_what_is_special_about_one_item_is_its_own():
    special, other = (Item("x", None, None, 0.0, None) for _ in range(2))
    special.size, special.nbytes, special.copies, special.rank = 2.0, 10, 3, "rank"

    assert (other.size, other.nbytes, other.copies, other.rank) == (1, 0, 1, None)
    assert (special.size, special.nbytes, special.copies, special.rank) == (2.0, 10, 3, "rank")


def test_an_item_is_no_other_though_all_they_hold_is_alike():
    first, second = (Item(np.zeros(2), None, None, 0.0, None) for _ in range(2))

    assert first != second
    assert len({first, second, first}) == 2


# Batches


def request_of(*, warming=False):
    scope = Request(FakeClock())
    scope.warming = warming
    return scope


def test_a_batch_is_what_its_calls_are_field_by_field():
    scope = request_of()
    batch = Batch(
        [("x", "s", None, 1.0, "lane", None, math.inf), ("y", "t", "l", 2.0, 0, scope, 5)]
    )

    assert (batch.xs, batch.sinks, batch.loops) == (("x", "y"), ("s", "t"), (None, "l"))
    assert (batch.ats, batch.lanes, batch.dues) == ((1.0, 2.0), ("lane", 0), (math.inf, 5))
    assert batch.scopes == (None, scope)
    assert (batch.size, batch.copies, batch.plain) == (2, 1, False)


def test_a_batch_of_nobody_s_requests_is_plain():
    assert Batch([("x", "s", None, 1.0, None, None, math.inf)]).plain


def test_calls_become_items_when_asked_for_and_items_stay_who_they_are():
    item = Item("y", "t", None, 2.0, None)
    item.copies = 3
    batch = Batch([item, ("x", "s", None, 1.0, None, None, math.inf)])

    assert batch.copies == 3
    assert batch.items[0] is item
    assert tuple(batch.items[1]) == ("x", "s", None, 1.0, None, None, math.inf)
    assert batch.items[1].size == 1


@pytest.mark.parametrize(
    ("scopes", "warms"),
    [
        ([None], False),
        ([request_of()], False),
        ([request_of(warming=True)], True),
        ([request_of(warming=True), None], False),
        ([request_of(warming=True), request_of()], False),
    ],
)
def test_a_batch_warms_if_nobody_in_it_asks_for_more(scopes, warms):
    items = [Item("x", None, None, 0.0, None, scope) for scope in scopes]

    assert Batch(items).warming is warms


def test_a_record_tells_of_the_batch_by_its_name():
    record = {"kept": 1}
    BatchNote(Ran("service", 8, 1.0, 0.5), 0.75).write(record)

    assert record == {
        "kept": 1,
        "service.batch_size": 8,
        "service.queue_seconds": 0.25,
        "service.run_seconds": 0.5,
    }


@pytest.mark.parametrize(
    ("dues", "known"),
    [
        ([math.inf], True),
        ([5.0, math.inf], True),
        ([math.nan], False),
        ([math.inf, math.nan], False),
    ],
)
def test_a_batch_knows_when_the_time_of_all_is_over_or_it_does_not(dues, known):
    items = [Item("x", None, None, 0.0, None, request_of(), due) for due in dues]

    assert Batch(items).known is known


# Answers


def answer(items, rows, here=None):
    _item.answer([i.sink for i in items], [i.loop for i in items], rows, here)


def fail(items, errors):
    _item.fail([i.sink for i in items], [i.loop for i in items], errors)


def test_callers_of_the_loop_that_runs_are_answered_at_once():
    async def main():
        loop = asyncio.get_running_loop()
        items = [of_loop(loop) for _ in range(3)]
        answer(items, "abc", running_loop())
        return [item.sink.done() and item.sink.result() for item in items]

    assert run(main) == ["a", "b", "c"]


def test_callers_of_the_loop_that_runs_and_others_are_answered_together():
    async def main():
        items = [of_loop(asyncio.get_running_loop()), of_thread()]
        answer(items, "ab", running_loop())
        return items[0].sink.result(), items[1].sink.future.result(0)

    assert run(main) == ("a", "b")


def test_callers_of_a_loop_are_answered_from_a_thread():
    async def main():
        loop = asyncio.get_running_loop()
        items = [of_loop(loop) for _ in range(3)]
        thread = threading.Thread(target=answer, args=(items, "abc"), daemon=True)
        thread.start()
        return await asyncio.gather(*(item.sink for item in items)), thread.join(LIMIT)

    assert run(main) == (["a", "b", "c"], None)


def test_callers_on_threads_are_answered_at_once():
    items = [of_thread(), Item("x", ThreadSink(), None, 0.0, None)]
    answer(items, "ab")

    assert items[0].sink.future.result(0) == "a"
    assert items[1].sink.wait(None, "service") == "b"


def test_each_loop_is_woken_once(loops):
    items = [of_loop(loops[n % 2]) for n in range(10)]
    answer(items, range(10))

    assert [loop.woken for loop in loops] == [1, 1]
    assert [outcome(item) for item in items[1:]] == list(range(1, 10))


def test_nobody_is_nobody_to_answer():
    assert answer([], []) is None
    assert fail([], []) is None


def test_who_has_left_is_not_answered_and_hurts_nobody(loops):
    items = [of_loop(loops[0]), of_loop(loops[0]), of_thread(), of_thread()]
    items[0].sink.cancel()
    items[2].sink.future.cancel()
    answer(items, "abcd")

    assert [outcome(item) for item in items] == ["cancelled", "b", "cancelled", "d"]


def test_who_leaves_before_the_loop_hears_of_the_answer_hurts_nobody(loops):
    items = [of_loop(loops[0]), of_loop(loops[0])]
    answer(items, "ab")
    items[0].sink.cancel()

    assert [outcome(item) for item in items] == ["cancelled", "b"]


def test_a_closed_loop_takes_its_own_callers_along_and_nobody_else(loops):
    items = [of_loop(loops[0]), of_loop(loops[1]), of_thread(), of_loop(loops[0])]
    loops[0].close()
    answer(items, "abcd")

    assert [outcome(item) for item in items[1:3]] == ["b", "c"]
    assert not items[0].sink.done()


def test_a_warm_call_has_the_first_of_its_rows(loops):
    for item in (of_loop(loops[0]), of_thread()):
        answer([item], ["a", "b", "c"])

        assert outcome(item) == "a"


# Errors


def test_each_caller_is_handed_its_own_error(loops):
    items = [of_loop(loops[0]), of_thread(), of_loop(loops[1])]
    errors = [ValueError("a"), ValueError("b"), ValueError("c")]
    fail(items, errors)

    assert [outcome(item) for item in items] == errors


def test_who_has_left_is_handed_nothing(loops):
    items = [of_loop(loops[0]), of_loop(loops[0]), of_thread()]
    items[1].sink.cancel()
    items[2].sink.future.cancel()
    fail(items, [None, None, None])

    assert [outcome(item) for item in items] == ["waits", "cancelled", "cancelled"]
    fail(items, [error := ValueError("a"), ValueError("b"), ValueError("c")])
    assert [outcome(item) for item in items] == [error, "cancelled", "cancelled"]


def test_an_error_for_each_or_it_is_a_mistake_here():
    with pytest.raises(ValueError, match="zip"):
        fail([of_thread(), of_thread()], [ValueError("only one")])


# Everything at once


@given(
    places=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=12),
    fails=st.booleans(),
)
def test_everybody_is_handed_what_is_theirs(places, fails):
    loops = [CountingLoop(), CountingLoop(), None]
    items = [of_loop(loops[at]) if loops[at] else of_thread() for at, _ in places]
    what = [ValueError(n) if fails else n + 1 for n in range(len(items))]
    for item, (_, leaves) in zip(items, places, strict=True):
        if leaves:
            (item.sink if item.loop else item.sink.future).cancel()
    (fail if fails else answer)(items, what)

    came = [outcome(item) for item in items]
    assert came == ["cancelled" if left else y for (_, left), y in zip(places, what, strict=True)]
    for loop in loops[:2]:
        assert loop.woken <= 1
        loop.close()
