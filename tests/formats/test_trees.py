"""Boosters of XGBoost and of LightGBM, in their own formats."""

import re
from pathlib import Path

import numpy as np
import pytest

import modelserve as ms
from modelserve import formats
from tests.formats.hostile import flipped, pin, truncated, try_all
from tests.support.processes import in_child

datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
DATA = {
    "binary": datasets.load_breast_cancer,
    "regression": datasets.load_diabetes,
    "multiclass": datasets.load_digits,
}
SUFFIXES = [".ubj", ".json", ".txt"]


def train_xgboost(task, suffix):
    xgboost = pytest.importorskip("xgboost", reason="the extra xgboost is not installed")
    rows, targets = DATA[task](return_X_y=True)
    objective = {
        "binary": "binary:logistic",
        "regression": "reg:squarederror",
        "multiclass": "multi:softprob",
    }[task]
    how = {"max_depth": 3, "nthread": 1, "objective": objective}
    how |= {"num_class": 10} if task == "multiclass" else {}
    booster = xgboost.train(how, xgboost.DMatrix(rows, targets, nthread=1), 4)
    return bytes(booster.save_raw(suffix[1:])), rows, booster.inplace_predict(rows)


def train_lightgbm(task):
    lightgbm = pytest.importorskip("lightgbm", reason="the extra lightgbm is not installed")
    rows, targets = DATA[task](return_X_y=True)
    how = {"num_leaves": 7, "num_threads": 1, "verbose": -1, "objective": task}
    how |= {"num_class": 10} if task == "multiclass" else {}
    booster = lightgbm.train(how, lightgbm.Dataset(rows, targets), 4)
    return booster.model_to_string().encode(), rows, booster.predict(rows, num_threads=1)


def train(task, suffix):
    """Return a file, rows, and what is predicted of them."""
    return train_lightgbm(task) if suffix == ".txt" else train_xgboost(task, suffix)


@pytest.mark.parametrize("task", DATA)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_booster_predicts_as_before(tmp_path, suffix, task):
    data, rows, answers = train(task, suffix)
    path = tmp_path / f"ranker{suffix}"
    path.write_bytes(data)
    loader = ms.ModelLoader(path, sha256=pin(data))

    np.testing.assert_array_equal(loader(rows), answers)
    np.testing.assert_array_equal(loader(rows[:2].tolist()), answers[:2])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_booster_serves_in_a_forked_child(tmp_path, suffix):
    data, rows, answers = train("binary", suffix)
    path = tmp_path / f"ranker{suffix}"
    path.write_bytes(data)
    loader = ms.ModelLoader(path, sha256=pin(data))
    loader(rows)

    assert in_child(lambda: loader(rows).tolist() == answers.tolist()) == "True"


def test_a_booster_that_runs_on_several_threads_is_refused_in_a_forked_child():
    xgboost = pytest.importorskip("xgboost", reason="the extra xgboost is not installed")
    from modelserve.formats import xgboost as format_xgboost

    data, _, _ = train_xgboost("binary", ".ubj")
    booster = xgboost.Booster({"nthread": 4})
    booster.load_model(bytearray(data))

    assert format_xgboost.after_fork(booster) == "refuse"


def test_boosters_are_known_by_their_package():
    for train_one, suffix in ((train_xgboost, ".ubj"), (train_lightgbm, ".txt")):
        data, _, _ = train("binary", suffix)
        path = Path(f"ranker{suffix}")
        model = formats._make(path, formats.FORMS[suffix], data, formats._known.NOTHING)
        assert formats.runtime(model).__name__.endswith(train_one.__name__[6:])
        assert not formats.runtime(model).knows("model")


@pytest.mark.parametrize(
    ("suffix", "reader"), [(".ubj", "XGBoost"), (".json", "XGBoost"), (".txt", "LightGBM")]
)
def test_a_file_that_is_not_pinned_is_refused_before_it_is_looked_at(suffix, reader):
    message = (
        f"'absent{suffix}' could not be loaded: a broken one could end the process, as {reader} "
        "believes what it reads: pass sha256= of a file that you trust, or export it as .onnx"
    )
    with pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}$"):
        ms.ModelLoader(f"absent{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_broken_files_never_reach_the_reader(tmp_path, suffix):
    data, _, _ = train("binary", suffix)
    files = truncated(data) + flipped(data, 100)

    assert try_all(files, tmp_path, suffix, lambda m: m, sha256=pin(data)) == 0
    assert try_all([data], tmp_path, suffix, lambda m: m, sha256=pin(data)) == 1


@pytest.mark.parametrize(
    ("suffix", "data", "why"),
    [
        (".json", b'{"learner": 1}', "copy or export it again, as XGBoost cannot read it (Invalid"),
        (".txt", b"\xff\xfe", "copy or export it again, as LightGBM cannot read it ('utf-8' codec"),
        (".txt", b"tree\n", "copy or export it again, as LightGBM cannot read it ("),
    ],
)
def test_a_pinned_file_of_something_else_is_told(tmp_path, suffix, data, why):
    train("binary", suffix)
    path = tmp_path / f"ranker{suffix}"
    path.write_bytes(data)
    with pytest.raises(ms.ModelLoadError, match=f"^'{path}' could not be loaded: {re.escape(why)}"):
        formats.read(path, sha256=pin(data))
