"""Every primitive shows what it is, what it did and how it is."""

import inspect
import json

import pytest

import modelserve as ms
from modelserve.predictor import Primitive
from modelserve.typing import Predictor
from tests.contract.calling import by_every_face
from tests.contract.leaves import Refusal
from tests.contract.primitives import Traffic, every, totals


def places(p, path=()):
    """List every place of a tree with its path, parents first."""
    below = [each for name, part in p.parts.items() for each in places(part, (*path, name))]
    return [(path, p), *below]


@every()
def test_it_is_a_predictor(case):
    p = case.make(case.leaf())

    assert isinstance(p, Predictor)
    assert inspect.iscoroutinefunction(p.acall)
    assert ms.Variant("it", p).predict is p
    assert p.is_async == case.is_async


@every()
def test_repr_shows_kind_name_and_counts_in_one_line(case):
    p = case.make(case.leaf())
    before = repr(p)
    p("a")

    assert before.startswith(f"{p.kind}({p.name!r}, ")
    for field, value in p.stats._asdict().items():
        assert f"{field}={value!r}" in repr(p)
    assert repr(p) != before
    assert "\n" not in repr(p)


@by_every_face
@every()
def test_stats_count_known_traffic(case, ask):
    p = case.make(case.leaf())
    for x in ("a", "b", "a"):
        ask(p, x)
    with pytest.raises(Refusal):
        ask(p, "bad")

    expected = case.counts(Traffic(calls=4, repeats=1, errors=1))

    assert expected.items() <= totals(p.stats).items()


@every()
def test_stats_are_a_frozen_snapshot(case):
    p = case.make(case.leaf())
    stats = p.stats
    before = repr(stats)
    p("a")

    assert isinstance(stats, tuple)
    assert repr(stats) == before != repr(p.stats)
    with pytest.raises(AttributeError):
        setattr(stats, stats._fields[0], 7)


@every()
def test_parts_map_names_to_children(case):
    p = case.make(case.leaf())

    assert tuple(p.parts) == case.parts
    assert all(isinstance(part, Primitive) for part in p.parts.values())
    with pytest.raises(TypeError):
        p.parts["more"] = p


@every()
def test_describe_draws_every_part_with_live_counts(case):
    p = case.make(case.leaf())
    cold = ms.describe(p)
    p("a")
    lines = ms.describe(p).splitlines()

    assert ms.describe(p) != cold
    for line, (path, part) in zip(lines, places(p), strict=True):
        stem, drawn = line[: 3 * len(path)], line[3 * len(path) :]
        label = f"{part.kind} {part.name} ["
        assert set(stem) <= set(" │├└─")
        assert drawn.startswith((label, "".join(path[-1:]) + ": " + label))
        assert line.endswith(f"] {part.summary()}")


@every()
def test_describe_tells_items_from_batches(case):
    p = case.make(case.leaf())
    levels = [line.partition("[")[2].partition("]")[0] for line in ms.describe(p).splitlines()]
    at = {path: level for (path, _), level in zip(places(p), levels, strict=True)}

    assert set(levels) <= {"item", "batch"}
    for path, part in places(p):
        if part.kind == "DynamicBatcher":
            assert at[path] == "item"
            assert {at[below] for below in at if below and below[:-1] == path} == {"batch"}


@every()
def test_notebooks_get_the_same_drawing(case):
    p = case.make(case.leaf())

    assert p._repr_html_() == f"<pre>{ms.describe(p)}</pre>"


@every()
def test_health_names_every_part(case):
    p = case.make(case.leaf())
    health = ms.health(p)

    assert health.live
    assert health.ready
    assert list(health.parts) == ["/".join((p.name, *path)) for path, _ in places(p)]


@by_every_face
@every()
def test_record_holds_the_facts_of_a_call_as_json(case, ask):
    p = case.make(case.leaf())
    with ms.request(unit="u", id="i", tenant="t") as r:
        ask(p, "a")

    assert json.loads(json.dumps(r.record, allow_nan=False)) == r.record
    names = [key.rpartition(".") for key in r.record]
    assert {field for _, _, field in names} == case.facts
    assert {part for part, _, _ in names} <= {part.name for _, part in places(p)}


@by_every_face
@every()
def test_record_of_a_nested_request_is_handed_outward(case, ask):
    p = case.make(case.leaf())
    with ms.request(unit="u") as outer, ms.request(timeout=60.0) as inner:
        ask(p, "a")

    assert outer.record == inner.record
    assert bool(inner.record) == bool(case.facts)
