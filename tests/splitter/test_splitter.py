"""A splitter as a whole: how it is made, what it answers, and its place in a tree."""

import asyncio
import pickle
import re
import threading

import pytest

import modelserve as ms
from tests.splitter.arms import awaits, counts, says, splitter

UNITS = [f"user-{i}" for i in range(300)]


@pytest.mark.parametrize("weights", [{"a": 0.3, "b": 0.7}, {"a": 0.2, "b": 0.3, "c": 0.5}])
def test_the_unit_decides_who_answers(weights):
    split = splitter(weights=weights)
    expected = {unit: split.assign(unit).variant for unit in UNITS}
    for unit in UNITS:
        with ms.request(unit=unit):
            assert split("x") == split("x") == (expected[unit], "x")

    assert set(expected.values()) == set(weights)


def test_both_faces_choose_alike():
    split = splitter()

    async def ask(unit):
        with ms.request(unit=unit):
            return await split.acall("x")

    for unit in UNITS[:20]:
        assert asyncio.run(ask(unit)) == (split.assign(unit).variant, "x")


def test_sync_and_async_variants_mix():
    split = ms.TrafficSplitter(
        ms.Variant("sync", says("sync")), ms.Variant("async", awaits("async")), salt="mixed"
    )

    async def ask(unit):
        with ms.request(unit=unit):
            return await split.acall("x")

    async def ask_all():
        return await asyncio.gather(*map(ask, UNITS[:40]))

    expected = [(split.assign(unit).variant, "x") for unit in UNITS[:40]]
    assert asyncio.run(ask_all()) == expected
    answers = []
    for unit in UNITS[:40]:
        with ms.request(unit=unit):
            answers.append(split("x"))
    assert answers == expected
    assert {name for name, _ in expected} == {"sync", "async"}


def test_an_async_variant_makes_the_sync_face_refuse_on_a_loop():
    split = ms.TrafficSplitter(
        ms.Variant("sync", says("sync"), 1.0), ms.Variant("async", awaits("async"), 0.0), salt="m"
    )

    async def ask():
        with pytest.raises(RuntimeError, match=re.escape("await p.acall(x)")):
            split("x")
        with pytest.raises(RuntimeError, match=re.escape("await p.acall(x)")):
            next(split.map(["x"]))

    asyncio.run(ask())
    assert counts(split) == {"sync": 0, "async": 0}


def test_a_single_variant_gets_everybody():
    split = splitter(weights={"only": None})

    assert {split.assign(unit).variant for unit in UNITS} == {"only"}
    assert split("x") == ("only", "x")
    assert split.weights == {"only": 1.0}


def test_equal_shares_without_weights():
    assert splitter(weights=dict.fromkeys("abcd")).weights == dict.fromkeys("abcd", 0.25)


def test_the_record_says_who_answered_and_how_it_was_drawn():
    split = splitter(weights={"a": 0.25, "b": 0.75}, clock=lambda: 12.5)
    with ms.request(unit="user-42") as r:
        name, _ = split("x")

    told = split.assign("user-42")
    assignment = r.record["demo.assignment"]
    assert r.record["demo.variant"] == name == told.variant
    assert r.record["demo.propensity"] == {"a": 0.25, "b": 0.75}[name]
    assert {**assignment, "id": told.id} == told._asdict()
    assert assignment["id"] != told.id


def test_parts_are_variants_by_name_and_the_name_is_the_salt():
    split = splitter("ranker-2026-11", weights={"a": 0.9, "b": 0.1})
    split("x")

    assert list(split.parts) == ["a", "b"]
    assert split.name == "ranker-2026-11"
    assert splitter("ranker-2026-11", name="ranker").name == "ranker"
    [line, *_] = ms.describe(split).splitlines()
    assert re.fullmatch(
        r"TrafficSplitter ranker-2026-11 \[item\] a 0\.9: [01] calls, b 0\.1: [01] calls; "
        r"1 at random",
        line,
    )


def test_failed_calls_are_drawn():
    split = ms.TrafficSplitter(ms.Variant("a", {}.__getitem__), salt="demo")
    with pytest.raises(KeyError), ms.request(unit="user-42"):
        split("absent")

    assert ms.describe(split).splitlines()[0].endswith("a 1: 1 calls 1 errors")


def test_two_splits_of_one_request_are_told_apart():
    inner = splitter("inner")
    outer = splitter("outer", lambda _: inner)
    with ms.request(unit="user-42") as r:
        name, _ = outer("x")

    assert r.record["inner.variant"] == name == inner.assign("user-42").variant
    assert r.record["outer.variant"] == outer.assign("user-42").variant


def test_errors_of_a_variant_pass_untouched():
    raised = KeyError("k")

    def fail(x):
        raise raised

    split = ms.TrafficSplitter(ms.Variant("a", fail), salt="demo")
    with pytest.raises(KeyError) as caught:
        split("x")
    assert caught.value is raised


def test_a_closed_splitter_answers_nobody_until_it_is_opened_again():
    split = splitter()
    split.close()
    for ask in (lambda: split("x"), lambda: next(split.map(["x"])), lambda: acalled(split)):
        with pytest.raises(ms.Closed, match="'demo' is closed: open it again"):
            ask()
    assert counts(split) == {"a": 0, "b": 0, "c": 0}
    with split:
        assert split("x")[1] == "x"


def acalled(split):
    return asyncio.run(split.acall("x"))


def test_warming_reaches_every_variant_and_counts_nothing():
    came = []
    split = ms.TrafficSplitter(
        ms.Variant("a", lambda x: came.append(("a", x)), 1.0),
        ms.Variant("b", lambda x: came.append(("b", x)), 0.0),
        salt="demo",
    )
    ms.warm(split, "x")
    asyncio.run(ms.awarm(split, "y"))

    assert came == [("a", "x"), ("b", "x"), ("a", "y"), ("b", "y")]
    assert counts(split) == {"a": 0, "b": 0}


@pytest.mark.parametrize("face", ["call", "acall"])
def test_warming_reaches_every_variant_of_a_hidden_splitter(face):
    came = []
    split = splitter("demo", lambda name: lambda x: came.append(name))

    @ms.predictor
    def hides(x):
        return split(x)

    @ms.predictor
    async def awaits_hidden(x):
        return await split.acall(x)

    if face == "call":
        ms.warm(hides, "x")
    else:
        asyncio.run(ms.awarm(awaits_hidden, "x"))

    assert set(came) == {"a", "b", "c"}
    assert counts(split) == dict.fromkeys("abc", 0)


def test_a_call_made_while_warming_is_not_counted():
    split = splitter(weights={"a": None})
    failing = ms.TrafficSplitter(ms.Variant("a", {}.__getitem__), salt="failing")

    @ms.predictor
    def hides(x):
        with pytest.raises(KeyError):
            failing(x)
        return split(x)

    ms.warm(hides, "x")

    assert split.stats.random == failing.stats.random == 0
    assert split.stats.variants["a"].calls == failing.stats.variants["a"].errors == 0


def pickled(p):
    return pickle.loads(pickle.dumps(p))  # noqa: S301 - our own


def test_a_pickled_splitter_assigns_alike_and_starts_counting_anew():
    split = ms.TrafficSplitter(
        ms.Variant("up", str.upper, 0.5), ms.Variant("low", str.lower, 0.5), salt="demo"
    )
    split("x")
    twin = pickled(split)

    assert [twin.assign(u).variant for u in UNITS] == [split.assign(u).variant for u in UNITS]
    assert counts(twin) == {"up": 0, "low": 0}


def test_a_pickled_splitter_has_the_weights_it_was_made_with():
    split = ms.TrafficSplitter(
        ms.Variant("up", str.upper, 1.0), ms.Variant("low", str.lower, 0.0), salt="demo"
    )
    split.set_weights({"low": 1.0})

    assert pickled(split).weights == {"up": 1.0, "low": 0.0}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "a splitter needs variants: pass at least one Variant"),
        ({"a": 0.5, "b": 0.6}, r"the weights sum to 1\.1 and not to 1: \{'a': 0.5, 'b': 0.6\}"),
        ({"a": 1.5, "b": -0.5}, r"weight=1.5 of variant 'a' is not a share in \[0, 1\]"),
        ({"a": 0.5, "b": -0.5}, r"weight=-0.5 of variant 'b' is not a share in \[0, 1\]"),
        ({"a": float("nan"), "b": 1}, "weight=nan of variant 'a' is not a share"),
        ({"a": 1.0, "b": None}, "variant 'b' has no weight and others do: give all or none"),
    ],
)
def test_bad_weights_are_refused_at_construction(weights, message):
    variants = [ms.Variant(name, says(name), weight) for name, weight in weights.items()]
    with pytest.raises(ValueError, match=message):
        ms.TrafficSplitter(*variants, salt="demo")


def test_two_variants_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two variants are called 'a': give each a name of its"):
        ms.TrafficSplitter(ms.Variant("a", says("a")), ms.Variant("a", says("b")), salt="demo")


@pytest.mark.parametrize(
    ("wrong", "kind"), [([ms.Variant("a", says("a"))], "list"), (says("a"), "function")]
)
def test_what_is_no_variant_is_refused(wrong, kind):
    with pytest.raises(TypeError, match=rf"a {kind} is no Variant: pass them one by one, as in"):
        ms.TrafficSplitter(wrong, salt="demo")


def test_an_empty_salt_is_refused():
    with pytest.raises(ValueError, match="the salt is empty: name this split, as in salt="):
        splitter("")


def test_the_salt_must_be_given():
    with pytest.raises(TypeError, match="salt"):
        ms.TrafficSplitter(ms.Variant("a", says("a")))


def batcher(p):
    return ms.DynamicBatcher(p, max_batch_size=4, name="outer")


def cache(p):
    return ms.PredictionCache(p, maxsize=4, name="outer")


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (batcher, "TrafficSplitter 'demo' stands below DynamicBatcher 'outer', .*: put a batcher"),
        (cache, "TrafficSplitter 'demo' stands below PredictionCache 'outer', .*: put the cache"),
    ],
)
def test_a_splitter_below_what_callers_share_is_refused(wrap, message):
    with pytest.raises(ms.NestingError, match=f"{message} inside each variant"):
        wrap(splitter())


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (batcher, "TrafficSplitter 'demo' was called from inside a batch .*: put a batcher"),
        (cache, "TrafficSplitter 'demo' was called from inside a flight .*: put the cache"),
    ],
)
@pytest.mark.parametrize("hide", ["sync", "async"])
def test_a_splitter_hidden_below_what_callers_share_refuses_the_call(wrap, message, hide):
    split = splitter()

    def hides(x):
        return split(x)

    async def awaits_hidden(x):
        return await split.acall(x)

    with wrap({"sync": hides, "async": awaits_hidden}[hide]) as outer:
        for unit in (None, "user-42"):
            with pytest.raises(ms.NestingError, match=f"{message} inside each variant"):
                asyncio.run(asked(outer, unit))
    assert counts(split) == {"a": 0, "b": 0, "c": 0}


async def asked(p, unit):
    with ms.request(unit=unit):
        return await asyncio.wait_for(p.acall("x"), 10)


def test_caches_and_batchers_inside_variants_are_welcome():
    split = splitter("demo", lambda name: ms.PredictionCache(batched(name), maxsize=8, name=name))
    with split:
        answers = []
        for unit in UNITS[:30]:
            with ms.request(unit=unit):
                answers.append(split("x"))

    assert answers == [(split.assign(unit).variant, "x") for unit in UNITS[:30]]
    assert sum(part.stats.hits for part in split.parts.values()) == 27


def batched(name):
    return ms.DynamicBatcher(lambda xs: [(name, x) for x in xs], name=name)


def test_the_deadline_of_the_request_is_the_variants():
    split = splitter()
    with ms.request(timeout=0.0), pytest.raises(ms.DeadlineExceeded):
        split("x")

    assert sum(variant.errors for variant in split.stats.variants.values()) == 1


def test_every_caller_of_a_crowd_is_answered_by_its_own_variant():
    split = splitter(weights={"a": 0.5, "b": 0.3, "c": 0.2})
    expected = {unit: split.assign(unit).variant for unit in UNITS}
    wrong = []

    def crowd(offset):
        for unit in UNITS[offset:] + UNITS[:offset]:
            with ms.request(unit=unit) as r:
                answer = split(unit)
            if answer != (expected[unit], unit) or r.record["demo.variant"] != expected[unit]:
                wrong.append((unit, answer))

    threads = [threading.Thread(target=crowd, args=(i * 30,), daemon=True) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert sum(counts(split).values()) == 8 * len(UNITS)
