"""Lazy, eager and in the background; what health says of each."""

import asyncio
import re

import pytest

import modelserve as ms
from modelserve.events import Loaded, LoadFailed, Retired, RolledBack, StageDone
from modelserve.predictor import PartHealth
from modelserve.testing import EventLog, FakeClock
from tests.loader.crowds import LIMIT, Crowd, GatedSource, start, told, until


def test_a_lazy_loader_is_cold_until_it_is_used():
    made = []
    loader = ms.ModelLoader(lambda: made.append(1) or hex)

    assert loader.health() == PartHealth("cold")
    assert made == []
    assert loader(10) == "0xa"
    assert loader.health() == PartHealth("ready")


def test_an_eager_loader_is_ready_at_once():
    loader = ms.ModelLoader(lambda: hex, mode="eager")

    assert loader.version == "1"
    assert loader.health() == PartHealth("ready")


def test_an_eager_loader_raises_at_construction():
    with pytest.raises(ms.ModelLoadError, match="'<lambda>' could not be loaded: KeyError") as e:
        ms.ModelLoader(lambda: {}["absent"], mode="eager")
    assert isinstance(e.value.__cause__, KeyError)


def test_an_eager_loader_without_its_file_is_refused_at_construction():
    message = "'absent.onnx' does not exist: pass the path of a model file"
    with pytest.raises(ms.ModelLoadError, match=re.escape(message)):
        ms.ModelLoader("absent.onnx", mode="eager")


def test_a_background_loader_loads_while_the_service_starts():
    source = GatedSource(hex)
    loader = ms.ModelLoader(source, mode="background")
    source.gate.wait_entered()

    assert loader.health() == PartHealth("loading")
    assert not ms.health(loader).ready
    crowd = Crowd(4, loader, loader.acall)
    source.gate.open()
    assert crowd.answers() == [hex(i) for i in range(8)]
    assert loader.health() == PartHealth("ready")
    assert source.calls == 1


def test_a_background_loader_that_fails_says_why_and_tries_anew_at_the_next_call():
    source = GatedSource(OSError("secret://user:password@host"), hex)
    log = EventLog()
    loader = ms.ModelLoader(source, mode="background", name="ranker", on_event=log)
    source.gate.open_one()
    until(lambda: loader.health().state != "loading")

    reason = "'ranker' could not be loaded: OSError was raised on the way"
    assert loader.health() == PartHealth("failed", reason)
    assert not ms.health(loader).ready
    [failed] = log.of(LoadFailed)
    assert str(failed.error) == reason
    source.gate.open_one()
    assert loader(10) == "0xa"
    assert loader.health() == PartHealth("ready")


def test_opening_loads():
    with ms.ModelLoader(lambda: hex) as loader:
        assert loader.version == "1"

    async def main():
        async with ms.ModelLoader(lambda: hex) as loader:
            return loader.version

    assert asyncio.run(main()) == "1"


def test_opening_raises_what_loading_raises():
    loader = ms.ModelLoader({}.popitem, name="ranker")
    with pytest.raises(ms.ModelLoadError, match="'ranker' could not be loaded: KeyError"):
        loader.open()
    with pytest.raises(ms.ModelLoadError, match="'ranker' could not be loaded: KeyError"):
        asyncio.run(loader.aopen())
    assert loader.health() == PartHealth("closed")


@pytest.mark.parametrize("opening", ["open", "aopen"])
def test_opening_in_the_background_mode_only_begins(opening):
    source = GatedSource(hex)
    loader = ms.ModelLoader(source, mode="background")
    if opening == "open":
        loader.open()
    else:
        asyncio.run(loader.aopen())
    assert loader.version is None
    source.gate.open()
    assert loader(10) == "0xa"
    loader.open()

    assert loader(10) == "0xa"
    assert source.calls == 1


def test_health_shows_a_failed_reload_until_one_succeeds():
    source = GatedSource(hex, ValueError("broken"), oct)
    source.gate.open()
    loader = ms.ModelLoader(source, name="ranker")
    loader(1)
    with pytest.raises(ms.ModelLoadError):
        loader.reload()

    reason = "'ranker' could not be loaded: ValueError was raised on the way"
    assert loader.health() == PartHealth("degraded", reason)
    assert ms.health(loader).ready
    loader.reload()
    assert loader.health() == PartHealth("ready")


def test_closed_is_closed_whatever_else():
    source = GatedSource(hex, ValueError("broken"))
    source.gate.open()
    loader = ms.ModelLoader(source)
    loader(1)
    with pytest.raises(ms.ModelLoadError):
        loader.reload()
    loader.close()

    assert loader.health() == PartHealth("closed")


def test_events_come_in_order_with_their_times():
    clock, log = FakeClock(), EventLog()
    source = GatedSource(hex, ValueError("broken"), oct)

    def load():
        clock.advance(0.5)
        return source()

    source.gate.open()
    loader = ms.ModelLoader(load, name="ranker", clock=clock, on_event=log)
    loader(1)
    with pytest.raises(ms.ModelLoadError) as caught:
        loader.reload()
    loader.reload()
    loader.rollback()
    loader.close()

    assert told(log) == [
        Loaded("ranker", "1", 0.5),
        LoadFailed("ranker", caught.value, 0.5),
        Loaded("ranker", "2", 0.5),
        Retired("ranker", "1"),
        RolledBack("ranker", "1"),
        Retired("ranker", "2"),
        Retired("ranker", "1"),
    ]


def test_a_version_serves_and_its_elder_is_retired_before_anybody_is_told():
    def hook(event):
        if isinstance(event, StageDone):
            return
        stamps.append(loader.stamp())
        seen.append([stamp.retired > 0 for stamp in stamps])

    stamps, seen = [], []
    source = GatedSource(hex, oct)
    source.gate.open()
    loader = ms.ModelLoader(source, on_event=hook)
    loader(10)
    loader.reload()

    assert [stamp.version for stamp in stamps] == ["1", "2", "2"]
    assert seen == [[False], [True, False], [True, False, False]]


def test_a_hook_that_raises_hurts_nobody(caplog):
    def hook(event):
        raise ValueError("the hook is broken")

    source = GatedSource(hex, KeyError("k"), oct)
    source.gate.open()
    loader = ms.ModelLoader(source, on_event=hook)

    assert loader(10) == "0xa"
    with pytest.raises(ms.ModelLoadError):
        loader.reload()
    assert loader.reload() == "2"
    assert loader(10) == "0o12"
    assert caplog.text.count("ValueError: the hook is broken") == 8


def test_a_hook_may_use_the_loader():
    def hook(event):
        if not isinstance(event, StageDone):
            seen.append((type(event), loader(10)))

    seen = []
    source = GatedSource(hex, oct)
    source.gate.open()
    loader = ms.ModelLoader(source, on_event=hook)
    assert start(loader, 10).result(LIMIT) == "0xa"
    start(loader.reload).result(LIMIT)
    start(loader.rollback).result(LIMIT)

    assert seen == [
        (Loaded, "0xa"),
        (Loaded, "0o12"),
        (Retired, "0o12"),
        (RolledBack, "0xa"),
        (Retired, "0xa"),
    ]


def test_a_hook_may_roll_back_what_it_does_not_like(caplog):
    def hook(event):
        if event == Loaded("ranker", "2", 0.0):
            loader.rollback()
            loader.reload()

    source = GatedSource(hex, oct)
    source.gate.open()
    loader = ms.ModelLoader(source, name="ranker", on_event=hook, clock=FakeClock())
    loader(10)
    start(loader.reload).result(LIMIT)

    assert (loader.version, loader(10)) == ("1", "0xa")
    assert "'ranker' asks for itself while it loads" in caplog.text


def test_a_hook_that_asks_for_a_model_that_failed_to_load_does_not_hang(caplog):
    source = GatedSource(KeyError("k"))
    source.gate.open()
    loader = ms.ModelLoader(source, name="ranker", on_event=lambda event: loader(10))
    with pytest.raises(ms.ModelLoadError, match="could not be loaded: KeyError"):
        start(loader.reload).result(LIMIT)

    assert "'ranker' asks for itself while it loads" in caplog.text
