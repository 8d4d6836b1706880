import asyncio
import gc
import pickle

import cachetools
import numpy as np
import pytest

import modelserve as ms
from modelserve.cache._s3fifo import S3Fifo
from modelserve.testing import FakeClock, GatedPredictor
from tests.cache.asking import counted, outcome, start, until


def test_a_bound_in_entries_is_kept_and_what_is_asked_for_again_stays():
    cache = counted(maxsize=2)
    made = {x: cache(x) for x in "ab"}
    assert [cache("a"), cache("a")] == [made["a"]] * 2
    cache("c")

    assert cache("a") == made["a"]
    assert cache("b") != made["b"]
    assert cache.stats.entries == 2


def test_a_bound_in_bytes_counts_keys_answers_and_what_keeps_them():
    cache = ms.PredictionCache(np.zeros, max_bytes=100_000, name="cache")
    for _ in range(2):
        assert [len(y) for y in cache.map(range(1_000, 1_040))] == list(range(1_000, 1_040))

    stats = cache.stats
    assert 8 <= stats.entries <= 11
    assert 8_000 * stats.entries < stats.bytes <= 100_000
    assert "% of memory" in cache.summary()


def test_a_key_weighs_as_much_as_it_is_long():
    cache = ms.PredictionCache(len, max_bytes=10_000)
    for n in range(10):
        cache("a" * (1_500 + n))

    assert cache.stats.entries == 5


def test_an_answer_larger_than_the_bound_is_given_and_not_kept():
    cache = ms.PredictionCache(np.zeros, max_bytes=10_000)
    cache(10)

    assert len(cache(2_000)) == 2_000
    assert (cache.stats.entries, cache.stats.unstored) == (1, 1)


class Weightless(str):
    """An answer that fails when it is weighed."""

    __slots__ = ()

    def __sizeof__(self):
        raise ZeroDivisionError("of the user's")


def test_who_waits_is_told_when_an_answer_cannot_be_weighed():
    cache = ms.PredictionCache(lambda x: Weightless(x), max_bytes=10_000)  # noqa: PLW0108 - a class is no predictor
    with pytest.raises(ZeroDivisionError):
        cache("a")

    many = list(cache.map(["a", "b"], return_exceptions=True))
    assert [type(y) for y in many] == [ZeroDivisionError] * 2
    with pytest.raises(OSError, match="model"):
        ms.PredictionCache(failing, max_bytes=1).map(["a", "b"]).__next__()


def failing(x):
    raise OSError("the model fails")


def test_parts_of_an_input_have_keys_by_encoders():
    cache = counted(maxsize=8, encoders={set: sorted})

    assert cache([{1, 2}]) == cache([{2, 1}]) != cache([[1, 2]])


STORES = {
    "dict": dict,
    "LRU": lambda: cachetools.LRUCache(8),
    "LFU": lambda: cachetools.LFUCache(8),
    "FIFO": lambda: cachetools.FIFOCache(8),
    "RR": lambda: cachetools.RRCache(8),
    "TTL": lambda: cachetools.TTLCache(8, ttl=3600.0),
    "TLRU": lambda: cachetools.TLRUCache(8, ttu=lambda key, entry, now: now + 3600.0),
}


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_any_mapping_is_a_store(make):
    store = make()
    cache = counted(store=store)
    made = [cache(x) for x in "ab"]

    assert [cache(x) for x in "ab"] == made
    assert cache.stats[:3] == (2, 2, 2)
    assert len(store) == 2


KINDS = ["dict", "LRU", "S3-FIFO"]


@pytest.mark.parametrize(
    "make", [dict, lambda: cachetools.LRUCache(3), lambda: S3Fifo(3)], ids=KINDS
)
def test_what_makes_room_is_counted(make):
    cache = counted(store=make())
    for x in "abcdeabcde":
        cache(x)

    stats = cache.stats
    assert stats.evicted == stats.misses - stats.entries


def test_what_takes_the_place_of_its_elder_evicts_nobody():
    clock = FakeClock()
    cache = counted(maxsize=3, ttl=1.0, clock=clock)
    for _ in range(5):
        cache("a")
        clock.advance(2.0)

    assert (cache.stats.expired, cache.stats.entries, cache.stats.evicted) == (4, 1, 0)


def test_a_store_measures_answers_by_its_own_rule():
    store = cachetools.LRUCache(100, getsizeof=lambda entry: entry.value.nbytes)
    cache = ms.PredictionCache(np.zeros, store=store, name="cache")
    cache(10)

    assert store.currsize == 80
    cache(5)
    assert (store.currsize, cache.stats.entries) == (40, 1)


def test_an_answer_larger_than_the_whole_store_is_given_and_not_kept():
    store = cachetools.LRUCache(100, getsizeof=lambda entry: entry.value.nbytes)
    cache = ms.PredictionCache(np.zeros, store=store, name="cache")

    assert [len(cache(1000)), len(cache(1000))] == [1000, 1000]
    assert [len(y) for y in cache.map([1000, 2])] == [1000, 2]
    assert cache.stats == (1, 0, 4, 0, 0, 0, 3, 0, 0, 0)


class Failing(dict):
    """A store that fails, at reading or at writing."""

    def __init__(self, reads, writes):
        self.fails = {"reads": reads, "writes": writes}

    def __getitem__(self, key):
        if self.fails["reads"]:
            raise OSError("cannot read")
        return super().__getitem__(key)

    def __setitem__(self, key, value):
        if self.fails["writes"]:
            raise OSError("cannot write")
        super().__setitem__(key, value)


@pytest.mark.parametrize("fails", [(True, False), (False, True)])
def test_a_store_that_fails_fails_the_call_and_leaves_nobody_waiting(fails):
    store = Failing(*fails)
    cache = counted(store=store)
    for ask in (cache, lambda x: list(cache.map([x, "b"])), lambda x: asyncio.run(cache.acall(x))):
        assert isinstance(outcome(start(ask, "a")), OSError)
    store.fails = dict.fromkeys(store.fails)

    assert outcome(start(cache, "a"))[0] == "a"


def test_who_joined_gets_the_error_of_the_store():
    gate = GatedPredictor()
    cache = ms.PredictionCache(gate, store=Failing(reads=False, writes=True))
    leader = start(cache, "a")
    gate.wait_entered()
    follower = start(cache, "a")
    until(lambda: cache.stats.joins == 1)
    gate.open()

    assert {type(outcome(leader)), type(outcome(follower))} == {OSError}


def test_two_caches_share_no_store():
    store = {}
    one = counted(store=store)
    with pytest.raises(ValueError, match="store= belongs to another cache"):
        counted(store=store)

    assert one("a") == ("a", 1)
    del one
    gc.collect()
    assert counted(store=store).stats.entries == 1


def test_a_decorated_method_has_no_store():
    class Service:
        @ms.cached(store={})
        def answer(self, x):
            return x

    with pytest.raises(ValueError, match="over a decorated method maxsize="):
        _ = Service().answer


def echo(x):
    return [x]


def test_a_pickled_cache_brings_no_answers_along():
    cache = ms.PredictionCache(echo, store={}, name="cache")
    cache("a")
    twin = pickle.loads(pickle.dumps(cache))  # noqa: S301 - our own

    assert twin("a") == ["a"]
    assert twin.stats[:3] == (1, 0, 1)
    assert cache("a") == ["a"]
    assert cache.stats.hits == 1
