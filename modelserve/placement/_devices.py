"""What there is to run models on, within the limits of this process."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelserve._policy import limits, visible

ROOT = Path("/")
SECONDS = 10.0
"""How long ``nvidia-smi`` may take: it waits for a driver that starts."""
QUERY = "--query-gpu=index,uuid,name,memory.total,memory.free"


class Device(NamedTuple):
    """A device by the name that torch gives it, with its bytes in all and those that are free now.

    ``cores`` is how many a CPU lends this process, which may be a fraction; ``uuid`` names a GPU or
    a MIG device for ``CUDA_VISIBLE_DEVICES``.

    >>> Device("cuda:0", 80 << 30, 79 << 30, label="NVIDIA H100").label
    'NVIDIA H100'
    """

    name: str
    total: int
    free: int
    label: str = ""
    uuid: str | None = None
    cores: float | None = None


def devices() -> tuple[Device, ...]:
    """Take stock of the devices that this process may use: its GPUs, then the CPU.

    **GPUs** are asked of torch where it is installed, which imports it and makes a context on each
    GPU; else of ``nvidia-smi`` where that is there, within ``CUDA_VISIBLE_DEVICES`` by index, UUID
    and MIG id; where GPUs differ it takes ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` to number them as CUDA
    does, and a warning says so. Of a MIG device ``nvidia-smi`` tells the profile alone, so its
    total is nominal and all of it counts as free. **The CPU** has the memory and the cores that the
    machine, the control groups (v1 and v2) of this process and its affinity leave it; where the
    system does not tell (Linux does), its total is 0.

    >>> import modelserve as ms
    >>> ms.devices()[-1].name
    'cpu'
    """
    return (*gpus(), cpu())


def cpu(root: Path = ROOT) -> Device:
    """Take stock of the CPU."""
    total, free = _memory(root)
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    most = [float(count or 1), *_cores(root)]
    return Device("cpu", total, free, cores=min(most))


def _memory(root: Path) -> tuple[int, int]:
    text = _text(root / "proc/meminfo")
    total, free = (0, 0) if text is None else limits.meminfo(text)
    v2, folders = _folders(root, "memory")
    names = ("memory.max", "memory.current")
    if not v2:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for folder in folders:
        limit, used = (limits.nbytes(_text(folder / name) or "") for name in names)
        if limit is not None:
            total = min(total, limit) if total else limit
            free = max(min(free, limit - (used or 0)), 0)
    return total, free


def _cores(root: Path) -> Iterator[float]:
    v2, folders = _folders(root, "cpu")
    for folder in folders:
        if v2:
            cores = limits.cores(_text(folder / "cpu.max") or "")
        else:
            quota, period = (_text(folder / f"cpu.cfs_{each}_us") for each in ("quota", "period"))
            cores = limits.cores(quota or "", period or "")
        if cores is not None:
            yield cores


def _folders(root: Path, controller: str) -> tuple[bool, list[Path]]:
    v2, folders = limits.folders(_text(root / "proc/self/cgroup") or "", controller)
    base = root / "sys/fs/cgroup"
    return v2, [(base if v2 else base / controller) / folder for folder in folders]


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def gpus(env: Mapping[str, str] = os.environ) -> tuple[Device, ...]:
    """Take stock of the GPUs that this process sees."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        return of_torch(torch)
    return of_smi(env)


def of_torch(torch: Any) -> tuple[Device, ...]:
    """Ask torch."""
    found: list[Device] = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        about = torch.cuda.get_device_properties(index)
        uuid = getattr(about, "uuid", None)
        uuid = None if uuid is None else f"GPU-{str(uuid).removeprefix('GPU-')}"
        found.append(Device(f"cuda:{index}", total, free, about.name, uuid))
    return tuple(found)


def of_smi(env: Mapping[str, str]) -> tuple[Device, ...]:
    """Ask ``nvidia-smi``."""
    program = shutil.which("nvidia-smi", path=env.get("PATH"))
    if program is None:
        return ()
    there = visible.read_query(_said(program, QUERY, "--format=csv,noheader,nounits"))
    there = visible.read_list(_said(program, "-L"), there)
    mask = env.get("CUDA_VISIBLE_DEVICES")
    if not visible.are_numbered(mask, there, env.get("CUDA_DEVICE_ORDER")):
        warnings.warn(
            "the GPUs of this machine differ, and CUDA may number them in another order than "
            "nvidia-smi: set CUDA_DEVICE_ORDER=PCI_BUS_ID",
            stacklevel=2,
        )
    seen = visible.visible(mask, there)
    return tuple(
        Device(f"cuda:{index}", gpu.total, gpu.free, gpu.name, gpu.uuid)
        for index, gpu in enumerate(seen)
    )


def _said(*command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a program of the driver's, with words of our own
            command, capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):  # no driver answers, so there is no GPU to use
        return ""
    return done.stdout
