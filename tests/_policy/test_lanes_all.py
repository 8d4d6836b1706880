import math

from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.lanes import Lanes
from modelserve._policy.lines import Rank
from tests._policy.queueing import Item

STEP = 0.37
"""Seconds between arrivals: no two are ever as urgent as one another."""
LANES = st.sampled_from(["a", "b", None])


class Naive:
    """The same said in the plainest way, of a list of pairs of a lane and an item."""

    def __init__(self, limit, max_wait, *, sized):
        self.limit, self.max_wait, self.sized = limit, max_wait, sized
        self.queue, self.alone = [], False

    def taken(self, items):
        return sum(item.size for item in items) if self.sized else len(items)

    def by_lane(self):
        lanes = {}
        for lane, item in self.queue:
            lanes.setdefault(lane, []).append(item)
        return lanes

    def full(self):
        return [lane for lane, items in self.by_lane().items() if self.taken(items) >= self.limit]

    def push(self, item, lane, *, busy):
        self.queue.append((lane, item))
        if busy or len(self.queue) > 1:
            self.alone = False
        return not self.max_wait or len(self.queue) == 1 or lane in self.full()

    def wait(self, now):
        if not self.queue:
            return math.inf
        if not self.max_wait or self.alone or self.full():
            return 0.0
        return max(0.0, self.queue[0][1].at + self.max_wait - now)

    def cut(self, now):
        """Return the lanes that may be cut, what each would give, and why."""
        oldest_lane, oldest = self.queue[0]
        waited = 0 < self.max_wait <= now - oldest.at
        lanes = (not waited and self.max_wait and self.full()) or [oldest_lane]
        return {lane: self.batch_of(self.by_lane()[lane]) for lane in lanes}, waited

    def batch_of(self, items):
        """Return who runs and how many are taken, of the items of a lane."""
        batch = []
        for place, item in enumerate(items):
            more = [*batch, item]
            if self.taken(batch) >= self.limit or (batch and self.taken(more) > self.limit):
                return batch, items[:place], True
            if item.wanted:
                batch = more
        return batch, items, self.taken(batch) >= self.limit

    def took(self, taken, *, waited):
        self.queue = [pair for pair in self.queue if pair[1] not in taken]
        if waited:
            self.alone = len(taken) == 1 and not self.queue


STEPS = st.lists(
    st.tuples(st.just("push"), st.tuples(LANES, st.integers(1, 6), st.booleans(), st.booleans()))
    | st.tuples(st.just("cut"), st.none())
    | st.tuples(st.just("clear"), st.none()),
    max_size=50,
)


@given(
    limit=st.integers(1, 6),
    max_wait=st.sampled_from([0.0, 0.5, 2.0]),
    sized=st.booleans(),
    steps=STEPS,
)
def test_lanes_do_what_the_plainest_ones_would(limit, max_wait, sized, steps):
    lanes = Lanes(limit, max_wait, sized=sized)
    naive = Naive(limit, max_wait, sized=sized)
    for number, (what, given_) in enumerate(steps):
        now = number * STEP
        if what == "push":
            lane, size, wanted, busy = given_
            item = Item(str(number), now, size, wanted=wanted)
            assert lanes.push(item, lane, busy=busy) == naive.push(item, lane, busy=busy)
        elif what == "clear":
            assert sorted(map(id, lanes.clear())) == sorted(id(item) for _, item in naive.queue)
            naive.queue.clear()
        elif naive.queue:
            seen = []
            batch = lanes.cut(now, lambda items, seen=seen: seen.extend(items) or wanted_of(items))
            cuts, waited = naive.cut(now)
            assert (batch, seen, lanes.full) in cuts.values()
            assert lanes.waited == waited
            naive.took(seen, waited=waited)
        assert lanes.size == len(naive.queue)
        assert lanes.mixed == (len(naive.by_lane()) > 1)
        assert lanes.wait(now) == naive.wait(now)
        if naive.queue:
            assert lanes.head() is naive.queue[0][1]


def wanted_of(items):
    return [item for item in items if item.wanted]


RANKED_STEPS = st.lists(
    st.tuples(
        LANES,
        st.none() | st.builds(Rank, st.integers(-1, 1), st.sampled_from("xy") | st.none()),
        st.integers(1, 9),
        st.booleans(),
    )
    | st.sampled_from(["cut", "clear"]),
    max_size=60,
)


@given(
    limit=st.integers(1, 8),
    max_wait=st.sampled_from([0.0, 1.0]),
    sized=st.booleans(),
    chosen=st.booleans(),
    steps=RANKED_STEPS,
)
def test_whatever_happens_nothing_is_lost_doubled_mixed_or_too_much(
    limit, max_wait, sized, chosen, steps
):
    def choose(sizes, limit):
        places, room = [0], limit - (sizes[0] if sized else 1)
        for place, size in list(enumerate(sizes))[:0:-1]:
            if (size if sized else 1) <= room:
                room -= size if sized else 1
                places.append(place)
        return places

    lanes = Lanes(limit, max_wait, sized=sized, choose=choose if chosen else None)
    queued, left, last = {}, [], {}
    for number, step in enumerate([*steps, "clear"]):
        now = number * STEP
        dropped = []

        def sift(items, dropped=dropped):
            dropped += [item for item in items if not item.wanted]
            return wanted_of(items)

        if step == "clear":
            left += lanes.clear()
        elif step == "cut" and lanes.size:
            batch = lanes.cut(now, sift)
            ran = {(queued[item][0], queued[item][1] if not chosen else item) for item in batch}
            assert len({queued[item][0] for item in batch}) <= 1
            assert len(batch) == 1 or (sum(i.size for i in batch) if sized else len(batch)) <= limit
            assert all(item.wanted for item in batch)
            for rank in ran if not chosen else ():
                order = [item.at for item in batch if queued[item] == rank]
                assert order == sorted(order)
                assert last.get(rank, -1.0) < order[0]
                last[rank] = order[-1]
            left += [*batch, *dropped]
        elif step != "cut":
            lane, rank, size, wanted = step
            item = Item(str(number), now, size, wanted=wanted)
            queued[item] = lane, rank or Rank(0, None)
            lanes.push(item, lane, rank)
        assert lanes.size == len(queued) - len(left)
    assert sorted(map(id, left)) == sorted(map(id, queued))


@given(
    limit=st.integers(1, 4),
    max_wait=st.integers(0, 3),
    pushes=st.lists(st.tuples(st.integers(0, 3), LANES, st.booleans()), max_size=40),
)
def test_a_worker_that_looks_when_told_keeps_nobody_longer_than_max_wait(limit, max_wait, pushes):
    lanes = Lanes(limit, max_wait)
    now, alarm, cut_at = 0, math.inf, {}

    def look(at):
        nonlocal alarm
        while lanes.wait(at) == 0:
            cut_at.update(dict.fromkeys(lanes.cut(at), at))
        alarm = at + lanes.wait(at)

    for gap, lane, busy in pushes:
        now += gap
        while alarm <= now:
            look(alarm)
        if lanes.push(Item("x", now), lane, busy=busy):
            look(now)
    while lanes.size:
        look(alarm)

    assert len(cut_at) == len(pushes)
    assert all(item.at <= when <= item.at + max_wait for item, when in cut_at.items())
