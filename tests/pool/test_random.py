"""A thousand operations at random: never above the budget, no leased model evicted."""

import contextlib
import random
import threading

import pytest

import modelserve as ms
from tests.pool.shelves import LIMIT, Shelf, start, told

NAMES = {f"m{i}": 1_000 * (i + 1) for i in range(10)}
BUDGET = 16_000


class Player:
    """Who does one thing after the other with a pool, and looks at it each time."""

    def __init__(self, pool, shelf, clock, rng):
        self.pool, self.shelf, self.clock, self.rng = pool, shelf, clock, rng
        self.leases = []
        self.failed = set()
        self.refused = 0

    def step(self):
        name = self.rng.choice(list(NAMES))
        do = self.rng.choices(
            [self.call, self.lease, self.end, self.pin, self.unpin, self.evict, self.wait],
            [50, 10, 12, 2, 4, 4, 18],
        )[0]
        do(name)
        self.look()

    def call(self, name):
        failing = self.rng.random() < 0.05
        if failing:
            self.shelf.bad[name] = OSError("broken")
        try:
            assert self.pool[name](7) == (name, 1, 7)
        except ms.Overloaded:
            self.refused += 1
        except ms.ModelLoadError:
            assert failing or name in self.failed
            self.failed.add(name)  # for a pause it evicts nobody
        self.shelf.bad.clear()

    def lease(self, name):
        stack = contextlib.ExitStack()
        with contextlib.suppress(ms.Overloaded):
            stack.enter_context(self.pool.lease(name))
            self.leases.append((name, self.shelf.loads[name], stack))

    def end(self, _):
        if self.leases:
            self.leases.pop(self.rng.randrange(len(self.leases)))[2].close()

    def pin(self, name):
        self.pool.pin(name)

    def unpin(self, name):
        self.pool.unpin(name)

    def evict(self, name):
        gone = self.pool.evict(name)
        assert not (gone and name in {leased for leased, *_ in self.leases})

    def wait(self, _):
        self.clock.advance(self.rng.expovariate(1.0))

    def look(self):
        for thread in threading.enumerate():  # a loader's holds its model until it ends
            if thread.name.startswith("modelserve-load"):
                thread.join(LIMIT)
        stats = self.pool.stats
        assert self.shelf.alive() <= stats.nbytes["all"] <= BUDGET
        for name, loads, _ in self.leases:
            assert name in stats.loaded
            assert self.shelf.loads[name] == loads

    def finish(self):
        for *_, stack in self.leases:
            stack.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_operations_keep_to_the_budget_and_to_leases(seed):
    rng = random.Random(seed)  # noqa: S311 - no secret
    with told(BUDGET, Shelf(**NAMES), min_residency=0.2) as (pool, shelf, clock):
        player = Player(pool, shelf, clock, rng)
        for _ in range(1_000):
            player.step()
        player.finish()

        assert pool.stats.evictions > 50
        assert player.refused > 0
        assert pool.stats.failures > 0


def test_threads_at_random_keep_to_the_budget_and_get_their_own_answers():
    def play(seed):
        rng = random.Random(seed)  # noqa: S311 - no secret
        got = []
        for i in range(125):
            name = rng.choice(list(NAMES))
            ask = pool[name]
            if rng.random() < 0.2:
                with pool.lease(name) as p:
                    got.append(p(i) == (name, 1, i))
            else:
                got.append(ask(i) == (name, 1, i))
            most.append(pool.stats.nbytes["all"])
        return got

    def answer(seed):
        while True:
            with contextlib.suppress(ms.Overloaded):  # all were leased just then
                return play(seed)

    most = []
    with told(2 * BUDGET, Shelf(**NAMES)) as (pool, _, _):
        players = [start(answer, seed) for seed in range(8)]

        assert all(all(player.result(3 * LIMIT)) for player in players)
        assert pool.stats.evictions > 0
    assert max(most) <= 2 * BUDGET
