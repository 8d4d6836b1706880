"""One walk over the tree: its drawing, its health, and warming it."""

import asyncio
import itertools

import pytest

import modelserve as ms
from modelserve.predictor import walk
from modelserve.testing import GatedPredictor
from tests.contract.calling import LIMIT, start, taken
from tests.contract.leaves import Hiding


def upper(text):
    return text.upper()


def many(xs):
    return [x.upper() for x in xs]


async def amany(xs):
    return [x.upper() for x in xs]


def service():
    """The tree that the documentation draws."""
    models = [ms.ModelLoader(lambda: many, name=f"ranker-v{i}") for i in (1, 2)]
    stable, candidate = (
        ms.PredictionCache(ms.DynamicBatcher(model, max_batch_size=4), maxsize=8)
        for model in models
    )
    return ms.TrafficSplitter(
        ms.Variant("stable", stable, weight=1.0),
        ms.Variant("candidate", candidate, weight=0.0),
        salt="exp",
    )


class TestWalk:
    def test_visits_every_place_parents_first(self):
        assert ["/".join(node.path) for node in walk(service())] == [
            "",
            "stable",
            "stable/ranker-v1",
            "stable/ranker-v1/ranker-v1",
            "candidate",
            "candidate/ranker-v2",
            "candidate/ranker-v2/ranker-v2",
        ]

    def test_visits_a_part_in_each_of_its_places(self):
        shared = ms.predictor(upper)
        p = ms.TrafficSplitter(*(ms.Variant(n, shared, 0.5) for n in "ab"), salt="s")

        assert [node.part for node in walk(p)] == [p, shared, shared]

    def test_of_a_deep_tree_goes_all_the_way(self):
        p = ms.predictor(upper)
        for _ in range(100):
            p = ms.predictor(Hiding(p), uses=[p])
        with p:
            assert p("a") == asyncio.run(p.acall("a")) == "A"

        assert len(list(walk(p))) == len(ms.describe(p).splitlines()) == 101


LEVELS = {
    "a function alone": (lambda: ms.predictor(upper), ["item"]),
    "a loader alone": (lambda: ms.ModelLoader(lambda: many), ["batch"]),
    "a cache of a function": (lambda: ms.PredictionCache(upper, maxsize=8), ["item", "item"]),
    "a cache of a loader": (
        lambda: ms.PredictionCache(ms.ModelLoader(lambda: many), maxsize=8),
        ["batch", "batch"],
    ),
    "a batcher of a function": (lambda: ms.DynamicBatcher(many), ["item", "batch"]),
    "a split of both": (
        lambda: ms.TrafficSplitter(
            ms.Variant("a", ms.ModelLoader(lambda: many), 0.5),
            ms.Variant("b", upper, 0.5),
            salt="s",
        ),
        ["item", "batch", "item"],
    ),
    "a split in a split": (
        lambda: ms.TrafficSplitter(
            ms.Variant(
                "a", ms.TrafficSplitter(ms.Variant("b", ms.ModelLoader(lambda: many)), salt="i")
            ),
            salt="o",
        ),
        ["batch", "batch", "batch"],
    ),
    "a function that uses a batcher": (
        lambda: ms.predictor(upper, uses=[ms.DynamicBatcher(many)]),
        ["item", "item", "batch"],
    ),
    "a batch function that uses a loader": (
        lambda: ms.DynamicBatcher(ms.predictor(many, uses=[ms.ModelLoader(lambda: many)])),
        ["item", "batch", "batch"],
    ),
}


@pytest.mark.parametrize(("make", "levels"), LEVELS.values(), ids=LEVELS)
def test_shows_who_answers_for_an_item_and_who_for_a_batch(make, levels):
    assert [node.level for node in walk(make())] == levels


class TestDescribe:
    def test_draws_a_cold_tree(self):
        drawing = """\
TrafficSplitter exp [item] stable 1: 0 calls, candidate 0: 0 calls
├─ stable: PredictionCache ranker-v1 [item] 0 of 8 entries, 0 hits, 0 misses
│  └─ DynamicBatcher ranker-v1 [item] up to 4 together, 0 calls in 0 batches
│     └─ ModelLoader ranker-v1 [batch] not loaded, 0 loads
└─ candidate: PredictionCache ranker-v2 [item] 0 of 8 entries, 0 hits, 0 misses
   └─ DynamicBatcher ranker-v2 [item] up to 4 together, 0 calls in 0 batches
      └─ ModelLoader ranker-v2 [batch] not loaded, 0 loads"""

        assert ms.describe(service()) == drawing

    def test_draws_live_counts(self):
        p = service()
        with ms.request(unit="u"):
            assert [p("a"), p("a")] == ["A", "A"]
        lines = ms.describe(p).splitlines()

        assert lines[0] == "TrafficSplitter exp [item] stable 1: 2 calls, candidate 0: 0 calls"
        assert lines[1].endswith("1 of 8 entries, 1 hits, 1 misses")
        assert lines[2].endswith("up to 4 together, 1 calls in 1 batches, 1.0 a batch")
        assert lines[3].endswith("version 1, 1 loads")

    def test_draws_functions_and_what_they_use(self):
        first, last = ms.predictor(upper, name="first"), ms.predictor(upper, name="last")
        middle = ms.predictor(Hiding(first), uses=[first], name="middle")
        p = ms.predictor(lambda x: middle(last(x)), uses=[middle, last], name="top")
        p("a")

        drawing = """\
Function top [item] 1 calls
├─ Function middle [item] 1 calls
│  └─ Function first [item] 1 calls
└─ Function last [item] 1 calls"""

        assert ms.describe(p) == drawing

    def test_says_which_calls_blocked_a_loop(self):
        async def main():
            return p("a"), p("b")

        p = ms.PredictionCache(ms.DynamicBatcher(many), maxsize=8)
        asyncio.run(main())

        drawing = """\
PredictionCache many [item] 2 of 8 entries, 0 hits, 2 misses
   ! 2 calls blocked an event loop: use await p.acall(x)
└─ DynamicBatcher many [item] up to 32 together, 2 calls in 2 batches, 1.0 a batch
      ! 2 calls blocked an event loop: use await p.acall(x)
   └─ Function many [batch] 2 calls"""

        assert ms.describe(p) == drawing


class TestHealth:
    def test_names_every_part_by_its_path(self):
        found = ms.health(service())

        assert [*found.parts] == [
            "exp",
            "exp/stable",
            "exp/stable/ranker-v1",
            "exp/stable/ranker-v1/ranker-v1",
            "exp/candidate",
            "exp/candidate/ranker-v2",
            "exp/candidate/ranker-v2/ranker-v2",
        ]

    def test_a_part_that_loads_at_its_first_call_is_cold_and_ready(self):
        p = service()
        found = ms.health(p)

        assert found.parts["exp/stable/ranker-v1/ranker-v1"].state == "cold"
        assert (found.live, found.ready) == (True, True)
        p.open()
        assert {part.state for part in ms.health(p).parts.values()} == {"ready"}

    def test_a_part_that_loads_now_is_not_ready(self):
        gate = GatedPredictor(limit=LIMIT)
        p = ms.ModelLoader(lambda: gate(many), mode="background", name="ranker")
        gate.wait_entered()
        assert ms.health(p) == (True, False, {"ranker": ("loading", "")})
        gate.open()
        assert p(["a"]) == ["A"]
        assert ms.health(p).ready

    def test_a_part_that_failed_is_not_ready_and_says_why(self):
        def fail():
            raise OSError("gone")

        loader = ms.ModelLoader(fail, name="ranker")
        p = ms.predictor(Hiding(loader), uses=[loader], name="p")
        with pytest.raises(ms.ModelLoadError):
            p("x")
        found = ms.health(p)

        assert (found.live, found.ready) == (True, False)
        assert found.parts["p/ranker"].state == "failed"
        assert "'ranker' could not be loaded" in found.parts["p/ranker"].reason

    def test_a_closed_part_is_not_ready(self):
        p = service()
        p.parts["stable"].close()
        found = ms.health(p)

        assert not found.ready
        assert found.parts["exp/stable"].state == "closed"
        assert found.parts["exp/candidate"].state == "ready"


class Seen:
    """Batch functions that note the sizes of what they get."""

    def __init__(self):
        self.sizes = {}

    def batch(self, name):
        sizes = self.sizes[name] = []

        def fn(xs):
            sizes.append(len(xs))
            return many(xs)

        return fn

    def abatch(self, name):
        fn = self.batch(name)

        async def afn(xs):
            await asyncio.sleep(0)
            return fn(xs)

        return afn


def by_warm(p, x):
    ms.warm(p, x)


def by_awarm(p, x):
    asyncio.run(ms.awarm(p, x))


@pytest.mark.parametrize("warm", [by_warm, by_awarm])
class TestWarm:
    @pytest.mark.parametrize("kind", ["batch", "abatch"])
    def test_reaches_every_variant_at_both_ends_of_the_batch_size(self, warm, kind):
        seen = Seen()
        variants = [
            ms.Variant(
                name,
                ms.PredictionCache(
                    ms.DynamicBatcher(getattr(seen, kind)(name), max_batch_size=4, name=name),
                    maxsize=8,
                ),
                weight,
            )
            for name, weight in {"a": 1.0, "b": 0.0}.items()
        ]
        p = ms.TrafficSplitter(*variants, salt="s", unit=lambda x: x)
        cold = ms.describe(p)
        with ms.request() as r:
            warm(p, "x")

        assert seen.sizes == {"a": [1, 4], "b": [1, 4]}
        assert ms.describe(p) == cold
        assert r.record == {}

    @pytest.mark.parametrize("named", [True, False], ids=["named in uses", "hidden in a closure"])
    def test_through_a_function_counts_and_stores_nothing_either(self, warm, named):
        seen = Seen()
        batcher = ms.DynamicBatcher(seen.batch("batch"), name="batch")
        cache = ms.PredictionCache(ms.predictor(upper, name="cached"), maxsize=8)
        split = ms.TrafficSplitter(
            *(
                ms.Variant(name, ms.DynamicBatcher(seen.batch(name), name=name), weight)
                for name, weight in {"a": 1.0, "b": 0.0}.items()
            ),
            salt="s",
        )

        def fn(x):
            return batcher(x), cache(x), list(cache.map([x, x])), split(x)

        p = ms.predictor(fn, uses=[batcher, cache, split] if named else ())
        trees = (batcher, cache, split, p)
        cold = [ms.describe(tree) for tree in trees]
        with ms.request(unit="u") as r:
            warm(p, "x")

        assert [ms.describe(tree) for tree in trees] == cold
        assert all(seen.sizes[name] for name in ("batch", "a", "b"))
        assert r.record == {}

    def test_through_an_async_function_counts_and_stores_nothing_either(self, warm):
        seen = Seen()
        batcher = ms.DynamicBatcher(seen.abatch("batch"), name="batch")
        cache = ms.PredictionCache(batcher, maxsize=8, name="cache")
        split = ms.TrafficSplitter(
            *(ms.Variant(n, cache, w) for n, w in {"a": 1.0, "b": 0.0}.items()), salt="s"
        )

        async def fn(x):
            return await split.acall(x), await taken(cache.amap([x, x]))

        p = ms.predictor(fn, uses=[split])
        cold = ms.describe(p)
        warm(p, "x")

        assert ms.describe(p) == cold
        assert seen.sizes["batch"]

    def test_counts_no_failure_either(self, warm):
        def fail(x):
            raise KeyError(x)

        p = ms.predictor(fail)
        with pytest.raises(KeyError):
            warm(p, "x")

        assert p.stats == (0, 0)

    def test_leaves_real_calls_alone(self, warm):
        seen = Seen()
        p = ms.PredictionCache(ms.DynamicBatcher(seen.batch("b"), max_batch_size=4), maxsize=8)
        warm(p, "x")
        with ms.request() as r:
            assert p("x") == "X"

        assert p.stats.misses == 1
        assert r.record["fn.cache"] == "miss"
        assert seen.sizes["b"] == [1, 4, 1]


def test_an_async_tree_is_warmed_on_its_loop_by_awarm():
    async def main():
        with pytest.raises(RuntimeError, match=r"`await modelserve\.awarm\(p, x\)`"):
            ms.warm(p, "x")
        await ms.awarm(p, "x")

    p = ms.DynamicBatcher(amany)
    asyncio.run(main())


def test_real_calls_and_warm_ones_at_once_keep_their_counts():
    stop = itertools.count()
    p = ms.DynamicBatcher(many, max_batch_size=4)
    warming = [start(by_warm, p, "w") for _ in range(4)]
    answers = [p(f"x{next(stop)}") for _ in range(50)]
    for each in warming:
        each.result(LIMIT)

    assert answers == [f"X{i}" for i in range(50)]
    assert p.stats.calls == 50
