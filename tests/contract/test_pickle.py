"""Every primitive travels to another process: cold, and made of the same parts."""

import copy
import pickle

import pytest

import modelserve as ms
from tests.contract.calling import exercise
from tests.contract.leaves import answer
from tests.contract.primitives import every


def pickled(p):
    return pickle.loads(pickle.dumps(p))  # noqa: S301 - our own bytes


@pytest.mark.parametrize("travel", [pickled, copy.deepcopy])
@every()
def test_a_pickled_one_arrives_cold_and_answers(case, travel):
    p = case.make(case.leaf())
    cold = ms.describe(p)
    exercise(p, "a", "b")
    shown = ms.describe(p)
    twin = travel(p)

    assert ms.describe(twin) == cold
    assert repr(twin) == repr(case.make(case.leaf()))
    assert twin("a") == answer("a")
    assert ms.describe(p) == shown


@every()
def test_a_closed_one_arrives_open(case):
    p = case.make(case.leaf())
    p.close()

    assert pickled(p)("a") == answer("a")
