"""The two laws of nesting, where they can be seen and where a closure hides them."""

import pytest

import modelserve as ms
from tests.contract.calling import by_every_face
from tests.contract.leaves import Batch, Hiding, answer
from tests.contract.primitives import batch, cache, every

OUTER = {
    "DynamicBatcher": lambda p: ms.DynamicBatcher(p, name="outer"),
    "PredictionCache": lambda p: ms.PredictionCache(p, maxsize=8, name="outer"),
}
REMEDY = r"put (a|the) (cache|batcher) (inside|around)|keep one of the two"
HIDDEN = {"DynamicBatcher": lambda call: batch(Batch(call)), "PredictionCache": cache}


@pytest.mark.parametrize("outer", OUTER)
@every()
def test_made_over_another_it_is_refused_or_not(case, outer):
    p = case.make(case.leaf())
    if outer in case.not_below:
        with pytest.raises(ms.NestingError, match=REMEDY):
            OUTER[outer](p)
    else:
        assert OUTER[outer](p).parts == {p.name: p}


@by_every_face
@pytest.mark.parametrize("outer", OUTER)
@every()
def test_hidden_in_a_function_it_is_refused_at_the_call_or_answers(case, outer, ask):
    hidden = case.make(case.leaf())
    p = HIDDEN[outer](Hiding(hidden))
    if outer in case.not_inside:
        with pytest.raises(ms.NestingError, match=repr(hidden.name)):
            ask(p, "a")
    else:
        assert ask(p, "a") == answer("a")
