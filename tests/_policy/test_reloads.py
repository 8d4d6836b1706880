"""When to look, when to load, and when a model is too old, in plain numbers."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.reloads import FIRST, MOST, SETTLE, Reloads, backoff

DRAWS = st.floats(0.0, 1.0, exclude_max=True)


def known(interval=1.0, **options):
    """Make one that knows "a", loaded at 0."""
    reloads = Reloads(interval, **options)
    reloads.loaded(0.0, "a")
    return reloads


# Backoff


@given(st.integers(1, 10_000), DRAWS)
def test_a_pause_is_drawn_between_none_and_a_bound_that_doubles_up_to_a_limit(failures, draw):
    bound = MOST if failures > 20 else min(MOST, FIRST * 2 ** (failures - 1))

    assert backoff(failures, draw) == draw * bound


def test_who_failed_together_comes_back_all_over_the_bound():
    rng = random.Random(0)  # noqa: S311 - no secret
    pauses = [backoff(7, rng.random()) for _ in range(10_000)]

    assert sum(pauses) / len(pauses) == pytest.approx(32.0, rel=0.05)
    assert min(pauses) < 0.1
    assert max(pauses) > 63.0


# Looks


def test_it_looks_each_interval():
    reloads = known(interval=5.0)

    assert [reloads.due(now) for now in (0.0, 4.9, 5.0)] == [False, False, True]
    assert reloads.wait(2.0) == 3.0
    reloads.look(5.0, "a", draw=0.5)
    assert reloads.wait(5.0) == 5.0
    assert reloads.wait(100.0) == 0.0


@given(st.floats(0.0, 1.0), DRAWS)
def test_looks_are_spread_by_the_share_of_jitter(jitter, draw):
    reloads = Reloads(100.0, jitter=jitter, reread=True)
    reloads.loaded(0.0, "a", draw)

    assert 100 * (1 - jitter) <= reloads.wait(0.0) <= 100 * (1 + jitter)
    reloads.look(0.0, "a", 0.0)
    assert reloads.wait(0.0) == 100 * (1 - jitter)


def test_what_changed_is_looked_at_again_soon():
    reloads = known(interval=3600.0)
    reloads.look(3600.0, "b", 0.5)

    assert reloads.wait(3600.0) == SETTLE
    assert reloads.look(3601.0, "b", 0.5)
    assert reloads.wait(3601.0) == 3600.0


@given(st.lists(st.sampled_from("abc"), max_size=40))
def test_it_loads_what_differs_from_what_it_loaded_and_was_seen_twice(seen):
    reloads, loaded, before = known(), "a", "a"
    for now, identity in enumerate(seen, 1):
        wanted = reloads.look(float(now), identity, 0.5)

        assert wanted == (identity != loaded and identity == before)
        before = identity
        if wanted:
            reloads.loaded(float(now), identity)
            loaded = identity


def test_a_source_that_looks_the_same_is_loaded_again_only_to_reread_it():
    assert not known().look(1.0, "a", 0.5)
    assert known(reread=True).look(1.0, "a", 0.5)


def test_a_source_that_cannot_tell_is_settled():
    reloads = Reloads(1.0, reread=True)
    reloads.loaded(0.0, None)

    assert reloads.look(1.0, None, 0.5)


def test_what_changed_while_it_was_loaded_has_to_settle_anew():
    reloads = known(interval=60.0)
    assert [reloads.look(now, "b", 0.5) for now in (60.0, 61.0)] == [False, True]
    reloads.unsettled(62.0)

    assert reloads.wait(62.0) == SETTLE
    assert [reloads.look(now, "b", 0.5) for now in (63.0, 64.0)] == [False, True]


# Failures


def test_a_failure_that_may_pass_is_tried_again_after_its_pause():
    reloads = known(interval=3600.0, reread=True)
    reloads.failed(100.0, "a", 0.5, shun=False)

    assert reloads.wait(100.0) == 0.5
    assert not reloads.look(100.4, "a", 0.5)
    assert reloads.look(100.5, "a", 0.5)
    reloads.failed(101.0, "a", 0.5, shun=False)
    assert reloads.wait(101.0) == 1.0


def test_one_of_what_looks_as_what_was_loaded_too():
    reloads = known(interval=1.0)
    reloads.failed(100.0, "a", 0.0, shun=False)

    assert reloads.look(101.0, "a", 0.5)


def test_a_failed_first_load_of_what_cannot_tell_is_tried_again():
    reloads = Reloads(math.inf)
    reloads.failed(0.0, None, 0.5, shun=False)

    assert reloads.wait(0.0) == 0.5
    assert reloads.look(0.5, None, 0.5)
    reloads.loaded(1.0, None)
    assert reloads.wait(1.0) == math.inf


@pytest.mark.parametrize("reread", [True, False])
def test_what_can_never_be_loaded_is_looked_at_until_it_is_another(reread):
    reloads = known(interval=3600.0, reread=reread)
    reloads.failed(10.0, "bad", 0.5, shun=True)
    looks = 0
    while reloads.wait(0.0) < 3600.0:
        assert not reloads.look(reloads.wait(0.0), "bad", 0.5)
        looks += 1
    assert looks > 1000
    now = reloads.wait(0.0)
    assert not reloads.look(now, "good", 0.5)
    assert reloads.look(now + SETTLE, "good", 0.5)


@pytest.mark.parametrize("shun", [True, False])
def test_what_comes_after_many_failures_is_loaded_once_it_settled(shun):
    reloads = known()
    for _ in range(12):
        reloads.failed(10.0, "bad", 0.9, shun=shun)
    assert not any(reloads.look(now, "bad", 0.5) for now in (11.0, 12.0))

    assert [reloads.look(now, "good", 0.5) for now in (13.0, 14.0)] == [False, True]


@given(st.integers(1, 12), DRAWS)
def test_a_look_never_comes_later_than_the_pause_nor_the_interval(failures, draw):
    reloads = known(interval=60.0)
    for _ in range(failures):
        reloads.failed(100.0, "bad", draw, shun=True)

    assert reloads.wait(100.0) <= min(60.0, backoff(failures, draw)) or failures == 1
    reloads.look(1_000.0, "bad", draw)
    assert reloads.wait(1_000.0) <= min(60.0, backoff(failures, draw)) + 1e-9


def test_a_good_load_ends_all_failures():
    reloads = known(interval=10.0, max_stale=60.0)
    for _ in range(9):
        reloads.failed(1.0, "bad", 0.5, shun=True)
    reloads.loaded(2.0, "good")

    assert (reloads.failures, reloads.wait(2.0), reloads.stale(1e9)) == (0, 10.0, False)


# What is not wanted


@pytest.mark.parametrize("reread", [True, False])
def test_what_was_rolled_back_is_not_wanted_until_the_source_changes(reread):
    reloads = known(reread=reread)
    reloads.rolled_back()

    assert not any(reloads.look(now, "a", 0.5) for now in (1.0, 2.0, 3.0))
    assert [reloads.look(now, "b", 0.5) for now in (4.0, 5.0)] == [False, True]


def test_a_rollback_ends_all_failures():
    reloads = known(max_stale=1.0)
    reloads.failed(1.0, "bad", 0.5, shun=True)
    reloads.rolled_back()

    assert not reloads.stale(100.0)
    assert not reloads.look(100.0, "bad", 0.5)


def test_what_turned_out_to_be_the_same_is_not_wanted_either():
    reloads = known(reread=True)
    reloads.shun("a touched")

    assert not any(reloads.look(now, "a touched", 0.5) for now in (1.0, 2.0, 3.0))


# Age


def test_a_model_is_too_old_so_long_after_it_was_last_known_to_be_the_newest():
    reloads = known(max_stale=60.0)
    reloads.look(30.0, "a", 0.5)
    assert not reloads.stale(1_000.0)
    reloads.failed(40.0, "bad", 0.5, shun=True)

    assert [reloads.stale(now) for now in (89.9, 90.0)] == [False, True]


def test_looks_while_loads_fail_do_not_make_it_younger():
    reloads = known(max_stale=60.0)
    reloads.failed(10.0, "bad", 0.5, shun=True)
    for now in range(11, 60):
        reloads.look(float(now), "bad", 0.5)
    assert reloads.look(60.0, "a", 0.5) is False

    assert reloads.stale(60.0)


def test_a_source_that_changes_at_every_look_makes_its_model_too_old():
    reloads = known(max_stale=10.0)
    loads = [reloads.look(float(now), now, 0.5) for now in range(5, 15)]
    reloads.unsettled(14.0)

    assert not any(loads)
    assert [reloads.stale(now) for now in (14.9, 15.0)] == [False, True]
    assert [reloads.look(now, "b", 0.5) for now in (16.0, 17.0)] == [False, True]
    reloads.loaded(17.0, "b")
    assert not reloads.stale(1e9)


def test_a_look_that_does_not_end_makes_its_model_too_old_and_its_end_renews_it():
    reloads = known(interval=100.0, max_stale=10.0)
    reloads.begin(100.0)
    assert [reloads.stale(now) for now in (109.9, 110.0)] == [False, True]

    assert reloads.look(120.0, "a", 0.5)
    assert not reloads.stale(120.0)


def test_what_was_rolled_back_to_does_not_become_too_old_for_a_look():
    reloads = known(max_stale=10.0)
    reloads.rolled_back()
    reloads.begin(1.0)

    assert not reloads.stale(100.0)
    assert not reloads.look(100.0, "a", 0.5)


def test_the_wait_ends_when_it_becomes_too_old():
    reloads = known(interval=3600.0, max_stale=60.0)
    for _ in range(12):
        reloads.failed(10.0, "bad", 0.9, shun=True)

    assert reloads.wait(59.0) == pytest.approx(min(1.0, reloads.wait(59.0)))
    reloads.look(59.5, "bad", 0.9)
    assert reloads.wait(59.5) == 0.5
    assert reloads.wait(60.0) > 100.0


def test_it_never_is_where_nobody_asked():
    reloads = known()
    reloads.failed(1.0, "bad", 0.5, shun=True)

    assert not reloads.stale(1e12)
