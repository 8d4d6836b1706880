"""Loaders that are closed, also while they load, and opened again."""

import asyncio

import pytest

import modelserve as ms
from modelserve.loader._version import Fetched
from tests.loader.crowds import LIMIT, Crowd, GatedSource, start, until


def loader_of(*models, **options):
    """Make a loader of one model after the other."""
    source = GatedSource(*models)
    source.gate.open()
    return ms.ModelLoader(source, name="ranker", **options)


@pytest.mark.parametrize("used", [True, False])
def test_a_closed_loader_answers_nobody(used):
    loader = loader_of(hex)
    if used:
        loader(10)
    loader.close()

    async def aget():
        await loader.aget()

    asks = [lambda: loader(10), loader.get, loader.reload, loader.rollback]
    for ask in [*asks, lambda: asyncio.run(loader.acall(10)), lambda: asyncio.run(aget())]:
        with pytest.raises(ms.Closed, match="'ranker' is closed: open it again"):
            ask()
    assert loader.version is None


def test_closing_lets_the_model_go_and_retires_it():
    loader = loader_of(hex, oct, bin)
    loader.reload()
    loader.reload()
    stamp = loader.stamp()
    loader.close()

    assert stamp.retired > 0
    assert loader.stamp() is None
    with loader, pytest.raises(ms.ModelLoadError, match="no version to roll back to"):
        loader.rollback()


def test_opening_again_loads_again():
    loader = loader_of(hex, oct)
    with loader:
        assert loader(10) == "0xa"
    with loader:
        assert loader(10) == "0o12"


def test_a_version_that_comes_back_is_revived():
    loader = loader_of(hex, hex, version="v1")
    with loader:
        stamp = loader.stamp()
    assert stamp.retired > 0
    with loader:
        assert loader.stamp() is stamp
        assert stamp.retired == 0


def test_closing_while_loading_lets_everybody_go():
    source = GatedSource(hex, oct)
    loader = ms.ModelLoader(source, name="ranker")
    crowd = Crowd(8, loader, loader.acall)
    until(lambda: len(loader._core._waiting or ()) == 16)
    loader.close()
    source.gate.open()

    assert {str(error) for error in crowd.answers()} == {
        "'ranker' is closed: open it again with `with predictor:`"
    }
    assert loader.version is None
    assert loader.stats.loads == 0
    with loader:
        assert loader(10) == "0o12"


def test_closing_while_reloading_keeps_it_closed():
    source = GatedSource(hex, oct)
    loader = ms.ModelLoader(source, name="ranker")
    source.gate.open_one()
    loader(10)
    reload = start(loader.reload)
    source.gate.wait_entered(2)
    loader.close()
    source.gate.open()

    with pytest.raises(ms.Closed, match="'ranker' is closed"):
        reload.result(LIMIT)
    assert loader.stamp() is None


def test_a_load_that_ends_after_closing_and_opening_again_serves():
    source = GatedSource(hex)
    loader = ms.ModelLoader(source, name="ranker")
    first = start(loader, 10)
    source.gate.wait_entered()
    loader.close()
    opening = start(loader.open)
    until(lambda: len(loader._core._waiting or ()) == 2)
    source.gate.open()

    assert first.result(LIMIT) == "0xa"
    opening.result(LIMIT)
    assert source.calls == 1


def test_an_unchanged_model_of_a_loader_closed_meanwhile_is_not_served():
    class Source:
        name = "ranker"
        is_file = False

        def fetch(self, now, device):
            if now is not None:
                loader.close()
            return None if now else Fetched(hex, "v1", "v1", 0)

        def identity(self):
            return 1

    loader = loader_of()
    loader._core._maker._source = Source()
    loader(10)
    with pytest.raises(ms.Closed):
        loader.reload()
    assert loader.stamp() is None
