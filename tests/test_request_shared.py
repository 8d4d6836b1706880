"""Scopes of work that several callers share, and of calls on other threads."""

import contextvars
import math

import pytest

import modelserve as ms
from modelserve.request import (
    Note,
    bounded_scope,
    current,
    deeper,
    enter,
    in_scope,
    shared_scope,
    unread_scope,
    warm_scope,
)
from modelserve.testing import FakeClock

WORDS = {"unit": "user-42", "id": "r-1", "tenant": "acme", "priority": 3, "debug": True}


def words(scope):
    return {word: getattr(scope, word) for word in WORDS}


def note(value, field="version"):
    return Note("ranker", field, value)


class TestShared:
    def test_holds_nothing_of_any_caller(self):
        with ms.request(**WORDS) as r:
            scope = shared_scope([r, None], "batch", owner := object())

        assert words(scope) == words(ms.request())
        assert (scope.shared, scope.owner, scope.trail) == ("batch", owner, [])

    def test_has_the_latest_deadline_of_those_who_wait(self):
        clock = FakeClock()
        waiters = [ms.request(timeout=t, clock=clock) for t in (1.0, 3.0, 2.0)]
        scope = shared_scope(waiters, "flight", object())
        assert scope.remaining() == 3.0
        clock.advance(2.5)
        assert scope.remaining() == 0.5
        waiters.append(None)
        assert scope.remaining() == math.inf

    def test_is_late_when_all_are(self):
        clock = FakeClock()
        scope = shared_scope([ms.request(timeout=1.0, clock=clock)], "flight", object())
        scope.check("ranker")
        clock.advance(1.0)

        with pytest.raises(ms.DeadlineExceeded):
            scope.check("ranker")

    def test_is_inside_of_all_that_its_callers_are_inside_of(self):
        one, other, within = (shared_scope([None], "batch", object()) for _ in range(3))

        assert one.inside == {one}
        assert shared_scope([one, None, other], "batch", object(), within).inside == {
            one,
            other,
            within,
        }

    def test_is_warm_if_all_are(self):
        assert shared_scope([warm_scope(), warm_scope()], "batch", object()).warming
        assert not shared_scope([warm_scope(), ms.request()], "batch", object()).warming
        assert not shared_scope([warm_scope(), None], "batch", object()).warming

    def test_is_as_deep_as_its_deepest_caller(self):
        one = deeper(deeper(None))

        assert shared_scope([None, one, ms.request()], "batch", object()).depth == 2

    def test_bounded_has_a_deadline_that_nobody_raises(self):
        clock = FakeClock(now=2.0)
        waiters = [ms.request(timeout=t, clock=clock) for t in (1.0, 3.0)]
        scope = bounded_scope(waiters, "batch", owner := object(), 5.0, clock)

        assert (scope.remaining(), scope.due(clock), scope.plain) == (3.0, 5.0, False)
        assert (scope.shared, scope.owner, scope.inside) == ("batch", owner, {owner})
        clock.advance(3.0)
        with pytest.raises(ms.DeadlineExceeded):
            scope.check("ranker")

    def test_bounded_by_nothing_is_plain_unless_it_is_warm(self):
        asked, warm = (
            bounded_scope([scope], "batch", object(), math.inf, FakeClock())
            for scope in (ms.request(), warm_scope())
        )

        assert (asked.plain, asked.warming, asked.remaining()) == (True, False, math.inf)
        assert (warm.plain, warm.warming, warm.remaining()) == (False, True, math.inf)

    def test_unread_keeps_no_facts_however_many_it_serves(self):
        scope = unread_scope("batch", owner := object())
        scope.trail.extend(note(i) for i in range(100))

        assert (len(scope.trail), scope.remaining(), scope.warming) == (0, math.inf, False)
        assert (scope.shared, scope.owner, scope.inside) == ("batch", owner, {owner})


class TestHops:
    def test_go_deeper_in_the_same_request(self):
        with ms.request(**WORDS, timeout=1.0, clock=FakeClock()) as r:
            scope = deeper(r)
            scope.trail.append(note("v1"))

        assert words(scope) == WORDS
        assert scope.remaining() == 1.0
        assert (r.depth, scope.depth, deeper(scope).depth) == (0, 1, 2)
        assert r.record == {"ranker.version": "v1"}

    def test_of_no_request_keep_no_facts_however_long_they_last(self):
        scope = deeper(None)
        scope.trail.extend(note(i) for i in range(100))

        assert scope.depth == 1
        assert len(scope.trail) == 0
        assert scope.record == {}

    def test_put_a_scope_in_force_and_back(self):
        scope = ms.request()

        assert in_scope(scope, lambda x: (x, current()), 1) == (1, scope)
        with pytest.raises(ZeroDivisionError):
            in_scope(scope, lambda x: x / 0, 1)
        assert current() is None

    def test_enter_puts_a_scope_in_force_for_the_rest_of_a_context(self):
        def enters(scope):
            enter(scope)
            seen = current()
            enter(None)
            return seen, current()

        scope = ms.request()

        assert contextvars.Context().run(enters, scope) == (scope, None)
        assert current() is None


def test_a_warm_scope_is_recorded_for_nobody():
    with ms.request(**WORDS) as r:
        with warm_scope() as scope:
            scope.trail.append(note("v1"))
            assert scope.warming
            assert words(scope) == WORDS
            with ms.request() as inner:
                assert inner.warming
        assert not r.warming
    assert r.record == {}
