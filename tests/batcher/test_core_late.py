"""Deadlines and ``slo=``: who gives a place to others, who is refused, how large batches are."""

import asyncio
import math

import pytest

import modelserve as ms
from modelserve.testing import FakeClock, GatedPredictor
from tests.batcher.asking import LIMIT, both, one_batch, outcome, same
from tests.support.virtual import explore, here


class Service:
    """A batcher whose batches of two take a second each, and one that waits at a gate."""

    def __init__(self, **options):
        self.clock = FakeClock()
        self.gate = GatedPredictor()
        self.calls = []
        options = {"max_batch_size": 2, "clock": self.clock, "name": "rank", **options}
        self.p = ms.DynamicBatcher(self.predict, **options)

    def predict(self, xs):
        self.calls.append(list(xs))
        if "first" in xs:
            self.gate(xs)
        self.clock.advance(1.0)
        return xs

    def learn(self):
        """Let costs be known."""
        for _ in range(4):
            self.gate.close()
            self.begin()
            self.end([self.p.submit(0), self.p.submit(1)])
        self.calls.clear()
        self.gate.close()

    def begin(self):
        entered = self.gate.entered
        self.first = self.p.submit("first")
        self.gate.wait_entered(entered + 1)

    def end(self, futures):
        """Let the first batch end, a second after it began; return what the others came to."""
        self.gate.open()
        assert outcome(self.first) == "first"
        return [outcome(future) for future in futures]

    def ask(self, x, timeout=None, clock=None):
        with ms.request(timeout=timeout, clock=clock or self.clock):
            return self.p.submit(x)


@pytest.fixture
def service(request):
    service = Service(**getattr(request, "param", {}))
    yield service
    service.gate.open()


def clocks(service):
    """A request may go by the batcher's clock, or by one of its own that shows the same."""
    return [service.clock, service.clock.__call__]


@pytest.mark.parametrize("own", [0, 1])
def test_who_would_probably_be_late_gives_the_place_to_others(service, own):
    service.learn()
    service.begin()
    clock = clocks(service)[own]
    futures = [service.ask("tight", 1.5, clock), service.ask("a", 9.0, clock), service.ask("b")]
    tight, *others = service.end(futures)

    assert isinstance(tight, ms.DeadlineExceeded)
    assert "would pass before the answer came from the queue of 'rank'" in str(tight)
    assert others == ["a", "b"]
    assert service.calls == [["first"], ["a", "b"]]
    assert service.p.stats.expired == 1


@pytest.mark.parametrize("own", [0, 1])
def test_who_would_probably_be_late_runs_where_there_is_room(service, own):
    service.learn()
    service.begin()
    clock = clocks(service)[own]
    futures = [service.ask("tight", 1.5, clock), service.ask("a")]

    assert service.end(futures) == ["tight", "a"]
    assert sorted(service.calls[1]) == ["a", "tight"]
    assert service.p.stats.expired == 0


def test_when_all_would_be_late_those_with_the_most_time_run(service):
    service.learn()
    service.begin()
    futures = [service.ask(x, 1.1 + x / 10) for x in range(4)]
    answers = service.end(futures)

    assert sorted(service.calls[1]) == [2, 3]
    assert [type(answer) for answer in answers] == [ms.DeadlineExceeded] * 2 + [int] * 2


def test_who_has_enough_time_runs_in_turn(service):
    service.learn()
    service.begin()
    futures = [service.ask(x, 9.0) for x in range(4)]

    assert service.end(futures) == [0, 1, 2, 3]
    assert service.calls == [["first"], [0, 1], [2, 3]]


def test_while_no_cost_is_known_nobody_is_late(service):
    service.begin()
    futures = [service.ask(x, 1.001) for x in range(2)]

    assert service.end(futures) == [0, 1]


@pytest.mark.parametrize("service", [{"size": float, "max_batch_size": 4}], indirect=True)
def test_who_is_late_is_told_by_the_sizes_of_batches_where_items_have_sizes(service):
    service.p.close()
    service.p = ms.DynamicBatcher(
        service.predict,
        size=lambda x: 1.0 if x == "first" else x,
        max_batch_size=4,
        clock=service.clock,
        name="rank",
    )
    service.learn()
    service.begin()
    futures = [service.ask(3.0, 1.5), service.ask(2.0), service.ask(2.0)]
    answers = service.end(futures)

    assert isinstance(answers[0], ms.DeadlineExceeded)
    assert answers[1:] == [2.0, 2.0]


def test_a_clock_of_one_caller_that_breaks_hurts_nobody_else(service):
    looks = iter([0.0, 0.0])  # as the request is made, and as it asks
    service.begin()
    futures = [service.ask("a"), service.ask("broken", 1.0, lambda: next(looks)), service.ask("b")]
    a, broken, b = service.end(futures)

    assert (a, b) == ("a", "b")
    assert isinstance(broken, RuntimeError)


# With slo=


@pytest.fixture
def prompt():
    service = Service(slo=2.5)
    for size in (1, 2) * 4:
        service.p._queues.core.pace.costs.observe(size, 1.0)
    yield service
    service.gate.open()


def test_who_would_be_answered_too_late_is_refused_and_told_when_to_come_again(prompt):
    prompt.begin()
    futures = [prompt.p.submit(n) for n in range(2)]  # answered after two seconds
    with pytest.raises(ms.Overloaded, match=r"'rank' would answer 0\.5 s too late: ask") as caught:
        prompt.p.submit(2)

    assert (caught.value.reason, caught.value.retry_after) == ("late", pytest.approx(0.5))
    assert prompt.p.stats.refusals == {"late": 1}
    prompt.clock.advance(0.5)
    futures.append(prompt.p.submit(2))
    assert prompt.end(futures) == [0, 1, 2]
    assert prompt.p.stats.refused == 1


@pytest.mark.parametrize("own", [0, 1])
def test_who_has_less_time_than_that_is_refused_by_the_time_that_is_left(prompt, own):
    prompt.begin()
    clock = clocks(prompt)[own]
    with pytest.raises(ms.Overloaded) as caught:
        prompt.ask("tight", 1.5, clock)

    assert caught.value.retry_after == pytest.approx(0.5)
    assert prompt.end([prompt.ask("patient", 9.0, clock)]) == ["patient"]


def test_who_finds_nobody_before_is_never_refused(prompt):
    slow = Service(slo=0.5)
    for x in range(5):  # a second each, which is too long
        assert slow.p(x) == x

    assert slow.p.stats.refused == 0


def test_a_full_queue_says_when_a_batch_should_have_run():
    service = Service(slo=100.0, max_queue_size=2)
    service.begin()
    futures = [service.p.submit(n) for n in range(2)]
    with pytest.raises(ms.Overloaded, match="2 calls queued") as caught:
        service.p.submit(2)
    assert (caught.value.reason, caught.value.retry_after) == ("full", None)
    service.end(futures)
    service.learn()
    service.begin()
    futures = [service.p.submit(n) for n in range(2)]
    with pytest.raises(ms.Overloaded) as caught:
        service.p.submit(2)
    assert caught.value.retry_after == pytest.approx(1.0, rel=0.1)
    assert service.p.stats.refusals == {"full": 2}
    assert service.end(futures) == [0, 1]


@both
@pytest.mark.parametrize("timeout", [None, 0.3])
def test_batches_are_no_larger_than_can_be_answered_in_time(colour, timeout):
    clock = FakeClock()

    def predict(xs):
        sizes.append(len(xs))
        clock.advance(0.05 + 0.05 * len(xs))
        return xs

    sizes = []
    p = ms.DynamicBatcher(
        colour(predict), max_batch_size=64, max_wait=3600.0, clock=clock, slo=0.55
    )
    for size in (1, 2, 4, 8) * 5:  # so that the cost of all of them is known
        p._queues.core.pace.costs.observe(size, 0.05 + 0.05 * size)
    futures = []
    for n in range(64):
        with ms.request(timeout=timeout, clock=clock):
            try:
                futures.append(p.submit(n))
            except ms.Overloaded:
                break
    p.close(timeout=LIMIT)

    assert futures
    assert max(sizes) <= (10 if timeout is None else 5)
    assert outcome(futures[0]) == 0


def test_without_it_nothing_adapts():
    p = one_batch(same, 64)
    for size in (1, 2, 4, 8) * 5:
        p._queues.core.pace.costs.observe(size, 1.0 * size)
    futures = [p.submit(n) for n in range(64)]

    assert [outcome(future) for future in futures] == list(range(64))
    assert p.stats.batch_sizes == {64: 1}


def test_what_batches_cost_is_learned_from_those_that_ran():
    service = Service()
    assert math.isnan(service.p.costs().expected(1))
    service.learn()

    assert service.p.costs().expected(1) == pytest.approx(1.0)
    assert service.p.costs().expected(2) == pytest.approx(1.0)
    costs = service.p.costs()
    costs.observe(1, 100.0)
    assert service.p.costs().batches == costs.batches - 1


def test_under_overload_nobody_is_accepted_who_is_answered_much_too_late():
    async def predict(xs):
        await asyncio.sleep(0.1 + 0.01 * len(xs))
        return xs

    async def main():
        p = ms.DynamicBatcher(predict, max_batch_size=8, slo=0.5, clock=here().time)
        took, refused = [], []

        async def ask(x):
            await asyncio.sleep(x / 200)  # 200 a second, where 44 can be answered
            start = here().time()
            try:
                await p.acall(x)
                took.append(here().time() - start)
            except ms.Overloaded as error:
                refused.append((error.reason, error.retry_after > 0))

        await asyncio.gather(*map(ask, range(1000)))
        assert max(took[20:]) <= 0.75
        assert sorted(took)[-len(took) // 20] <= 0.55
        assert set(refused) == {("late", True)}
        assert len(took) > 150
        assert p.stats.refused == len(refused) == 1000 - len(took)

    explore(main, range(5))
