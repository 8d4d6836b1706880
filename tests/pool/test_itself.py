"""A model whose own load asks the pool for it."""

import asyncio

import pytest

import modelserve as ms


async def asked(handle):
    with ms.request(timeout=10):
        return await handle.acall("x")


def at_once(handle):
    with ms.request(timeout=10):
        return handle("x")


@pytest.mark.parametrize("ask", [at_once, lambda handle: asyncio.run(asked(handle))])
def test_it_is_told_so_and_does_not_hang(ask):
    caught = []

    def load():
        try:
            ask(pool["a"])
        except ms.ModelLoadError as error:
            caught.append(str(error))
        return str.upper

    pool = ms.ModelPool(
        lambda name: ms.PredictionCache(ms.ModelLoader(load, name=name), maxsize=8),
        budget=100,
        weigh=lambda _: 10,
    )

    assert pool["a"]("x") == "X"
    assert len(caught) == 1
    assert "'a' is asked for by its own load" in caught[0]


def test_others_may_be_asked_for():
    def load(name):
        return ms.ModelLoader(lambda: pool["b"] if name == "a" else str.upper, name=name)

    pool = ms.ModelPool(load, budget=100, weigh=lambda _: 10)

    assert pool["a"]("x") == "X"
