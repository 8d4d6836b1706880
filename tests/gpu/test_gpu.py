"""What only a real GPU can show; skipped, with the reason in sight, where there is none."""

import gc

import pytest

import modelserve as ms

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")

BLOCK = 256 << 20


def layer(nbytes=BLOCK):
    return torch.nn.Linear(nbytes // 4 // 1024, 1024, bias=False, device="cuda:0")


def give(name):
    return ms.ModelLoader(layer, name=name, version="1")


def test_the_inventory_names_the_gpu_and_its_memory():
    gpu = ms.devices()[0]

    assert gpu.name == "cuda:0"
    assert 0 < gpu.free <= gpu.total == torch.cuda.get_device_properties(0).total_memory
    assert gpu.label == torch.cuda.get_device_name(0)


def test_a_pool_measures_what_is_on_the_gpu_and_gives_it_back():
    torch.ones(1, device="cuda:0")  # the context stays, whoever comes first
    gc.collect()
    torch.cuda.empty_cache()
    before, _ = torch.cuda.mem_get_info(0)
    with ms.ModelPool(give, budget={"cuda:0": 2 * BLOCK}, size=lambda name: BLOCK) as pool:
        for name in "abcd":
            pool[name].start()
            assert pool.stats.nbytes["cuda:0"] <= 2 * BLOCK
        during, _ = torch.cuda.mem_get_info(0)
        assert before - during == pytest.approx(2 * BLOCK, rel=0.2)
    after, _ = torch.cuda.mem_get_info(0)

    assert before - after <= BLOCK // 8


def test_a_load_that_is_larger_than_the_gpu_goes_to_the_cpu():
    from modelserve.placement import climb

    total = torch.cuda.get_device_properties(0).total_memory
    place, _ = climb(
        lambda place: torch.empty(2 * total if place == "cuda:0" else 8, device=place),
        ["cuda:0", "cpu"],
    )

    assert place == "cpu"


def test_weights_of_a_file_go_to_the_gpu_that_is_named(tmp_path):
    torch.save(torch.nn.Linear(2, 1).state_dict(), path := tmp_path / "ranker.pt")
    loader = ms.ModelLoader(path, factory=lambda: torch.nn.Linear(2, 1), device="cuda")

    assert loader(torch.ones(1, 2).numpy()).shape == (1, 1)
    assert loader.stats.device == "cuda:0"


def test_a_file_without_a_word_goes_to_the_gpu(tmp_path):
    torch.save(torch.nn.Linear(2, 1).state_dict(), path := tmp_path / "ranker.pt")
    loader = ms.ModelLoader(path, factory=lambda: torch.nn.Linear(2, 1))
    loader.get()

    assert loader.stats.device.startswith("cuda:")


def test_a_load_that_finds_the_gpu_full_has_idle_models_leave():
    total = torch.cuda.get_device_properties(0).total_memory
    half = total * 6 // 10 // 4096 * 4096

    def load(_):
        return ms.ModelLoader(
            lambda: torch.nn.Linear(half // 4096, 1024, bias=False), device="cuda:0"
        )

    with ms.ModelPool(load, budget={"cuda:0": 4 * total}, size=lambda _: half) as pool:
        pool["a"].start()
        pool["b"].start()
        assert pool.stats.loaded == ("b",)
