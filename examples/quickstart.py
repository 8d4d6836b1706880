"""Serve two models of handwritten digits from one tree, and show what each part of it did.

Trains two small models, exports them to ONNX, and answers requests of concurrent clients through
splitter, caches, batchers and loaders. Fails if any answer differs from that of the bare
scikit-learn model.

    python examples/quickstart.py [--models FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import modelserve as ms
from modelserve.typing import Predictor

SALT = "digits-2026-11"
MAX_BATCH_SIZE = 64
USERS = 500

Images = NDArray[np.float32]
Digits = NDArray[np.int64]


def serve(file: Path) -> ms.PredictionCache[Any, Any]:
    """Put a cache over a batcher over a model."""
    model: ms.ModelLoader[Any, Any] = ms.ModelLoader(file)
    batcher = ms.DynamicBatcher(model, max_batch_size=MAX_BATCH_SIZE)
    return ms.PredictionCache(batcher, maxsize=10_000, ttl=60.0)


def build(folder: Path) -> ms.TrafficSplitter[Any, Any]:
    """Make the whole service: nine users of ten get the stable model, one the candidate."""
    return ms.TrafficSplitter(
        ms.Variant("stable", serve(folder / "stable.onnx"), weight=0.9),
        ms.Variant("candidate", serve(folder / "candidate.onnx"), weight=0.1),
        salt=SALT,
    )


class Traffic(NamedTuple):
    """Requests in order: the image of each, the digit it shows and the user who sends it."""

    images: Images
    digits: Digits
    units: list[str]


class Replies(NamedTuple):
    """What came back for each request, from which variant, and after how long."""

    digits: Digits
    variants: NDArray[np.str_]
    seconds: NDArray[np.float64]
    total_seconds: float


class Row(NamedTuple):
    """What one variant did for the requests it got."""

    variant: str
    requests: int
    accuracy: float
    accuracy_offline: float
    differing: int
    per_second: float
    p50: float
    p99: float
    mean_batch_size: float
    hit_share: float


class Rates(NamedTuple):
    """Calls a second to one model without a cache: in batches, and one row a call in two ways."""

    batched: float
    in_threads: float
    on_the_loop: float


def train() -> tuple[dict[str, Any], Images, Digits]:
    """Fit both models; return them with the images and digits they have not seen."""
    pixels, digits = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32)
    seen, unseen, answers, truth = train_test_split(images, digits, test_size=0.5, random_state=0)
    models = {
        "stable": LogisticRegression(max_iter=1_000),
        "candidate": MLPClassifier((256, 256), random_state=0),
    }
    with threadpool_limits(1):  # more threads fight over matrices as small as these
        for model in models.values():
            model.fit(seen, answers)
    return models, unseen, truth


def export(models: dict[str, Any], example: Images, folder: Path) -> None:
    """Write each model as an ONNX file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        onnx = to_onnx(model, example, options={"zipmap": False})
        (folder / f"{name}.onnx").write_bytes(onnx.SerializeToString())


def imagine(images: Images, digits: Digits, requests: int) -> Traffic:
    """Draw requests as they come in practice: few images are asked for often, many rarely."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, len(images) + 1) ** 0.8
    chosen = rng.choice(len(images), requests, p=popularity / popularity.sum())
    units = [f"user-{number}" for number in rng.integers(USERS, size=requests)]
    return Traffic(images[chosen], digits[chosen], units)


async def drive(
    predict: Predictor[Any, Any], traffic: Traffic, clients: int, tick: Callable[[], object]
) -> Replies:
    """Send all requests from concurrent clients, each of which asks again once it is answered."""
    n = len(traffic.units)
    digits, variants, seconds = np.empty(n, np.int64), np.empty(n, "U16"), np.empty(n)
    turns = iter(range(n))

    async def client() -> None:
        for i in turns:
            began = time.perf_counter()
            with ms.request(unit=traffic.units[i]) as r:
                answer = await predict.acall(traffic.images[i])
            seconds[i] = time.perf_counter() - began
            digits[i] = answer["label"].item()
            variants[i] = r.record.get(f"{SALT}.variant", "")
            tick()
            await asyncio.sleep(0)  # a server's next request comes by way of the event loop, too

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Replies(digits, variants, seconds, time.perf_counter() - began)


async def race(
    model: Predictor[Any, Any], traffic: Traffic, clients: int, tick: Callable[[], object]
) -> Rates:
    """Send all requests to one model without a cache: in batches, then one row a call."""

    def blocking(row: Images) -> Any:
        return model(row)

    alone = traffic._replace(images=traffic.images[:, np.newaxis])
    contenders: tuple[tuple[Predictor[Any, Any], Traffic], ...] = (
        (ms.DynamicBatcher(model, max_batch_size=MAX_BATCH_SIZE), traffic),
        (model, alone),
        (ms.predictor(blocking, executor=ms.inline), alone),
    )
    replies = [await drive(predict, asked, clients, tick) for predict, asked in contenders]
    return Rates(*(len(traffic.units) / each.total_seconds for each in replies))


def sum_up(name: str, cache: Any, traffic: Traffic, replies: Replies, offline: Any) -> Row:
    """Say what a variant did, from the tree's counts, the records and the clients' watches."""
    (batcher,) = cache.parts.values()
    counts = cache.stats
    mine = replies.variants == name
    truth, served = traffic.digits[mine], replies.digits[mine]
    expected = offline.predict(traffic.images[mine])
    p50, p99 = np.percentile(replies.seconds[mine], [50, 99])
    return Row(
        variant=name,
        requests=len(served),
        accuracy=float((served == truth).mean()),
        accuracy_offline=float((expected == truth).mean()),
        differing=int((served != expected).sum()),
        per_second=len(served) / replies.total_seconds,
        p50=float(p50),
        p99=float(p99),
        mean_batch_size=batcher.stats.mean_batch_size,
        hit_share=1 - counts.misses / (counts.hits + counts.joins + counts.misses),
    )


def show(rows: list[Row], races: list[list[Rates]]) -> None:
    """Print the table: a column a variant."""
    rates = [Rates(*map(statistics.median, zip(*rounds, strict=True))) for rounds in races]
    over_threads = [statistics.median(r.batched / r.in_threads for r in each) for each in races]
    over_loop = [statistics.median(r.batched / r.on_the_loop for r in each) for each in races]
    lines: dict[str, list[str]] = {
        "": [row.variant for row in rows],
        "requests": [f"{row.requests:,}" for row in rows],
        "accuracy served": [f"{row.accuracy:.2%}" for row in rows],
        "accuracy offline": [f"{row.accuracy_offline:.2%}" for row in rows],
        "answers that differ": [f"{row.differing}" for row in rows],
        "requests a second": [f"{row.per_second:,.0f}" for row in rows],
        "p50, ms": [f"{row.p50 * 1e3:.3f}" for row in rows],
        "p99, ms": [f"{row.p99 * 1e3:.3f}" for row in rows],
        "mean batch size": [f"{row.mean_batch_size:.1f}" for row in rows],
        "cache hit share": [f"{row.hit_share:.1%}" for row in rows],
        "\nwithout a cache, calls a second:": [],
        "  batched": [f"{rate.batched:,.0f}" for rate in rates],
        "  unbatched, in threads": [f"{rate.in_threads:,.0f}" for rate in rates],
        "  unbatched, on the event loop": [f"{rate.on_the_loop:,.0f}" for rate in rates],
        "  gain over threads": [f"{gain:.1f}x" for gain in over_threads],
        "  gain over the event loop": [f"{gain:.1f}x" for gain in over_loop],
    }
    for label, cells in lines.items():
        print(f"{label:32}" + "".join(f"{cell:>12}" for cell in cells))
    print(f"""
Served answers went through the tree; offline ones are the bare scikit-learn model's for the same
requests. p50 and p99 are a client's wait for its answer at full load: each client asks again at
once. Cache hits are requests that needed no run of their own: their answer was kept, or already
under way; the mean batch size is that of the other requests. Without a cache, all requests go to
each model from as many clients: in batches, one row a call on threads, and one row a call on the
event loop, which stands still meanwhile. Rates and gains are medians of {len(races[0])} rounds.
""")


def verdict(rows: list[Row]) -> str | None:
    """Say what is wrong with the answers, if anything is."""
    wrong = [row.variant for row in rows if row.differing or row.accuracy != row.accuracy_offline]
    return f"other answers than offline from: {', '.join(wrong)}" if wrong else None


async def run(
    models: dict[str, Any], folder: Path, traffic: Traffic, clients: int, rounds: int
) -> list[Row]:
    """Serve the traffic, compare with unbatched calls, and print what came of it."""
    predict = build(folder)
    races: dict[str, list[Rates]] = {name: [] for name in models}
    total = len(traffic.units) * (1 + 3 * rounds * len(models))
    async with predict:
        await ms.awarm(predict, traffic.images[0])
        with tqdm(
            total=total, desc="serving", unit=" requests", mininterval=0.5, leave=False
        ) as bar:
            replies = await drive(predict, traffic, clients, bar.update)
            bar.set_description("comparing")
            for name in list(models) * rounds:
                model = predict.parts[name].parts[name].parts[name]
                races[name].append(await race(model, traffic, clients, bar.update))
        rows = [
            sum_up(name, predict.parts[name], traffic, replies, models[name]) for name in models
        ]
        show(rows, list(races.values()))
        print(ms.describe(predict))
    return rows


def main(
    requests: int = 6_000, clients: int = 64, rounds: int = 3, folder: Path | None = None
) -> list[Row]:
    """Train, export, serve and compare; return the served part of the table."""
    print("Training two models on handwritten digits ...")
    models, images, digits = train()
    traffic = imagine(images, digits, requests)
    machine = f"CPython {platform.python_version()}, {os.cpu_count()} cores"
    print(f"Serving {requests:,} requests of {USERS} users from {clients} clients ({machine}).\n")
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder or Path(scratch)
        export(models, images[:1], folder)
        return asyncio.run(run(models, folder, traffic, clients, rounds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve two models of handwritten digits.")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="keep the ONNX files here")
    sys.exit(verdict(main(folder=parser.parse_args().models)))
