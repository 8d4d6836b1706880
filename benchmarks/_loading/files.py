"""Files of a hundred megabytes: how long others wait while one is loaded, and what stays."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import modelserve as ms
from _loading.rows import Row, row

SIDE = 5_120
"""Rows and columns of a float32 matrix of a hundred megabytes."""
STATM = Path("/proc/self/statm")
TICK = 0.001


def onnx_file(folder: Path, side: int) -> Path:
    """Write a matrix product as an ONNX model."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((side, side), np.float32), "w")
    sizes = ["n", side]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes)],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path := folder / "product.onnx")
    return path


def safetensors_file(folder: Path, side: int) -> Path:
    """Write a matrix as safetensors."""
    from safetensors.numpy import save_file

    save_file({"weight": np.ones((side, side), np.float32)}, path := folder / "m.safetensors")
    return path


def state_file(folder: Path, side: int) -> Path:
    """Write a matrix as a state dict of torch."""
    import torch

    torch.save({"weight": torch.ones(side, side)}, path := folder / "m.pt")
    return path


def pickle_file(folder: Path, objects: int) -> Path:
    """Write a pickle of many objects."""
    path = folder / "objects.pkl"
    path.write_bytes(pickle.dumps({n: (str(n), float(n)) for n in range(objects // 3)}))
    return path


@contextmanager
def watched() -> Iterator[list[float]]:
    """Have a thread look at the clock again and again; list by how much it came late."""
    late: list[float] = []
    ends = threading.Event()

    def look() -> None:
        before = time.perf_counter()
        while not ends.is_set():
            time.sleep(TICK)
            now = time.perf_counter()
            late.append(now - before - TICK)
            before = now

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield late
    finally:
        ends.set()
        thread.join()


def stall(load: Callable[[], ms.ModelLoader[Any, Any]]) -> float:
    """Return the worst milliseconds by which a thread comes late while a model is loaded."""
    with watched() as late:
        load().get()
    gc.collect()
    return max(late) * 1e3


def resident() -> float:
    """Return the megabytes that this process holds."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def rounds_of(path: Path, count: int, side: int) -> float:
    """Load, ask and let go so many times; return the megabytes that stay."""
    x = np.ones((1, side), np.float32)
    with ms.ModelPool(lambda _: ms.ModelLoader(path), budget=1 << 31, name="rounds") as pool:
        before = resident()
        for _ in range(count):
            pool["product"](x)
            pool.evict("product")
        gc.collect()
        return resident() - before


def lacks(*packages: str) -> str:
    """Say which package is missing, if one is."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"needs {missing[0]}" if missing else ""


class Case(NamedTuple):
    """A format: what it needs, how a file of it is written, and how it is loaded."""

    name: str
    packages: tuple[str, ...]
    write: Callable[[Path, int], Path]
    options: dict[str, Any]


def empty(side: int) -> Any:
    """Make a torch module without what the file gives."""
    import torch

    return torch.nn.Linear(side, side, bias=False, device="meta").to_empty(device="cpu")


def cases(side: int) -> list[Case]:
    """List the formats of tensors."""
    return [
        Case("ONNX", ("onnx", "onnxruntime"), onnx_file, {}),
        Case("safetensors", ("safetensors",), safetensors_file, {"predict": take}),
        Case("state dict", ("torch",), state_file, {"factory": partial(empty, side)}),
    ]


def take(_: Any, x: Any) -> Any:
    """Answer without the model."""
    return x


def stalls(folder: Path, side: int) -> Iterator[Row]:
    """Measure how long others wait for tensors."""
    for case in cases(side):
        size = f"{side * side * 4 / 1e6:.0f} MB"
        what = f"worst stall of another thread, ms, while {size} of {case.name} are loaded"
        missing = lacks(*case.packages)
        if missing:
            yield row(what, missing, "<=", 15)
            continue
        load = partial(ms.ModelLoader, case.write(folder, side), **case.options)
        load().get()  # imports are no part of it
        yield row(what, min(stall(load) for _ in range(3)), "<=", 15)


def stall_of_pickle(folder: Path, objects: int) -> Row:
    """Measure how long others wait for a pickle."""
    path = pickle_file(folder, objects)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    load = partial(ms.ModelLoader, path, allow_pickle=True, sha256=digest, predict=take)
    what = f"worst stall of another thread, ms, while {objects:,} pickled objects are loaded"
    return row(what, min(stall(load) for _ in range(3)), "<=", 120)


def memory(folder: Path, side: int, rounds: int) -> Row:
    """Measure what stays of models that were let go."""
    what = f"MB that stay after {rounds} rounds of loading {side * side * 4 / 1e6:.0f} MB of ONNX"
    missing = lacks("onnx", "onnxruntime") or ("" if STATM.exists() else "needs Linux")
    if missing:
        return row(what, missing, "<=", 30)
    return row(what, rounds_of(onnx_file(folder, side), rounds, side), "<=", 30)


def rows(folder: Path, *, quick: bool) -> list[Row]:
    """Measure."""
    side, rounds, objects = (512, 3, 30_000) if quick else (SIDE, 50, 1_500_000)
    found = list(stalls(folder, side))
    return [*found, stall_of_pickle(folder, objects), memory(folder, side, rounds)]
