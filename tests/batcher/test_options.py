import inspect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelserve as ms
from modelserve.batcher._options import Options, check

PARAMETERS = [
    p
    for p in inspect.signature(ms.DynamicBatcher.__init__).parameters.values()
    if p.kind is p.KEYWORD_ONLY
]


def told(**options):
    """Give the default of whatever is not given."""
    return {p.name: p.default for p in PARAMETERS} | options


def test_what_can_be_told_is_what_the_constructor_takes():
    assert list(Options.__annotations__) == [p.name for p in PARAMETERS]


def test_the_defaults_can_be_meant():
    assert check(told()) is None


@pytest.mark.parametrize("name", ["max_batch_size", "max_queue_size", "workers"])
@pytest.mark.parametrize("value", [0, -1, 0.5, 2.5, math.nan, math.inf, None, "8", np.float64(8)])
def test_a_count_below_one_or_of_no_whole_number_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}: pass 1 or more, a whole number"):
        check(told(**{name: value}))


@pytest.mark.parametrize("name", ["max_batch_size", "max_queue_size", "workers"])
@pytest.mark.parametrize("value", [1, 10**9, np.int64(8)])
def test_any_whole_number_above_0_is_a_count(name, value):
    assert check(told(**{name: value})) is None


@pytest.mark.parametrize("value", [-0.001, math.inf, -math.inf, math.nan])
def test_what_is_no_wait_is_refused(value):
    with pytest.raises(ValueError, match=f"max_wait={value} is no wait: pass seconds, 0 or more"):
        check(told(max_wait=value))


@pytest.mark.parametrize("name", ["max_queue_bytes", "slo", "max_run"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, -math.inf])
def test_what_is_not_above_0_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}: pass a number above 0"):
        check(told(**{name: value}))


@pytest.mark.parametrize("name", ["slo", "max_run"])
def test_none_is_no_bound(name):
    assert check(told(**{name: None})) is None


def test_bytes_may_be_without_a_bound():
    assert check(told(max_queue_bytes=math.inf)) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("overflow", "overflow='retry': pass 'reject' or 'wait'"),
        ("on_error", "on_error='retry': pass 'isolate' or 'batch'"),
    ],
)
def test_an_unknown_word_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        check(told(**{name: "retry"}))


@pytest.mark.parametrize("overflow", ["reject", "wait"])
@pytest.mark.parametrize("on_error", ["isolate", "batch"])
def test_known_words_can_be_meant(overflow, on_error):
    assert check(told(overflow=overflow, on_error=on_error)) is None


@given(
    st.integers(-2, 9),
    st.floats(-1.0, 9.0) | st.sampled_from([math.nan, math.inf]),
    st.none() | st.floats(-1.0, 9.0) | st.just(math.nan),
)
def test_all_is_meant_or_refused(count, wait, slo):
    options = told(max_batch_size=count, max_wait=wait, slo=slo)
    if count >= 1 and 0 <= wait < math.inf and (slo is None or slo > 0):
        assert check(options) is None
    else:
        with pytest.raises(ValueError, match="pass"):
            check(options)
