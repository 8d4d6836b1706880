"""When to reload: what can be asked for, and what is refused."""

import copy
import math
import re

import pytest

import modelserve as ms


@pytest.mark.parametrize("seconds", [0, -1.0, math.inf, math.nan])
def test_seconds_are_above_zero(seconds):
    with pytest.raises(ValueError, match=re.escape(f"Every({seconds!r}): pass seconds above")):
        ms.Every(seconds)
    with pytest.raises(ValueError, match=re.escape(f"Every({seconds!r}): pass seconds above")):
        ms.ModelLoader(lambda: hex, reload=seconds)
    with pytest.raises(ValueError, match=re.escape(f"poll={seconds!r}: pass seconds above zero")):
        ms.OnChange(seconds)


@pytest.mark.parametrize("jitter", [-0.1, 1.1, math.nan])
def test_jitter_is_a_share(jitter):
    with pytest.raises(ValueError, match=re.escape(f"jitter={jitter!r}: pass a share of the sec")):
        ms.Every(1.0, jitter)


@pytest.mark.parametrize("reload", ["hourly", True, object()])
def test_what_is_no_rule_is_refused(reload):
    message = f"reload={reload!r}: pass seconds, modelserve.Every(seconds), modelserve.OnChange()"
    with pytest.raises(TypeError, match=re.escape(message)):
        ms.ModelLoader(lambda: hex, reload=reload)


def test_a_function_cannot_be_watched():
    message = "reload=OnChange(poll=1.0): 'load' is no file, which would show that it changed: pass"
    with pytest.raises(ValueError, match=re.escape(message)):
        ms.ModelLoader(load, reload=ms.OnChange())


def load():
    return hex


def test_an_age_needs_a_rule_and_is_above_zero():
    with pytest.raises(ValueError, match=r"max_stale=60\.0 without reload=: pass how to reload"):
        ms.ModelLoader(load, max_stale=60.0)
    for seconds in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"max_stale={seconds!r}: pass seconds above zero"):
            ms.ModelLoader(load, reload=1.0, max_stale=seconds)


def test_rules_show_themselves_and_travel_with_the_loader():
    for rule in (ms.Every(5.0, jitter=0.5), ms.OnChange(2.0)):
        assert repr(copy.deepcopy(rule)) == repr(rule)

    loader = ms.ModelLoader("ranker.onnx", reload=ms.Every(5.0), max_stale=60.0)
    twin = loader._spec.again(None)
    assert repr(twin._spec.options["reload"]) == "Every(5.0, jitter=0.1)"
    assert twin._core._care.max_stale == 60.0
