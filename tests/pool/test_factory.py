"""Who makes the models: each is made once, however many ask for it first."""

import pytest

import modelserve as ms
from tests.pool.shelves import LIMIT, gate, start


def ten(_):
    return 10


def test_many_who_ask_first_get_one_predictor_that_was_made_once():
    made = []
    factory = gate()

    def give_slowly(name):
        made.append(name)
        factory(name)
        return str.upper

    pool = ms.ModelPool(give_slowly, budget=100, weigh=ten)
    asks = [start(pool.__getitem__, "a") for _ in range(4)]
    other = start(pool.__getitem__, "b")
    factory.wait_entered(2)
    factory.open()

    assert len({id(ask.result(LIMIT)) for ask in asks}) == 1
    assert other.result(LIMIT) is pool["b"]
    assert sorted(made) == ["a", "b"]
    assert not pool._turns.taken


def test_a_factory_may_ask_for_others_and_fail_and_be_asked_again():
    models = {}
    pool = ms.ModelPool(lambda name: models[name](name), budget=100, weigh=ten)
    with pytest.raises(KeyError):
        pool["both"]
    models |= {"both": lambda _: ms.predictor(pool["one"].__call__), "one": lambda _: str.upper}

    assert pool["both"]("a") == "A"
    assert list(pool) == ["one", "both"]
    assert not pool._turns.taken
