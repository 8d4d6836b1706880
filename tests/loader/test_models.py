"""Models as they come from a user's function: torch modules, estimators."""

import numpy as np
import pytest

import modelserve as ms


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra torch is not installed")


def dropout(torch):
    """Make a module whose answers are only steady in evaluation mode."""
    module = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Dropout(0.5))
    torch.nn.init.eye_(module[0].weight)
    return module


@pytest.mark.parametrize("as_function", [True, False])
def test_a_module_runs_in_evaluation_mode_on_arrays(torch, as_function):
    module = dropout(torch)
    loader = ms.ModelLoader((lambda: module) if as_function else module, name="ranker")
    x = np.ones((64, 2), np.float32)
    with ms.request() as r:
        y = loader(x)

    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, x)
    assert r.record == {"ranker.version": "1"}
    assert loader.get() is module


def test_a_module_is_touched_at_the_first_use_and_not_before(torch):
    module = dropout(torch)
    loader = ms.ModelLoader(module)

    assert module.training
    loader(np.ones((1, 2), np.float32))
    assert not module.training


def test_tensors_come_out_as_tensors_without_gradients(torch):
    y = ms.ModelLoader(dropout(torch))(torch.ones(1, 2))

    assert y.tolist() == [[1.0, 1.0]]
    assert not y.requires_grad


def test_predict_gets_the_module(torch):
    loader = ms.ModelLoader(dropout(torch).eval(), predict=lambda module, x: module(x).sum().item())

    assert loader(torch.ones(3, 2)) == 6.0


def test_a_reloaded_module_is_a_new_version(torch):
    loader = ms.ModelLoader(dropout(torch), version="v1")

    assert (loader.reload(), loader.name) == ("v1", "Sequential")


def test_a_batcher_fills_arrays_for_a_module(torch):
    with ms.DynamicBatcher(ms.ModelLoader(dropout(torch)), name="batched") as batcher:
        rows = [np.full(2, i, np.float32) for i in range(10)]
        answers = list(batcher.map(rows))

    np.testing.assert_array_equal(answers, rows)


@pytest.fixture
def estimator():
    """Return a small estimator: above one or below."""
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    return linear.LogisticRegression().fit([[0.0], [0.5], [1.5], [2.0]], [0, 0, 1, 1])


def test_an_estimator_predicts(estimator):
    loader = ms.ModelLoader(lambda: estimator)

    assert loader(np.array([[0.1], [1.9]])).tolist() == [0, 1]
    assert loader.get() is estimator


def test_predict_asks_an_estimator_for_probabilities(estimator):
    loader = ms.ModelLoader(lambda: estimator, predict=lambda model, x: model.predict_proba(x))
    shares = loader(np.array([[0.1], [1.9]]))

    np.testing.assert_allclose(shares.sum(axis=1), [1, 1])
    assert shares[0, 0] > 0.5 > shares[1, 0]


def test_an_estimator_itself_is_no_source(estimator):
    with pytest.raises(TypeError, match=r"a LogisticRegression is no source: .*`lambda: model`"):
        ms.ModelLoader(estimator)
