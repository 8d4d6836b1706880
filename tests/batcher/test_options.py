import inspect

import modelserve as ms
from modelserve.batcher._options import Options


def test_what_can_be_told_is_what_the_constructor_takes():
    parameters = inspect.signature(ms.DynamicBatcher.__init__).parameters.values()
    takes = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]

    assert list(Options.__annotations__) == takes
