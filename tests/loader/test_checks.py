"""What a new version must pass before it serves."""

import math
import pickle

import numpy as np
import pytest

import modelserve as ms
from modelserve.events import StageDone
from modelserve.loader.checks import Candidate, drift, finite, golden, same_form
from modelserve.testing import EventLog, FakeClock
from tests.loader.test_reload import loader_of

X = np.arange(6.0).reshape(2, 3)


def gives(y, version="2", inputs=(X,)):
    """Make a version that answers with ``y``, or with ``y(x)``."""
    return Candidate(None, version, inputs, y if callable(y) else lambda x: y)


def refusal(check, new, old):
    """Return why a check refuses a version, if it does."""
    try:
        check(gives(new), None if old is None else gives(old, "1"))
    except ms.ModelLoadError as error:
        return str(error)
    return None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused_wherever_they_are(bad):
    why = "version 2 gives numbers that are not finite"

    assert refusal(finite(), np.array([1.0, bad]), None) == why
    assert refusal(finite(), {"a": [1.0, (2.0, bad)]}, None) == why
    assert refusal(finite(), np.float32(bad), None) == why


@pytest.mark.parametrize("good", [X, X > 1, 3, "text", None, [], {"a": [b"x", X]}])
def test_other_answers_pass(good):
    assert refusal(finite(), good, None) is None


@pytest.mark.parametrize("y", [X, {"a": X, "b": (X, "text")}, [1, 2], "text"])
def test_answers_of_the_same_form_pass(y):
    assert refusal(same_form(), y, y) is None
    assert refusal(same_form(), y, None) is None


@pytest.mark.parametrize(
    ("new", "old", "why"),
    [
        (X[:1], X, r"version 2 gives the shape (1, 3) at y[0], and version 1 (2, 3)"),
        (X.astype(np.float32), X, "version 2 gives float32 at y[0], and version 1 float64"),
        ({"a": X}, {"b": X}, "version 2 answers in another structure than version 1"),
        ([X], [X, X], "version 2 answers in another structure than version 1"),
        ({"a": 1}, {"a": "1"}, "version 2 gives int64 at y[0]['a'], and version 1 <U1"),
    ],
    ids=["shape", "dtype", "name", "length", "type"],
)
def test_answers_of_another_form_are_refused(new, old, why):
    assert refusal(same_form(), new, old) == why


def test_texts_of_another_length_are_of_the_same_form():
    assert refusal(same_form(), "longer", "text") is None


def test_golden_answers_must_be_given():
    check = golden([X, 2 * X], [X + 1, 2 * X + 1])

    assert refusal(check, lambda x: x + 1, None) is None
    assert refusal(check, lambda x: x + 1 + 1e-6, None) is None
    assert refusal(check, lambda x: (x + 1).astype(np.float32), None) is None
    assert refusal(check, lambda x: x + 1.01, None) == "version 2 gives wrong answers at y[0]"
    assert refusal(check, lambda x: x * 1.5 + 1, None) == "version 2 gives wrong answers at y[0]"
    assert "gives the shape" in refusal(check, lambda x: x[0], None)


def test_golden_numbers_may_differ_by_the_tolerance():
    check = golden([1.0], [100.0], tolerance=0.1)

    assert refusal(check, 109.9, None) is None
    assert refusal(check, 111.0, None) == "version 2 gives wrong answers at y[0]"


def test_golden_texts_must_be_equal():
    check = golden(["a"], [{"label": "yes"}])

    assert refusal(check, {"label": "yes"}, None) is None
    assert refusal(check, {"label": "no"}, None) == "version 2 gives wrong answers at y[0]['label']"
    assert refusal(check, {"label": 1.0}, None) == (
        "version 2 gives float64 at y[0]['label'], and what it should give <U3"
    )


def test_golden_answers_of_another_number_than_inputs_are_refused():
    with pytest.raises(ValueError, match="2 inputs and 1 answers: pass one for each"):
        golden([1, 2], [1])
    with pytest.raises(ValueError, match="0 inputs and 0 answers: pass one for each"):
        golden([], [])


def test_drift_is_the_largest_distance_from_the_old_version():
    check = drift(0.1)

    assert refusal(check, X + 0.09, X) is None
    assert refusal(check, {"a": [X, "text", None]}, {"a": [X, "other", None]}) is None
    assert refusal(check, X + 1j * 0.05, X) is None
    assert refusal(check, np.zeros((0, 3)), np.zeros((0, 3))) is None
    assert refusal(check, X + 0.2, None) is None
    bad = X.copy()
    bad[1, 2] += 0.5
    assert refusal(check, bad, X) == "version 2 is 0.5 from version 1 at y[0], and 0.1 is allowed"
    bad[1, 2] = math.nan
    assert "version 2 is nan from version 1" in refusal(check, bad, X)


def test_tensors_are_compared_as_arrays():
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    ones = torch.ones(3, requires_grad=True)

    assert refusal(finite(), ones, None) is None
    assert "not finite" in refusal(finite(), ones * math.nan, None)
    assert refusal(drift(0.1), ones, ones * 1.05) is None


@pytest.mark.parametrize("check", [finite(), same_form(), drift(0.1)])
@pytest.mark.parametrize("old", [None, gives(1.0, "1", ())])
def test_a_check_without_inputs_refuses(check, old):
    with pytest.raises(ms.ModelLoadError, match="version 2 cannot be checked without inputs: pass"):
        check(gives(1.0, inputs=()), old)


def test_numbers_in_arrays_of_objects_are_checked():
    bad = np.array([[1.0, None], ["text", math.nan]], dtype=object)
    good = np.array([[1.0, None], ["text", 2]], dtype=object)

    assert refusal(finite(), bad, None) == "version 2 gives numbers that are not finite"
    assert refusal(finite(), good, None) is None
    assert refusal(drift(0.1), good, good) is None
    assert refusal(drift(0.1), bad, good).startswith("version 2 is nan from version 1 at y[0][1][1")
    assert refusal(finite(), np.array(None, dtype=object), None) is None


@pytest.mark.parametrize("y", [np.array(["a"] * 3), "abc", None, [None, 1.0, 2.0]])
def test_what_is_no_number_any_more_is_refused(y):
    assert refusal(drift(0.1), y, np.ones(3) if isinstance(y, np.ndarray) else 1.0) is not None
    assert refusal(drift(0.1), [1.0, 1.0, 2.0], [None, 1.0, 2.0]) == (
        "version 2 gives float64 at y[0][0], and version 1 object"
    )


def test_dtypes_that_numpy_lacks_are_compared_as_floats():
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    ones = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)

    assert refusal(finite(), ones, None) is None
    assert "not finite" in refusal(finite(), ones * math.nan, None)
    assert refusal(same_form(), ones, ones) is None
    assert "is 1 from version 1" in refusal(drift(0.1), 2 * ones, ones)


# In a loader


@pytest.mark.parametrize("no", [False, np.False_])
def test_a_check_that_returns_false_refuses(no):
    def is_good(new, old):
        return no

    with pytest.raises(ms.ModelLoadError, match="version 1 fails 'is_good'"):
        loader_of(hex, check=is_good).get()
    for other in (None, True, 0.5, np.ones(3), "well"):
        assert loader_of(hex, check=lambda new, old, y=other: y).reload() == "1"


def times(factor):
    return lambda x: x * factor


def test_what_fails_a_check_is_not_swapped_in():
    loader = loader_of(times(1.0), times(2.0), times(1.1), warmup=[X], check=drift(1.0))
    loader.get()
    with pytest.raises(ms.ModelLoadError, match="version 2 is 5 from version 1 at y"):
        loader.reload()
    assert loader.version == "1"
    assert loader.health().state == "degraded"

    assert loader.reload() == "3"


def test_all_checks_are_asked_in_order():
    log = []
    checks = [lambda new, old: log.append(("a", old)), lambda new, old: log.append(("b", old))]
    loader_of(hex, check=checks).get()

    assert log == [("a", None), ("b", None)]


def test_checks_travel_with_the_loader(tmp_path):
    from tests.formats import models

    path = tmp_path / "ranker.onnx"
    path.write_bytes(models.times(2.0))
    rows = np.ones((1, 2), np.float32)
    checks = [finite(), same_form(), drift(0.1), golden([rows], [2 * rows])]
    loader = ms.ModelLoader(path, check=checks, warmup=[rows], reload=ms.OnChange())
    twin = pickle.loads(pickle.dumps(loader))  # noqa: S301 - our own
    twin.get()
    path.write_bytes(models.times(2.5))
    with pytest.raises(ms.ModelLoadError, match=r"is 0\.5 from version"):
        twin.reload()

    assert loader.version is None
    twin.close()


def test_a_check_sees_both_versions():
    seen = []
    loader = loader_of(hex, oct, warmup=[10], check=lambda *pair: seen.append(pair))
    loader.reload()
    loader.reload()
    [(first, none), (new, old)] = seen

    assert none is None
    assert (first.version, first.model, first.inputs) == ("1", hex, (10,))
    assert (new.answers(), new(9), old.answers(), old.version) == (["0o12"], "0o11", ["0xa"], "1")


def test_an_error_of_the_users_check_is_not_shown_but_kept():
    def check(new, old):
        raise AssertionError("row of user-42")

    loader = loader_of(hex, check=check)
    with pytest.raises(ms.ModelLoadError, match="'ranker' could not be loaded: Assert") as caught:
        loader.get()

    assert "user-42" not in str(caught.value)
    assert str(caught.value.__cause__) == "row of user-42"


def test_the_stages_are_told_with_their_times_and_bytes(tmp_path):
    from tests.formats import models

    clock, log = FakeClock(), EventLog()
    path = tmp_path / "ranker.onnx"
    path.write_bytes(models.times(2.0))

    def predict(session, x):
        clock.advance(0.5)
        return x

    loader = ms.ModelLoader(
        path,
        predict=predict,
        warmup=[1, 2],
        check=lambda new, old: clock.advance(0.25),
        clock=clock,
        on_event=log,
    )
    version = loader.reload()

    size = path.stat().st_size
    assert log.of(StageDone) == [
        StageDone("ranker", "load", version, 0.0, size),
        StageDone("ranker", "warm", version, 1.0),
        StageDone("ranker", "check", version, 0.25),
        StageDone("ranker", "swap", version, 0.0),
    ]
