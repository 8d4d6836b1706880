"""What a batch costs by its size, and where larger batches cease to pay.

The perceptron of ``batching.py``, in ONNX Runtime on one thread. Sizes are timed in turn, round
after round. The knee is what a batcher finds that has seen the medians.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from _batching.mlp import MODELS, build, session, sizes_of
from _measure import figure, interleave, options, report

from modelserve._policy.costs import Costs

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def repeat(predict: Callable[[Any], Any], size: int, features: int) -> Callable[[int], None]:
    """Make a loop over batches of one size."""
    import numpy as np

    batch = np.random.default_rng(0).normal(size=(size, features)).astype(np.float32)
    assert predict(batch).shape[0] == size

    def loop(calls: int) -> None:
        for _ in range(calls):
            predict(batch)

    return loop


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    asked = options(__doc__ or "")
    if not (find_spec("onnx") and find_spec("onnxruntime")):
        print("not run: needs modelserve[onnx]")
        return
    model = MODELS[0]
    build(model)
    predict, features = session(model), sizes_of(model)[0]
    seconds = interleave(
        {str(size): repeat(predict, size, features) for size in SIZES},
        calls=2,
        rounds=10 if asked.quick else 200,
    )
    costs = Costs()
    rows: list[dict[str, Any]] = []
    for size, runs in zip(SIZES, seconds.values(), strict=True):
        costs.observe(size, figure(runs).median)
        rows.append(
            {
                "batch": size,
                "ms a batch": figure([run * 1e3 for run in runs]),
                "rows/s": figure([size / run for run in runs]),
            }
        )
    knee = costs.knee(SIZES[-1])
    report([{**row, "knee": knee} for row in rows], asked.json)


if __name__ == "__main__":
    main()
