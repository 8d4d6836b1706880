"""Who goes: no more than need be, nobody who is kept or young, and nobody for nothing."""

from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.eviction import Held, plan

SPACES = ("cpu", "cuda:0")
sizes = st.dictionaries(st.sampled_from(SPACES), st.integers(0, 100), max_size=2)
seconds = st.floats(0.0, 100.0)


@st.composite
def pools(draw):
    count = draw(st.integers(0, 7))
    return [
        Held(str(i), draw(sizes), draw(seconds), draw(seconds), draw(seconds), draw(st.booleans()))
        for i in range(count)
    ]


def freed(held, names):
    gone = [model for model in held if model.name in names]
    return {space: sum(m.nbytes.get(space, 0) for m in gone) for space in SPACES}


def covers(free, need):
    return all(free[space] >= n for space, n in need.items())


@given(pools(), sizes, seconds)
def test_a_plan_frees_what_is_needed_or_says_what_is_missing_and_evicts_nobody(held, need, young):
    made = plan(held, need, residency=young)
    able = {m.name for m in held if not m.kept and m.age >= young}
    most = freed(held, able)
    if covers(most, need):
        assert covers(freed(held, made.victims), need)
        assert made.short == {}
    else:
        assert made.victims == ()
        assert made.short == {s: n - most[s] for s, n in need.items() if n > most[s]}


@given(pools(), sizes, seconds)
def test_nobody_goes_who_is_kept_or_young_or_not_needed(held, need, young):
    made = plan(held, need, residency=young)
    by_name = {model.name: model for model in held}

    assert len(set(made.victims)) == len(made.victims)
    for name in made.victims:
        assert not by_name[name].kept
        assert by_name[name].age >= young
        assert not covers(freed(held, set(made.victims) - {name}), need)


@given(pools(), sizes, seconds, st.randoms())
def test_a_plan_does_not_depend_on_the_order_of_models(held, need, young, rng):
    shuffled = list(held)
    rng.shuffle(shuffled)

    assert plan(shuffled, need, residency=young) == plan(held, need, residency=young)


@given(pools(), sizes, seconds)
def test_after_the_wait_there_is_enough_and_without_one_no_time_will_do(held, need, young):
    made = plan(held, need, residency=young)
    if not made.short:
        return
    later = 1e6 if made.wait is None else made.wait + 1e-9
    aged = [model._replace(age=model.age + later) for model in held]

    assert bool(plan(aged, need, residency=young).short) is (made.wait is None)


def one(name, *, idle=10.0, nbytes=50, cost=1.0):
    return Held(name, {"cpu": nbytes}, idle, age=100.0, cost=cost)


def first(*models):
    [name] = plan(models, {"cpu": 50}).victims
    return name


def test_who_is_idle_longest_goes_first():
    assert first(one("a", idle=1.0), one("idle", idle=9.0)) == "idle"


def test_who_takes_most_goes_first():
    assert first(one("a"), one("large", nbytes=60)) == "large"


def test_who_comes_back_at_the_least_cost_goes_first():
    assert first(one("a", cost=30.0), one("quick", cost=0.1)) == "quick"


def test_who_is_called_goes_last():
    assert first(one("busy", idle=0.0, nbytes=500, cost=0.0), one("idle", cost=60.0)) == "idle"


def test_names_decide_between_equals():
    assert first(one("b"), one("a"), one("c")) == "a"


def test_a_small_one_chosen_first_stays_when_the_next_is_enough_alone():
    small, large = one("small", idle=1000.0, nbytes=10), one("large", nbytes=60)

    assert plan([small, large], {"cpu": 60}).victims == ("large",)
    assert plan([small, large], {"cpu": 61}).victims == ("small", "large")


def test_bytes_in_a_space_that_is_not_needed_count_for_nothing():
    there, here = Held("there", {"cuda:0": 900}, 99, 99, 1), Held("here", {"cpu": 50}, 1, 99, 1)

    assert plan([there, here], {"cpu": 50}).victims == ("here",)
    assert plan([there, here], {"cpu": 50, "cuda:0": 0}).victims == ("here",)


def test_nothing_needed_evicts_nobody():
    assert plan([one("a")], {"cpu": 0}) == ((), {}, None)
    assert plan([], {}) == ((), {}, None)


def test_a_residency_without_end_has_no_wait():
    assert plan([one("a")], {"cpu": 5}, residency=float("inf")).wait is None
