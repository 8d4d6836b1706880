"""Threads that a model runs on: set for a call, and as they were after it."""

import threading

import pytest

import modelserve as ms
from modelserve import formats
from tests.formats import models

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from modelserve.formats._budget import Budget  # noqa: E402 - it imports torch

LIMIT = 10
USUAL = 4


@pytest.fixture(autouse=True)
def usual():
    before = torch.get_num_threads()
    torch.set_num_threads(USUAL)
    yield
    torch.set_num_threads(before)


def count(_):
    return torch.get_num_threads()


class Counts(torch.nn.Module):
    def forward(self, x):
        return torch.get_num_threads()


def on_thread(do):
    found = []
    thread = threading.Thread(target=lambda: found.append(do()))
    thread.start()
    thread.join(LIMIT)
    return found[0]


@pytest.mark.parametrize("options", [{}, {"predict": lambda model, x: model(x)}])
def test_a_module_runs_on_its_own_number_of_threads_and_leaves_the_usual(options):
    few, many = (ms.ModelLoader(Counts(), threads=n, **options) for n in (1, 3))

    assert (few(0), many(0), few(0)) == (1, 3, 1)
    assert torch.get_num_threads() == USUAL
    assert ms.ModelLoader(Counts())(0) == USUAL


def test_a_call_that_fails_leaves_the_usual():
    with pytest.raises(ZeroDivisionError):
        Budget().run(1, lambda x: 1 / x, 0)
    assert torch.get_num_threads() == USUAL


@pytest.mark.parametrize("own", [2, 3])
def test_a_new_thread_that_calls_meanwhile_does_not_take_the_number_for_the_usual(own):
    budget = Budget()
    inner = budget.run(2, lambda _: on_thread(lambda: (budget.run(own, count, 0), count(0))), 0)

    assert inner == (own, USUAL)
    assert torch.get_num_threads() == USUAL
    assert on_thread(lambda: count(0)) == USUAL


def test_calls_within_calls_run_on_their_own_numbers():
    budget = Budget()

    assert budget.run(2, lambda _: (budget.run(1, count, 0), count(0)), 0) == (1, 2)
    assert torch.get_num_threads() == USUAL


def test_a_child_that_is_forked_amid_a_call_of_another_thread_has_the_usual():
    budget = Budget()

    def forked():
        budget.after_fork()
        return count(0), budget.run(3, count, 0), count(0)

    def parent(_):
        found = on_thread(forked)
        budget._given.append(2)  # which is the child's own list, and this thread is not there
        return found

    assert budget.run(2, parent, 0) == (USUAL, 3, USUAL)


def test_a_child_that_is_forked_within_a_call_ends_that_call():
    budget = Budget()

    assert budget.run(2, lambda _: (budget.after_fork(), count(0))[1], 0) == 2
    assert torch.get_num_threads() == USUAL


def test_a_session_has_a_pool_of_its_own_size(tmp_path):
    (tmp_path / "a.onnx").write_bytes(models.times(2.0))
    told = ms.ModelLoader(tmp_path / "a.onnx", threads=3).get().get_session_options()
    untold = ms.ModelLoader(tmp_path / "a.onnx").get().get_session_options()

    assert (told.intra_op_num_threads, untold.intra_op_num_threads) == (3, 0)


def test_what_cannot_be_told_is_refused(tmp_path):
    with pytest.raises(ValueError, match="pass 1 or more"):
        ms.ModelLoader(Counts, threads=0)
    with pytest.raises(ValueError, match="for ONNX models and torch modules alone"):
        formats.find(tmp_path / "a.npz", threads=2)
    with pytest.raises(ms.ModelLoadError, match="let the function that makes this model tell it"):
        ms.ModelLoader(lambda: str.upper, threads=2).get()
