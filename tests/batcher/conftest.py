import signal

import pytest

from modelserve.testing import FakeClock, GatedPredictor
from tests.batcher.hanging import Hanging

PATIENCE = 30.0


@pytest.fixture(autouse=True)
def no_hang():
    """Fail a test that hangs, where the platform can interrupt a lock."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE, 1.0)  # again, as its end may hang too
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def hangs(*_):
    raise TimeoutError(f"still busy after {PATIENCE} s")


@pytest.fixture
def gates():
    """Make gates that are opened at the end."""
    made = []
    yield lambda make: made.append(make()) or made[-1]
    for gate in made:
        gate.open()


@pytest.fixture
def gate():
    """Make a gate that is opened at the end."""
    gate = GatedPredictor()
    yield gate
    gate.open()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def model():
    """Make a batch function that hangs for some items, until the end."""
    model = Hanging()
    yield model
    model.gate.open()
