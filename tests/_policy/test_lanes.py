import math

import pytest

from modelserve._policy.lanes import WINDOW, Lanes
from modelserve._policy.lines import AGEING, Rank
from tests._policy.queueing import Item, all_of, cut, filled, of_sizes, push, without

# What lies together


def test_nothing_is_worth_no_look():
    lanes = Lanes(2, 1.0)

    assert (lanes.size, lanes.mixed, lanes.wait(5.0)) == (0, False, math.inf)
    assert (lanes.full, lanes.waited) == (False, False)


def test_a_lone_item_is_cut_at_once_without_max_wait():
    lanes = filled("a1")

    assert (lanes.wait(0.0), lanes.head().name, cut(lanes), lanes.size) == (0.0, "a1", "a1", 0)


def test_a_batch_holds_items_of_one_lane():
    lanes = Lanes(2, 0.0)
    for at, name in enumerate(("a1", "b1", "a2", "b2", "a3")):
        push(lanes, name, at)
    assert lanes.mixed

    assert all_of(lanes) == ["a1 a2", "b1 b2", "a3"]
    assert not lanes.mixed


def test_none_is_a_lane_like_any_other():
    lanes = filled("a1", max_wait=1.0)
    for name in ("x", "y"):
        lanes.push(Item(name), None)

    assert cut(lanes, 0.5) == "x y"


def test_the_lane_of_the_oldest_is_next():
    lanes = Lanes(2, 0.0)
    push(lanes, "a1", at=2.0)
    push(lanes, "b1", at=1.0)

    assert (lanes.head().name, all_of(lanes)) == ("b1", ["b1", "a1"])


def test_clear_takes_everything():
    lanes = filled("a1 b1 a2")
    lanes.push(Item("b2"), "b", Rank(1, None))

    assert sorted(item.name for item in lanes.clear()) == ["a1", "a2", "b1", "b2"]
    assert (lanes.size, lanes.mixed, lanes.wait(0.0), lanes.clear()) == (0, False, math.inf, [])


# Ranks


def test_of_one_lane_the_most_urgent_go_first():
    lanes = filled("a1 a2 a3")
    lanes.push(Item("a4"), "a", Rank(1, None))

    assert (lanes.head().name, all_of(lanes)) == ("a4", ["a4 a1", "a2 a3"])


def test_a_lane_with_somebody_urgent_goes_before_an_older_one():
    lanes = filled("a1 b1")
    lanes.push(Item("b2", at=0.5), "b", Rank(1, None))

    assert (lanes.head().name, all_of(lanes)) == ("b2", ["b2 b1", "a1"])


def test_an_old_lane_goes_before_one_with_somebody_urgent():
    lanes = filled("a1")
    lanes.push(Item("b1", at=1.1 * AGEING), "b", Rank(1, None))

    assert all_of(lanes) == ["a1", "b1"]


def test_the_first_of_a_lane_has_its_rank():
    lanes = Lanes(1, 0.0)
    lanes.push(Item("a1"), "a", Rank(-1, None))
    push(lanes, "a2")

    assert all_of(lanes) == ["a2", "a1"]


def test_who_comes_without_a_rank_queues_with_those_of_the_default_rank():
    lanes = filled("a1")
    lanes.push(Item("a2"), "a", Rank(0, "ann"))
    push(lanes, "a3")

    assert all_of(lanes) == ["a1 a2", "a3"]


# Put back


@pytest.mark.parametrize("rank", [None, Rank(0, "ann")])
def test_who_was_taken_and_not_run_goes_before_the_others_of_its_lane(rank):
    lanes = Lanes(2, 0.0)
    for at, name in enumerate(("a1", "a2", "a3", "b1")):
        lanes.push(Item(name, at), name[0], rank)
    for item in reversed(lanes.cut(0.0)):
        lanes.put_back(item, "a", rank)

    assert (lanes.size, all_of(lanes)) == (4, ["a1 a2", "a3", "b1"])


def test_who_is_put_back_has_its_lane_again():
    lanes = filled("a1", max_wait=1.0)
    lanes.put_back(*lanes.cut(0.5), "a", None)
    lanes.put_back(Item("a2"), "a", Rank(1, None))

    assert (lanes.wait(0.25), cut(lanes)) == (0.0, "a2 a1")


# How much a batch holds


def test_items_are_counted_whatever_their_size_unless_asked_for():
    lanes = Lanes(2, 0.0)
    for name in ("a1", "a2", "a3"):
        lanes.push(Item(name, size=5), None)

    assert all_of(lanes) == ["a1 a2", "a3"]


def test_sizes_add_up_to_the_limit():
    assert all_of(of_sizes(3, 5, 4, 3, 2)) == ["3 5", "4 3", "2"]


def test_an_item_larger_than_the_limit_goes_alone():
    assert all_of(of_sizes(1, 20, 1, 8, 1)) == ["1", "20", "1", "8", "1"]


def test_what_is_sifted_out_takes_no_room():
    lanes = of_sizes(7, 6, 2)

    assert cut(lanes, sift=without("7")) == "6 2"


def test_the_limit_may_change_between_cuts():
    lanes = filled("a1 a2 a3 a4")
    lanes.limit = 3

    assert cut(lanes) == "a1 a2 a3"


def test_what_is_sifted_out_gives_its_place_to_others():
    lanes = filled("a1 a2 a3 a4")

    assert cut(lanes, sift=without("a2")) == "a1 a3"
    assert lanes.size == 1


def test_a_cut_may_leave_nobody():
    lanes = filled("a1 b1")

    assert cut(lanes, sift=without("a1")) == ""
    assert not lanes.full
    assert all_of(lanes) == ["b1"]


# Company that is chosen


def shortest(sizes, limit):
    """Choose the oldest and the shortest others."""
    others = sorted(range(1, len(sizes)), key=sizes.__getitem__)
    return [0, *sorted(others[: int(limit) - 1])]


def test_the_oldest_goes_with_those_that_are_chosen():
    lanes = of_sizes(5, 9, 1, 8, 2, limit=3, choose=shortest)
    lanes._sized = False

    assert all_of(lanes) == ["5 1 2", "9 8"]


def test_the_oldest_goes_also_where_it_is_not_chosen():
    lanes = of_sizes(5, 1, choose=lambda _sizes, _limit: [1])

    assert cut(lanes) == "5 1"


def test_who_is_alone_has_no_company_to_choose():
    def choose(sizes, limit):
        raise AssertionError("there is nothing to choose")

    assert cut(of_sizes(5, choose=choose)) == "5"
    assert of_sizes(5, choose=choose).cut(0.0, without("5")) == []


def test_what_is_sifted_out_is_not_chosen_from():
    seen = []

    def choose(sizes, limit):
        seen.append((list(sizes), limit))
        return list(range(len(sizes)))

    lanes = of_sizes(1, 2, 3, 4, 5, choose=choose)

    assert cut(lanes, sift=without("1", "3", "5")) == "2 4"
    assert (seen, lanes.size) == ([([2, 4], 8)], 0)


def test_company_is_chosen_from_a_window():
    seen = []

    def choose(sizes, limit):
        seen.append(len(sizes))
        return [0, len(sizes) - 1]

    lanes = of_sizes(*range(2 * WINDOW), limit=math.inf, choose=choose)

    assert cut(lanes) == f"0 {WINDOW}"
    assert (seen, lanes.size) == ([1 + WINDOW], 2 * WINDOW - 2)
    assert cut(lanes) == f"1 {WINDOW + 2}"


def test_the_window_shows_the_most_urgent():
    lanes = of_sizes(*range(2 * WINDOW), choose=lambda sizes, _: list(range(len(sizes)))[:2])
    for name in ("u1", "u2"):
        lanes.push(Item(name), None, Rank(1, None))

    assert cut(lanes) == "u1 u2"
