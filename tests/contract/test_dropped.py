"""A primitive that nobody holds leaves nothing behind."""

import gc
import threading
import warnings
import weakref

import modelserve as ms
from modelserve.predictor import background_loop
from modelserve.predictor._threads import threads
from tests.contract.calling import LIMIT, exercise
from tests.contract.primitives import every


def running():
    """Threads, but for those of the pool that all predictors share."""
    shared = set().union(*(pool._threads for pool in threads._pools.get(threads, {}).values()))
    return set(threading.enumerate()) - shared


def tells_when_gone(p):
    gone = threading.Event()
    weakref.finalize(p, gone.set).atexit = False
    return gone


def collect(gone):
    """Collect garbage until it is gone; a pool's thread may hold the last call a little longer."""
    for _ in range(1_000):
        gc.collect()
        if gone.wait(LIMIT / 1_000):
            return True
    return False


def used(case):
    p = case.make(case.leaf())
    exercise(p, "a", "b")
    with ms.request(unit="u", timeout=LIMIT):
        exercise(p, "a", "c")
    return p


@every()
def test_a_dropped_one_is_collected_with_its_threads_and_without_a_warning(case):
    background_loop()
    before = running()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        gone = tells_when_gone(p := used(case))
        started = running() - before
        del p

        assert collect(gone)
    for thread in started:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert warned == []


@every()
def test_a_closed_one_has_no_threads(case):
    background_loop()
    before = running()
    p = case.make(case.leaf())
    exercise(p)
    started = running() - before
    p.close()

    for thread in started:
        thread.join(LIMIT)
        assert not thread.is_alive()


@every()
def test_a_cold_one_has_no_threads(case):
    before = running()
    p = case.make(case.leaf())

    assert running() <= before  # those of other tests may end meanwhile
    assert p.stats
