import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.reruns import MOST, Reruns


def bisected(items, bad, reruns):
    """Run a batch as a batcher does; return how often it ran, and who failed with others."""
    left, own, runs, hurt = [items], -1, 0, set()
    while left:
        part = left.pop()
        runs += 1
        if not bad & set(part):
            reruns.refill()
            continue
        if own < 0:
            own = Reruns.own(len(items))
        may = len(part) > 1
        for _ in range(2 if may else 0):
            if own > 0:
                own -= 1
            elif not reruns.take():
                may = False
        if may:
            middle = len(part) // 2
            left += [part[middle:], part[:middle]]
        else:
            hurt |= set(part) - bad
    return runs, hurt


def emptied():
    reruns = Reruns()
    while reruns.take():
        pass
    return reruns


def test_what_is_shared_is_taken_until_there_is_none():
    reruns = Reruns()

    assert [reruns.take() for _ in range(MOST + 1)] == [True] * MOST + [False]
    assert reruns.left == 0


def test_a_batch_without_a_failure_gives_one_more_up_to_the_most():
    reruns = emptied()
    reruns.refill()
    assert (reruns.left, reruns.take(), reruns.take()) == (1, True, False)
    for _ in range(MOST + 10):
        reruns.refill()

    assert reruns.left == MOST


@pytest.mark.parametrize(
    ("size", "runs"), [(1, 0), (2, 2), (3, 4), (4, 4), (5, 6), (32, 10), (33, 12), (64, 12)]
)
def test_a_batch_may_add_two_runs_for_each_time_it_can_be_halved(size, runs):
    assert Reruns.own(size) == runs


@pytest.mark.parametrize("size", range(1, 65))
def test_one_bad_item_is_found_wherever_it_is_by_a_batch_s_own_runs(size):
    items = list(range(size))
    for bad in items:
        reruns = emptied()
        runs, hurt = bisected(items, {bad}, reruns)

        assert not hurt
        assert runs <= 1 + Reruns.own(size)


def test_no_fewer_runs_would_do():
    assert max(bisected(list(range(32)), {bad}, emptied())[0] for bad in range(32)) == 11


@given(st.integers(1, 64), st.integers(1, 200))
def test_who_sends_nothing_but_bad_items_makes_bounded_work(size, batches):
    reruns = Reruns()
    items = list(range(size))
    runs = sum(bisected(items, set(items), reruns)[0] for _ in range(batches))

    assert runs <= batches * (1 + Reruns.own(size)) + MOST


@given(st.lists(st.sets(st.integers(0, 31)), min_size=1, max_size=60))
def test_whatever_is_bad_the_good_ones_pay_for_what_is_added(batches):
    reruns = Reruns()
    items = list(range(32))
    runs = sum(bisected(items, bad, reruns)[0] for bad in batches)
    failed = sum(bool(bad) for bad in batches)

    assert runs <= len(batches) + failed * Reruns.own(32) + 2 * (MOST + len(batches) - failed) + 32
    assert 0 <= reruns.left <= MOST


@given(st.lists(st.sets(st.integers(0, 31)), min_size=1, max_size=8))
def test_a_few_bad_batches_hurt_nobody_else(batches):
    reruns = Reruns()
    hurts = [bisected(list(range(32)), bad, reruns)[1] for bad in batches[:4]]

    assert hurts == [set()] * len(hurts)
