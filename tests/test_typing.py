"""That types ship, that what they promise is what runs, and that the typed examples run."""

import inspect
import runpy
from importlib import resources
from pathlib import Path
from typing import get_overloads

import pytest

import modelserve as ms
from modelserve.batcher._options import Options as BatcherOptions
from modelserve.cache._options import Options as CacheOptions
from modelserve.predictor import Function
from modelserve.predictor._lift import Options as FunctionOptions

EXAMPLES = sorted(Path(__file__).with_name("typing").glob("*.py"))
REFUSED = runpy.run_path(str(Path(__file__).with_name("typing") / "refused.py"))["LEFT_TO_RUN_TIME"]
OPTIONS = {
    ms.DynamicBatcher.__init__: BatcherOptions,
    ms.PredictionCache.__init__: CacheOptions,
    Function.__init__: FunctionOptions,
    ms.predictor: FunctionOptions,
}
DECORATORS = {ms.batched: BatcherOptions, ms.cached: CacheOptions}


def keywords(fn):
    parameters = inspect.signature(fn).parameters.values()
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}


def written(annotation):
    return getattr(annotation, "__forward_arg__", annotation)


def test_types_ship():
    assert resources.files("modelserve").joinpath("py.typed").is_file()


@pytest.mark.parametrize("fn", OPTIONS, ids=lambda fn: fn.__qualname__)
def test_options_are_the_keywords_of_the_signature(fn):
    options = {name: written(kind) for name, kind in OPTIONS[fn].__annotations__.items()}

    assert {name: written(p.annotation) for name, p in keywords(fn).items()} == options


@pytest.mark.parametrize("fn", OPTIONS, ids=lambda fn: fn.__qualname__)
def test_no_option_is_required(fn):
    assert OPTIONS[fn].__required_keys__ == frozenset()
    assert [name for name, p in keywords(fn).items() if p.default is p.empty] == []


@pytest.mark.parametrize("fn", OPTIONS, ids=lambda fn: fn.__qualname__)
def test_every_overload_takes_the_options(fn):
    overloads = get_overloads(fn)

    assert overloads or fn is Function.__init__
    for overload in overloads:
        assert overload.__annotations__["options"] == "Unpack[Options]"
        assert overload.__globals__["Options"] is OPTIONS[fn]


@pytest.mark.parametrize("decorator", DECORATORS, ids=lambda fn: fn.__qualname__)
def test_decorators_take_the_options(decorator):
    assert decorator.__annotations__["options"] == "Unpack[Options]"
    assert decorator.__globals__["Options"] is DECORATORS[decorator]


def test_overloads_of_a_variant_take_what_it_takes():
    parameters = inspect.signature(ms.Variant.__init__).parameters
    overloads = get_overloads(ms.Variant.__init__)

    assert len(overloads) == 2
    for overload in overloads:
        seen = inspect.signature(overload).parameters
        assert [(p.name, p.kind, p.default) for p in seen.values()] == [
            (p.name, p.kind, p.default) for p in parameters.values()
        ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_typed_examples_run(path):
    made = runpy.run_path(str(path), run_name=path.stem)

    assert made["__doc__"]


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_no_checker_sees_is_refused_at_construction(wrong):
    with pytest.raises((TypeError, ValueError)):
        REFUSED[wrong]()
