"""What there is: this machine's CPU, machines from files, and GPUs as torch and the driver tell."""

import os
import stat
import sys
from types import SimpleNamespace

import pytest

import modelserve as ms
from modelserve.placement import _devices
from modelserve.placement._devices import cpu, gpus, of_smi, of_torch
from tests._policy.test_limits import MEMINFO
from tests._policy.test_visible import LIST, QUERY
from tests.support.processes import fresh

linux = pytest.mark.skipif(sys.platform != "linux", reason="this is no Linux")


@linux
def test_this_machine_has_a_processor_and_memory():
    here = ms.devices()[-1]

    assert here.name == "cpu"
    assert 0 < here.free <= here.total
    assert 0 < here.cores <= len(os.sched_getaffinity(0))


def machine(root, **texts):
    """Write the files of a machine; names have __ for / and _dot_ for a dot."""
    for name, text in {"proc__meminfo": MEMINFO, **texts}.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_control_groups_of_version_2_limit_from_the_root_down(tmp_path):
    group = "sys__fs__cgroup__box"
    root = machine(
        tmp_path,
        proc__self__cgroup="0::/box/inner\n",
        **{
            f"{group}__memory_dot_max": "8589934592\n",
            f"{group}__memory_dot_current": "1073741824\n",
            f"{group}__inner__memory_dot_max": "max\n",
            f"{group}__inner__memory_dot_current": "1073741824\n",
            f"{group}__cpu_dot_max": "50000 100000\n",
        },
    )

    assert cpu(root) == ms.Device("cpu", 8 << 30, 7 << 30, cores=0.5)


def test_control_groups_of_version_1_limit_too(tmp_path):
    root = machine(
        tmp_path,
        proc__self__cgroup="4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n",
        sys__fs__cgroup__memory__memory_dot_limit_in_bytes="4294967296\n",
        sys__fs__cgroup__memory__memory_dot_usage_in_bytes="5294967296\n",
        sys__fs__cgroup__cpu__cpu_dot_cfs_quota_us="25000\n",
        sys__fs__cgroup__cpu__cpu_dot_cfs_period_us="100000\n",
    )

    assert cpu(root) == ms.Device("cpu", 4 << 30, 0, cores=0.25)


def test_without_limits_the_machine_is_there_as_a_whole(tmp_path):
    root = machine(tmp_path, proc__self__cgroup="0::/\n")
    here = cpu(root)

    assert (here.total, here.free) == (24_684_084 << 10, 23_700_872 << 10)
    assert here.cores >= 1


def test_a_limit_is_all_that_is_known_where_the_machine_does_not_tell(tmp_path):
    root = machine(tmp_path, sys__fs__cgroup__memory_dot_max="1000\n")
    (root / "proc/meminfo").unlink()

    assert cpu(root)[:3] == ("cpu", 1000, 0)


def test_a_system_that_tells_nothing_has_a_cpu_without_memory(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)

    assert cpu(tmp_path) == ms.Device("cpu", 0, 0, cores=float(os.cpu_count() or 1))


class Torch:
    """What torch tells of two GPUs, one of them a MIG device."""

    class cuda:  # noqa: N801 - its name
        available = True

        @classmethod
        def is_available(cls):
            return cls.available

        @staticmethod
        def device_count():
            return 2

        @staticmethod
        def mem_get_info(index):
            return 70 - index, 80

        @staticmethod
        def get_device_properties(index):
            about = SimpleNamespace(name=("NVIDIA H100", "NVIDIA H100 MIG 1g.10gb")[index])
            if index == 0:
                about.uuid = "8932f937-d72c"
            return about


def test_torch_tells_names_bytes_and_uuids(monkeypatch):
    assert of_torch(Torch) == (
        ms.Device("cuda:0", 80, 70, "NVIDIA H100", "GPU-8932f937-d72c"),
        ms.Device("cuda:1", 80, 69, "NVIDIA H100 MIG 1g.10gb"),
    )
    monkeypatch.setattr(Torch.cuda, "available", False)
    assert of_torch(Torch) == ()


def test_torch_that_is_installed_is_asked(monkeypatch):
    monkeypatch.setattr(_devices.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "torch", Torch)

    assert len(gpus()) == 2


@pytest.fixture
def driver(tmp_path):
    """Write a program that says what the driver's does."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f"#!/bin/sh\nif [ \"$1\" = -L ]; then cat <<'E'\n{LIST}E\nelse cat <<'E'\n{QUERY}E\nfi\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@linux
def test_the_drivers_program_is_asked_where_torch_is_not_there(driver, monkeypatch):
    monkeypatch.setattr(_devices.importlib.util, "find_spec", lambda name: None)
    env = {"PATH": f"{driver.parent}:/usr/bin:/bin", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    seen = gpus({**env, "CUDA_VISIBLE_DEVICES": "2,0"})

    assert [(gpu.name, gpu.label, gpu.free) for gpu in seen] == [
        ("cuda:0", "Quadro,RTX", 8000 << 20),
        ("cuda:1", "NVIDIA A100-SXM4-40GB", 40339 << 20),
    ]
    [mig] = of_smi({**env, "CUDA_VISIBLE_DEVICES": "1"})
    assert mig.uuid == "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"
    assert of_smi({**env, "CUDA_VISIBLE_DEVICES": ""}) == ()


@linux
def test_gpus_that_differ_are_numbered_with_a_warning_unless_the_bus_numbers_them(driver):
    env = {"PATH": f"{driver.parent}:/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "2,0"}
    with pytest.warns(UserWarning, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        unsure = of_smi(env)

    assert of_smi({**env, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == unsure
    assert len(unsure) == 2


@linux
def test_a_driver_that_does_not_answer_has_no_gpu(driver):
    driver.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")

    assert of_smi({"PATH": f"{driver.parent}:/usr/bin:/bin"}) == ()
    assert of_smi({"PATH": "/nowhere"}) == ()


def test_importing_the_library_imports_none_of_it():
    code = """
import sys
import modelserve as ms
before = "modelserve.placement" in sys.modules
ms.Device
print(before, "modelserve.placement" in sys.modules, "torch" in sys.modules)
try:
    ms.absent
except AttributeError as error:
    print(error)
"""
    assert fresh(code) == "False True False\nmodule 'modelserve' has no attribute 'absent'\n"
