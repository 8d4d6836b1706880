"""Files that change and are noticed in the background, in virtual time."""

import asyncio
import gc
import os
import weakref
from itertools import pairwise

import numpy as np
import pytest

import modelserve as ms
from modelserve.events import Loaded, LoadFailed, Retired, RolledBack, StageDone
from modelserve.predictor import PartHealth
from modelserve.testing import EventLog, GatedPredictor
from tests.formats import models
from tests.loader.crowds import LIMIT, GatedSource, start, told, until
from tests.loader.tending import Written, first, hand, join_loads, luck, rows, seed, whole

assert hand  # a fixture

BAD = b"no model at all"


@pytest.fixture
def file(tmp_path):
    """Return a file that holds a model which multiplies by 2."""
    file = Written(tmp_path / "ranker.onnx")
    file.write(models.times(2.0))
    return file


def watching(hand, file, **options):
    """Make a loader that has loaded, and looks each second."""
    log = EventLog()
    options = {"reload": ms.OnChange(), "clock": hand.clock, "on_event": log, **options}
    loader = seed(ms.ModelLoader(file.path, **options))
    loader.get()
    return loader, log


def answer(loader):
    return first(loader(rows(1)))


def reads(log):
    """Count how often a model was made."""
    return sum(event.stage == "load" for event in log.of(StageDone))


# Changes


def test_a_change_is_served_once_it_looked_the_same_twice(hand, file):
    loader, log = watching(hand, file)
    hand.run(10)
    assert reads(log) == 1
    file.replace(models.times(3.0))

    hand.run(1)
    assert answer(loader) == 2.0
    hand.run(1)
    assert answer(loader) == 3.0
    hand.run(100)
    assert reads(log) == loader.stats.loads == 2


def test_changes_are_seen_as_soon_after_a_load_as_before_it(hand, file):
    loader, _ = watching(hand, file, reload=ms.OnChange(poll=0.1))
    for factor in (3.0, 4.0, 5.0):
        file.replace(models.times(factor))
        hand.run(0.25)
        assert answer(loader) == factor


def test_an_older_file_that_comes_back_is_a_change(hand, file):
    loader, _ = watching(hand, file)
    file.replace(models.times(3.0))
    hand.run(2)
    file.replace(models.times(2.0), older=True)
    hand.run(2)

    assert answer(loader) == 2.0


def test_a_file_that_was_only_touched_is_read_and_left_alone(hand, file):
    loader, log = watching(hand, file)
    session = loader.get()
    file.stamp()
    hand.run(5)

    assert loader.get() is session
    assert told(log) == log.of(Loaded)
    assert loader.health() == PartHealth("ready")


def test_no_half_of_a_file_that_is_written_in_place_is_served(hand, file):
    file.write(whole(models, 0))
    loader, log = watching(hand, file)
    rng, served = luck(0), []
    for number in range(1, 201):
        data = whole(models, number)
        cuts = [0, *sorted(rng.sample(range(len(data)), rng.randrange(1, 4))), len(data)]
        for begin, end in pairwise(cuts):
            file.overwrite(data[begin:end], begin)
            hand.run(rng.choice([0, 0, 1]))
            served.append(loader(rows(1)))
        hand.run(2)
        served.append(loader(rows(1)))
        assert first(served[-1]["y"]) == number

    assert [y for y in served if not np.array_equal(y["y"], y["z"])] == []
    assert reads(log) == 201
    assert log.of(LoadFailed) == []


def test_a_manual_reload_in_between_is_the_one_load_of_the_change(hand, file):
    loader, log = watching(hand, file)
    file.replace(models.times(3.0))
    hand.run(1)
    loader.reload()
    hand.run(10)

    assert reads(log) == 2


def test_a_load_that_was_asked_for_is_left_out_if_another_came_first(hand):
    source = GatedSource(hex, oct, bin)
    loader = ms.ModelLoader(source, reload=10.0, clock=hand.clock)
    source.gate.open_one()
    loader.get()
    manual = start(loader.reload)
    source.gate.wait_entered(2)
    for wait in (pytest.approx(10.0, rel=0.1), 1.0):  # while it loads nothing else is due
        hand.clock.advance(20)
        assert loader._core.tick() == wait
    source.gate.open()
    manual.result(LIMIT)
    join_loads()

    assert source.calls == 2


def test_each_so_many_seconds_a_function_is_called_again(hand):
    made = []
    loader = ms.ModelLoader(lambda: made.append(hand.clock()) or hex, reload=60.0, clock=hand.clock)
    assert loader.version is None
    loader(10)
    hand.run(6000)

    gaps = [late - soon for soon, late in pairwise(made)]
    assert 90 <= len(made) <= 111
    assert 54.0 <= min(gaps) < 57.0
    assert 63.0 < max(gaps) <= 66.0
    assert loader.version == str(len(made))


def test_each_so_many_seconds_a_file_is_read_and_served_if_its_bytes_are_others(hand, file):
    loader, log = watching(hand, file, reload=ms.Every(60.0, jitter=0.0))
    os.utime(file.path, (5, 5))
    loader.reload()
    file.path.write_bytes(models.times(3.0))
    os.utime(file.path, (5, 5))
    hand.run(59)
    assert answer(loader) == 2.0
    hand.run(2)

    assert answer(loader) == 3.0
    hand.run(600)
    assert reads(log) == 2


def test_a_file_that_changed_a_moment_ago_settles_first(hand, file):
    loader, log = watching(hand, file, reload=ms.Every(60.0, jitter=0.0))
    hand.run(59.5)
    file.overwrite(BAD)
    hand.run(1)
    file.write(models.times(3.0))
    hand.run(1)
    assert answer(loader) == 2.0
    hand.run(1)

    assert answer(loader) == 3.0
    assert log.of(LoadFailed) == []


def tearing(loader, file, times):
    """Have the file change while it is read, so many times; return the numbers of reads."""
    source, seen = loader._core._source, []
    fetch = source.fetch

    def torn(now, device):
        seen.append(1)
        if len(seen) <= times:
            file.write(models.times(10.0 + len(seen)))
        return fetch(now, device)

    source.fetch = torn
    return seen


def test_what_changed_while_it_was_read_is_read_again_at_once(hand, file):
    loader, log = watching(hand, file)
    seen = tearing(loader, file, 2)
    file.write(models.times(3.0))
    hand.run(2)

    assert answer(loader) == 12.0
    assert len(seen) == 3
    assert reads(log) == 2


def test_what_changes_whenever_it_is_read_settles_first_and_is_no_failure(hand, file):
    loader, log = watching(hand, file)
    seen = tearing(loader, file, 4)
    file.write(models.times(3.0))
    hand.run(2)
    assert len(seen) == 3
    assert (answer(loader), loader.health()) == (2.0, PartHealth("ready"))
    hand.run(3)

    assert answer(loader) == 14.0
    assert log.of(LoadFailed) == []


def test_whoever_loads_what_changes_whenever_it_is_read_is_told(hand, file):
    loader, _ = watching(hand, file)
    tearing(loader, file, 3)
    with pytest.raises(ms.ModelLoadError, match="'ranker' changed while it was read: write models"):
        loader.reload()

    assert answer(loader) == 2.0
    assert loader.health().state == "degraded"


# Failures


def test_a_broken_file_is_loaded_once_and_the_last_good_version_serves_on(hand, file):
    loader, log = watching(hand, file)
    file.write(BAD)
    hand.run(100)

    [failed] = log.of(LoadFailed)
    assert answer(loader) == 2.0
    assert loader.health() == PartHealth("degraded", str(failed.error))
    file.write(models.times(3.0))
    hand.run(2)
    assert answer(loader) == 3.0
    assert loader.health() == PartHealth("ready")


def test_broken_bytes_that_look_otherwise_are_not_warmed_again(hand, file):
    log, asked = EventLog(), []

    def check(new, old):
        asked.append(new.version)
        if len(asked) > 1:
            raise ValueError("worse")

    loader, log = watching(hand, file, check=check)
    file.write(models.times(3.0))
    hand.run(2)
    assert len(asked) == 2
    file.stamp()
    hand.run(10)

    assert len(asked) == 2
    assert len(log.of(LoadFailed)) == 1
    assert loader.health().state == "degraded"
    with pytest.raises(ms.ModelLoadError, match="ValueError was raised"):
        loader.reload()
    assert len(asked) == 3


def test_a_file_that_was_broken_for_a_while_is_the_same_again(hand, file):
    loader, log = watching(hand, file)
    file.write(BAD)
    hand.run(5)
    assert loader.health().state == "degraded"
    file.write(models.times(2.0))
    hand.run(5)

    assert loader.health() == PartHealth("ready")
    assert reads(log) == 1


def test_what_the_system_lacks_is_tried_for_again_less_and_less_often(hand, file):
    loader, _ = watching(hand, file)
    data = file.path.read_bytes()
    file.path.unlink()
    times = []
    loader._core._on_event = lambda event: times.append(hand.clock())
    hand.run(2_000)
    gaps = [late - soon for soon, late in pairwise(times)]

    assert 8 < len(times) < 100
    assert sum(gaps[:4]) < sum(gaps[-4:])
    assert loader.health().state == "degraded"
    file.write(data)
    hand.run(301)
    assert loader.health() == PartHealth("ready")
    assert answer(loader) == 2.0


def test_a_function_that_fails_is_called_again_before_its_time(hand):
    source = GatedSource(hex, OSError("gone"), OSError("gone"), oct)
    source.gate.open()
    loader = seed(ms.ModelLoader(source, reload=3600.0, clock=hand.clock))
    loader.get()
    hand.run(3970)

    assert loader(10) == "0o12"
    assert loader.health() == PartHealth("ready")


def test_a_manual_reload_that_fails_for_a_reason_that_passes_is_tried_again(hand, file):
    loader, _ = watching(hand, file)
    failing = [OSError("no room")]
    fetch = loader._core._source.fetch
    loader._core._source.fetch = lambda now, device: (
        fetch(now, device) if not failing else throw(failing.pop())
    )
    with pytest.raises(ms.ModelLoadError, match="OSError was raised on the way"):
        loader.reload()
    assert loader.health().state == "degraded"
    hand.run(2)

    assert loader.health() == PartHealth("ready")


class OutOfMemoryError(RuntimeError):
    """As torch calls that of a GPU."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("of a GPU"),
        ms.Overloaded("full"),
        ms.DeadlineExceeded("late"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_bytes_that_could_not_be_warmed_for_a_reason_that_passes_are_tried_again(hand, file, error):
    errors = []

    def predict(session, x):
        if errors:
            raise errors.pop()
        return session.run(None, {"x": x})[0]

    loader, _ = watching(hand, file, predict=predict, warmup=[rows(1)])
    errors.append(error)
    file.write(models.times(3.0))
    hand.run(2)
    assert (answer(loader), loader.health().state) == (2.0, "degraded")
    hand.run(3)

    assert (answer(loader), loader.health()) == (3.0, PartHealth("ready"))


def test_a_file_that_was_torn_in_a_manual_reload_is_tried_again(hand, file):
    loader, _ = watching(hand, file)
    file.write(models.times(3.0))
    tearing(loader, file, 3)
    with pytest.raises(ms.ModelLoadError, match="changed while it was read"):
        loader.reload()
    hand.run(3)

    assert answer(loader) == 13.0


def throw(error):
    raise error


def test_where_no_thread_is_to_be_had_a_reload_is_tried_again(hand, file, monkeypatch):
    loader, log = watching(hand, file)
    begin = loader._core._on_thread
    refused = [RuntimeError("can't start new thread")]
    monkeypatch.setattr(
        loader._core, "_on_thread", lambda job: throw(refused.pop()) if refused else begin(job)
    )
    file.write(models.times(3.0))
    hand.run(2)
    [failed] = log.of(LoadFailed)
    assert loader.health() == PartHealth("degraded", str(failed.error))
    hand.run(5)

    assert answer(loader) == 3.0


# Age


def stale(hand, file, **options):
    """Make a loader that has just become too old."""
    loader, log = watching(hand, file, max_stale=60.0, **options)
    hand.run(10)
    file.write(BAD)
    hand.run(61)
    return loader, log


def test_a_model_that_cannot_be_renewed_for_long_is_handed_out_no_more(hand, file):
    loader, log = stale(hand, file)
    [failed] = log.of(LoadFailed)
    message = "'ranker' has no model young enough: reloads failed for more than max_stale=60.0 s"

    for ask in (lambda: answer(loader), loader.get, lambda: asyncio.run(loader.aget())):
        with pytest.raises(ms.ModelLoadError, match=message) as caught:
            ask()
        assert str(failed.error) in str(caught.value)
    assert loader.version is None
    assert loader.health() == PartHealth("failed", str(caught.value))
    assert not ms.health(loader).ready
    assert len(log.of(Retired)) == 1


def test_a_file_that_never_settles_makes_its_model_too_old_until_it_does(hand, file):
    loader, log = watching(hand, file, max_stale=10.0)
    for number in range(12):
        assert number > 9 or answer(loader) == 2.0
        file.write(models.times(10.0 + number))
        hand.run(1)
    with pytest.raises(ms.ModelLoadError, match=r"s \(its source changes again and again, or does"):
        answer(loader)
    assert log.of(LoadFailed) == []
    hand.run(2)

    assert (answer(loader), loader.health()) == (21.0, PartHealth("ready"))


def test_a_source_that_does_not_answer_is_looked_at_on_a_thread_of_its_own(hand, file):
    loader, _ = watching(hand, file, max_stale=10.0)
    gate, clock = GatedPredictor(), hand.clock
    source, tick = loader._core._source, loader._core.tick
    identity, source.far = source.identity, True
    source.identity = lambda: gate(None) or identity()
    clock.advance(1)
    for _ in range(9):
        assert tick() == 1.0
        clock.advance(1)
    gate.wait_entered(1)
    assert answer(loader) == 2.0
    clock.advance(1)
    tick()
    with pytest.raises(ms.ModelLoadError, match="no model young enough"):
        answer(loader)
    gate.open()
    join_loads()

    assert (answer(loader), loader.stats.loads) == (2.0, 2)
    clock.advance(1)
    assert tick() == 1.0
    join_loads()
    assert gate.entered >= 2
    assert loader._core._care.wait() == 1.0


def test_until_then_it_serves(hand, file):
    loader, _ = watching(hand, file, max_stale=60.0)
    hand.run(10)
    file.write(BAD)
    hand.run(59)

    assert answer(loader) == 2.0
    assert loader.health().state == "degraded"


def test_a_source_that_is_well_keeps_its_model_for_ever(hand, file):
    loader, _ = watching(hand, file, max_stale=60.0)
    hand.run(1_000)

    assert answer(loader) == 2.0


def test_a_new_model_ends_the_wait(hand, file):
    loader, _ = stale(hand, file)
    file.write(models.times(3.0))
    hand.run(2)

    assert answer(loader) == 3.0
    assert loader.health() == PartHealth("ready")


def test_a_model_that_came_as_the_old_one_became_too_old_serves(hand, file):
    loader, log = watching(hand, file, max_stale=60.0)
    file.write(BAD)
    with pytest.raises(ms.ModelLoadError):
        loader.reload()
    hand.clock.advance(100)
    care = loader._core._care

    def stale():
        del care.stale
        was = care.stale()
        file.write(models.times(3.0))
        loader.reload()
        return was

    care.stale = stale
    loader._core.tick()

    assert answer(loader) == 3.0
    assert len(log.of(Retired)) == 1


def test_the_same_model_does_too_and_is_not_made_again(hand, file):
    loader, log = stale(hand, file)
    file.write(models.times(2.0))
    hand.run(2)

    assert answer(loader) == 2.0
    assert reads(log) == 1
    assert [type(event) for event in told(log)] == [Loaded, LoadFailed, Retired, Loaded]


def test_what_was_too_old_and_serves_again_is_nothing_to_go_back_to(hand, file):
    loader, _ = stale(hand, file)
    file.write(models.times(2.0))
    hand.run(2)

    with pytest.raises(ms.ModelLoadError, match="no version to roll back to"):
        loader.rollback()


def test_what_was_too_old_is_kept_no_longer_than_others(hand, file):
    loader, _ = stale(hand, file)
    old = weakref.ref(loader._shelf.aside)
    for factor in (3.0, 4.0):
        assert old() is not None
        file.write(models.times(factor))
        hand.run(2)

    until(lambda: gc.collect() >= 0 and old() is None)


def test_so_does_a_rollback(hand, file):
    loader, _ = watching(hand, file, max_stale=60.0)
    file.write(models.times(3.0))
    hand.run(5)
    file.write(BAD)
    hand.run(70)
    loader.rollback()
    hand.run(100)

    assert answer(loader) == 2.0
    assert loader.health() == PartHealth("ready")


def test_a_cache_does_not_answer_for_a_model_that_is_too_old(hand, file):
    loader, _ = watching(hand, file, max_stale=60.0)
    cache = ms.PredictionCache(loader, maxsize=8)
    cache(rows(1))
    file.write(BAD)
    hand.run(70)

    with pytest.raises(ms.ModelLoadError, match="no model young enough"):
        cache(rows(1))


# Rollback


def test_what_was_rolled_back_does_not_come_back(hand, file):
    loader, log = watching(hand, file)
    two = loader.version
    file.write(models.times(3.0))
    hand.run(2)
    loader.rollback()
    hand.run(10)
    seen = tearing(loader, file, 0)
    file.stamp()  # the same bytes once more
    hand.run(10)

    assert len(seen) == 1
    assert answer(loader) == 2.0
    assert loader.health() == PartHealth("ready")
    assert log.of(RolledBack) == [RolledBack("ranker", two)]
    file.write(models.times(4.0))
    hand.run(2)
    assert answer(loader) == 4.0
    file.write(models.times(3.0))
    hand.run(2)
    assert answer(loader) == 3.0


@pytest.mark.parametrize("change", [True, False])
def test_a_rollback_while_it_loads_keeps_what_was_rolled_back_from_coming_back(hand, file, change):
    loader, _ = watching(hand, file)
    file.write(models.times(3.0))
    hand.run(2)
    fetch = loader._core._source.fetch

    def roll_back(now, device):
        loader._core._source.fetch = fetch
        loader.rollback()
        return fetch(now, device)

    loader._core._source.fetch = roll_back
    if change:
        file.write(models.times(4.0))
    else:
        file.stamp()
    hand.run(2)
    assert answer(loader) == 2.0
    hand.run(10)

    assert answer(loader) == (4.0 if change else 2.0)
    assert loader.health() == PartHealth("ready")


def test_a_rollback_loads_what_is_there_when_asked_to(hand, file):
    loader, _ = watching(hand, file)
    file.write(models.times(3.0))
    hand.run(2)
    loader.rollback()
    loader.reload()

    assert answer(loader) == 3.0


def test_a_function_is_not_called_after_a_rollback_until_asked_to(hand):
    source = GatedSource(hex, oct, bin, str)
    source.gate.open()
    loader = ms.ModelLoader(source, reload=60.0, clock=hand.clock)
    loader.get()
    hand.run(70)
    assert loader.rollback() == "1"
    hand.run(1_000)
    assert (loader.version, source.calls) == ("1", 2)
    assert loader.reload() == "3"
    hand.run(70)

    assert loader.version == "4"


# First loads


def test_a_background_loader_tries_again_by_itself(hand):
    source = GatedSource(OSError("gone"), ValueError("bad"), hex)
    source.gate.open()
    loader = seed(ms.ModelLoader(source, mode="background", clock=hand.clock, name="ranker"))
    join_loads()
    assert loader.health().state == "failed"
    hand.run(10)

    assert loader.health() == PartHealth("ready")
    assert loader(10) == "0xa"
    assert (hand.tended, source.calls) == (0, 3)


def test_a_background_loader_waits_for_its_file(hand, file):
    file.write(BAD)
    log = EventLog()
    loader = seed(
        ms.ModelLoader(file.path, mode="background", clock=hand.clock, on_event=log, reload=60.0)
    )
    join_loads()
    hand.run(100)
    assert len(log.of(LoadFailed)) == 1
    file.write(models.times(2.0))
    hand.run(5)

    assert loader.health() == PartHealth("ready")
    assert hand.tended == 1


@pytest.mark.parametrize("mode", ["lazy", "eager"])
def test_others_wait_for_their_callers(hand, mode):
    source = GatedSource(OSError("gone"), hex)
    source.gate.open()
    with pytest.raises(ms.ModelLoadError):
        ms.ModelLoader(source, mode=mode, reload=1.0, clock=hand.clock).get()

    assert hand.tended == 0


# Ends


def test_a_closed_loader_is_looked_after_no_more_until_it_is_opened_again(hand, file):
    loader, _ = watching(hand, file)
    tick = loader._core.tick
    loader.close()
    assert hand.tended == 0
    assert tick() is None
    file.write(models.times(3.0))
    with loader:
        assert answer(loader) == 3.0
        assert hand.tended == 1
        file.write(models.times(4.0))
        hand.run(2)
        assert answer(loader) == 4.0


def test_closing_while_it_reloads_leaves_it_closed(hand, file):
    loader, _ = watching(hand, file)
    fetch = loader._core._source.fetch

    def close_and_fetch(now, device):
        loader.close()
        return fetch(now, device)

    loader._core._source.fetch = close_and_fetch
    file.write(models.times(3.0))
    hand.run(2)

    assert loader.health() == PartHealth("closed")
    assert hand.tended == 0
    assert loader.version is None


def test_closing_while_it_first_loads_leaves_it_closed(hand):
    source = GatedSource(OSError("gone"))
    loader = ms.ModelLoader(source, mode="background", clock=hand.clock)
    source.gate.wait_entered()
    loader.close()
    source.gate.open()
    join_loads()

    assert hand.tended == 0
    assert loader.health() == PartHealth("closed")


def test_a_loader_without_a_rule_is_not_looked_after(hand, file):
    loader, _ = watching(hand, file, reload=None)
    file.write(BAD)
    with pytest.raises(ms.ModelLoadError):
        loader.reload()

    assert hand.tended == 0
    assert loader.health().state == "degraded"


def test_what_a_failed_load_made_is_kept_by_nobody_who_keeps_the_error():
    made, log = [], EventLog()

    class Model:
        def __call__(self, x):
            raise ValueError(x)

    def load():
        model = Model()
        made.append(weakref.ref(model))
        return model

    loader = ms.ModelLoader(load, warmup=[1], on_event=log, name="ranker")
    with pytest.raises(ms.ModelLoadError) as caught:
        loader.get()

    assert isinstance(caught.value.__cause__, ValueError)
    assert len(log.of(LoadFailed)) == 1
    until(lambda: gc.collect() >= 0 and made[0]() is None)


def test_an_error_that_is_kept_holds_no_version_that_served(hand, file):
    loader, log = watching(hand, file)
    version = weakref.ref(loader._shelf.now)
    file.write(BAD)
    hand.run(2)
    loader.close()

    assert len(log.of(LoadFailed)) == 1
    until(lambda: gc.collect() >= 0 and version() is None)
