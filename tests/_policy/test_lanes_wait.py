import pytest

from modelserve._policy.lanes import Lanes
from modelserve._policy.lines import Rank
from tests._policy.queueing import Item, all_of, cut, filled, of_sizes, push, without

# Waiting for company


def test_an_item_waits_for_company_until_max_wait_after_it_came():
    lanes = filled("a1", max_wait=1.0, at=10.0)
    push(lanes, "b1", at=10.5)

    assert [lanes.wait(now) for now in (10.0, 10.75, 11.0, 12.0)] == [1.0, 0.25, 0.0, 0.0]


def test_the_wait_is_that_of_the_oldest_item_left():
    lanes = filled("a1", max_wait=1.0, at=10.0)
    push(lanes, "b1", at=10.5)
    cut(lanes, 11.0)

    assert lanes.wait(11.0) == 0.5


def test_an_urgent_item_does_not_hide_how_long_an_older_one_has_waited():
    lanes = filled("a1", limit=3, max_wait=1.0, at=10.0)
    lanes.push(Item("a2", at=10.5), "a", Rank(5, None))

    assert lanes.wait(10.75) == 0.25


def test_a_full_lane_is_cut_before_an_older_one_that_may_wait():
    lanes = filled("a1 b1 b2", max_wait=1.0)

    assert (lanes.wait(0.5), cut(lanes, 0.5)) == (0.0, "b1 b2")
    assert lanes.wait(0.5) == 0.5


def test_a_full_lane_does_not_starve_an_item_that_has_waited_long_enough():
    lanes = filled("a1 b1 b2", max_wait=1.0)

    assert all_of(lanes, 1.0) == ["a1", "b1 b2"]


def test_a_lane_is_full_by_the_sizes_of_its_items():
    lanes = of_sizes(3, 4, max_wait=1.0)
    assert lanes.wait(0.0) == 1.0
    assert lanes.push(Item("1", size=1), None)

    assert (lanes.wait(0.0), cut(lanes, 0.5)) == (0.0, "3 4 1")


@pytest.mark.parametrize("max_wait", [0.0, 1.0])
@pytest.mark.parametrize("busy", [False, True])
def test_somebody_should_look_at_the_first_item_and_at_a_full_lane(max_wait, busy):
    lanes = Lanes(3, max_wait)
    looks = push(lanes, "a1 b1 a2 b2 a3 a4", busy=busy)

    assert looks == ([True, False, False, False, True, True] if max_wait else [True] * 6)


def held_in_vain():
    """Cut an item that waited for company, and nobody came."""
    lanes = filled("a1", max_wait=1.0)
    assert (lanes.wait(0.0), cut(lanes, 1.0)) == (1.0, "a1")
    return lanes


def test_a_hold_in_vain_is_not_repeated():
    lanes = held_in_vain()
    for at in (5.0, 6.0, 7.0):
        push(lanes, "a2", at=at)
        assert (lanes.wait(at), cut(lanes, at)) == (0.0, "a2")


def test_somebody_is_held_again_once_a_call_came_while_another_ran():
    lanes = held_in_vain()
    push(lanes, "a2", at=5.0, busy=True)

    assert lanes.wait(5.0) == 1.0


def test_somebody_is_held_again_once_two_calls_wait_at_once():
    lanes = held_in_vain()
    push(lanes, "a2 b2", at=5.0)

    assert lanes.wait(5.0) == 1.0


@pytest.mark.parametrize("company", ["a2", "b2"])
def test_a_hold_was_not_in_vain_if_somebody_came(company):
    lanes = filled(f"a1 {company}", max_wait=1.0)
    while lanes.size:
        lanes.cut(1.0, without(company))
        if lanes.size:
            assert lanes.wait(1.0) == 0.0
    push(lanes, "a3", at=5.0)

    assert lanes.wait(5.0) == (1.0 if company == "a2" else 0.0)


def test_a_hold_was_in_vain_also_for_one_who_left_meanwhile():
    lanes = filled("a1", max_wait=1.0)
    assert lanes.cut(1.0, without("a1")) == []
    push(lanes, "a2", at=5.0)

    assert lanes.wait(5.0) == 0.0


# Why a batch was cut


@pytest.mark.parametrize(
    ("text", "now", "batch", "full", "waited"),
    [
        ("a1", 0.5, "a1", False, False),
        ("a1 a2", 0.5, "a1 a2", True, False),
        ("a1 a2 a3", 0.5, "a1 a2", True, False),
        ("a1", 1.0, "a1", False, True),
        ("a1 a2", 1.0, "a1 a2", True, True),
        ("a1 b1 b2", 0.5, "b1 b2", True, False),
        ("a1 b1 b2", 1.0, "a1", False, True),
    ],
)
def test_it_is_told_whether_a_batch_was_full_and_the_oldest_had_waited(
    text, now, batch, full, waited
):
    lanes = filled(text, max_wait=1.0)

    assert (cut(lanes, now), lanes.full, lanes.waited) == (batch, full, waited)


def test_nobody_is_held_and_so_nobody_has_waited_without_max_wait():
    lanes = filled("a1")

    assert (cut(lanes, 9.0), lanes.full, lanes.waited) == ("a1", False, False)


@pytest.mark.parametrize(
    ("sizes", "full"), [((3, 4), False), ((3, 5), True), ((3, 4, 2), True), ((20,), True)]
)
def test_a_batch_is_full_by_the_sizes_of_its_items(sizes, full):
    lanes = of_sizes(*sizes)
    lanes.cut(0.0)

    assert lanes.full == full


@pytest.mark.parametrize(("chosen", "full"), [([0], True), ([0, 1], True), ([0, 1, 2], False)])
def test_a_batch_is_full_where_company_was_left_behind(chosen, full):
    lanes = of_sizes(1, 2, 3, choose=lambda _sizes, _limit: chosen)
    lanes.cut(0.0)

    assert lanes.full == full


def test_a_chosen_batch_is_full_also_when_all_of_its_lane_went():
    lanes = Lanes(2, 0.0, choose=lambda sizes, _limit: list(range(len(sizes))))
    push(lanes, "a1 a2")

    assert (cut(lanes), lanes.full) == ("a1 a2", True)


def test_calls_that_overlapped_elsewhere_end_the_haste_of_one_who_was_alone():
    lanes = filled("a1", max_wait=1.0)
    cut(lanes, 1.0)
    push(lanes, "a2", at=2.0)
    assert lanes.wait(2.0) == 0.0

    lanes.overlap()
    assert lanes.wait(2.0) == 1.0
