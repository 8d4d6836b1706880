"""Estimators of scikit-learn in files of skops."""

import json

import numpy as np
import pytest

import modelserve as ms
from modelserve.formats._known import NOTHING
from tests.formats.hostile import pin, unzipped, zipped

pytest.importorskip("skops", reason="the extra sklearn is not installed")
import skops.io
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from modelserve.formats import skops as format_skops


def double(x):
    return x * 2


@pytest.mark.parametrize(
    ("data", "estimator"),
    [
        (load_breast_cancer, make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))),
        (load_diabetes, Ridge()),
        (load_digits, KNeighborsClassifier(3)),
    ],
    ids=["breast cancer", "diabetes", "digits"],
)
def test_an_estimator_predicts_as_before(tmp_path, data, estimator):
    rows, targets = data(return_X_y=True)
    estimator.fit(rows, targets)
    path = tmp_path / "model.skops"
    skops.io.dump(estimator, path)
    loader = ms.ModelLoader(path)

    np.testing.assert_array_equal(loader(rows[:50]), estimator.predict(rows[:50]))


def test_trees_are_read_by_code_that_skops_does_not_trust(tmp_path):
    rows, targets = load_digits(return_X_y=True)
    forest = RandomForestClassifier(3, random_state=0).fit(rows, targets)
    path = tmp_path / "forest.skops"
    skops.io.dump(forest, path)
    with pytest.raises(ms.ModelLoadError, match=r"does not trust its types sklearn\.tree\._tree"):
        ms.ModelLoader(path, mode="eager")
    loader = ms.ModelLoader(path, allow_pickle=True, sha256=pin(path.read_bytes()))
    np.testing.assert_array_equal(loader(rows[:50]), forest.predict(rows[:50]))


@pytest.fixture
def strange():
    """Return the bytes of an estimator with a function of the user's own."""
    rows, targets = load_diabetes(return_X_y=True)
    return skops.io.dumps(make_pipeline(FunctionTransformer(double), Ridge()).fit(rows, targets))


@pytest.mark.parametrize("how", [{}, {"allow_pickle": True}, {"sha256": True}])
def test_types_that_are_not_trusted_are_refused_by_their_names(tmp_path, strange, how):
    path = tmp_path / "model.skops"
    path.write_bytes(strange)
    how = how | ({"sha256": pin(strange)} if "sha256" in how else {})
    message = rf"^'{path}' could not be loaded: skops does not trust its types {double.__module__}"
    with pytest.raises(ms.ModelLoadError, match=message):
        ms.ModelLoader(path, mode="eager", **how)


def test_they_are_made_where_the_file_is_trusted(tmp_path, strange):
    path = tmp_path / "model.skops"
    path.write_bytes(strange)
    loader = ms.ModelLoader(path, allow_pickle=True, sha256=pin(strange))

    assert loader(np.zeros((2, 10))).shape == (2,)


def test_a_schema_that_names_a_function_of_the_system_does_not_run_it(tmp_path):
    marker = tmp_path / "marker"
    entries = dict(unzipped(skops.io.dumps(Ridge())))
    schema = json.loads(entries["schema.json"])
    schema |= {"__module__": "os", "__class__": "mkdir", "__loader__": "ReduceNode"}
    schema["reduce"] = {"__reduce__": {"args": [str(marker)]}}
    entries["schema.json"] = json.dumps(schema).encode()
    with pytest.raises(Exception, match=r".") as caught:
        format_skops.load(zipped(entries.items()), NOTHING)

    assert isinstance(caught.value, Exception)
    assert not marker.exists()
