import math
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelserve as ms
from modelserve.batcher._pad import Pad
from modelserve.errors import Overloaded, Stuck
from tests.batcher.doors import BYTES, MAX, SMALL, House, Queue, item, learned

# Who would be late


def test_who_would_be_late_is_refused_and_told_when_to_come_again():
    house = learned(House(slo=1.5))
    house.enter(item("first"))
    house.pace.began("a run", 0.0, 1)
    with pytest.raises(Overloaded, match=r"'service' would answer 0\.5 s too late: ask less") as e:
        house.enter(item("late"))

    assert e.value.reason == "late"
    assert e.value.retry_after == pytest.approx(0.5)
    assert house.counts.refusals == {"late": 1}
    house.settings.clock.advance(0.6)
    assert house.enter(item("in time")) is True


def test_who_has_less_time_than_the_objective_is_refused_sooner():
    house = learned(House(slo=3.0))
    house.pace.began("a run", 0.0, 1)
    clock = house.settings.clock
    house.enter(item("in time", scope=ms.request(timeout=2.5, clock=clock)))
    with pytest.raises(Overloaded, match=r"0\.25 s too late"):
        house.enter(item("late", scope=ms.request(timeout=1.75, clock=clock)))


def test_nobody_is_refused_for_being_late_without_an_objective():
    house = learned(House(), seconds=9.0)
    house.pace.began("a run", 0.0, 1)

    assert house.enter(item("x", scope=ms.request(timeout=1.0, clock=house.settings.clock))) is True


def test_the_load_is_what_is_queued_by_size():
    house = House(slo=9.0, measure=float)
    house.enter(item("a", size=2.5))
    house.enter(item("b", size=0.25))
    assert house.door.load == 2.75
    house.leave(2.5)
    assert house.door.load == 0.25
    house.leave(1)

    assert house.door.load == 0.0


def test_where_batches_are_padded_a_load_of_lengths_is_as_many_as_it_is_items():
    """A batch of nearly 8 of them takes a second; by their lengths alone each would take one."""
    house = House(layout=Pad(trim=False), slo=2.5, max_queue_size=99)
    for size in (1, 2, 4, 8) * 20:
        house.pace.costs.observe(size * 100, 1.0)
    house.pace.began("a run", 0.0, 100)
    for n in range(7):
        house.enter(item(n, size=100.0))

    with pytest.raises(Overloaded, match=r"0\.5 s too late"):
        house.enter(item("late", size=100.0))


def test_where_batches_are_padded_a_full_one_costs_by_the_mean_length():
    house = House(layout=Pad(trim=False))
    for size in (100, 200, 400, 800) * 20:
        house.pace.costs.observe(size, size / 100)
    for n in range(MAX):
        house.enter(item(n, size=50.0 + 100 * (n % 2)))
    with pytest.raises(Overloaded) as e:
        house.enter(item("refused", size=1.0))

    assert e.value.retry_after == pytest.approx(8.0, rel=0.01)


# Where nobody has to look closer


def test_calls_are_staged_without_a_closer_look_where_nothing_stands_against_it():
    house = House()

    assert (house.door.bound, house.door.small) == (MAX, SMALL)


@pytest.mark.parametrize(
    "options",
    [
        {"slo": 1.0},
        {"waits": True},
        {"measure": len},
        {"layout": Pad(trim=False)},
    ],
)
def test_what_is_asked_for_takes_a_closer_look(options):
    assert House(**options).door.bound == 0


def test_a_closer_look_is_taken_as_long_as_there_is_reason_for_it():
    house = House()
    door, bounds = house.door, []

    def note():
        bounds.append(door.bound)

    door.shut(closed=True)
    note()
    door.shut(closed=False)
    note()
    door.hang(Stuck("all hang"))
    note()
    door.hang(None)
    note()
    other = Queue(house)
    door.add(other)
    note()
    door.remove(other)
    note()
    house.enter(item("large", 101))
    note()
    house.leave()
    note()

    assert bounds == [0, MAX] * 4


def test_a_queue_that_is_gone_is_counted_no_more():
    house = House(queues=2)
    house.queues[1].staged.extend([item("a"), item("b")])
    assert house.door.held() == 2
    house.door.remove(house.queues[1])

    assert (house.door.held(), house.door.staged) == (0, [house.queues[0].staged])


# Everything at once


class Naive:
    """Who is queued and who waits, said in the plainest way."""

    def __init__(self, *, waits):
        self.waits, self.queued, self.lobby = waits, [], []

    def lacks(self, item):
        if len(self.queued) >= MAX:
            return "full"
        if not self.queued or not any(i.nbytes for i in [*self.queued, item]):
            return None
        total = sum(i.nbytes or SMALL for i in [*self.queued, item])
        return "bytes" if total > BYTES else None

    def enter(self, item):
        lacks = self.lacks(item)
        if lacks or self.lobby:
            if not self.waits:
                return lacks
            self.lobby.append(item)
            return "wait"
        self.queued.append(item)
        return "in"

    def seat(self):
        while self.lobby and not self.lacks(self.lobby[0]):
            self.queued.append(self.lobby.pop(0))


STEPS = st.lists(
    st.tuples(st.just("enter"), st.integers(0, 1), st.sampled_from([0, 50, 101, 150, 399, 999]))
    | st.tuples(st.just("leave"), st.integers(0, 1), st.integers(1, 3))
    | st.tuples(st.just("seat"), st.none(), st.none())
    | st.tuples(st.just("dismiss"), st.integers(0, 1), st.none()),
    max_size=60,
)


def came(house, what, at):
    try:
        return "in" if house.enter(what, at) else "wait"
    except Overloaded as error:
        return error.reason


@given(waits=st.booleans(), steps=STEPS)
def test_a_door_lets_in_whom_the_plainest_one_would(waits, steps):
    house, naive = House(queues=2, waits=waits), Naive(waits=waits)
    where = {}
    for number, (what, at, much) in enumerate(steps):
        if what == "enter":
            new = item(number, much)
            where[new] = at
            assert came(house, new, at) == naive.enter(new)
        elif what == "leave" and house.queues[at].lanes.size:
            mine = [i for i in naive.queued if where[i] == at][:much]
            naive.queued = [i for i in naive.queued if i not in mine]
            assert house.leave(much, at) == [i.x for i in mine]
        elif what == "seat":
            before = len(naive.queued)
            naive.seat()
            looks = house.door.seat()
            assert looks == [house.queues[where[i]] for i in naive.queued[before:]]
        elif what == "dismiss":
            gone = [i for i in naive.lobby if where[i] == at]
            naive.lobby = [i for i in naive.lobby if where[i] != at]
            assert house.door.dismiss(house.queues[at]) == gone
        assert house.door.queued == len(naive.queued)
        assert house.door.waiting() == len(naive.queued) + len(naive.lobby)
        large = [i.nbytes for i in naive.queued if i.nbytes]
        assert (house.door._large, house.door._bytes) == (len(large), sum(large))
        assert house.door.bound == 0


@given(st.lists(st.integers(-3, 3), max_size=60))
def test_the_bound_is_0_exactly_when_a_closer_look_is_needed(steps):
    house = House()
    large = queued = 0
    for step in steps:
        if step > 0 and queued < MAX - 1 and not large:
            house.enter(item("x", 101 if step == 3 else 0))
            queued += 1
            large += step == 3
        elif step < 0 and queued:
            taken = house.queues[0].lanes.cut(0.0)
            house.door.leave(taken)
            queued = large = 0
        assert house.door.bound == (0 if large else MAX)
        assert house.door.queued == queued


@given(st.lists(st.floats(0.0, 8.0) | st.none(), max_size=40))
def test_the_load_does_not_drift(steps):
    house = House(slo=math.inf, measure=float, max_queue_size=99)
    queued = deque()
    for size in steps:
        if size is not None:
            house.enter(item("x", size=size))
            queued.append(size)
        elif queued:
            house.queues[0].lanes.limit = 8
            taken = house.queues[0].lanes.cut(0.0)
            house.door.leave(taken)
            for _ in taken:
                queued.popleft()
        assert house.door.load == pytest.approx(sum(queued), abs=1e-9)
        assert queued or house.door.load == 0.0
