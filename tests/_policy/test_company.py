import random
from fractions import Fraction
from operator import mul

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.company import company

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)
LIMIT = st.integers(1, 12)
COST = st.one_of(
    st.none(),
    st.builds(lambda fixed: lambda n, longest: fixed + n * longest, st.integers(0, 500)),
    st.builds(lambda step: lambda n, longest: -(-n // step) * step * longest, st.integers(1, 8)),
)
BUDGET = st.one_of(st.just(float("inf")), st.integers(1, 400), st.floats(0.5, 400))


@st.composite
def queues(draw):
    """Lengths in the order of age, and which of them must go."""
    lengths = draw(LENGTHS)
    return lengths, draw(st.integers(0, len(lengths) - 1))


def ranks(lengths, taken):
    """Where items stand in the order of length, the older first of equal ones."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    return sorted(map(order.index, taken))


def area(lengths):
    return len(lengths) * max(lengths)


@given(queues(), LIMIT, COST, BUDGET)
def test_a_batch_is_neighbours_in_length_of_the_oldest_within_the_bounds(
    queue, limit, cost, budget
):
    lengths, anchor = queue
    taken = company(lengths, anchor, limit, cost, budget)
    ranked = ranks(lengths, taken)

    assert anchor in taken
    assert taken == sorted(taken)
    assert ranked == list(range(ranked[0], ranked[0] + len(taken)))
    assert len(taken) <= limit
    assert taken == [anchor] or area([lengths[index] for index in taken]) <= budget


@given(queues(), LIMIT)
def test_without_a_cost_a_batch_is_as_full_as_may_be(queue, limit):
    lengths, anchor = queue

    assert len(company(lengths, anchor, limit, None)) == min(limit, len(lengths))


@given(queues(), BUDGET)
def test_without_a_cost_no_neighbour_would_fit_into_the_budget(queue, budget):
    lengths, anchor = queue
    taken = company(lengths, anchor, len(lengths), None, budget)
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    ranked = ranks(lengths, taken)
    neighbours = {ranked[0] - 1, ranked[-1] + 1} & set(range(len(lengths)))

    for rank in neighbours:
        assert area([lengths[index] for index in [*taken, order[rank]]]) > budget


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=12), st.integers(1, 9))
def test_of_items_of_one_length_as_many_go_as_cost_least_each(costs, length):
    def each(n):
        return Fraction(costs[n - 1], n)

    taken = company([length] * len(costs), 0, len(costs), lambda n, _: costs[n - 1])
    best = min(range(1, len(costs) + 1), key=lambda n: (each(n), -n))

    assert taken == list(range(best))


def test_an_item_longer_than_the_budget_goes_alone():
    assert company([3, 9, 3], 1, 8, None, budget=8) == [1]


def test_a_batch_may_fill_its_budget_to_the_last():
    assert company([8, 8, 8], 0, 8, None, budget=16) == [0, 1]


@given(st.integers(1, 40), st.integers(1, 40), st.floats(1e-6, 1e6))
def test_rounding_keeps_no_company_small(k, length, each):
    assert len(company([length] * k, 0, 64, lambda n, _: n * each)) == k


def test_a_cost_pads_up_where_that_is_cheap_and_cuts_down_where_it_is_not():
    queue = [10, 100]

    assert company(queue, 0, 8, lambda n, longest: 1000 + n * longest) == [0, 1]
    assert company(queue, 0, 8, lambda n, longest: 10 + n * longest) == [0]


def test_a_cost_that_grows_in_steps_is_taken_where_a_step_ends():
    def steps(n, longest):
        return -(-n // 4) * 4 * longest + 1

    assert [len(company([5] * k, 0, 32, steps)) for k in (3, 4, 5, 7, 8, 9)] == [3, 4, 4, 4, 8, 8]


def test_the_nearest_in_length_go_along_and_of_equal_ones_the_oldest():
    assert company([50, 9, 52, 50, 48, 51], 0, 3, None) == [0, 3, 5]
    assert company([7] * 9, 4, 3, None) == [2, 3, 4]


def test_without_room_for_company_the_oldest_goes_alone():
    assert company([4, 4, 4], 1, 1, None) == [1]


def test_a_cost_of_nothing_is_no_reason_to_leave_anybody():
    assert company([3, 9, 5], 0, 3, lambda n, _: 0.0) == [0, 1, 2]


def test_a_cost_is_asked_of_batches_within_the_bounds():
    asked = set()

    def cost(n, longest):
        asked.add((n, longest))
        return 10 + n * longest

    company(list(range(1, 200)), 50, 8, cost, budget=300)

    assert asked
    assert all(n <= 8 and n * longest <= 300 for n, longest in asked)


def test_items_without_length_go_like_the_shortest():
    assert company([0, 5, 0], 0, 2, mul) == [0, 2]


@given(st.lists(st.lists(st.integers(1, 40), max_size=6), max_size=12), LIMIT, COST, BUDGET)
def test_nobody_starves_whatever_arrives(arrivals, limit, cost, budget):
    queue, born, cuts = [], 0, 0
    pending = iter(arrivals)
    while True:
        for length in next(pending, []):
            queue.append((length, cuts + len(queue) + 1))  # the last cut that may bring its turn
            born += 1
        if not queue:
            break
        taken = company([length for length, _ in queue], 0, limit, cost, budget)
        cuts += 1
        assert all(queue[index][1] >= cuts for index in taken)
        born -= len(taken)
        queue = [item for index, item in enumerate(queue) if index not in taken]
    assert born == 0


def mix(rng):
    """Lengths as of sentences: lognormal, of median 100, cut at 512."""
    return max(1, min(512, round(rng.lognormvariate(4.6, 0.8))))


def replay(choose, cost, queued, seed=3):
    """What an item costs in batches of a queue that is refilled: with so many in it, always."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    queue = [mix(rng) for _ in range(queued)]
    spent = served = 0
    for _ in range(100):
        taken = choose(queue)
        spent += cost(len(taken), max(queue[index] for index in taken))
        served += len(taken)
        left = [length for index, length in enumerate(queue) if index not in set(taken)]
        queue = [*left, *(mix(rng) for _ in taken)]
    return spent / served


def first_come(queue):
    return list(range(min(32, len(queue))))


def affine(n, longest):
    return 500 + n * longest


@pytest.mark.parametrize(("queued", "gain"), [(64, 1.8), (128, 2.2), (256, 2.6)])
def test_company_of_like_length_pads_less_than_first_come_first_served(queued, gain):
    alike = replay(lambda queue: company(queue, 0, 32, None), mul, queued)

    assert replay(first_come, mul, queued) > gain * alike


@pytest.mark.parametrize(("queued", "gain"), [(16, 1.5), (64, 2.2), (256, 2.6)])
def test_a_measured_cost_serves_cheaper_than_first_come_first_served(queued, gain):
    measured = replay(lambda queue: company(queue, 0, 32, affine), affine, queued)

    assert replay(first_come, affine, queued) > gain * measured


def every_run(queue, limit):
    """All runs of neighbours in length that hold the first item: their lengths and indices."""
    order = sorted(range(len(queue)), key=queue.__getitem__)
    at = order.index(0)
    for low in range(max(0, at - limit + 1), at + 1):
        for high in range(at + 1, min(low + limit, len(order)) + 1):
            taken = order[low:high]
            yield [queue[index] for index in taken], taken


def worth(length):
    """What an item costs in a full batch of its own length."""
    return affine(32, length) / 32


def cheapest(queue, share):
    """The run that costs least by what ``share`` makes of the lengths in it."""
    return min(
        every_run(queue, 32), key=lambda run: affine(len(run[0]), max(run[0])) / share(run[0])
    )[1]


def test_items_by_what_they_are_worth_are_served_cheaper_than_by_their_number():
    by_worth = replay(lambda queue: company(queue, 0, 32, affine), affine, 64)
    by_number = replay(lambda queue: cheapest(queue, len), affine, 64)

    assert by_number > 1.3 * by_worth


@pytest.mark.parametrize("queued", [16, 64])
def test_growing_from_the_oldest_serves_as_cheaply_as_trying_every_run(queued):
    grown = replay(lambda queue: company(queue, 0, 32, affine), affine, queued)
    tried = replay(lambda queue: cheapest(queue, lambda run: sum(map(worth, run))), affine, queued)

    assert grown < 1.03 * tried


def test_a_cut_is_seldom_dearer_than_the_best_of_all_runs():
    rng = random.Random(5)  # noqa: S311 - no secret
    excess = []
    for _ in range(200):
        queue = [mix(rng) for _ in range(rng.randint(1, 100))]
        rates = {
            tuple(sorted(taken)): affine(len(run), max(run)) / sum(map(worth, run))
            for run, taken in every_run(queue, 32)
        }
        grown = tuple(company(queue, 0, 32, affine))
        excess.append(rates[grown] / min(rates.values()))

    assert sum(excess) / len(excess) < 1.03
    assert max(excess) < 1.25
