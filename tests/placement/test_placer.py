"""The placer: a plan for the devices that are there when it is asked for."""

import pytest

import modelserve as ms
from modelserve.placement import Ask
from modelserve.pool import ModelPool
from tests.support.allocator import FakeDevice


def gpu(index, total, free):
    return ms.Device(f"cuda:{index}", total, free)


def test_models_are_given_by_their_bytes_or_with_wishes():
    placer = ms.DevicePlacer(headroom=0.0, inventory=lambda: [gpu(0, 100, 100), gpu(1, 100, 60)])

    assert placer.plan({"a": 50}).places == {"a": ("cuda:1",)}
    assert placer.plan([Ask("a", 50, pin="cuda:0")]).places == {"a": ("cuda:0",)}
    assert placer.plan({}).places == placer.plan([]).places == {}


def test_every_plan_asks_for_the_devices_anew():
    free = iter([100, 10])
    placer = ms.DevicePlacer(headroom=0.0, inventory=lambda: [gpu(0, 100, next(free))])

    assert placer.plan({"a": 50}).places == {"a": ("cuda:0",)}
    assert placer.plan({"a": 50}).refused == {"a": "needs 50 bytes; cuda:0 has 10"}


@pytest.mark.parametrize("headroom", [-0.1, 1.0, float("nan")])
def test_a_headroom_that_is_no_share_is_refused(headroom):
    with pytest.raises(ValueError, match="pass a share in"):
        ms.DevicePlacer(headroom=headroom)


def test_two_models_of_one_name_are_refused():
    with pytest.raises(ValueError, match="have one name"):
        ms.DevicePlacer(inventory=list).plan([Ask("a", 1), Ask("a", 2)])


def test_by_default_it_places_on_this_machine():
    plan = ms.DevicePlacer().plan({"tiny": 1})

    assert len(plan.places["tiny"]) == 1


def test_a_plan_fills_fake_devices_and_each_allocation_holds():
    devices = {name: FakeDevice(name, total) for name, total in (("cuda:0", 100), ("cuda:1", 60))}
    asks = [Ask("a", 50, replicas=2), Ask("b", 10), Ask("c", 40)]
    inventory = [ms.Device(d.name, d.total, d.free) for d in devices.values()]
    plan = ms.DevicePlacer(headroom=0.0, inventory=lambda: inventory).plan(asks)
    sizes = {ask.name: ask.nbytes for ask in asks}
    for name, where in plan.places.items():
        for place in where:
            devices[place].allocate(sizes[name])

    assert {d.name: d.free for d in devices.values()} == plan.left
    assert plan.refused == {}


def test_the_free_bytes_of_devices_are_a_budget_of_a_pool():
    budget = {device.name: device.free for device in ms.devices() if device.free}
    pool = ModelPool(lambda name: str.upper, budget=budget, weigh=lambda p: {"cpu": 10})
    with pool:
        assert pool["a"]("x") == "X"
        assert pool.stats.nbytes["cpu"] == 10
