import signal

import pytest

PATIENCE = 60


@pytest.fixture(autouse=True)
def no_hang():
    """Fail a test that hangs, where the platform can interrupt a lock."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def hangs(*_):
    raise TimeoutError(f"still busy after {PATIENCE} s")
