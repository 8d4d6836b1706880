"""Every answer is of a version that served while it was asked for, and its record names that one.

A model answers with its own version, so that each answer says who made it.
"""

import asyncio
import itertools
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modelserve as ms
from modelserve.predictor import chunks
from modelserve.request import tick
from tests.contract.calling import FACES, LIMIT, start, taken
from tests.support.versions import (
    ASYNC,
    POOLED,
    SYNC,
    TREES,
    Asked,
    Model,
    batched,
    cache_of_batches,
    cached,
    called,
    hidden,
    hiding,
    in_a_pool,
    luck,
    of_two,
    one_by_one,
    read_twice,
    split,
)
from tests.support.virtual import explore, here

KEYS = "abcd"
CALLS = 40
SWAPS = 12


# A storm of threads


@pytest.fixture
def restless():
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Storm:
    """Threads and tasks that ask, while one thread exchanges the models under them."""

    def __init__(self, p, models):
        self.p = p
        self.models = {model.name: model for model in models}
        self.swaps = 0
        self.turns = threading.Semaphore(0)
        self.over = False

    def chosen(self, seed, calls):
        """Choose inputs until enough was asked and enough was exchanged."""
        rng = luck(seed)
        for n in itertools.count(1):
            yield rng.choice(KEYS)
            self.turns.release()
            if self.over or (n >= calls and self.swaps >= SWAPS):
                return

    def by_call(self, seed):
        for x in self.chosen(seed, CALLS):
            began = tick()
            with ms.request() as scope:
                answer = self.p(x)
            yield Asked(began, answer, scope.record)

    def by_map(self, seed):
        for x in self.chosen(seed, CALLS):
            began = tick()
            with ms.request() as scope:
                [answer] = self.p.map([x])
            yield Asked(began, answer, scope.record)

    def by_acall(self, seed):
        async def task(seed):
            asked = []
            for x in self.chosen(seed, CALLS // 4):
                began = tick()
                with ms.request() as scope:
                    answer = await self.p.acall(x)
                asked.append(Asked(began, answer, scope.record))
            return asked

        async def main():
            return await asyncio.gather(*(task(seed + i) for i in range(4)))

        return itertools.chain(*asyncio.run(main()))

    def by_amap(self, seed):
        async def main():
            asked = []
            for x in self.chosen(seed, CALLS // 2):
                began = tick()
                with ms.request() as scope:
                    [answer] = await taken(self.p.amap([x]))
                asked.append(Asked(began, answer, scope.record))
            return asked

        return asyncio.run(main())

    def exchange(self, seed):
        rng = luck(seed)
        models = list(self.models.values())
        while not self.over:
            model = rng.choice(models)
            rng.choice([model.reload, model.rollback])()
            self.swaps += 1
            for _ in range(rng.randint(1, 12)):
                if not self.turns.acquire(timeout=LIMIT):
                    raise TimeoutError("nobody was answered")

    def all_asked(self, *faces):
        """Ask by every face at once, on a thread each; return what was answered."""
        swaps = start(self.exchange, 0)
        callers = [start(lambda f=f, i=i: [*f(100 * i)]) for i, f in enumerate(faces)]
        try:
            return [*itertools.chain(*(caller.result(LIMIT) for caller in callers))]
        finally:
            self.over = True
            self.turns.release(100)
            swaps.result(LIMIT)

    def run(self, *, pooled=False):
        asked = self.all_asked(self.by_call, self.by_call, self.by_map, self.by_acall, self.by_amap)
        for each in asked:
            each.check(self.models, pooled=pooled)
        assert any("m.version" in each.record for each in asked)
        return asked


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("leaf", [*SYNC, *ASYNC], ids=lambda f: f.__name__)
@pytest.mark.parametrize("tree", TREES, ids=lambda f: f.__name__)
def test_no_answer_is_older_than_its_call_and_no_record_is_wrong(tree, leaf):
    models = [Model("m"), Model("n")]
    p = tree(leaf(*models))
    asked = Storm(p, models).run(pooled=leaf in POOLED)

    assert p.stats.hits + p.stats.joins + p.stats.misses == len(asked)
    assert len({each.answer for each in asked}) > 1
    assert p.stats.hits > 0


@pytest.mark.usefixtures("restless")
def test_a_split_of_two_models_under_a_storm():
    a, b = Model("m"), Model("n")
    one = cached(batched(a.loader, "one"), "first")
    other = cached(one_by_one(in_a_pool(b, a), "other"), "second")
    asked = Storm(split(one, other), [a, b]).run(pooled=True)

    assert {name for each in asked for name, _ in each.answer} == {"m", "n"}


@pytest.mark.usefixtures("restless")
def test_many_inputs_at_once_under_a_storm():
    def ask(seed):
        for chunk in chunks(storm.chosen(seed, CALLS), 6):
            began = tick()
            yield from [Asked(began, answer, {}) for answer in p.map(chunk)]

    model = Model("m")
    p = cache_of_batches(model.loader)
    storm = Storm(p, [model])
    asked = storm.all_asked(ask, ask, ask, ask)

    for each in asked:
        [(_, version)] = each.answer
        assert model.served(version, each.began, each.ended), each
    assert p.stats.hits + p.stats.joins + p.stats.misses == len(asked)


# Every order of events, in virtual time


def slow(leaf):
    """Make an async item function that takes its time before and after it reads its models."""

    async def answer(x):
        await asyncio.sleep(here().random.random())
        [y] = leaf([x])
        await asyncio.sleep(here().random.random())
        return y

    return answer


def slow_batch(leaf):
    async def answer(xs):
        await asyncio.sleep(here().random.random())
        ys = leaf(xs)
        await asyncio.sleep(here().random.random())
        return ys

    return answer


VIRTUAL = {
    "items": lambda leaf: cached(slow(leaf), "cache"),
    "batches": lambda leaf: cached(batched(slow_batch(leaf), "batcher"), "cache"),
    "nested": lambda leaf: cached(hiding(cached(slow(leaf), "cache"), "call"), "outer"),
}


@pytest.mark.parametrize("tree", VIRTUAL.values(), ids=VIRTUAL)
@pytest.mark.parametrize("leaf", [hidden, read_twice, of_two], ids=lambda f: f.__name__)
def test_no_order_of_events_gives_an_old_answer_or_a_wrong_record(tree, leaf):
    async def caller(p):
        await asyncio.sleep(6 * here().random.random())
        began = tick()
        with ms.request() as scope:
            answer = await p.acall(here().random.choice("ab"))
            return Asked(began, answer, scope.record)

    async def exchange(models):
        for _ in range(8):
            await asyncio.sleep(here().random.random())
            model = here().random.choice(models)
            here().random.choice([model.reload, model.rollback])()

    async def main():
        models = [Model("m"), Model("n")]
        p = tree(leaf(*models))
        swaps = asyncio.create_task(exchange(models))
        asked = await asyncio.gather(*(caller(p) for _ in range(16)))
        await swaps
        for each in asked:
            each.check({model.name: model for model in models})
        counts.append(p.stats)

    counts = []
    explore(main, range(60), pace=0.02)

    assert {16} == {c.hits + c.joins + c.misses for c in counts}
    for kind in ("hits", "joins", "outdated"):
        assert any(getattr(c, kind) for c in counts)


# Random trees


LEAVES = st.sampled_from([*SYNC, *ASYNC])
LAYERS = st.lists(st.sampled_from([cached, called, hiding]), max_size=4)
BRANCHES = st.tuples(LEAVES, st.booleans(), LAYERS)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(FACES), st.sampled_from("abc")),
        st.sampled_from([Model.reload, Model.rollback]).flatmap(
            lambda change: st.tuples(st.just(change), st.integers(0, 3))
        ),
    ),
    min_size=4,
    max_size=16,
)


def branch(number, models, leaf, is_batched, layers):
    p = leaf(*models)
    p = batched(p, f"batcher {number}") if is_batched else one_by_one(p, f"one {number}")
    told = leaf not in POOLED  # whom nobody names, and who is called by threads, nobody can see
    for level, layer in enumerate(layers):
        told = told or layer is cached
        p = (layer if told else called)(p, f"layer {number}.{level}")
    return p


@settings(max_examples=80)
@given(st.lists(BRANCHES, min_size=1, max_size=2), STEPS)
def test_the_next_answer_of_any_tree_is_the_new_models(branches, steps):
    models = [Model(name) for name in "mnop"]
    made = [branch(i, models[2 * i : 2 * i + 2], *each) for i, each in enumerate(branches)]
    p = made[0] if len(made) == 1 else split(*made)
    untold = {leaf for leaf, _, layers in branches if leaf in POOLED and cached not in layers}
    by_name = {model.name: model for model in models}
    for act, what in steps:
        if act in FACES:
            with ms.request() as scope:
                answer = act(p, what)
            assert [version for _, version in answer] == [by_name[name].now for name, _ in answer]
            for name, version in answer:
                assert untold or scope.record[f"{name}.version"] == str(version)
        else:
            act(models[what])


# A first load


@pytest.mark.parametrize("leaf", [*SYNC, *ASYNC], ids=lambda f: f.__name__)
@pytest.mark.parametrize("tree", TREES, ids=lambda f: f.__name__)
def test_what_loads_with_the_first_call_is_remembered_from_then_on(tree, leaf):
    models = [Model("m", mode="lazy"), Model("n", mode="lazy")]
    p = tree(leaf(*models))
    records = []
    for _ in range(2):
        with ms.request() as scope:
            answer = p("a")
        records.append(scope.record)
        assert {version for _, version in answer} == {1}
        assert {scope.record[f"{name}.version"] for name, _ in answer} == {"1"}

    assert (p.stats.misses, p.stats.hits) == (1, 1)
