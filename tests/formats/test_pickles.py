"""Pickles: loaded where they are trusted, with a pause of the garbage collection."""

import gc
import pickle
import re
import sys
import threading

import numpy as np
import pytest

import modelserve as ms
from modelserve.formats import pickles
from modelserve.formats._known import NOTHING, Ask
from tests.formats.hostile import Marks, pin
from tests.support.processes import in_child

TRUSTED = Ask(trusted=True, suffix=".pkl")


class Collects:
    """Tells, when it comes back, whether garbage was collected then."""

    def __reduce__(self):
        return gc.isenabled, ()


class Fails:
    def __reduce__(self):
        return int, ("no number",)


@pytest.mark.parametrize("protocol", range(6))
def test_objects_come_back_by_every_protocol(protocol):
    value = {"rows": [1, "text", b"bytes", 2.5, bytearray(b"x" * 200_000)], "more": ("a",) * 3}

    assert pickles.load(pickle.dumps(value, protocol), TRUSTED) == value


def test_an_estimator_comes_back_by_both_ways(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    import joblib
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    rows, targets = load_diabetes(return_X_y=True)
    ridge = Ridge().fit(rows, targets)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(ridge))
    joblib.dump(ridge, tmp_path / "model.joblib", compress=3)
    for path in tmp_path.iterdir():
        how = {"allow_pickle": True, "sha256": pin(path.read_bytes())}
        np.testing.assert_array_equal(ms.ModelLoader(path, **how)(rows), ridge.predict(rows))


def test_without_joblib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(ms.ModelLoadError, match=re.escape("pip install 'modelserve[sklearn]'")):
        pickles.load(pickle.dumps(1), Ask(trusted=True, suffix=".joblib"))


def test_a_pickle_that_is_not_trusted_is_not_run(tmp_path):
    marker = tmp_path / "marker"
    with pytest.raises(ms.ModelLoadError, match=r"^a pickle can run any code"):
        pickles.load(pickle.dumps(Marks(marker)), NOTHING)

    assert not marker.exists()


def test_a_pickle_that_is_trusted_is_run(tmp_path):
    marker = tmp_path / "marker"
    pickles.load(pickle.dumps(Marks(marker)), TRUSTED)

    assert marker.exists()


@pytest.mark.parametrize("on", [True, False])
def test_no_garbage_is_collected_meanwhile(on):
    was = gc.isenabled()
    (gc.enable if on else gc.disable)()
    try:
        assert pickles.load(pickle.dumps(Collects()), TRUSTED) is False
        assert gc.isenabled() is on
        with pytest.raises(ValueError, match="invalid literal"):
            pickles.load(pickle.dumps(Fails()), TRUSTED)
        assert gc.isenabled() is on
    finally:
        (gc.enable if was else gc.disable)()


def test_what_was_made_is_not_looked_at_by_the_next_collection():
    value = pickles.load(pickle.dumps([[number] for number in range(100)]), TRUSTED)
    young = {id(thing) for age in (0, 1) for thing in gc.get_objects(generation=age)}

    assert not young & set(map(id, value))
    assert gc.get_freeze_count() == 0


def test_objects_that_somebody_set_apart_stay_there():
    gc.freeze()
    try:
        apart = gc.get_freeze_count()
        pickles.load(pickle.dumps([{}]), TRUSTED)
        assert gc.get_freeze_count() > apart / 2
    finally:
        gc.unfreeze()


def test_the_pause_lasts_until_the_last_has_left():
    entered, leave = threading.Event(), threading.Event()

    def other():
        with pickles.PAUSE:
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with pickles.PAUSE:
        thread.start()
        assert entered.wait(60)
    during = gc.isenabled()
    leave.set()
    thread.join(60)

    assert (during, gc.isenabled()) == (False, True)


def test_a_child_that_is_forked_in_a_pause_collects_and_can_pause_again():
    def work():
        before = gc.isenabled()
        with pickles.PAUSE:
            during = gc.isenabled()
        return before, during, gc.isenabled()

    with pickles.PAUSE:
        said = in_child(work)
    assert said == "(True, False, True)"
    assert in_child(work) == "(True, False, True)"


def test_other_threads_run_between_the_parts_of_a_long_pickle(monkeypatch):
    reads = []

    def read(self, size=-1, read=pickles._Steps.read):
        reads.append(size)
        return read(self, size)

    monkeypatch.setattr(pickles._Steps, "read", read)
    value = [f"object {number}" for number in range(100_000)]

    assert pickles.load(pickle.dumps(value), TRUSTED) == value
    assert len(reads) > 10
    assert max(reads) < 200_000
