"""Models that change while they serve."""

import itertools
import sys
import threading

import pytest

import modelserve as ms
from modelserve.request import tick
from modelserve.testing import FakeClock, GatedPredictor
from tests.loader.crowds import LIMIT, GatedSource, start


def loader_of(*models, **options):
    """Make a loader of one model after the other."""
    source = GatedSource(*models)
    source.gate.open()
    return ms.ModelLoader(source, name="ranker", **options)


def test_a_reload_serves_what_was_loaded():
    loader = loader_of(hex, oct)

    assert loader(10) == "0xa"
    assert loader.reload() == "2"
    assert loader(10) == "0o12"
    assert loader.stats.loads == 2


def test_calls_in_flight_keep_their_version():
    gated = GatedPredictor(hex)
    loader = loader_of(gated, oct)

    def ask():
        with ms.request() as r:
            return loader(10), r.record["ranker.version"]

    in_flight = start(ask)
    gated.wait_entered()
    loader.reload()
    assert ask() == ("0o12", "2")
    gated.open()
    assert in_flight.result(LIMIT) == ("0xa", "1")


def test_the_old_version_serves_until_the_new_one_is_warm():
    warming = GatedPredictor(oct)
    loader = loader_of(hex, warming, warmup=[1])
    loader(10)
    reload = start(loader.reload)
    warming.wait_entered()

    assert loader(10) == "0xa"
    assert loader.version == "1"
    warming.open()
    assert reload.result(LIMIT) == "2"
    assert loader(10) == "0o12"


@pytest.mark.parametrize("broken", [OSError("gone"), "a model that cannot be called"])
def test_a_failed_reload_keeps_the_last_good_version(broken):
    loader = loader_of(hex, broken, oct)
    loader(10)
    stamp = loader.stamp()
    with pytest.raises(ms.ModelLoadError):
        loader.reload()

    assert loader(10) == "0xa"
    assert loader.stamp() is stamp
    assert stamp.retired == 0
    assert loader.reload() == "2"


def test_a_failed_warmup_keeps_the_last_good_version():
    loader = loader_of(hex, str.upper, warmup=[1])
    loader(10)
    with pytest.raises(ms.ModelLoadError, match="'ranker' could not be loaded: TypeError"):
        loader.reload()

    assert (loader(10), loader.version) == ("0xa", "1")


def test_a_reload_in_a_request_is_not_that_requests_own():
    clock = FakeClock()
    inner = ms.predictor(hex)

    def predict(model, x):
        clock.advance(2.0)
        return inner(x)

    loader = loader_of(1, 2, predict=predict, warmup=[1, 2])
    with ms.request(timeout=1.0, clock=clock) as r:
        loader.reload()

        assert clock() > 1.0
        assert r.record == {}
    assert loader.version == "1"
    assert inner.stats.calls == 0


def test_an_interrupted_reload_is_interrupted():
    loader = loader_of(hex, KeyboardInterrupt(), oct)
    loader(10)
    with pytest.raises(KeyboardInterrupt):
        loader.reload()

    assert loader(10) == "0xa"
    assert loader.stats.failures == 0
    assert loader.reload() == "2"


def test_rollback_goes_back_once_and_never_forth():
    loader = loader_of(hex, oct, bin)
    loader.reload()
    loader.reload()

    assert (loader.rollback(), loader(10)) == ("1", "0xa")
    with pytest.raises(ms.ModelLoadError, match="no version to roll back to"):
        loader.rollback()
    assert loader(10) == "0xa"
    assert (loader.reload(), loader.rollback()) == ("3", "1")


def test_rollback_loads_nothing():
    loader = loader_of(hex, oct)
    loader.reload()
    loader.reload()
    loader.rollback()

    assert loader.stats.loads == 2


@pytest.mark.parametrize("loads", [0, 1])
def test_nothing_to_roll_back_to(loads):
    loader = loader_of(hex)
    for _ in range(loads):
        loader(10)
    with pytest.raises(ms.ModelLoadError, match="'ranker' has no version to roll back to"):
        loader.rollback()


def test_a_failed_reload_is_nothing_to_roll_back_to():
    loader = loader_of(hex, OSError("gone"))
    loader(10)
    with pytest.raises(ms.ModelLoadError):
        loader.reload()
    with pytest.raises(ms.ModelLoadError, match="no version to roll back to"):
        loader.rollback()


def test_stamps_are_retired_and_revived():
    loader = loader_of(hex, oct)
    loader.reload()
    one = loader.stamp()
    loader.reload()
    two = loader.stamp()
    assert (one.retired > 0, two.retired > 0) == (True, False)

    loader.rollback()
    assert loader.stamp() is one
    assert (one.retired > 0, two.retired > 0) == (False, True)


def test_a_given_version_is_the_same_whatever_is_loaded():
    loader = loader_of(hex, oct, version="v1")
    loader(10)
    stamp = loader.stamp()

    assert loader.reload() == "v1"
    assert loader(10) == "0o12"
    assert loader.stamp() is stamp
    assert loader.rollback() == "v1"
    assert loader(10) == "0xa"
    assert stamp.retired == 0


def test_reloads_at_once_are_one_after_the_other():
    inside, most = [], []

    def load():
        inside.append(1)
        most.append(len(inside))
        gate(None)
        inside.pop()
        return hex

    gate = GatedPredictor()
    loader = ms.ModelLoader(load)
    reloads = [start(loader.reload) for _ in range(8)]
    gate.wait_entered()
    gate.open()

    assert sorted(reload.result(LIMIT) for reload in reloads) == [str(i) for i in range(1, 9)]
    assert set(most) == {1}
    assert loader.version == "8"


def test_a_rollback_waits_for_no_reload_and_outlasts_it():
    source = GatedSource(hex, oct, bin, str)
    loader = ms.ModelLoader(source, name="ranker")
    for _ in range(2):
        source.gate.open_one()
        loader.reload()
    reload = start(loader.reload)
    source.gate.wait_entered(3)

    assert start(loader.rollback).result(LIMIT) == loader.version == "1"
    source.gate.open()
    with pytest.raises(ms.ModelLoadError, match="'ranker' was rolled back while it was loaded"):
        reload.result(LIMIT)
    assert (loader(10), loader.health().state, loader.stats.failures) == ("0xa", "ready", 0)
    assert loader.reload() == "4"


def test_a_cached_answer_of_an_older_version_is_not_given():
    loader = loader_of(hex, oct)
    cache = ms.PredictionCache(ms.DynamicBatcher(many(loader)), maxsize=8)
    with cache:
        assert [cache(10), cache(10)] == ["0xa"] * 2
        loader.reload()
        assert cache(10) == "0o12"
        loader.rollback()
        assert cache(10) == "0xa"


def many(loader):
    """A batch function that hides a loader."""
    return lambda xs: [loader(x) for x in xs]


@pytest.fixture
def eager_threads():
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Numbered:
    """Models that answer with their number; every fifth cannot be loaded."""

    def __init__(self):
        self._tries = itertools.count(1)
        self._numbers = itertools.count(1)

    def __call__(self):
        if next(self._tries) % 5 == 0:
            raise OSError("gone")
        number = next(self._numbers)
        return lambda x: number


def change(loader, step):
    """Reload, roll back, or fail to."""
    if step % 3 == 2:
        loader.rollback()
        return
    try:
        loader.reload()
    except ms.ModelLoadError:
        assert loader.health().state == "degraded"


def wrong_answers(loader, over, seen):
    """Ask until it is over; return answers of retired versions and those whose record is wrong."""
    wrong = []
    while not over.is_set():
        began = tick()
        with ms.request() as r:
            answer = loader(None)
        [stamp] = r.trail
        seen.add(answer)
        if 0 < stamp.retired < began or r.record["ranker.version"] != str(answer):
            wrong.append((answer, stamp, began))
    return wrong


def test_under_a_storm_no_answer_is_of_a_version_that_was_retired_before(eager_threads):
    loader = ms.ModelLoader(Numbered(), name="ranker")
    loader.reload()
    loader.reload()
    over, seen = threading.Event(), set()
    crowd = [start(wrong_answers, loader, over, seen) for _ in range(4)]
    for step in itertools.count():
        change(loader, step)
        if len(seen) > 30 or step > 100_000:
            break
    over.set()

    assert [future.result(LIMIT) for future in crowd] == [[]] * 4
    assert len(seen) > 30
