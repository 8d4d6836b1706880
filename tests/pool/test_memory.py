"""Memory of the process: what it holds, and giving it back."""

import ctypes
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from modelserve.pool import _memory
from modelserve.pool._memory import GiveBack, empty_caches, give_back, resident, trim
from tests.pool.shelves import LIMIT, start, told
from tests.support.processes import fresh

linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this is no Linux")


@linux
def test_resident_memory_grows_with_what_is_held():
    before = resident()
    held = np.ones(64 << 20, np.uint8)

    assert 60 << 20 <= resident() - before <= 80 << 20
    assert held.all()


def test_where_the_system_does_not_tell_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(_memory, "STATM", tmp_path / "absent")

    assert resident() is None


@linux
def test_freed_memory_goes_back_to_the_system():
    code = """
from modelserve.pool._memory import resident, trim
blocks = [bytes(60_000) for _ in range(2_000)]
wall = bytes(60_000)  # what lies above keeps the heap from shrinking by itself
before = resident()
del blocks
print(before - resident() if trim() else "cannot")
"""
    returned = fresh(code)  # where no others left memory free
    if "cannot" in returned:
        pytest.skip("this C library cannot trim")

    assert int(returned) > 60 << 20


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_a_c_library_that_cannot_trim_is_left_alone(monkeypatch, error):
    def absent(_):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", absent)

    assert not trim()


class Cuda:
    def __init__(self, *, used):
        self.used = used
        self.emptied = 0

    def is_initialized(self):
        return self.used

    def empty_cache(self):
        self.emptied += 1


@pytest.mark.parametrize("used", [True, False])
def test_torch_empties_its_caches_if_it_has_any(monkeypatch, used):
    torch = type(sys)("torch")
    torch.cuda = Cuda(used=used)
    monkeypatch.setitem(sys.modules, "torch", torch)
    empty_caches()

    assert torch.cuda.emptied == used


def test_without_torch_nothing_is_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    empty_caches()

    assert "torch" not in sys.modules


def test_a_model_that_went_gives_its_memory_back():
    before = give_back.rounds
    with told(100) as (pool, _, _):
        pool["a"](1)
        pool["b"](1)

        assert give_back.rounds > before


def test_unloads_that_end_together_share_one_round(monkeypatch):
    inside, goes_on = threading.Event(), threading.Event()

    def slow():
        inside.set()
        assert goes_on.wait(LIMIT)

    monkeypatch.setattr(_memory, "trim", slow)
    giving = GiveBack()
    first = start(giving)
    assert inside.wait(LIMIT)
    for _ in range(5):
        giving()
    goes_on.set()
    first.result(LIMIT)

    assert giving.rounds == 2
