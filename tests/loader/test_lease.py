"""Models that are lent, and closed once, when nobody has them any more."""

import asyncio
import os
import threading

import pytest

import modelserve as ms
from modelserve.events import StageDone
from modelserve.loader._reaper import reaper
from modelserve.loader._shelf import HELD_AFTER
from modelserve.predictor import PartHealth
from modelserve.testing import EventLog, FakeClock, GatedPredictor
from tests.loader.crowds import LIMIT, start, until
from tests.loader.tending import join_loads
from tests.support.processes import in_child


class Model:
    """A model that must be closed once, and never while it is used."""

    def __init__(self, number, gate=None):
        self.number = number
        self.closed = 0
        self.used_closed = 0
        self._gate = gate

    def __call__(self, x):
        if self._gate is not None:
            self._gate(x)
        self.used_closed += self.closed
        return self.number

    def close(self):
        self.closed += 1


class Made:
    """Models one after the other, and which of them were closed."""

    def __init__(self, **options):
        self.models = []
        self.gate = options.pop("gate", None)
        self.loader = ms.ModelLoader(self.make, close=Model.close, name="ranker", **options)

    def make(self):
        self.models.append(Model(len(self.models) + 1, self.gate))
        return self.models[-1]

    def closed(self):
        join_loads()
        join_closers()
        return [model.closed for model in self.models]


def join_closers():
    """Wait until what is free is closed."""
    start(reaper.finish).result(LIMIT)


def test_a_model_is_closed_when_it_cannot_come_back():
    made = Made()
    closed = []
    for _ in range(4):
        made.loader.reload()
        closed.append(made.closed())

    assert closed == [[0], [0, 0], [1, 0, 0], [1, 1, 0, 0]]
    made.loader.close()
    assert made.closed() == [1, 1, 1, 1]


def test_a_model_that_was_rolled_back_is_closed():
    made = Made()
    made.loader.reload()
    made.loader.reload()
    made.loader.rollback()

    assert made.closed() == [0, 1]


def test_a_model_that_fails_its_warmup_is_closed():
    made = Made(warmup=[1], predict=lambda model, x: 1 / (2 - model.number))
    made.loader.reload()
    with pytest.raises(ms.ModelLoadError):
        made.loader.reload()

    assert made.closed() == [0, 1]


def test_a_source_that_gives_the_model_that_serves_gives_no_other():
    model = Model(1)
    loader = ms.ModelLoader(lambda: model, close=Model.close)

    assert [loader.reload() for _ in range(4)] == ["1"] * 4
    join_closers()
    assert model.closed == 0


def test_a_model_that_comes_back_is_closed_once_and_not_while_it_serves():
    one, two = Model(1), Model(2)
    models = iter([one, two, one, two, two, one])
    loader = ms.ModelLoader(lambda: next(models), close=Model.close)
    for _ in range(6):
        loader.reload()
        join_closers()
        assert (one.closed, two.closed) == (0, 0)
    with loader.lease():
        loader.close()
        join_closers()
        assert (one.closed, two.closed) == (0, 1)
    join_closers()

    assert (one.closed, two.closed) == (1, 1)


def test_a_lease_keeps_its_model_open_whatever_is_swapped_in():
    made = Made()
    with made.loader.lease() as model:
        for _ in range(3):
            made.loader.reload()
        made.loader.close()
        assert made.closed() == [0, 1, 1, 1]
        assert model(None) == 1

    assert made.closed() == [1, 1, 1, 1]


def test_of_several_leases_the_last_to_leave_lets_go():
    made = Made()
    one, other = made.loader.lease(), made.loader.lease()
    with one as model:
        with other as same:
            assert same is model
            made.loader.close()
        assert made.closed() == [0]
    assert made.closed() == [1]


def test_a_lease_is_to_be_had_on_a_loop():
    async def main():
        async with made.loader.lease() as model:
            made.loader.close()
            return model.number, made.closed()

    made = Made()
    assert asyncio.run(main()) == (1, [0])
    assert made.closed() == [1]


def test_a_lease_is_held_once_at_a_time():
    made = Made()
    lease = made.loader.lease()
    with lease, pytest.raises(RuntimeError, match="this lease is held: ask the loader for another"):
        lease.__enter__()
    with lease as model:
        assert model.number == 1
    lease.__exit__(None, None, None)

    assert made.closed() == [0]


def test_a_lease_leaves_the_version_on_record():
    made = Made()
    with ms.request() as r, made.loader.lease():
        assert r.record == {"ranker.version": "1"}


def test_a_lease_that_is_dropped_inside_lets_go():
    import gc

    made = Made()
    lease = made.loader.lease()
    lease.__enter__()
    made.loader.close()
    assert made.closed() == [0]
    del lease
    gc.collect()

    assert made.closed() == [1]


def test_a_call_in_flight_keeps_its_model_open():
    gate = GatedPredictor()
    made = Made(gate=gate)
    calls = [start(made.loader, 1), start(lambda: asyncio.run(made.loader.acall(1)))]
    gate.wait_entered(2)
    made.loader.close()
    assert made.closed() == [0]
    gate.open()

    assert [call.result(LIMIT) for call in calls] == [1, 1]
    until(lambda: made.closed() == [1])
    assert made.models[0].used_closed == 0


def test_under_swaps_no_model_is_used_closed_and_all_are_closed_once():
    made, over = Made(), threading.Event()

    def use():
        while not over.is_set():
            made.loader(None)
            with made.loader.lease() as model:
                model(None)

    users = [start(use) for _ in range(4)]
    for _ in range(100):
        made.loader.reload()
    over.set()
    for user in users:
        user.result(LIMIT)
    made.loader.close()

    until(lambda: set(made.closed()) == {1})
    assert len(made.models) >= 100
    assert {model.used_closed for model in made.models} == {0}


def test_closing_is_a_stage_and_what_it_raises_is_told(caplog):
    clock, log = FakeClock(), EventLog()

    def close(model):
        clock.advance(0.5)
        raise ValueError("cannot")

    loader = ms.ModelLoader(lambda: hex, close=close, name="ranker", clock=clock, on_event=log)
    loader.get()
    loader.close()
    join_closers()

    assert list(log)[-1] == StageDone("ranker", "close", "1", 0.5)
    assert "version 1 of 'ranker' could not be closed" in caplog.text


# Versions that are held for long


@pytest.mark.parametrize("leases", [1, 2])
def test_who_holds_what_was_let_go_is_told_after_a_while(leases):
    clock = FakeClock()
    made = Made(clock=clock)
    held = [made.loader.lease() for _ in range(leases)]
    for lease in held:
        lease.__enter__()
    for _ in range(3):
        made.loader.reload()
    clock.advance(HELD_AFTER - 1)
    assert made.loader.health() == PartHealth("ready")
    clock.advance(1)

    told = f"version 1 is held by {leases} lease{'s' * (leases > 1)} for 60 s"
    assert made.loader.health() == PartHealth("ready", told)
    assert ms.describe(made.loader).endswith(f"version 4, 3 loads, {told}".replace("3 l", "4 l"))
    for left in reversed(range(leases)):
        held[left].__exit__(None, None, None)
        told = f"version 1 is held by {left} lease for 60 s" if left else ""
        assert made.loader.health() == PartHealth("ready", told)


def test_who_holds_what_was_rolled_back_is_told():
    clock = FakeClock()
    made = Made(clock=clock)
    made.loader.reload()
    made.loader.reload()
    with made.loader.lease():
        made.loader.rollback()
        clock.advance(90)

        assert made.loader.health().reason == "version 2 is held by 1 lease for 90 s"


def test_a_call_in_flight_for_long_is_told():
    clock, gate = FakeClock(), GatedPredictor()
    made = Made(clock=clock, gate=gate)
    call = start(made.loader, 1)
    gate.wait_entered()
    made.loader.reload()
    clock.advance(100)
    assert made.loader.health().reason == ""  # what may come back is not let go
    made.loader.reload()
    clock.advance(70)

    assert made.loader.health().reason == "version 1 is held by a call in flight for 70 s"
    gate.open()
    call.result(LIMIT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_closes_no_model_that_stays_with_its_parent():
    pytest.importorskip("torch", reason="the extra torch is not installed")
    import torch

    closed = []
    device = iter(["meta", "cpu", "meta"])  # meta stands for a GPU
    loader = ms.ModelLoader(
        lambda: torch.nn.Linear(2, 2, device=next(device)),
        predict=lambda module, x: x,
        close=lambda module: closed.append(module.weight.device.type),
    )
    loader.reload()
    loader.reload()

    def work():
        join_closers()
        before = list(closed)
        loader.close()
        join_closers()
        return before, closed

    assert in_child(work) == repr(([], ["cpu"]))
    loader.reload()
    join_closers()
    assert in_child(work) == repr((["meta"], ["meta", "cpu"]))
    join_closers()
    assert closed == ["meta"]


def test_what_stays_with_the_parent_is_closed_by_the_parent():
    class Runtime:
        def after_fork(self, model):
            return "reload"

    made = Made()
    made.loader.reload()
    made.loader._shelf.now.runtime = Runtime()
    made.loader._core.after_fork()

    assert made.loader.version is None
    assert made.closed() == [0]


def test_a_model_of_two_versions_stays_with_the_parent_once():
    class Runtime:
        def after_fork(self, model):
            return "reload"

    one, two = Model(1), Model(2)
    models = iter([one, two, one])
    loader = ms.ModelLoader(lambda: next(models), close=Model.close)
    lease = loader.lease()
    with lease:
        for _ in range(2):
            loader.reload()
            loader._shelf.now.runtime = Runtime()
        lease._version.runtime = Runtime()
        loader._core.after_fork()
    join_closers()

    assert (one.closed, two.closed) == (0, 0)


def test_what_is_held_at_the_fork_stays_with_the_parent_too():
    asked = []

    class Runtime:
        def after_fork(self, model):
            asked.append(model.number)
            return "reload" if model.number == 1 else "keep"

    made = Made()
    leases = [made.loader.lease(), made.loader.lease()]
    for lease in leases:
        made.loader.reload()
        lease.__enter__()
        made.loader._shelf.now.runtime = Runtime()
    for _ in range(3):
        made.loader.reload()
    made.loader._core.after_fork()
    for lease in leases:
        lease.__exit__(None, None, None)

    assert asked == [1, 2]
    assert made.closed() == [0, 1, 1, 0, 0]


def test_what_stays_behind_is_loaded_anew():
    class Runtime:
        def after_fork(self, model):
            return "reload"

    made = Made()
    made.loader.reload()
    made.loader._shelf.now.runtime = Runtime()
    made.loader._core.after_fork()

    made.loader.reload()
    made.loader.close()
    assert made.closed() == [0, 1]
