"""Where names come from, and that a record can tell the parts of a tree apart."""

import functools

import pytest

import modelserve as ms
from modelserve.predictor import name_of


class Model:
    def __call__(self, x):
        return x

    def predict(self, x):
        return x


def predict(x, scale=1):
    return x * scale


NAMED = {
    "a function": (predict, "predict"),
    "a builtin": (len, "len"),
    "a method of a builtin": (str.upper, "upper"),
    "a method": (Model().predict, "predict"),
    "an object": (Model(), "Model"),
    "a partial": (functools.partial(predict, scale=2), "predict"),
    "a partial of an object": (functools.partial(functools.partial(Model()), 1), "Model"),
    "a lambda": (lambda x: x, "<lambda>"),
}


@pytest.mark.parametrize(("fn", "name"), NAMED.values(), ids=NAMED)
def test_a_function_goes_by_its_name(fn, name):
    assert name_of(fn) == name


def test_the_name_given_counts():
    assert ms.predictor(predict, name="ranker").name == "ranker"


def test_a_cache_and_a_batcher_take_the_name_of_what_they_wrap():
    p = ms.PredictionCache(ms.DynamicBatcher(predict), maxsize=8)

    assert p.name == "predict"
    assert [*p.parts] == ["predict"]


MAKERS = {
    "PredictionCache": lambda name: ms.PredictionCache(predict, maxsize=8, name=name),
    "DynamicBatcher": lambda name: ms.DynamicBatcher(predict, name=name),
    "TrafficSplitter": lambda name: ms.TrafficSplitter(ms.Variant("only", predict), salt=name),
    "ModelLoader": lambda name: ms.ModelLoader(lambda: predict, name=name),
}


@pytest.mark.parametrize(("kind", "make"), MAKERS.items(), ids=MAKERS)
def test_two_parts_of_a_kind_with_one_name_are_refused(kind, make):
    variants = [ms.Variant(name, make("ranker"), weight=0.5) for name in ("a", "b")]
    with pytest.raises(ValueError, match="could not tell them apart: pass name=") as caught:
        ms.TrafficSplitter(*variants, salt="split")

    assert f"two parts of 'split' are a {kind} called 'ranker'" in str(caught.value)


def test_two_parts_of_a_kind_are_found_through_uses_at_any_depth():
    inner = ms.predictor(predict, uses=[MAKERS["ModelLoader"]("ranker")])
    with pytest.raises(ValueError, match="a ModelLoader called 'ranker'"):
        ms.predictor(predict, uses=[inner, MAKERS["ModelLoader"]("ranker")], name="outer")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_one_part_in_two_places_is_one_part(make):
    part = make("ranker")
    functions = [ms.predictor(predict, uses=[part]) for _ in range(2)]
    p = ms.predictor(predict, uses=functions, name="outer")

    assert [*p.parts.values()] == functions


def test_parts_of_different_kinds_may_share_a_name():
    loader = ms.ModelLoader(lambda: len, predict=lambda f, xs: [f(x) for x in xs], name="ranker")
    p = ms.PredictionCache(ms.DynamicBatcher(loader), maxsize=8)
    with ms.request() as r:
        assert p("four") == 4

    assert {name.partition(".")[0] for name in r.record} == {"ranker"}
    assert {"ranker.cache", "ranker.batch_size", "ranker.version"} < r.record.keys()


def test_functions_write_no_record_and_may_share_a_name():
    p = ms.predictor(predict, uses=[ms.predictor(predict), ms.predictor(predict)], name="outer")

    assert len(p.parts) == 2
