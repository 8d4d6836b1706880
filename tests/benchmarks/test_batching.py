"""The benchmark of batchers runs, and its oracle and limits are what they are said to be."""

import asyncio
import importlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def part(monkeypatch):
    """Import a part of the benchmark, as its script does."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return lambda name: importlib.import_module(f"_batching.{name}")


def test_oracle_takes_all_that_came_while_the_device_was_busy(part):
    # Each batch takes 1 s and 0.5 s an item. The first runs alone from 0 to 1.5; by then two more
    # came, which run from 1.5 to 3.5; the last finds the device idle.
    latencies = part("oracle").oracle([0.0, 0.5, 1.5, 10.0], lambda n, _: 1 + n / 2, 32)
    assert latencies == [1.5, 3.0, 2.0, 1.5]


def test_oracle_keeps_to_the_largest_batch(part):
    # Three at once, two at a time, a second each time.
    assert part("oracle").oracle([0.0, 0.0, 0.0], lambda n, now: 1.0, 2) == [1.0, 1.0, 2.0]


def test_oracle_is_as_late_as_the_device_was_at_the_time(part):
    oracle = part("oracle")
    runs = [oracle.Run(0.0, 1.0, 1), oracle.Run(5.0, 8.0, 1)]
    service = oracle.measured(runs, lambda n: n * 1.0)
    assert [service(1, 0.0), service(2, 0.0), service(1, 4.0), service(1, 9.0)] == [1, 2, 3, 3]


def test_growth_is_nothing_in_balance_and_what_came_unserved_in_excess(part):
    oracle = part("oracle")
    arrivals = [i / 100 for i in range(800)]
    assert oracle.growth(arrivals, [0.5] * 800, 8.0) == pytest.approx(0, abs=1)
    # Nobody is served, so 100 a second pile up; the two quarters lie 4 s apart.
    assert oracle.growth(arrivals, [100.0] * 800, 8.0) == pytest.approx(400, abs=1)


def test_trace_is_the_same_for_everybody_and_has_the_asked_rate(part):
    poisson = part("oracle").poisson
    assert poisson(100, 5.0, seed=1) == poisson(100, 5.0, seed=1) != poisson(100, 5.0, seed=2)
    assert poisson(100, 5.0, seed=1)[0] > 0
    assert 9_000 < len(poisson(1_000, 10.0, seed=1)) < 11_000


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.75, 3), (0.76, 4), (1.0, 4)])
def test_quantile_is_one_of_the_values(part, share, value):
    assert part("oracle").quantile([4, 1, 3, 2], share) == value


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(
    "adapter",
    ["limit", "modelserve", "modelserve, in a request", "naive", "leaking control"],
)
def test_every_contestant_answers_each_caller_and_batches(part, adapter, is_async):
    cost = asyncio.run(
        part("null").null(adapter, is_async=is_async, callers=16, calls=160, max_wait=0.0)
    )
    assert cost.cpu_us > 0
    assert cost.rate > 0
    assert 1 < cost.batch <= 16


def test_limit_on_the_loop_runs_what_came_in_a_turn_as_one_batch(part):
    batches = []

    async def model(xs):
        batches.append(list(xs))
        return [x * 10 for x in xs]

    async def main():
        async with part("limits").inline(model) as call:
            return await asyncio.gather(*(call(x) for x in range(5))), await call(5)

    assert asyncio.run(main()) == ([0, 10, 20, 30, 40], 50)
    assert batches == [[0, 1, 2, 3, 4], [5]]


def test_limit_in_a_thread_keeps_to_the_largest_batch_and_ends(part):
    sizes = []

    def model(xs):
        sizes.append(len(xs))
        return [x * 10 for x in xs]

    async def main():
        async with part("limits").thread(model, max_batch_size=4) as call:
            return await asyncio.gather(*(call(x) for x in range(10)))

    assert asyncio.run(main()) == [x * 10 for x in range(10)]
    assert sum(sizes) == 10
    assert max(sizes) <= 4


def test_check_of_memory_catches_a_leak_and_nothing_else(part):
    kept = part("upkeep").kept
    leak = asyncio.run(kept("leaking control", calls=6_400, is_async=True))
    sound = asyncio.run(kept("naive", calls=6_400, is_async=True))
    assert leak.blocks > 100
    assert sound.blocks < 50


def test_stalled_model_keeps_no_more_than_the_bound(part):
    upkeep = part("upkeep")
    ours = asyncio.run(upkeep.stalled("modelserve", calls=2_000, max_wait=0.0))
    naive = asyncio.run(upkeep.stalled("naive", calls=2_000, max_wait=0.0))
    assert ours.waiting <= upkeep.MAX_QUEUE_SIZE + upkeep.MAX_BATCH_SIZE
    assert naive.waiting == 2_000


def test_overload_counts_what_happened_after_the_first_second(part):
    overload, oracle = part("overload"), part("oracle")
    device = SimpleNamespace()
    fates = [
        ("answered", 0.1, 0.15),  # too early to count
        ("answered", 1.20, 1.25),
        ("answered", 1.20, 1.35),  # late
        ("let go", 1.30, 1.40),
        ("refused", 1.50, 1.50005),
    ]
    callers = []
    for verdict, started, ended in fates:
        caller = overload.Caller()
        caller.verdict, caller.started, caller.ended = verdict, started, ended
        callers.append(caller)
    device.runs = [
        oracle.Run(0.1, 0.15, 1),
        oracle.Run(1.21, 1.25, 2),
        oracle.Run(1.45, 1.5, 1),
    ]
    device.items = [[0], [1, 2], [3]]
    judged = overload.Ended(device, 0.0, callers, 2.0).judge(saturated=10.0, capacity=20.0)
    assert (judged.goodput, judged.of_saturated, judged.of_capacity) == (1.0, 0.1, 0.05)
    assert judged.expired == 1
    assert judged.wasted == pytest.approx(2 / 3)
    assert judged.refused == 1 / 4
    assert judged.refusal_p50 == pytest.approx(50)


def test_load_is_set_beside_an_oracle_of_the_same_trace(part, monkeypatch):
    load = part("load")
    monkeypatch.setattr(load, "FIXED", 0.001)
    monkeypatch.setattr(load, "PER_ITEM", 0.0)
    found = asyncio.run(load.served("modelserve", load=0.01, seconds=0.1, seed=1, max_wait=0.0))
    assert found.oracle_p99 >= 1.0
    assert found.ratio == pytest.approx(found.p99 / found.oracle_p99)
    assert found.batch >= 1


def test_device_runs_one_batch_at_a_time_and_says_when(part):
    with part("device").Device(0.001, 0.001) as device:
        with ThreadPoolExecutor() as pool:
            assert list(pool.map(device, [[1], [2, 3]])) == [[1], [2, 3]]
        assert device.nominal(2) == 0.003
        assert device.capacity(batches=1) <= 32 / device.nominal(32)
    first, second, full = device.runs
    assert first.end <= second.start <= second.end <= full.start
    assert [run.size for run in device.runs] == [len(items) for items in device.items]
    assert first.end - first.start >= device.nominal(first.size)


def test_search_for_the_sustained_load_ends_at_a_load_that_it_tried(part, monkeypatch):
    load = part("load")
    monkeypatch.setattr(load, "FIXED", 0.01)
    monkeypatch.setattr(load, "PER_ITEM", 0.0)
    found = asyncio.run(load.sustained("naive", probes=1, seconds=0.1, seed=1, max_wait=0.0))
    assert found.share in {load.LOWEST, (load.LOWEST + load.HIGHEST) / 2}


@pytest.mark.parametrize("adapter", ["preformed", "unbatched", "limit", "modelserve", "naive"])
def test_mlp_answers_each_row(part, monkeypatch, tmp_path, adapter):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    for name in ("fleet", "mlp"):
        monkeypatch.setattr(part(name), "ENVIRONMENTS", tmp_path)
    mlp = part("mlp")
    mlp.build("8-16-4")
    assert asyncio.run(mlp.mlp(adapter, model="8-16-4", calls=256, max_wait=0.0)).rate > 0


def test_verdict_is_of_the_median_and_no_figure_holds_nothing(part):
    tables = part("tables")
    figure = tables.sum_up([3.0, None, 1.0, 2.0])
    assert (figure.median, figure.low, figure.high) == (2.0, 1.5, 2.5)
    assert tables.judged("x", figure, tables.at_most(2))["verdict"] == "holds"
    assert tables.judged("x", figure, tables.at_least(2.1))["verdict"] == "does not hold"
    missing = tables.judged("x", tables.sum_up([None]), tables.at_most(2))
    assert missing["verdict"] == "not measured"
    assert tables.ratios([4.0, None, 1.0], [2.0, 1.0, None]) == [2.0, None, None]


def test_contestant_that_hangs_or_is_missing_has_a_row_that_says_so(part):
    fleet_of, tables = part("fleet"), part("tables")
    with fleet_of.Fleet([]) as fleet:
        fleet.missing["Ray"] = "not installed: no such version"
        what = {"is_async": True, "callers": 1, "calls": 1, "max_wait": 0.0}
        good = fleet.ask("naive", "null", 60, **what)
        bad = fleet.ask("nobody", "null", 60, **what)
        hangs = {"is_async": True, "max_wait": 0.0, "seconds": 60}
        dead = fleet.ask("naive", "idle", 0.2, **hangs)
        again = fleet.ask("naive", "null", 60, **what)
        missing = fleet.ask("Ray", "null", 60, **what)
    assert good["figures"]["batch"] == 1
    assert tables.note([good, bad]) == "KeyError: 'nobody' (1 of 2 rounds)"
    assert dead == {"error": "no answer in 0.2 s, or died"}
    assert again["figures"]["batch"] == 1
    assert tables.note([missing]) == "not installed: no such version (1 of 1 rounds)"


def test_script_sets_every_figure_beside_its_target(tmp_path):
    figures = tmp_path / "figures.json"
    script = [sys.executable, BENCHMARKS / "batching.py", "--quick", "--only", "null"]
    options = ["--rounds", "1", "--json", figures]
    subprocess.run([*script, *options], check=True, timeout=120)
    tables = json.loads(figures.read_text())["tables"]
    assert len(tables) == 4
    for rows in tables.values():
        ours = [row for row in rows if row["contestant"] == "modelserve"]
        assert [row["callers"] for row in ours] == [1, 64, 512]
        assert {row["verdict"] for row in ours} <= {"holds", "does not hold"}
        assert all(row["figure"][0] > 0 for row in ours)
        assert [row["note"] for row in rows] == [""] * len(rows)
