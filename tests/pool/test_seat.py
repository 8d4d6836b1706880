"""The books of one model: at least one of who leaves and who lets go sees the other."""

import itertools

import numpy as np
import pytest

import modelserve as ms
from modelserve.pool._seat import LONGEST_PAUSE, PAUSE, Seat
from tests.pool.shelves import LIMIT, gate, start


def seat():
    made = Seat("a", ms.predictor(str.upper), pinned=False)
    made.live = made.part
    return made


class LeavesMeanwhile:
    """Counts of ends, as they were before the last caller leaves at this very moment."""

    def __init__(self, seat):
        self.seat = seat
        self.numbers = itertools.count()
        self.ended = 0

    def read(self):
        ended, self.ended = self.ended, 1
        if not ended and self.seat.live is None:
            self.seat.tell()
        return ended


def test_a_caller_who_leaves_while_it_is_looked_for_tells_that_it_has_left():
    one = seat()
    next(one.enter)
    one.ends = LeavesMeanwhile(one)
    one.dismiss()

    assert one.drained.is_set()


def test_who_is_let_go_without_calls_is_drained_at_once():
    one = seat()
    one.dismiss()

    assert one.drained.is_set()
    assert one.live is None


def test_the_pause_after_failures_doubles_up_to_its_longest():
    one = seat()
    pauses = []
    for _ in range(9):
        one.fail(OSError(), 100.0)
        pauses.append(one.retry_at - 100.0)

    assert pauses[:3] == [PAUSE, 2 * PAUSE, 4 * PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    one.admit({"all": 1}, 100.0, 1.0)
    one.fail(OSError(), 100.0)
    assert one.retry_at == 100.0 + PAUSE


def test_the_pause_stays_at_its_longest_however_often_a_load_fails():
    one = seat()
    for _ in range(5_000):
        one.fail(OSError(), 0.0)

    assert one.retry_at == LONGEST_PAUSE


@pytest.mark.parametrize(("reload", "answer", "calls"), [(None, 1.0, 2), (3600.0, 2.0, 3)])
def test_caches_ask_anew_only_where_the_loader_that_is_out_would_have_looked(
    tmp_path, reload, answer, calls
):
    def load(name):
        return ms.ModelLoader(path, predict=lambda w, x: float(w["w"][0] * x), reload=reload)

    path = tmp_path / "model.npz"
    np.savez(path, w=np.ones(3))
    with ms.ModelPool(load, budget=10_000) as pool:
        cache = ms.PredictionCache(pool["a"], maxsize=8)
        assert cache(1.0) == 1.0
        pool.evict("a")
        np.savez(path, w=np.full(3, 2.0))

        assert cache(1.0) == answer
        assert cache(2.0) == 4.0
        assert pool.stats.loads == 2
        assert pool["a"].stats.calls == calls


def test_a_model_that_loads_in_the_background_is_weighed_when_it_is_there():
    def load():
        opens(None)
        return np.ones(100)

    def weigh(loader):
        return 1 if loader.version is None else 800

    opens = gate()
    pool = ms.ModelPool(lambda name: background(load), budget=10_000, weigh=weigh)
    call = start(pool["a"], 1)
    opens.wait_entered()
    assert pool["a"].health().state == "loading"
    opens.open()

    assert call.result(LIMIT) == 1
    assert pool.stats.nbytes == {"all": 800}
    pool.close()


def test_a_model_whose_load_in_the_background_fails_is_no_model_of_the_pool():
    def load():
        if bad:
            raise bad[0]
        return np.ones(100)

    bad = [OSError("no disk")]
    pool = ms.ModelPool(lambda name: background(load), budget=10_000, weigh=lambda p: 10)
    with pytest.raises(ms.ModelLoadError):
        pool["a"](1)
    assert (pool.stats.failures, pool.stats.nbytes) == (1, {"all": 0})
    assert pool["a"].health().state == "failed"
    bad.clear()
    assert pool["a"](1) == 1
    pool.close()


def background(load):
    return ms.ModelLoader(load, predict=lambda model, x: x, mode="background", name="a")
