"""A primitive that had run works on in a forked child."""

import os

import pytest

from tests.contract.calling import FACES, exercise
from tests.contract.leaves import answer
from tests.contract.primitives import every
from tests.support.processes import in_child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@every()
def test_a_forked_child_answers_by_every_face(case):
    p = case.make(case.leaf())
    exercise(p, "a")

    assert in_child(lambda: [ask(p, "b") for ask in FACES]) == repr([answer("b")] * 4)
    assert p("c") == answer("c")
