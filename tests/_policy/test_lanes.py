import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.lanes import Lanes

LANES = st.sampled_from(["a", "b", None])
GAPS = st.integers(0, 3)


def filled(items, *, max_batch_size=2, max_wait=0.0, now=0.0):
    lanes = Lanes(max_batch_size, max_wait)
    for item in items:
        lanes.push(item, item[0], now)
    return lanes


def test_nothing_is_worth_no_look():
    assert Lanes(2, 1.0).wait(now=5.0) == math.inf


def test_a_lone_item_is_cut_at_once_without_max_wait():
    lanes = filled(["a1"])

    assert (lanes.wait(now=0.0), lanes.cut(now=0.0), len(lanes)) == (0.0, ["a1"], 0)


def test_a_batch_holds_items_of_one_lane():
    lanes = filled(["a1", "b1", "a2", "b2"])

    assert [lanes.cut(now=0.0), lanes.cut(now=0.0)] == [["a1", "a2"], ["b1", "b2"]]


def test_none_is_a_lane_like_any_other():
    lanes = Lanes(2, 1.0)
    lanes.push("a1", "a", now=0.0)
    for item in ("x", "y"):
        lanes.push(item, None, now=0.0)

    assert lanes.cut(now=0.5) == ["x", "y"]


def test_an_item_waits_for_company_until_max_wait_after_it_came():
    lanes = filled(["a1"], max_wait=1.0, now=10.0)
    lanes.push("b1", "b", now=10.5)

    assert [lanes.wait(now) for now in (10.0, 10.75, 11.0, 12.0)] == [1.0, 0.25, 0.0, 0.0]


def test_the_wait_is_that_of_the_oldest_item_left():
    lanes = filled(["a1"], max_wait=1.0, now=10.0)
    lanes.push("b1", "b", now=10.5)
    lanes.cut(now=11.0)

    assert lanes.wait(now=11.0) == 0.5


def test_a_full_lane_is_cut_before_an_older_one_that_may_wait():
    lanes = filled(["a1", "b1", "b2"], max_wait=1.0)

    assert (lanes.wait(now=0.5), lanes.cut(now=0.5)) == (0.0, ["b1", "b2"])


def test_a_full_lane_does_not_starve_an_item_that_has_waited_long_enough():
    lanes = filled(["a1", "b1", "b2"], max_wait=1.0)

    assert lanes.cut(now=1.0) == ["a1"]


def test_what_is_refused_gives_its_place_to_others():
    lanes = filled(["a1", "a2", "a3", "a4"])

    assert lanes.cut(now=0.0, keep=lambda item: item != "a2") == ["a1", "a3"]
    assert len(lanes) == 1


def test_a_cut_may_keep_nobody():
    lanes = filled(["a1", "b1"])

    assert lanes.cut(now=0.0, keep=lambda item: item != "a1") == []
    assert lanes.cut(now=0.0) == ["b1"]


def test_clear_takes_everything():
    lanes = filled(["a1", "b1", "a2"])

    assert sorted(lanes.clear()) == ["a1", "a2", "b1"]
    assert (len(lanes), lanes.wait(now=0.0)) == (0, math.inf)


@pytest.mark.parametrize("max_wait", [0.0, 1.0])
def test_somebody_should_look_at_the_first_item_and_at_a_full_lane(max_wait):
    lanes = Lanes(3, max_wait)
    looks = [lanes.push(item, "a", now=0.0) for item in range(7)]

    assert looks == ([True, False, True, False, False, True, False] if max_wait else [True] * 7)


@given(
    max_batch_size=st.integers(1, 4),
    max_wait=st.integers(0, 3),
    steps=st.lists(st.tuples(GAPS, st.none() | st.tuples(LANES, st.booleans())), max_size=60),
)
def test_every_cut_is_the_head_of_one_lane_the_oldest_or_a_full_one(
    max_batch_size, max_wait, steps
):
    lanes = Lanes(max_batch_size, max_wait)
    waiting = []  # (when, lane, number, wanted), the oldest first
    now = 0
    for number, (gap, pushed) in enumerate(steps):
        now += gap
        if pushed is not None:
            item = (now, pushed[0], number, pushed[1])
            lanes.push(item, pushed[0], now)
            waiting.append(item)
        elif waiting:
            seen = []
            batch = lanes.cut(now, keep=lambda item, seen=seen: seen.append(item) or item[3])
            assert batch == [item for item in seen if item[3]]
            assert seen in cuts(waiting, now, max_batch_size, max_wait)
            waiting = [item for item in waiting if item not in seen]
        assert len(lanes) == len(waiting)
        assert lanes.wait(now) == expected_wait(waiting, now, max_batch_size, max_wait)


def by_lane(waiting):
    return [[i for i in waiting if i[1] == lane] for lane in {item[1] for item in waiting}]


def expected_wait(waiting, now, max_batch_size, max_wait):
    if not waiting:
        return math.inf
    if any(len(lane) >= max_batch_size for lane in by_lane(waiting)):
        return 0
    return max(0, waiting[0][0] + max_wait - now)


def cuts(waiting, now, max_batch_size, max_wait):
    """List what may be looked at: of an oldest lane, or of a full one if that may wait."""
    full = [lane for lane in by_lane(waiting) if len(lane) >= max_batch_size]
    oldest = [lane for lane in by_lane(waiting) if lane[0][0] == waiting[0][0]]
    may_wait = waiting[0][0] + max_wait > now
    return [up_to(lane, max_batch_size) for lane in (may_wait and full) or oldest]


def up_to(lane, max_batch_size):
    """Return the head of a lane that holds ``max_batch_size`` wanted items, or all of it."""
    head = []
    for item in lane:
        if sum(wanted for _, _, _, wanted in head) == max_batch_size:
            break
        head.append(item)
    return head


@given(
    max_batch_size=st.integers(1, 4),
    max_wait=st.integers(0, 3),
    pushes=st.lists(st.tuples(GAPS, LANES), max_size=40),
)
def test_a_worker_that_looks_when_told_keeps_nobody_longer_than_max_wait(
    max_batch_size, max_wait, pushes
):
    lanes = Lanes(max_batch_size, max_wait)
    now, alarm, cut_at = 0, math.inf, {}

    def look(at):
        nonlocal alarm
        while lanes.wait(at) == 0:
            cut_at.update(dict.fromkeys(lanes.cut(at), at))
        alarm = at + lanes.wait(at)

    for number, (gap, lane) in enumerate(pushes):
        now += gap
        while alarm <= now:
            look(alarm)
        if lanes.push((now, number), lane, now):
            look(now)
    while len(lanes):
        look(alarm)

    assert len(cut_at) == len(pushes)
    assert all(came <= when <= came + max_wait for (came, _), when in cut_at.items())
