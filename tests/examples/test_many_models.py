"""The example of many models: right answers from a fraction of the memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples import many_models

EXAMPLE = Path(many_models.__file__)


@pytest.fixture
def outcome(tmp_path, capsys):
    found = many_models.main(tmp_path, requests=400)
    return found, capsys.readouterr().out, tmp_path


def test_every_answer_is_that_of_the_bare_model_and_most_models_are_there(outcome):
    found, printed, _ = outcome

    assert found.differing == 0
    assert found.hit_rate > 0.5
    assert 0 < len(found.stats.loaded) <= many_models.IN_MEMORY
    assert found.stats.loads > many_models.IN_MEMORY
    assert "0 other answers than offline" in printed


def test_the_pool_never_holds_more_than_it_may(outcome):
    found, _, _ = outcome
    model = many_models.WIDTH**2 * 8

    assert found.stats.nbytes["all"] <= many_models.IN_MEMORY * model


def test_other_answers_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(many_models, "multiply", lambda weights, x: np.zeros_like(x))

    assert many_models.main(tmp_path, requests=10).differing == 10


def test_a_customer_without_a_model_is_refused(outcome):
    _, _, folder = outcome
    pool = many_models.serve(folder)
    pool["customer-1"]
    with pytest.raises(KeyError, match="did you mean 'customer-1'"):
        pool["customer-x"]


def test_it_runs_as_a_script(tmp_path):
    command = [sys.executable, EXAMPLE, "--models", tmp_path]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)

    assert "4,000 requests for 40 models with room for 8" in done.stdout
