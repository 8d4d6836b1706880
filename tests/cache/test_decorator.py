import asyncio
import pickle

import pytest

import modelserve as ms
from modelserve.cache._options import Options


@ms.cached(maxsize=8)
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


class Service:
    def __init__(self, end):
        self.end = end
        self.calls = 0

    @ms.cached(maxsize=8)
    def answer(self, x):
        self.calls += 1
        return x + self.end


def test_a_decorated_function_is_a_cache_and_keeps_its_name():
    assert isinstance(shout, ms.PredictionCache)
    assert (shout.__name__, shout.__doc__) == ("shout", "Say it louder.")
    assert shout("a") == "A"


def test_an_async_function_is_decorated_the_same_way():
    @ms.cached(maxsize=8)
    async def shout(x):
        return x.upper()

    assert asyncio.run(shout.acall("a")) == shout("a") == "A"
    assert shout.stats.hits == 1


def test_options_reach_the_cache():
    @ms.cached(store={}, ttl=5.0, key=str.lower, version="1", name="c", clock=lambda: 0.0)
    def length(x):
        return len(x)

    assert [length("a"), length("A")] == [1, 1]
    assert (length.name, length.stats.hits) == ("c", 1)
    with pytest.raises(ValueError, match="pass one of maxsize, max_bytes and store"):
        ms.cached()(len)


def test_every_option_of_the_cache_is_one_of_the_decorator():
    cache = ms.PredictionCache(str.upper, maxsize=8)

    assert set(cache._spec.options) == set(Options.__annotations__)


def test_a_method_has_a_cache_an_instance():
    one, other = Service("!"), Service("?")

    assert [one.answer("a"), one.answer("a"), other.answer("a")] == ["a!", "a!", "a?"]
    assert (one.calls, other.calls) == (1, 1)
    assert one.answer is one.answer
    assert one.answer.stats.hits == 1


def test_caches_stack_over_batchers():
    @ms.cached(maxsize=8)
    @ms.batched(max_batch_size=4)
    def double(xs):
        return [2 * x for x in xs]

    assert list(double.map([1, 2, 1])) == [2, 4, 2]
    assert double.__name__ == "double"


def test_a_decorated_function_pickles_by_name():
    assert pickle.loads(pickle.dumps(shout)) is shout  # noqa: S301 - our own
