"""A real model: an MLP in ONNX Runtime, asked row by row by callers that wait for each answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from _batching.adapters import ADAPTERS
from _batching.fleet import ENVIRONMENTS, Answer, Fleet, own, own_folder, rounds
from _batching.tables import Row, Table, Values, at_least, judged, note, of, ratios, shown, sum_up
from _batching.waits import variants

MODELS = ("64-512-512-512-10", "784-1024-1024-10")
"""Features in (of 8 x 8 and 28 x 28 pixels), three hidden layers, classes out."""

CALLERS = BATCH = 64


class Rate(NamedTuple):
    """Rows a second."""

    rate: float


def path(model: str) -> Path:
    """Return where a model lies."""
    return ENVIRONMENTS / f"mlp-{model}.onnx"


def build(model: str) -> None:
    """Write a model, with weights drawn at random."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    draw, sizes = np.random.default_rng(0), sizes_of(model)
    nodes, weights, x = [], [], "x"
    for layer, (rows, columns) in enumerate(pairwise(sizes)):
        w = draw.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)
        weights.append(numpy_helper.from_array(w, f"w{layer}"))
        last = layer == len(sizes) - 2
        nodes.append(helper.make_node("MatMul", [x, f"w{layer}"], ["y" if last else f"h{layer}"]))
        if not last:
            x = f"a{layer}"
            nodes.append(helper.make_node("Relu", [f"h{layer}"], [x]))
    x_info, y_info = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", sizes[0]), ("y", sizes[-1]))
    )
    graph = helper.make_graph(nodes, "mlp", [x_info], [y_info], weights)
    own_folder()
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), path(model))


def sizes_of(model: str) -> list[int]:
    """Read the sizes of the layers off a model's name."""
    return [int(size) for size in model.split("-")]


def session(model: str) -> Callable[[Any], Any]:
    """Load the model; a batch is an array, or a list of rows as most batchers hand it over."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    loaded = onnxruntime.InferenceSession(path(model), options, providers=["CPUExecutionProvider"])

    def predict(batch: Any) -> Any:
        if not isinstance(batch, np.ndarray):
            batch = np.concatenate(batch).reshape(len(batch), -1)
        return loaded.run(None, {"x": batch})[0]

    return predict


async def mlp(adapter: str, *, model: str, calls: int, max_wait: float) -> Rate:
    """Measure one batcher, or the model called directly with batches formed beforehand, or rows."""
    import numpy as np

    predict = session(model)
    rows = np.random.default_rng(1).normal(size=(CALLERS, sizes_of(model)[0])).astype(np.float32)
    right = predict(rows)
    if adapter in {"preformed", "unbatched"}:
        size = BATCH if adapter == "preformed" else 1
        predict(rows[:size])
        started = time.perf_counter()
        for _ in range(calls // size):
            predict(rows[:size])
        return Rate(calls // size * size / (time.perf_counter() - started))

    share = calls // CALLERS
    make = ADAPTERS[adapter]
    async with make(predict, max_batch_size=BATCH, max_wait=max_wait, is_async=False) as call:

        async def ask(index: int, times: int) -> None:
            row = rows[index]
            for _ in range(times):
                y = await call(row)
            assert np.allclose(y, right[index], atol=1e-4)

        await asyncio.gather(*(ask(index, max(2, share // 10)) for index in range(CALLERS)))
        started = time.perf_counter()
        await asyncio.gather(*(ask(index, share) for index in range(CALLERS)))
        return Rate(share * CALLERS / (time.perf_counter() - started))


def tables(fleet: Fleet, names: list[str], number: int, *, quick: bool) -> Iterator[Table]:
    """Set everybody beside batches formed beforehand and rows one by one, in the same round."""
    for model in MODELS:
        title = f"ONNX MLP {model}, {CALLERS} callers, sync function"
        if find_spec("onnx") and find_spec("onnxruntime"):
            build(model)
            yield from _tables(title, fleet, names, number, model, quick=quick)
        else:
            yield Table(title, [{"contestant": "all", "note": "not run: needs modelserve[onnx]"}])


def _tables(  # noqa: PLR0913 - what one model is asked
    title: str, fleet: Fleet, names: list[str], number: int, model: str, *, quick: bool
) -> Iterator[Table]:
    direct = {name: (name, 0.0) for name in ("preformed", "unbatched", "limit")}
    asked_of = {**direct, **variants(names)}
    calls = 6_400 if quick else 16_000

    def ask(label: str, _: int) -> Answer:
        name, max_wait = asked_of[label]
        return fleet.ask(name, "mlp", 60, model=model, calls=calls, max_wait=max_wait)

    trips = rounds(list(asked_of), number, ask, beside=list(direct))
    yield Table(title, [_row(label, trips[label], direct) for label in asked_of])
    targets = {"preformed": at_least(0.85), "unbatched": at_least(2.5)}
    rows = [
        {
            "contestant": "modelserve",
            **judged(f"x {base}", sum_up(_times("modelserve", base, trips["modelserve"])), target),
        }
        for base, target in targets.items()
    ]
    yield Table(f"{title}, judged", rows)


def _times(name: str, base: str, trips: list[dict[str, Answer]]) -> Values:
    return ratios(of(own(name, trips), "rate"), of(own(base, trips), "rate"))


def _row(name: str, trips: list[dict[str, Answer]], bases: Iterable[str]) -> Row:
    answers = own(name, trips)
    by = {f"x {base}": shown(sum_up(_times(name, base, trips))) for base in bases}
    rate = shown(sum_up(of(answers, "rate")))
    return {"contestant": name, "rows/s": rate, **by, "note": note(answers)}
