"""Where models go: never over what is free, pins kept, replicas apart, and always the same."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.placing import Ask, Policy, Space, order, place

NAMES = ("cuda:0", "cuda:1", "cuda:2", "cpu")
policies = st.builds(Policy, st.floats(0.0, 0.5), st.booleans())


@st.composite
def inventories(draw):
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    totals = [draw(st.integers(0, 200)) for _ in names]
    return [Space(n, t, draw(st.integers(0, t))) for n, t in zip(names, totals, strict=True)]


asks = st.lists(
    st.builds(
        Ask,
        st.sampled_from("abcdefgh"),
        st.integers(0, 120),
        st.integers(1, 4),
        st.one_of(st.none(), st.sampled_from(NAMES)),
    ),
    max_size=8,
    unique_by=lambda ask: ask.name,
)


@given(asks, inventories(), policies)
def test_no_device_holds_more_than_is_free_less_its_headroom(models, devices, policy):
    plan = place(models, devices, policy)
    sizes = {ask.name: ask.nbytes for ask in models}
    held = Counter()
    for name, where in plan.places.items():
        held.update(dict.fromkeys(where, 0))
        for device in where:
            held[device] += sizes[name]
    for device in devices:
        room = max(device.free - round(policy.headroom * device.total), 0)
        assert held[device.name] <= room
        assert plan.left[device.name] == room - held[device.name]


@given(asks, inventories(), policies)
def test_every_model_is_placed_with_all_replicas_or_refused_with_its_bytes(models, devices, policy):
    plan = place(models, devices, policy)

    assert {*plan.places, *plan.refused} == {ask.name for ask in models}
    assert not {*plan.places} & {*plan.refused}
    for ask in models:
        if ask.name in plan.places:
            assert len(plan.places[ask.name]) == ask.replicas
        else:
            assert f"needs {ask.nbytes:,} bytes" in plan.refused[ask.name]


@given(asks, inventories(), policies)
def test_pins_are_kept_and_nothing_spills_that_must_not(models, devices, policy):
    plan = place(models, devices, policy)
    for ask in models:
        where = set(plan.places.get(ask.name, ()))
        if ask.pin is not None:
            assert where <= {ask.pin}
        elif not policy.spill:
            assert "cpu" not in where


@given(asks, inventories(), policies)
def test_replicas_share_a_device_only_where_no_other_has_room(models, devices, policy):
    plan = place(models, devices, policy)
    for ask in models:
        where = plan.places.get(ask.name, ())
        if ask.pin is None and len(set(where)) < len(where):
            others = set(plan.left) - set(where) - {"cpu"}
            assert all(plan.left[device] < ask.nbytes for device in others)


@given(asks, inventories(), policies)
def test_who_is_refused_would_not_fit_beside_the_others(models, devices, policy):
    plan = place(models, devices, policy)
    for ask in models:
        if ask.name in plan.refused and ask.replicas == 1:
            may = {ask.pin} if ask.pin else set(plan.left) - (set() if policy.spill else {"cpu"})
            assert all(plan.left[device] < ask.nbytes for device in may & set(plan.left))


@given(asks, inventories(), policies, st.randoms())
def test_the_plan_does_not_depend_on_the_order(models, devices, policy, rng):
    plan = place(models, devices, policy)
    rng.shuffle(models)
    rng.shuffle(devices)

    again = place(models, devices, policy)

    assert (again.places, again.left) == (plan.places, plan.left)
    assert again.refused.keys() == plan.refused.keys()


GPUS = [Space("cuda:0", 100, 100), Space("cuda:1", 100, 60), Space("cpu", 1000, 1000)]
FULL = Policy(headroom=0.0)


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (Ask("a", 50), ("cuda:1",)),
        (Ask("a", 70), ("cuda:0",)),
        (Ask("a", 110), ("cpu",)),
        (Ask("a", 50, pin="cuda:0"), ("cuda:0",)),
        (Ask("a", 50, pin="cpu"), ("cpu",)),
        (Ask("a", 50, replicas=2), ("cuda:1", "cuda:0")),
        (Ask("a", 20, replicas=3), ("cuda:1", "cuda:0", "cuda:1")),
        (Ask("a", 50, replicas=4), ("cuda:1", "cuda:0", "cuda:0", "cpu")),
    ],
)
def test_best_fit_then_apart_then_together_then_the_cpu(model, where):
    assert place([model], GPUS, FULL).places == {"a": where}


def test_the_largest_is_placed_first_so_that_all_fit():
    plan = place([Ask("s", 40), Ask("m", 60), Ask("l", 100)], GPUS[:2], FULL)

    assert plan.places == {"l": ("cuda:0",), "m": ("cuda:1",)}
    assert plan.refused == {"s": "needs 40 bytes; cuda:0 has 0, cuda:1 has 0"}


def test_a_pinned_model_has_its_place_before_larger_ones():
    plan = place([Ask("large", 100), Ask("small", 10, pin="cuda:0")], GPUS, FULL)

    assert plan.places == {"large": ("cpu",), "small": ("cuda:0",)}


def test_what_is_refused_says_why():
    plan = place(
        [Ask("a", 90, replicas=3), Ask("b", 90, pin="cuda:1"), Ask("c", 9, pin="cuda:7")],
        GPUS,
        Policy(headroom=0.0, spill=False),
    )

    assert plan.refused == {
        "a": "needs 90 bytes for each of 3 replicas (1 fit); "
        "cuda:0 has 100, cuda:1 has 60, cpu has 1,000",
        "b": "needs 90 bytes on cuda:1, to which it is pinned; cuda:1 has 60",
        "c": "needs 9 bytes on cuda:7, to which it is pinned; there is no such device",
    }
    assert plan.left == {"cuda:0": 100, "cuda:1": 60, "cpu": 1000}


def test_headroom_is_a_share_of_the_whole_device():
    plan = place([Ask("a", 41)], [Space("cuda:0", 100, 60)], Policy(headroom=0.2))

    assert plan.left == {"cuda:0": 40}
    assert plan.places == {}


def test_one_model_is_tried_where_it_leaves_least_and_on_the_cpu_last():
    spaces = [Space("cpu", 50, 50), Space("a", 100, 90), Space("b", 100, 60), Space("c", 100, 20)]

    assert order(40, spaces, Policy(0.1)) == ("b", "a", "cpu")
    assert order(40, spaces, Policy(0.1, spill=False)) == ("b", "a")
    assert order(46, spaces, Policy(0.1)) == ("b", "a")
    assert order(1000, spaces, Policy(0.1)) == ()


def test_one_of_unknown_bytes_is_tried_where_most_is_free():
    spaces = [Space("cpu", 500, 500), Space("a", 100, 60), Space("b", 100, 90), Space("c", 9, 60)]

    assert order(None, spaces, Policy(0.0)) == ("b", "a", "c", "cpu")
    assert order(None, spaces, Policy(0.0, spill=False)) == ("b", "a", "c")
