"""Room: who goes for whom, who stays, and what is refused, by the numbers."""

import pytest

import modelserve as ms
from modelserve.events import Admitted, Evicted
from modelserve.testing import EventLog
from tests.pool.shelves import LIMIT, Shelf, gate, start, told, until


def loaded(pool):
    return set(pool.stats.loaded)


def test_who_was_idle_longest_goes_for_another():
    log = EventLog()
    with told(300, on_event=log) as (pool, shelf, clock):
        for name in "abc":
            pool[name](1)
            clock.advance(1.0)
        pool["a"](1)
        pool["d"](1)

        assert loaded(pool) == {"a", "c", "d"}
        assert shelf.peak <= 300
        assert log.of(Evicted) == [Evicted("b", {"all": 100}, "room")]
        assert log.of(Admitted)[-1] == Admitted("d", {"all": 100}, {"all": 100}, 0.0)


def test_who_is_called_right_now_stays_before_who_is_idle():
    calls = gate()
    with told(200, Shelf(calls=calls, a=100, b=100, c=100)) as (pool, _, clock):
        busy = start(pool["a"], 1)
        calls.wait_entered()
        clock.advance(50.0)
        pool["b"].start()
        clock.advance(1.0)
        pool["c"].start()

        assert loaded(pool) == {"a", "c"}
        calls.open()
        assert busy.result(LIMIT) == ("a", 1, 1)


def test_a_model_larger_than_the_budget_is_refused_with_the_numbers():
    with told(300, Shelf(a=100, huge=1_301)) as (pool, shelf, _):
        pool["a"](1)
        with pytest.raises(
            ms.ModelLoadError, match=r"'huge' is expected to take 1,301 bytes .* is 300 bytes"
        ):
            pool["huge"](1)

        assert loaded(pool) == {"a"}
        assert "huge" not in shelf.loads


def test_a_model_that_turns_out_larger_than_the_budget_is_let_go_and_evicts_nobody():
    with told(300, Shelf(a=100, huge=301), size=lambda name: 50) as (pool, shelf, _):
        pool["a"](1)
        with pytest.raises(ms.ModelLoadError, match=r"'huge' takes 301 bytes .* is 300 bytes"):
            pool["huge"](1)
        with pytest.raises(ms.ModelLoadError, match="expected to take 301"):
            pool["huge"](1)

        assert loaded(pool) == {"a"}
        assert shelf.loads["huge"] == 1
        until(lambda: shelf.alive() == 100)


def test_who_takes_more_than_was_expected_makes_others_go_when_it_is_there():
    with told(300, Shelf(a=100, b=100, c=250), size=lambda name: 100) as (pool, _, clock):
        for name in "abc":
            pool[name](1)
            clock.advance(1.0)
        until(lambda: pool.stats.nbytes == {"all": 250})

        assert loaded(pool) == {"c"}


def test_young_models_stay_also_for_who_takes_more_than_was_expected():
    shelf = Shelf(a=100, c=250)
    with told(300, shelf, size=lambda name: 100, min_residency=5.0) as (pool, _, clock):
        pool["a"](1)
        for retry_after in (5.0, 5.0):
            with pytest.raises(ms.Overloaded, match="others may go in 5 s") as refused:
                pool["c"](1)
            assert refused.value.retry_after == retry_after
        assert loaded(pool) == {"a"}
        assert shelf.loads["c"] == 1
        clock.advance(5.0)
        assert pool["c"](1)[0] == "c"


def test_who_takes_more_than_others_can_give_is_refused():
    with (
        told(300, Shelf(a=100, c=250), size=lambda name: 100) as (pool, _, _),
        pool.lease("a"),
        pytest.raises(ms.Overloaded, match="50 bytes of all are missing: all others are leased"),
    ):
        pool["c"](1)


def test_leased_and_pinned_models_stay_and_nobody_goes_for_nothing():
    with told(300, Shelf(a=100, b=100, c=100, big=150), pinned=["b"]) as (pool, shelf, _):
        pool["b"](1)
        pool["c"](1)
        with pool.lease("a") as a:
            with pytest.raises(ms.Overloaded, match="'big' takes 150 bytes") as refused:
                pool["big"](1)
            assert a(1) == ("a", 1, 1)

        assert (refused.value.reason, refused.value.retry_after) == ("leased", None)
        assert loaded(pool) == {"a", "b", "c"}
        assert pool.stats.refused == 1
        assert pool["big"](1)[0] == "big"
        assert loaded(pool) == {"b", "big"}
        assert shelf.peak <= 300


def test_young_models_stay_and_callers_are_told_when_to_come_back():
    with told(200, min_residency=10.0) as (pool, _, clock):
        pool["a"](1)
        clock.advance(4.0)
        pool["b"](1)
        with pytest.raises(ms.Overloaded, match=r"others may go in 6 s") as refused:
            pool["c"](1)

        assert (refused.value.reason, refused.value.retry_after) == ("residency", 6.0)
        clock.advance(6.0)
        assert pool["c"](1)[0] == "c"
        assert loaded(pool) == {"b", "c"}


def test_budgets_are_kept_for_each_memory_space():
    weights = {"a": {"cpu": 10, "cuda:0": 60}, "b": {"cuda:0": 60}, "c": {"cpu": 80}}
    pool = ms.ModelPool(
        lambda name: ms.ModelLoader(lambda: str.upper, name=name),
        budget={"cpu": 100, "cuda:0": 100},
        weigh=lambda p: weights[p.name],
        size=weights.__getitem__,
    )
    with pool:
        for name in "abc":
            pool[name]("x")

        assert pool.stats.loaded == ("b", "c")
        assert pool.stats.nbytes == {"cpu": 80, "cuda:0": 60}
        assert "80 of 100 bytes of cpu, 60 of 100 bytes of cuda:0" in pool.describe()
