"""A primitive that had run works on in a forked child."""

import os
import select
import warnings

import pytest

from tests.contract.calling import FACES, LIMIT, exercise
from tests.contract.leaves import answer
from tests.contract.primitives import every


def in_child(work):
    """Fork, and return what ``work()`` writes: its repr, or its error's."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads run: that is the point
        child = os.fork()
    if not child:
        try:
            said = repr(work())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], LIMIT)
        if not ready:
            os.kill(child, 9)
        return os.read(reader, 10_000).decode() if ready else f"nothing in {LIMIT} s"
    finally:
        os.close(reader)
        os.waitpid(child, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@every()
def test_a_forked_child_answers_by_every_face(case):
    p = case.make(case.leaf())
    exercise(p, "a")

    assert in_child(lambda: [ask(p, "b") for ask in FACES]) == repr([answer("b")] * 4)
    assert p("c") == answer("c")
