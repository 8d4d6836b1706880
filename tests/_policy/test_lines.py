import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.lines import AGEING, PLAIN, Line, Rank, Ranked, ranked

STEP = 0.37
"""Seconds between arrivals: no two are ever as urgent as one another."""
RANKS = st.builds(Rank, st.integers(-1, 2), st.sampled_from(["a", "b", None]))


class Item:
    def __init__(self, name, at=0.0):
        self.name, self.at, self.size = name, at, 1

    def __repr__(self):
        return f"<{self.name} of {self.at}>"


def line_of(*items):
    """Queue pairs of an item and its rank."""
    line = Ranked()
    for item, rank in items:
        line.push(item, rank)
    return line


def names(items):
    return "".join(item.name for item in items)


# A plain line


def test_a_plain_line_serves_who_comes_first():
    line = Line([Item("a", 1.0), Item("b", 2.0), Item("c", 3.0)])

    assert (line.next().name, line.urgency(), line.came()) == ("a", 1.0, 1.0)
    assert [names(line.take(2)), names(line.take(2)), names(line.take(2))] == ["ab", "c", ""]
    assert not line


def test_what_was_taken_is_no_longer_in_the_line():
    line = Line([Item("a"), Item("b")])
    taken = line.take(9)
    line.append(Item("c"))

    assert (names(taken), names(line)) == ("ab", "c")


@pytest.mark.parametrize("make", [Line, lambda items: line_of(*((i, PLAIN) for i in items))])
def test_items_are_dropped_by_what_they_are_not_by_what_they_equal(make):
    class Equal(Item):
        def __eq__(self, other):
            return True

        def __hash__(self):
            return 0

    items = [Equal(name) for name in "abcd"]
    line = make(items)
    line.drop({id(items[1]), id(items[3])})

    assert names(line) == "ac"


# Priorities


def test_a_higher_priority_goes_first_however_late_it_came_within_a_second():
    line = line_of((Item("a", 0.0), Rank(0, None)), (Item("b", 0.9), Rank(1, None)))

    assert (line.next().name, line.urgency(), line.came()) == ("b", pytest.approx(-0.1), 0.0)
    assert names(line.take(9)) == "ba"


def test_waiting_for_longer_than_a_second_counts_as_much_as_a_level():
    line = line_of((Item("a", 0.0), Rank(0, None)), (Item("b", 1.1 * AGEING), Rank(1, None)))

    assert names(line.take(9)) == "ab"


def test_the_default_rank_lies_between_higher_and_lower_priorities():
    line = line_of((Item("l"), Rank(-1, None)), (Item("d"), None), (Item("h"), Rank(1, None)))

    assert names(line.take(9)) == "hdl"


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=40))
def test_nobody_is_overtaken_by_who_came_more_than_a_second_a_level_later(priorities):
    items = {Item(str(n), n * STEP): priority for n, priority in enumerate(priorities)}
    line = line_of(*((item, Rank(priority, None)) for item, priority in items.items()))
    served = line.take(len(items))

    assert len(set(served)) == len(items)
    for first, then in itertools.combinations(served, 2):
        later = first.at - then.at
        assert later < AGEING * (items[first] - items[then]) or later < 0


# Tenants


def test_tenants_of_a_level_take_turns():
    line = line_of(
        *((Item("a"), Rank(0, "ann")) for _ in range(5)),
        *((Item("b"), Rank(0, "bob")) for _ in range(2)),
        (Item("n"), None),
    )

    assert names(line.take(9)) == "abnabaaa"


def test_a_tenant_who_comes_again_waits_for_its_turn():
    line = line_of((Item("a"), Rank(0, "ann")), (Item("b"), Rank(0, "bob")))
    assert names(line.take(1)) == "a"
    line.push(Item("c"), Rank(0, "ann"))

    assert names(line.take(9)) == "bc"


def test_a_tenant_s_many_items_get_old_though_another_s_fresh_one_is_before_them():
    line = line_of((Item("a", 0.0), Rank(0, "ann")), (Item("b", 0.1), Rank(0, "ann")))
    line.push(Item("c", 9.0), Rank(0, "bob"))
    assert names(line.take(1)) == "a"
    line.push(Item("u", 9.1), Rank(2, None))

    assert line.urgency() == 0.1
    assert names(line.take(9)) == "cbu"


def test_who_is_put_back_is_before_the_others_of_its_rank():
    line = line_of(*((Item(name), Rank(0, "ann")) for name in "abcd"))
    line.push(Item("u"), Rank(1, None))
    taken = line.take(3)
    for item in reversed(taken[1:]):
        line.put_back(item, Rank(0, "ann"))

    assert names(taken) == "uab"
    assert names(line.take(9)) == "abcd"


def test_who_is_put_back_alone_is_of_its_rank_still():
    line = Ranked()
    line.put_back(Item("b"), None)
    line.put_back(Item("a"), PLAIN)
    line.put_back(Item("u"), Rank(1, "ann"))

    assert (len(line), names(line.take(9))) == (3, "uab")


@given(st.lists(st.sampled_from("ab") | st.none(), max_size=12), st.integers(1, 9))
def test_a_ranked_line_lists_its_items_as_it_would_serve_them(tenants, count):
    def filled():
        return line_of(*((items[n], Rank(0, who)) for n, who in enumerate(tenants)))

    items = [Item(str(n), n * STEP) for n in range(len(tenants))]
    line = filled()

    assert list(line) == filled().take(len(items))
    assert list(line)[:count] == line.take(count)


def test_the_most_urgent_level_is_listed_first():
    line = line_of((Item("a"), Rank(0, None)), (Item("u"), Rank(1, None)), (Item("b"), None))

    assert names(line) == "uab"


# Turning one into the other


def test_a_plain_line_made_a_ranked_one_keeps_its_order():
    line = ranked(Line([Item("a", 0.0), Item("b", 0.1)]))
    line.push(Item("c", 0.2), Rank(0, "ann"))
    line.push(Item("d", 0.3), PLAIN)

    assert (len(line), names(line.take(9))) == (4, "acbd")


# Everything at once


class Naive:
    """Who is next, said in the plainest way: of the level of the most urgent item, by turns."""

    def __init__(self):
        self.items = []
        self.turns = {}

    def push(self, item, rank):
        rank = rank or PLAIN
        self.items.append((item, rank))
        turns = self.turns.setdefault(rank.priority, [])
        if rank.tenant not in turns:
            turns.append(rank.tenant)

    def _urgency(self, pair):
        item, rank = pair
        return item.at - AGEING * rank.priority

    def next(self):
        level = min(self.items, key=self._urgency)[1].priority
        rank = Rank(level, self.turns[level][0])
        return next(pair for pair in self.items if pair[1] == rank)

    def take_one(self):
        item, rank = pair = self.next()
        self.items.remove(pair)
        turns = self.turns[rank.priority]
        turns.remove(rank.tenant)
        if any(other == rank for _, other in self.items):
            turns.append(rank.tenant)
        return item

    def drop(self, items):
        self.items = [pair for pair in self.items if id(pair[0]) not in items]
        ranks = {rank for _, rank in self.items}
        for level, turns in self.turns.items():
            turns[:] = [tenant for tenant in turns if Rank(level, tenant) in ranks]


STEPS = st.lists(
    st.tuples(st.just("push"), RANKS | st.none())
    | st.tuples(st.just("take"), st.integers(1, 5))
    | st.tuples(st.just("drop"), st.sets(st.integers(0, 9))),
    max_size=60,
)


@given(STEPS)
def test_a_ranked_line_does_what_the_plainest_one_would(steps):
    line, naive = Ranked(), Naive()
    for number, (what, given_) in enumerate(steps):
        if what == "push":
            item = Item(str(number), number * STEP)
            line.push(item, given_)
            naive.push(item, given_)
        elif what == "take":
            count = min(given_, len(naive.items))
            assert line.take(given_) == [naive.take_one() for _ in range(count)]
        else:
            gone = {id(naive.items[n][0]) for n in given_ if n < len(naive.items)}
            line.drop(gone)
            naive.drop(gone)
        assert len(line) == len(naive.items)
        assert sorted(map(id, line)) == sorted(id(item) for item, _ in naive.items)
        if naive.items:
            assert line.next() is naive.next()[0]
            assert line.came() == min(item.at for item, _ in naive.items)
            assert line.urgency() == min(map(naive._urgency, naive.items))


@given(st.lists(RANKS, min_size=1, max_size=30), st.integers(1, 4))
def test_nobody_starves_of_those_who_keep_coming(ranks, tenants):
    """The most urgent is served within a turn of each tenant, whoever comes meanwhile."""
    items = [(Item(str(n), n * STEP), rank) for n, rank in enumerate(ranks)]
    line = line_of(*items)
    oldest, rank = min(items, key=lambda pair: pair[0].at - AGEING * pair[1].priority)
    now = math.ceil(len(items) * STEP) + 10 * AGEING
    for place in range(len({tenant for _, tenant in ranks}) + tenants):
        line.push(Item("new", now + place * STEP), Rank(2, f"new {place % tenants}"))
        if line.take(1) == [oldest]:
            return
    pytest.fail(f"{oldest} of {rank} was not served")
