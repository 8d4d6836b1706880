"""Many inputs at once: in order, each variant its own together."""

import asyncio
import itertools

import pytest

import modelserve as ms
from tests.splitter.arms import awaits, counts, errors, says, splitter

UNITS = [f"user-{i}" for i in range(600)]


async def taken(ys):
    return [y async for y in ys]


def by_map(split, xs, **options):
    return list(split.map(xs, **options))


def by_amap(split, xs, **options):
    return asyncio.run(taken(split.amap(xs, **options)))


by_both = pytest.mark.parametrize("ask", [by_map, by_amap])


@by_both
@pytest.mark.parametrize("variants", [says, awaits])
def test_every_input_goes_to_its_own_unit_and_order_is_kept(ask, variants):
    split = splitter("demo", variants, unit=lambda x: x)
    answers = ask(split, UNITS)

    assert answers == [(split.assign(unit).variant, unit) for unit in UNITS]
    assert sum(counts(split).values()) == len(UNITS)
    assert ask(split, []) == []


@by_both
def test_each_variant_gets_its_own_together(ask):
    batches = []

    def batched(name):
        def batch(xs):
            batches.append((name, len(xs)))
            return [(name, x) for x in xs]

        return ms.DynamicBatcher(batch, max_batch_size=1_000, max_wait=0.0, name=name)

    split = splitter("demo", batched, unit=lambda x: x)
    with split:
        answers = ask(split, UNITS[:200])

    assert answers == [(split.assign(unit).variant, unit) for unit in UNITS[:200]]
    assert len(batches) < 40
    assert sum(size for _, size in batches) == 200


def test_inputs_are_taken_as_they_are_needed():
    split = splitter(unit=lambda x: x)
    took = []
    ys = split.map(took.append(unit) or unit for unit in itertools.cycle(UNITS))

    assert [next(ys) for _ in range(3)] == [(split.assign(u).variant, u) for u in UNITS[:3]]
    assert len(took) == 256
    ys.close()


def test_async_inputs_are_taken_too():
    split = splitter(unit=lambda x: x)

    async def units():
        for unit in UNITS[:300]:
            yield unit

    assert by_amap(split, units()) == by_map(split, UNITS[:300])


def fails_on(bad, kind=KeyError):
    def variants(name):
        def answer(x):
            if x in bad:
                raise kind(x)
            return (name, x)

        return answer

    return variants


@by_both
def test_the_first_failed_item_raises(ask):
    split = splitter("demo", fails_on({"user-7", "user-3"}), unit=lambda x: x)
    with pytest.raises(KeyError, match="user-3"):
        ask(split, UNITS[:20])


@by_both
def test_errors_stand_in_their_places_when_asked_for(ask):
    split = splitter("demo", fails_on({"user-7", "user-3"}), unit=lambda x: x)
    answers = ask(split, UNITS[:10], return_exceptions=True)

    assert [i for i, y in enumerate(answers) if isinstance(y, KeyError)] == [3, 7]
    assert answers[4] == (split.assign("user-4").variant, "user-4")


@by_both
@pytest.mark.parametrize("return_exceptions", [True, False])
def test_every_failed_item_is_counted_whether_or_not_it_was_taken(ask, return_exceptions):
    bad = {"user-3", "user-7", "user-8"}
    split = splitter("demo", fails_on(bad), unit=lambda x: x)
    try:
        ask(split, UNITS[:20], return_exceptions=return_exceptions)
    except KeyError:
        assert not return_exceptions

    assert sum(errors(split).values()) == 3


@by_both
def test_bad_input_is_nobodys_error(ask):
    split = splitter("demo", fails_on({"user-3"}, ms.BadInput), unit=lambda x: x)
    answers = ask(split, UNITS[:10], return_exceptions=True)

    assert isinstance(answers[3], ms.BadInput)
    assert errors(split) == dict.fromkeys("abc", 0)
    assert sum(counts(split).values()) == 10


@by_both
def test_inputs_without_a_unit_are_drawn_one_by_one(ask):
    split = splitter(weights={"a": 0.5, "b": 0.5})
    answers = ask(split, UNITS[:200])

    assert [x for _, x in answers] == UNITS[:200]
    assert {name for name, _ in answers} == {"a", "b"}
    assert split.stats.random == 200


def test_the_record_of_a_map_tells_of_the_last():
    split = splitter(unit=lambda x: x)
    with ms.request() as r:
        *_, (name, _) = split.map(UNITS[:10])

    assert r.record["demo.variant"] == name
    assert r.record["demo.assignment"]["unit"] == UNITS[9]
