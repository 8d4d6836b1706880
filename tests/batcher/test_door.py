import gc
import weakref

import numpy as np
import pytest

import modelserve as ms
from modelserve.batcher._door import CROWD
from modelserve.errors import Closed, Overloaded, Stuck
from modelserve.predictor import ThreadSink
from modelserve.request import warm_scope
from tests.batcher.doors import BYTES, MAX, SMALL, House, item, learned

# How many


def test_as_many_come_in_as_there_is_room_for_and_as_leave():
    house = House()
    assert house.enters(MAX) == [True] * MAX
    with pytest.raises(Overloaded, match="'service' has 4 calls queued: raise max_queue_size") as e:
        house.enter(item("refused"))
    assert (e.value.reason, e.value.retry_after) == ("full", None)
    assert house.leave(2) == [0, 1]
    assert house.enters(2) == [True, True]

    assert (house.door.queued, house.door.held(), house.door.waiting()) == (MAX, MAX, MAX)
    assert (house.counts.calls, house.counts.refusals) == (MAX + 2, {"full": 1})


def test_who_is_refused_is_told_when_a_batch_should_have_run():
    house = learned(House(), seconds=0.25)
    house.enters(MAX)
    with pytest.raises(Overloaded) as e:
        house.enter(item("refused"))

    assert e.value.retry_after == pytest.approx(0.25)


def test_what_is_staged_counts_too():
    house = House()
    house.queues[0].staged.extend(item(n) for n in range(3))
    house.enter(item("last"))
    with pytest.raises(Overloaded, match="has 4 calls queued"):
        house.enter(item("refused"))

    assert (house.door.queued, house.door.held()) == (1, MAX)


def test_what_was_staged_is_put_into_lanes_in_its_order():
    house = House()
    house.queues[0].staged.extend(item(n) for n in range(3))
    house.door.stage(house.queues[0], busy=True)

    assert (house.door.queued, house.door.held(), house.counts.calls) == (3, 3, 3)
    assert not house.queues[0].staged
    assert house.leave(3) == [0, 1, 2]


def test_several_queues_share_one_bound():
    house = House(queues=2)
    house.enter(item("a"), at=0)
    house.queues[1].staged.append(item("b"))
    house.enter(item("c"), at=1)
    house.enter(item("d"), at=1)

    for at in range(2):
        with pytest.raises(Overloaded):
            house.enter(item("refused"), at=at)
    assert house.leave(at=1) == ["c"]
    house.enter(item("e"), at=0)


def test_calls_that_warm_are_not_counted():
    house = House()
    house.enter(item("warm", scope=warm_scope()))
    house.enter(item("call", scope=ms.request()))

    assert (house.counts.calls, house.door.queued) == (1, 2)


def test_who_was_taken_and_not_run_comes_back_before_the_others_and_is_counted_once():
    house = House(slo=9.0)
    house.enters(3, nbytes=120)
    taken = house.queues[0].lanes.cut(0.0)
    house.door.leave(taken)
    house.enter(item("new"))
    for back in reversed(taken[1:]):
        house.door.seat_again(back, house.queues[0])

    assert (house.door.queued, house.door.load, house.counts.calls) == (3, 3.0, 4)
    assert house.leave(3) == [1, 2, "new"]
    assert (house.door.load, house.door.bound) == (0.0, 0)


# How many bytes


def test_small_items_are_bounded_by_their_number_alone():
    house = House()
    house.enters(MAX, nbytes=SMALL)

    assert house.door.queued == MAX


def test_large_items_are_counted_exactly_and_small_ones_as_the_largest_small_one():
    house = House()
    house.enter(item("large", BYTES - 2 * SMALL))
    house.enter(item("small"))
    with pytest.raises(Overloaded, match="has no room for 101 bytes beside 2 calls queued") as e:
        house.enter(item("larger", SMALL + 1))
    assert e.value.reason == "bytes"
    house.enter(item("small too"))
    with pytest.raises(Overloaded, match="has no room for one more beside 3 calls queued"):
        house.enter(item("nobody"))

    assert house.counts.refusals == {"bytes": 2}
    assert house.leave() == ["large"]
    house.enters(2)


def test_an_item_larger_than_the_bound_comes_in_where_nothing_is():
    house = House()
    house.enter(item("huge", 9 * BYTES))
    with pytest.raises(Overloaded):
        house.enter(item("small"))
    house.leave()
    house.enter(item("small"))
    with pytest.raises(Overloaded):
        house.enter(item("huge", 9 * BYTES))


def test_items_that_just_fit_come_in():
    house = House()
    house.enter(item("large", 250))
    house.enter(item("large", 150))

    assert house.door.queued == 2


# Who waits for room


def test_who_finds_no_room_waits_in_the_order_of_coming():
    house = House(waits=True)
    house.enters(MAX)
    assert [house.enter(item(name)) for name in "abc"] == [False] * 3
    assert (house.door.queued, house.door.waiting(), house.counts.calls) == (MAX, MAX + 3, MAX)
    house.leave(2)

    assert house.door.seat() == [house.queues[0]] * 2
    assert (house.door.queued, house.door.waiting(), house.counts.calls) == (MAX, MAX + 1, MAX + 2)
    assert house.leave(MAX) == [2, 3, "a", "b"]
    house.door.seat()
    assert house.leave() == ["c"]


def test_newcomers_do_not_overtake_who_waits():
    house = House(waits=True)
    house.enters(MAX)
    house.enter(item("first"))
    house.leave(2)
    house.enter(item("second"))
    house.door.seat()

    assert house.leave(MAX) == [2, 3, "first", "second"]


def test_a_large_item_that_waits_is_not_overtaken_by_small_ones():
    house = House(waits=True)
    house.enters(2, nbytes=150)
    house.enter(item("large", 300))
    house.enter(item("small"))
    house.leave(1)
    assert house.door.seat() == []
    house.leave(1)
    house.door.seat()

    assert house.leave(2) == ["large", "small"]


def test_who_waits_for_a_seat_is_told_when_it_has_one():
    house = House(waits=True)
    seats = [ThreadSink() for _ in range(3)]
    house.enters(MAX - 1)
    for number, seat in enumerate(seats):
        house.enter(item(number), seated=seat)
    assert [seat.done() for seat in seats] == [True, False, False]
    house.leave()
    house.door.seat()

    assert [seat.done() for seat in seats] == [True, True, False]


def test_who_waits_is_seated_in_its_own_queue_and_it_is_told_who_should_look():
    house = House(queues=2, waits=True, max_wait=1.0)
    house.enters(MAX)
    for name, at in [("a", 1), ("b", 0), ("c", 1)]:
        house.enter(item(name), at=at)
    house.leave(3)

    assert house.door.seat() == [house.queues[1]]
    assert house.leave(9, at=1) == ["a", "c"]


def test_who_waits_for_room_in_one_queue_can_be_sent_away():
    house = House(queues=2, waits=True)
    house.enters(MAX)
    seats = [ThreadSink() for _ in range(3)]
    for number, seat in enumerate(seats):
        house.enter(item(number), at=number % 2, seated=seat)
    house.enter(item("without a seat"), at=1)
    sent = house.door.dismiss(house.queues[1])

    assert [i.x for i in sent] == [1, "without a seat"]
    assert [seat.done() for seat in seats] == [False, True, False]
    assert house.door.waiting() == MAX + 2
    assert house.door.dismiss(house.queues[1]) == []


def test_of_many_who_wait_for_room_those_who_left_are_let_go():
    house = House(waits=True)
    house.enters(MAX)
    left = [item(np.zeros(1)) for _ in range(CROWD)]
    for guest in left:
        house.enter(guest)
        guest.sink.leave()
    held = weakref.ref(left[0].x)
    assert house.door.waiting() == MAX + CROWD
    left.clear()
    del guest
    assert house.counts.abandoned == 0
    house.enter(item("stays"))
    gc.collect()

    assert held() is None
    assert house.door.waiting() == MAX + 1
    assert (house.counts.calls, house.counts.abandoned) == (MAX + CROWD, CROWD)
    house.leave(MAX)
    house.door.seat()
    assert house.leave() == ["stays"]


def test_who_has_left_keeps_nobody_from_a_seat():
    house = House(waits=True)
    house.enters(2, nbytes=150)
    left, seat = item("left", 300), ThreadSink()
    house.enter(left, seated=seat)
    house.enter(item("next"))
    left.sink.leave()

    assert house.door.seat() == [house.queues[0]]
    assert (house.door.queued, house.door.waiting(), seat.done()) == (3, 3, True)
    assert (house.counts.calls, house.counts.abandoned) == (4, 1)


def test_who_waits_for_room_is_not_looked_at_for_every_newcomer():
    looked = 0

    class Counted(ThreadSink):
        def done(self):
            nonlocal looked
            looked += 1
            return super().done()

    house = House(waits=True)
    house.enters(MAX)
    for n in range(8 * CROWD):
        house.enter(item(n, sink=Counted()))

    assert house.door.waiting() == MAX + 8 * CROWD
    assert 0 < looked < 16 * CROWD


# Who is never let in


def test_a_closed_door_lets_nobody_in_but_who_waited():
    house = House(waits=True)
    house.enters(MAX)
    house.enter(item("guest"))
    house.door.shut(closed=True)
    with pytest.raises(Closed, match="'service' is closed: open it again"):
        house.enter(item("late"))
    house.leave(MAX)
    house.door.seat()
    assert house.leave() == ["guest"]
    house.door.shut(closed=False)

    assert house.enter(item("again")) is True


def test_nobody_is_let_in_while_all_workers_hang_and_each_is_told_so_apart():
    house = House()
    why = Stuck("all hang")
    house.door.hang(why)
    errors = []
    for _ in range(2):
        with pytest.raises(Stuck, match="all hang") as e:
            house.enter(item("late"))
        errors.append(e.value)
    house.door.hang(None)

    assert len({id(error) for error in [why, *errors]}) == 3
    assert house.enter(item("again")) is True
