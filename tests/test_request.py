"""Who asks and how long they wait; the trail, and the record that it makes."""

import asyncio
import contextvars
import gc
import json
import math
import threading
import time

import pytest

import modelserve as ms
from modelserve.request import (
    Note,
    current,
    shared_scope,
    stamps,
    tick,
    warm_scope,
)
from modelserve.testing import FakeClock
from tests.contract.calling import LIMIT, start

WORDS = {"unit": "user-42", "id": "r-1", "tenant": "acme", "priority": 3, "debug": True}


def words(scope):
    return {word: getattr(scope, word) for word in WORDS}


def note(value, field="version"):
    return Note("ranker", field, value)


def test_without_a_request_nothing_is_in_force():
    assert ms.current_request() is None


def test_a_request_says_who_asks():
    with ms.request(**WORDS) as r:
        assert ms.current_request() is r
        assert words(r) == WORDS
    assert ms.current_request() is None


def test_what_is_not_said_has_a_plain_default():
    r = ms.request()

    assert words(r) == {"unit": None, "id": None, "tenant": None, "priority": 0, "debug": False}
    assert r.remaining() == math.inf
    assert r.clock is time.monotonic
    assert r.record == {}


def test_an_inner_request_inherits_what_it_is_not_given():
    with ms.request(**WORDS), ms.request() as inner:
        assert words(inner) == WORDS


@pytest.mark.parametrize(("word", "value"), [*WORDS.items(), ("priority", 0), ("debug", False)])
def test_an_inner_request_says_otherwise(word, value):
    others = {"unit": "a", "id": "b", "tenant": "c", "priority": 9, "debug": not value}
    with ms.request(**others) as outer, ms.request(**{word: value}) as inner:
        assert words(inner) == {**others, word: value}
        assert words(outer) == others


def test_repr_shows_what_was_asked_for():
    assert repr(ms.request()) == "Request()"
    assert repr(ms.request(**WORDS)) == (
        "Request(unit='user-42', id='r-1', tenant='acme', priority=3)"
    )


class TestDeadline:
    def test_counts_down_by_its_clock(self):
        clock = FakeClock()
        r = ms.request(timeout=2.0, clock=clock)
        clock.advance(0.5)

        assert r.remaining() == 1.5
        clock.advance(3.0)
        assert r.remaining() == -1.5

    def test_nan_is_refused(self):
        with pytest.raises(ValueError, match="timeout is NaN"):
            ms.request(timeout=math.nan)

    def test_infinity_is_no_limit(self):
        assert ms.request(timeout=math.inf).remaining() == math.inf

    @pytest.mark.parametrize("timeout", [0, 0.0, -1.0, -math.inf])
    def test_zero_or_less_is_late_already(self, timeout):
        calls = []
        p = ms.predictor(calls.append, name="append")
        with ms.request(timeout=timeout, clock=FakeClock()) as r:
            assert r.remaining() <= 0
            with pytest.raises(ms.DeadlineExceeded, match=r"before 'append' was called"):
                p(1)

        assert calls == []

    @pytest.mark.parametrize(
        ("outer", "inner", "least"), [(1.0, 9.0, 1.0), (9.0, 1.0, 1.0), (1.0, None, 1.0)]
    )
    def test_never_exceeds_the_outer_one(self, outer, inner, least):
        clock = FakeClock()
        with ms.request(timeout=outer, clock=clock), ms.request(timeout=inner) as r:
            assert r.clock is clock
            assert r.remaining() == least
            clock.advance(0.25)
            assert r.remaining() == least - 0.25

    def test_never_exceeds_the_outer_one_that_goes_by_another_clock(self):
        outer_clock, inner_clock = FakeClock(), FakeClock(1e9)
        outer = ms.request(timeout=1.0, clock=outer_clock)
        with outer, ms.request(timeout=5.0, clock=inner_clock) as r:
            assert r.remaining() == 1.0
            outer_clock.advance(0.75)
            assert r.remaining() == 0.25
            inner_clock.advance(4.875)
            assert r.remaining() == 0.125

    def test_another_clock_under_no_deadline_tells_its_own_time(self):
        clock = FakeClock()
        with ms.request(), ms.request(timeout=5.0, clock=clock) as r:
            assert r.remaining() == 5.0

    def test_of_a_request_inside_shared_work_is_raised_by_those_who_join(self):
        clock = FakeClock()
        first, joiner = (ms.request(timeout=t, clock=clock) for t in (1.0, 3.0))
        waiters = [first]
        with shared_scope(waiters, "flight", object()):
            open_end, limited = ms.request(), ms.request(timeout=2.0, clock=clock)
        assert (open_end.remaining(), limited.remaining()) == (1.0, 1.0)
        waiters.append(joiner)

        assert (open_end.remaining(), limited.remaining()) == (3.0, 2.0)

    def test_check_passes_in_time(self):
        clock = FakeClock()
        r = ms.request(timeout=1.0, clock=clock)
        r.check("ranker")
        clock.advance(1.0)

        with pytest.raises(ms.DeadlineExceeded, match="'ranker'"):
            r.check("ranker")

    def test_is_due_at_its_deadline_by_its_own_clock_alone(self):
        clock = FakeClock(now=2.0)
        r = ms.request(timeout=1.0, clock=clock)

        assert r.due(clock) == 3.0
        assert math.isnan(r.due(time.monotonic))
        assert ms.request().due(time.monotonic) == math.inf

    def test_is_due_nobody_knows_when_where_others_may_raise_it_or_it_is_warm(self):
        clock = FakeClock()
        scope = shared_scope([ms.request(timeout=1.0, clock=clock)], "flight", object())

        assert math.isnan(scope.due(scope.clock))
        assert math.isnan(warm_scope().due(time.monotonic))

    def test_shared_work_is_late_when_nobody_has_time_left(self):
        clock = FakeClock()
        waiters = [ms.request(timeout=t, clock=clock) for t in (1.0, 3.0)]
        scope = shared_scope(waiters, "flight", object())
        clock.advance(2.0)
        scope.check("ranker")
        clock.advance(1.0)

        with pytest.raises(ms.DeadlineExceeded, match="before 'ranker' was called"):
            scope.check("ranker")


class TestScope:
    def test_is_in_force_once(self):
        r = ms.request()
        with r:
            pass
        with pytest.raises(RuntimeError, match="make one for each call"), r:
            pass

    def test_ends_with_an_error(self):
        with pytest.raises(KeyError), ms.request():
            raise KeyError
        assert ms.current_request() is None

    def test_crosses_tasks_and_threads_that_python_carries_it_to(self):
        async def unit():
            return ms.current_request().unit

        async def main():
            with ms.request(unit="u"):
                task = asyncio.create_task(unit())
                return await task, await asyncio.to_thread(lambda: ms.current_request().unit)

        assert asyncio.run(main()) == ("u", "u")

    def test_run_carries_it_to_a_bare_thread(self):
        with ms.request(unit="u") as r:
            bare = contextvars.Context().run(start, current)
            carried = contextvars.Context().run(start, r.run, lambda x: (x, current()), 1)

        assert bare.result(LIMIT) is None
        assert carried.result(LIMIT) == (1, r)

    def test_run_ends_with_an_error(self):
        with pytest.raises(ZeroDivisionError):
            ms.request().run(lambda x: x / 0, 1)
        assert ms.current_request() is None

    def test_many_threads_may_run_in_one_request(self):
        r = ms.request(unit="u")
        threads = [start(r.run, lambda x: current().trail.append(note(x)), i) for i in range(32)]
        for thread in threads:
            thread.result(LIMIT)

        assert sorted(fact.value for fact in r.trail) == list(range(32))

    def test_may_be_left_in_another_context(self):
        def values():
            with ms.request(unit="u") as r:
                r.trail.append(note("v1"))
                yield

        with ms.request() as outer:
            one = values()
            contextvars.copy_context().run(next, one)
            contextvars.copy_context().run(one.close)

            assert ms.current_request() is outer
            assert outer.record == {"ranker.version": "v1"}

    def test_may_be_left_by_the_finalizer_of_an_async_generator(self):
        async def values():
            with ms.request(unit="u"):
                yield 1
                yield 2

        async def main():
            async for _ in values():
                break
            gc.collect()
            await asyncio.sleep(0)
            return "still here"

        assert asyncio.run(main()) == "still here"

    def test_tasks_of_one_request_may_open_their_own(self):
        async def ask(i):
            with ms.request(unit=f"u{i}") as r:
                await asyncio.sleep(0)
                current().trail.append(note(i))
                await asyncio.sleep(0)
                return r.unit, r.record

        async def main():
            with ms.request(tenant="t") as outer:
                records = await asyncio.gather(*map(ask, range(10)))
            return records, outer

        records, outer = asyncio.run(main())

        assert records == [(f"u{i}", {"ranker.version": i}) for i in range(10)]
        assert [fact.value for fact in outer.trail] == list(range(10))


class TestRecord:
    def test_is_flat_and_the_last_fact_of_a_name_wins(self):
        with ms.request() as r:
            for fact in (note("v1"), note(3, "batch_size"), note("v2")):
                current().trail.append(fact)

        assert r.record == {"ranker.version": "v2", "ranker.batch_size": 3}

    def test_of_a_nested_request_is_handed_outward_when_it_ends(self):
        with ms.request() as outer:
            outer.trail.append(note("v1"))
            with ms.request() as inner:
                inner.trail.append(note("v2"))
                assert outer.record == {"ranker.version": "v1"}
            assert inner.record == {"ranker.version": "v2"}

        assert outer.record == {"ranker.version": "v2"}

    def test_is_handed_outward_through_an_error(self):
        def fail():
            with ms.request() as inner:
                inner.trail.append(note("v2"))
                raise KeyError

        with ms.request() as outer, pytest.raises(KeyError):
            fail()
        assert outer.record == {"ranker.version": "v2"}

    def test_of_a_whole_tree_is_json(self):
        loader = ms.ModelLoader(lambda: str.upper, predict=lambda f, xs: [f(x) for x in xs])
        cache = ms.PredictionCache(ms.DynamicBatcher(loader, name="batch"), maxsize=9, name="cache")
        split = ms.TrafficSplitter(ms.Variant("only", cache), salt="split")
        with split, ms.request(unit="u") as r:
            split("a")
        record = json.loads(json.dumps(r.record))

        assert {name.partition(".")[0] for name in record} == {
            loader.name,
            "batch",
            "cache",
            "split",
        }
        assert record["split.variant"] == "only"
        assert record["cache.cache"] == "miss"
        assert record["batch.batch_size"] == 1
        assert record[f"{loader.name}.version"] == "1"

    def test_can_be_read_while_others_write(self):
        r = ms.request()
        together = threading.Barrier(2, timeout=LIMIT)

        def write():
            together.wait()
            r.trail.extend(note("v1", f"field {i}") for i in range(2_000))

        writer = start(write)
        together.wait()
        sizes = [len(r.record) for _ in range(50)]
        writer.result(LIMIT)

        assert sizes == sorted(sizes)
        assert len(r.record) == 2_000


class TestStamp:
    def test_is_retired_and_revived(self):
        stamp = ms.Stamp("ranker", "v1")
        assert stamp.retired == 0
        before = tick()
        stamp.retire()
        assert before < stamp.retired < tick()
        assert repr(stamp) == "Stamp('ranker', 'v1', retired)"
        stamp.revive()
        assert stamp.retired == 0
        assert repr(stamp) == "Stamp('ranker', 'v1')"

    def test_of_a_trail_are_told_once_and_in_order(self):
        a, b = ms.Stamp("ranker", "v1"), ms.Stamp("other", "v1")

        assert stamps([b, note("x"), a, b]) == (b, a)

    def test_names_its_version_in_the_record(self):
        with ms.request() as r:
            r.trail.append(ms.Stamp("ranker", "v7"))

        assert r.record == {"ranker.version": "v7"}

    def test_ticks_grow_on_all_threads(self):
        found = [start(lambda: [tick() for _ in range(500)]) for _ in range(8)]
        ticks = [thread.result(LIMIT) for thread in found]

        assert all(each == sorted(each) for each in ticks)
        assert len(set().union(*ticks)) == 8 * 500
