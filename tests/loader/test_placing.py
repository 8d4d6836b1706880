"""Where models go: to the device that is named, that a placer finds, or the next one."""

import weakref
from functools import partial

import numpy as np
import pytest

import modelserve as ms
from modelserve import placement
from modelserve.events import Loaded
from modelserve.loader._placing import Placing
from modelserve.predictor import relieve
from modelserve.testing import EventLog
from tests.support.allocator import FakeDevice

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
META, CPU = ms.Device("meta", 1000, 1000), ms.Device("cpu", 1000, 1000)
ROW = np.ones((1, 2), np.float32)


@pytest.fixture(autouse=True)
def no_other_pools(monkeypatch):
    """Let no pool that another test has left make room."""
    monkeypatch.setattr(relieve, "_known", weakref.WeakSet())


def placer(*devices, **options):
    return ms.DevicePlacer(inventory=lambda: devices, **options)


def linear():
    return torch.nn.Linear(2, 1, bias=False)


@pytest.fixture
def weights(tmp_path):
    torch.save(linear().state_dict(), path := tmp_path / "ranker.pt")
    return path


class Heavy(torch.nn.Linear):
    """A module that takes memory of fake devices when it moves, and frees it when it goes."""

    def __init__(self, machine, nbytes=80):
        super().__init__(2, 1, bias=False)
        self._machine = machine
        self._nbytes = nbytes
        self._block = None

    def to(self, device):
        self.__del__()
        there = self._machine[device]
        self._block = there, there.allocate(self._nbytes)
        return self

    def __del__(self):
        block, self._block = self.__dict__.get("_block"), None
        if block is not None:
            block[0].release(block[1])


def machine(*devices):
    return {device.name: device for device in devices}


@pytest.mark.parametrize("name", ["gpu 0", "CUDA:0", "cuda:", "cuda:x", ""])
def test_a_word_that_names_no_device_is_refused_at_construction(name):
    with pytest.raises(ValueError, match="pass 'auto', 'cpu', 'cuda:0' or a DevicePlacer"):
        ms.ModelLoader(linear, device=name)


def test_a_device_that_is_not_there_is_refused_before_the_load(monkeypatch):
    monkeypatch.setattr(placement, "devices", lambda: (CPU,))
    made = []
    loader = ms.ModelLoader(lambda: made.append(1), name="ranker", device="cuda")

    with pytest.raises(ms.ModelLoadError) as caught:
        loader.get()
    assert str(caught.value) == "'ranker' cannot be put on cuda:0: there are cpu"
    assert made == []


def test_a_module_goes_to_the_device_that_is_named(monkeypatch):
    monkeypatch.setattr(placement, "devices", lambda: (META, CPU))
    loader = ms.ModelLoader(linear, device="meta", name="ranker")

    assert loader.get().weight.is_meta


def test_weights_go_to_the_device_that_is_named_and_every_report_says_so(monkeypatch, weights):
    monkeypatch.setattr(placement, "devices", lambda: (META, CPU))
    log = EventLog()
    loader = ms.ModelLoader(weights, factory=linear, device="meta", name="ranker", on_event=log)

    assert loader.stats.device is None
    assert loader.get().weight.is_meta
    assert loader.stats.device == "meta"
    assert [event.device for event in log.of(Loaded)] == ["meta"]
    assert f"version {loader.version} on meta, 1 loads" in ms.describe(loader)


def test_the_cpu_is_always_there(weights):
    loader = ms.ModelLoader(weights, factory=linear, device="cpu")

    assert loader(ROW).shape == (1, 1)
    assert loader.stats.device == "cpu"
    assert ms.ModelLoader(lambda: str.upper, device="cpu")("a") == "A"


def test_what_cannot_be_moved_is_refused_where_it_is_not(monkeypatch, tmp_path):
    monkeypatch.setattr(placement, "devices", lambda: (META, CPU))
    np.savez(tmp_path / "scaler.npz", scale=np.ones(2))
    for source, why in (
        (lambda: str.upper, "as it is made for cpu: let the function that makes it put it there"),
        (tmp_path / "scaler.npz", "what reads its file runs on the CPU alone here"),
    ):
        loader = ms.ModelLoader(source, predict=lambda m, x: x, device="meta", name="m")
        with pytest.raises(ms.ModelLoadError, match=why):
            loader.get()


def test_a_placer_chooses_by_the_size_of_the_file(weights):
    full = ms.Device("cuda:0", 10**6, 10)
    room = ms.Device("meta", 10**6, 10**6)
    loader = ms.ModelLoader(weights, factory=linear, device=placer(full, room, CPU))

    assert loader.get().weight.is_meta


def test_a_folder_of_versions_is_placed_too(tmp_path):
    (tmp_path / "ranker" / "3").mkdir(parents=True)
    torch.save(linear().state_dict(), tmp_path / "ranker" / "3" / "ranker.pt")
    big = ms.Device("meta", 10**6, 10**6)
    loader = ms.ModelLoader(tmp_path / "ranker", factory=linear, device=placer(big))

    assert loader.get().weight.is_meta
    assert loader.version == "3"


def test_a_placer_that_finds_no_room_says_the_numbers(weights):
    loader = ms.ModelLoader(weights, factory=linear, name="m", device=placer(META, headroom=0.9))
    with pytest.raises(ms.ModelLoadError, match=r"found no device .* needs .* meta has 100$"):
        loader.get()


def test_what_runs_on_the_cpu_alone_needs_one(tmp_path):
    np.savez(tmp_path / "scaler.npz", scale=np.ones(2))
    big = ms.Device("cuda:0", 10**6, 10**6)
    options = {"predict": lambda m, x: x, "name": "scaler"}
    loader = ms.ModelLoader(tmp_path / "scaler.npz", device=placer(big), **options)
    with pytest.raises(ms.ModelLoadError, match="it runs on the CPU alone"):
        loader.get()

    cpu = ms.Device("cpu", 10**6, 10**6)
    on_cpu = ms.ModelLoader(tmp_path / "scaler.npz", device=placer(big, cpu), **options)
    assert list(on_cpu.get()) == ["scale"]


def test_files_of_modules_go_to_a_gpu_by_default_if_there_is_one(monkeypatch, weights):
    big = ms.Device("meta", 10**6, 10**6)
    monkeypatch.setattr(
        placement, "DevicePlacer", partial(ms.DevicePlacer, inventory=lambda: [big])
    )

    assert ms.ModelLoader(weights, factory=linear).get().weight.is_meta
    assert not ms.ModelLoader(linear).get().weight.is_meta


@pytest.mark.parametrize("free", [0, 10**6])
def test_by_default_the_cpu_is_never_refused(monkeypatch, weights, free):
    cpu = ms.Device("cpu", free, free)
    monkeypatch.setattr(
        placement, "DevicePlacer", partial(ms.DevicePlacer, inventory=lambda: [cpu])
    )

    assert ms.ModelLoader(weights, factory=linear)(ROW).shape == (1, 1)


def test_what_runs_out_of_memory_goes_to_the_next_device():
    there = machine(FakeDevice("cuda:0", 50), FakeDevice("cuda:1", 100), FakeDevice("cpu", 1000))
    inventory = [ms.Device(name, 1000, 1000 - n) for n, name in enumerate(there)]
    loader = ms.ModelLoader(lambda: Heavy(there), device=placer(*inventory))
    loader.get()

    assert [device.free for device in there.values()] == [50, 20, 1000]
    assert loader.stats.failures == 0


def test_what_runs_out_of_memory_while_it_is_warmed_goes_to_the_next_device():
    there = machine(FakeDevice("cuda:0", 100), FakeDevice("cuda:1", 300), FakeDevice("cpu", 1000))
    inventory = [ms.Device(name, 1000, 1000 - n) for n, name in enumerate(there)]

    def call(module, x):
        device, _ = module._block
        device.release(device.allocate(100))
        return x

    loader = ms.ModelLoader(
        lambda: Heavy(there), predict=call, warmup=[1], device=placer(*inventory)
    )

    assert loader(2) == 2
    assert [device.free for device in there.values()] == [100, 220, 1000]


def test_idle_models_of_a_pool_go_first():
    there = machine(FakeDevice("cuda:0", 100, delay=0))
    gpu = ms.Device("cuda:0", 1000, 1000)

    def load(_):
        return ms.ModelLoader(lambda: Heavy(there), predict=lambda m, x: x, device=placer(gpu))

    with ms.ModelPool(load, budget={"cuda:0": 1000}, weigh=lambda _: {"cuda:0": 80}) as pool:
        assert pool["a"](1) == 1
        assert pool["b"](2) == 2
        assert pool.stats.loaded == ("b",)
        with pool.lease("b"), pytest.raises(ms.ModelLoadError) as caught:
            pool["a"](1)
        assert pool.stats.loaded == ("b",)

    assert "found no device with enough memory (cuda:0: " in str(caught.value)


def test_pools_spare_what_is_young_and_what_is_elsewhere():
    there = {"weigh": lambda _: {"cuda:0": 8}, "budget": {"cuda:0": 100}}
    old = ms.ModelPool(lambda name: str.upper, **there)
    young = ms.ModelPool(lambda name: str.upper, min_residency=1e6, **there)
    old["a"]("x")
    young["a"]("x")

    assert not old.relieve("cuda:1")
    assert relieve("cuda:0")
    assert (old.stats.loaded, young.stats.loaded) == ((), ("a",))


def test_a_failure_for_want_of_memory_is_tried_again_later():
    device = FakeDevice("cuda:0", 100, fail_at={1})
    there = machine(device)
    gpu = ms.Device("cuda:0", 1000, 1000)
    loader = ms.ModelLoader(lambda: Heavy(there), device=placer(gpu))
    with pytest.raises(ms.ModelLoadError, match="found no device with enough memory"):
        loader.get()
    assert device.free == 100
    loader.get()

    assert device.free == 20


def test_without_a_word_nothing_is_placed():
    class Source:
        is_file = False

    assert Placing("m", "auto").through(Source(), lambda device: device) is None
