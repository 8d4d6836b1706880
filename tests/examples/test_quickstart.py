import asyncio
import contextlib
import io

import numpy as np
import pytest

import modelserve as ms

pytest.importorskip("onnxruntime")
pytest.importorskip("skl2onnx")
pytest.importorskip("tqdm")
datasets = pytest.importorskip("sklearn.datasets")

from sklearn.dummy import DummyClassifier  # noqa: E402 - not without the extras

from examples import quickstart  # noqa: E402 - as above

REQUESTS = 600


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        rows = quickstart.main(requests=REQUESTS, clients=16, rounds=1, folder=folder)
    return folder, rows, printed.getvalue()


@pytest.fixture(scope="module")
def traffic():
    pixels, digits = datasets.load_digits(return_X_y=True)
    return quickstart.imagine((pixels / 16).astype(np.float32), digits, REQUESTS)


def test_served_answers_are_those_of_the_bare_model(outcome):
    _, rows, _ = outcome

    assert [row.variant for row in rows] == ["stable", "candidate"]
    assert [row.differing for row in rows] == [0, 0]
    assert [row.accuracy for row in rows] == [row.accuracy_offline for row in rows]
    assert min(row.accuracy for row in rows) > 0.9
    assert quickstart.verdict(rows) is None


def test_other_answers_are_noticed(outcome, traffic):
    folder, _, _ = outcome
    nines = DummyClassifier(strategy="constant", constant=9).fit(traffic.images, traffic.digits)
    models = {"stable": nines, "candidate": nines}

    with contextlib.redirect_stdout(io.StringIO()):
        rows = asyncio.run(quickstart.run(models, folder, traffic, clients=16, rounds=1))

    assert quickstart.verdict(rows) == "other answers than offline from: stable, candidate"


def test_one_other_answer_is_noticed(outcome):
    _, (stable, candidate), _ = outcome

    verdict = quickstart.verdict([stable, candidate._replace(differing=1)])

    assert verdict == "other answers than offline from: candidate"


def test_every_request_is_counted_once(outcome):
    _, rows, _ = outcome

    assert sum(row.requests for row in rows) == REQUESTS
    assert 0 < rows[1].requests < rows[0].requests


def test_the_table_says_what_was_measured(outcome):
    _, rows, printed = outcome
    table = {line[:32].strip(): line[32:].split() for line in printed.splitlines()}

    assert table["requests"] == [str(row.requests) for row in rows]
    assert table["accuracy served"] == table["accuracy offline"]
    assert table["answers that differ"] == ["0", "0"]
    assert table["cache hit share"] == [f"{row.hit_share:.1%}" for row in rows]
    assert table["mean batch size"] == [f"{row.mean_batch_size:.1f}" for row in rows]
    assert all(float(cell.rstrip("x")) > 0 for cell in table["gain over threads"])
    assert "TrafficSplitter digits-2026-11" in printed
    assert f"stable 0.9: {rows[0].requests} calls" in printed


def test_each_distinct_image_runs_once_a_variant(outcome, traffic):
    folder, _, _ = outcome
    predict = quickstart.build(folder)

    async def serve():
        async with predict:
            return await quickstart.drive(predict, traffic, 16, lambda: None)

    replies = asyncio.run(serve())

    for name, cache in predict.parts.items():
        mine = replies.variants == name
        distinct = len(np.unique(traffic.images[mine], axis=0))
        assert (cache.stats.misses, cache.stats.hits + cache.stats.joins) == (
            distinct,
            mine.sum() - distinct,
        )


def test_records_name_the_variant_of_each_user(outcome, traffic):
    folder, _, _ = outcome
    predict = quickstart.build(folder)

    async def serve():
        async with predict:
            return await quickstart.drive(predict, traffic, 16, lambda: None)

    replies = asyncio.run(serve())

    assert list(replies.variants) == [predict.assign(unit).variant for unit in traffic.units]


def test_models_are_kept_where_asked(outcome):
    folder, _, _ = outcome

    assert {file.name for file in folder.iterdir()} == {"stable.onnx", "candidate.onnx"}
    with ms.ModelLoader(folder / "candidate.onnx") as model:
        assert set(model(np.zeros((1, 64), np.float32))) == {"label", "probabilities"}


def test_traffic_is_the_same_every_time(traffic):
    images, digits = traffic.images[:9], traffic.digits[:9]

    first, second = (quickstart.imagine(images, digits, 50) for _ in range(2))

    assert first.units == second.units
    assert (first.images == second.images).all()
