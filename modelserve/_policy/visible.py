"""Which GPUs a process sees: what ``nvidia-smi`` lists, and what ``CUDA_VISIBLE_DEVICES`` leaves.

The rules are those of "CUDA Environment Variables" in the CUDA programming guide, and of "CUDA
Device Enumeration" in the MIG user guide.

>>> gpus = [Gpu(0, "GPU-8932f937", "A100", 40 << 30, 39 << 30)]
>>> [gpu.uuid for gpu in visible("GPU-89", gpus)], visible("", gpus), len(visible(None, gpus))
(['GPU-8932f937'], [], 1)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

MIG = re.compile(r"\s+MIG\s+(?P<profile>\S+)\s+Device\s+\d+:\s+\(UUID:\s+(?P<uuid>\S+)\)")
GPU = re.compile(r"GPU\s+(?P<index>\d+):.*\(UUID:\s+(?P<uuid>\S+)\)")
GIGABYTES = re.compile(r"(\d+)gb")


class Slice(NamedTuple):
    """A MIG device: a part of a GPU. ``total`` is the bytes that its profile names."""

    uuid: str
    profile: str
    total: int


class Gpu(NamedTuple):
    """A GPU of the machine by its number there, in bytes, with its MIG devices."""

    number: int
    uuid: str
    name: str
    total: int
    free: int
    slices: tuple[Slice, ...] = ()


def read_query(text: str) -> list[Gpu]:
    """Read ``nvidia-smi --query-gpu=index,uuid,name,memory.total,memory.free``.

    The format is ``csv,noheader,nounits``. A GPU of which a number is missing, as of one that has
    failed, is left out.
    """
    gpus: list[Gpu] = []
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        index, uuid, *name, total, free = words if len(words) > 4 else [""] * 5  # noqa: PLR2004
        if index.isdigit() and total.isdigit() and free.isdigit():
            gpus.append(Gpu(int(index), uuid, ",".join(name), int(total) << 20, int(free) << 20))
    return gpus


def read_list(text: str, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Give GPUs the MIG devices that ``nvidia-smi -L`` lists below each."""
    slices: dict[int, list[Slice]] = {}
    index = -1
    for line in text.splitlines():
        gpu, mig = GPU.match(line), MIG.match(line)
        if gpu:
            index = int(gpu["index"])
        elif mig:
            size = GIGABYTES.search(mig["profile"])
            total = int(size[1]) * 10**9 if size else 0
            slices.setdefault(index, []).append(Slice(mig["uuid"], mig["profile"], total))
    return [gpu._replace(slices=tuple(slices.get(gpu.number, ()))) for gpu in gpus]


def visible(mask: str | None, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Return the GPUs that a process sees as ``cuda:0``, ``cuda:1`` and so on, by its mask.

    ``mask`` is the value of ``CUDA_VISIBLE_DEVICES``, None if it is not set: indices, UUIDs or
    beginnings of UUIDs that fit one GPU alone, and MIG devices as ``MIG-<uuid>`` or
    ``MIG-GPU-<uuid>/<gpu instance>/<compute instance>``. What comes after the first entry that is
    wrong or repeated is not seen. A process sees one MIG device at the most, and no GPU beside it.
    Of one named by its instances on a GPU with several, the size is that of the smallest there.
    """
    if mask is None:
        chosen = list(gpus)
    else:
        chosen = list[Gpu]()
        for word in mask.split(","):
            found = _find(word.strip(), gpus)
            if found is None or found in chosen:
                break
            chosen.append(found)
    sliced = [_sliced(gpu) for gpu in chosen if gpu.slices]
    return sliced[:1] or chosen


def _sliced(gpu: Gpu) -> Gpu:
    """Return what is seen of a GPU that is cut into slices: the first of them."""
    first = gpu.slices[0]
    name = f"{gpu.name} MIG {first.profile}"
    return gpu._replace(uuid=first.uuid, name=name, total=first.total, free=first.total)


def _find(word: str, gpus: Sequence[Gpu]) -> Gpu | None:
    if word.isdigit():
        return next((gpu for gpu in gpus if gpu.number == int(word)), None)
    if word.startswith("GPU-"):
        return _only([gpu for gpu in gpus if gpu.uuid.startswith(word)])
    if word.startswith("MIG-GPU-"):
        uuid = word.removeprefix("MIG-").partition("/")[0]
        return _only([_least(gpu, word) for gpu in gpus if gpu.slices and gpu.uuid == uuid])
    if word.startswith("MIG-"):
        pairs = [(gpu, each) for gpu in gpus for each in gpu.slices if each.uuid.startswith(word)]
        return _only([gpu._replace(slices=(each,)) for gpu, each in pairs])
    return None


def _least(gpu: Gpu, word: str) -> Gpu:
    """Return the GPU with the slice that a word means by its instances.

    ``nvidia-smi -L`` does not tell these, so of several it is taken for the least.
    """
    if len(gpu.slices) > 1:
        least = min(gpu.slices, key=lambda each: each.total)
        gpu = gpu._replace(slices=(least._replace(uuid=word),))
    return gpu


def are_numbered(mask: str | None, gpus: Sequence[Gpu], order: str | None) -> bool:
    """Whether CUDA counts the GPUs as ``nvidia-smi`` does, or the mask names them by their UUIDs.

    By default (``CUDA_DEVICE_ORDER=FASTEST_FIRST``) the fastest is first, by a rule that is nowhere
    told. ``nvidia-smi`` goes by the PCI bus, and so does ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.

    >>> gpus = [Gpu(0, "GPU-0", "T4", 0, 0), Gpu(1, "GPU-1", "H100", 0, 0)]
    >>> are_numbered("1", gpus, None), are_numbered("1", gpus, "PCI_BUS_ID")
    (False, True)
    """
    words = () if mask is None else mask.split(",")
    by_uuid = mask is not None and not any(word.strip().isdigit() for word in words)
    return by_uuid or order == "PCI_BUS_ID" or len({gpu.name for gpu in gpus}) <= 1


def _only(found: list[Gpu]) -> Gpu | None:
    return found[0] if len(found) == 1 else None
