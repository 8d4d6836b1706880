import http.client
import json
import math
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

import modelserve as ms
from modelserve.testing import GatedPredictor

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")

from examples.fastapi_app import build, create_app  # noqa: E402 - not without the extras

LIMIT = 30.0
BLANK = [0.0] * 64


def brightest(images):
    """Answer like a model of digits, in which the brightest of the first ten pixels decides."""
    return {"label": images[:, :10].argmax(axis=1)}


def image(digit):
    return [float(place == digit) for place in range(64)]


class Service:
    """An application in a uvicorn server on a thread, and a client of it."""

    def __init__(self, predict, **options):
        self._socket = socket.create_server(("127.0.0.1", 0))  # listens: nobody comes too early
        self.address = self._socket.getsockname()
        config = uvicorn.Config(create_app(predict, **options), log_config=None)
        self._server = uvicorn.Server(config)
        self._ended = Future()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.client = httpx.Client(base_url="http://{}:{}".format(*self.address), timeout=LIMIT)

    def _serve(self):
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._ended.set_result(None)

    def predict(self, pixels=BLANK, **headers):
        return self.client.post("/predict", json=pixels, headers=headers)

    def begin_to_stop(self):
        self._server.should_exit = True

    def wait_until_stopped(self):
        self._ended.result(LIMIT)
        self._thread.join(LIMIT)

    def close(self):
        self.begin_to_stop()
        self.client.close()
        self.wait_until_stopped()


@contextmanager
def serving(predict, **options):
    service = Service(predict, **{"timeout": LIMIT, **options})
    try:
        yield service
    finally:
        service.close()


def batched(fn, **options):
    model = ms.ModelLoader(lambda: fn, name="digits", version="1")
    return ms.DynamicBatcher(model, max_batch_size=64, **options)


def wait_until(service, is_so):
    """Ask the service until something is so; every question waits for its answer."""
    for _ in range(1_000):
        service.client.get("/livez")
        if is_so():
            return
    pytest.fail("it never came about")


def test_answers_and_says_who_did():
    split = ms.TrafficSplitter(ms.Variant("only", batched(brightest)), salt="demo")

    with serving(split) as service:
        answer = service.predict(image(7), user="user-42").json()

    assert answer["digit"] == 7
    assert answer["record"]["digits.version"] == "1"
    assert answer["record"]["demo.assignment"]["unit"] == "user-42"


@pytest.mark.parametrize(
    "body",
    [
        BLANK[:-1],
        [*BLANK, 0.0],
        [2.0, *BLANK[1:]],
        [math.nan, *BLANK[1:]],
        ["dark", *BLANK[1:]],
        "no list",
        None,
    ],
)
def test_refuses_what_is_no_image(body):
    batcher = batched(brightest)

    with serving(batcher) as service:
        answer = service.client.post("/predict", content=json.dumps(body))

    assert (answer.status_code, batcher.stats.calls) == (422, 0)
    assert "64 numbers" in answer.json()["detail"]


def test_is_live_and_not_ready_while_models_load():
    gate = GatedPredictor(lambda _: brightest)
    model = ms.ModelLoader(lambda: gate(None), mode="background", name="digits")

    with serving(ms.DynamicBatcher(model)) as service:
        live, ready = service.client.get("/livez"), service.client.get("/readyz")
        states = {path: part["state"] for path, part in ready.json().items()}
        gate.open()
        service.predict()  # is answered when the model has come
        later = service.client.get("/readyz")

    assert (live.status_code, live.json()) == (200, {"live": True})
    assert ready.status_code == 503
    assert states == {"digits": "ready", "digits/digits": "loading"}
    assert later.status_code == 200


def test_a_model_that_does_not_load_is_never_ready():
    def absent():
        raise OSError("gone")

    model = ms.ModelLoader(absent, mode="background", name="digits")

    with serving(ms.DynamicBatcher(model)) as service:
        wait_until(service, lambda: ms.health(model).parts["digits"].state == "failed")
        live, ready = service.client.get("/livez"), service.client.get("/readyz")

    assert (live.status_code, ready.status_code) == (200, 503)
    assert "could not be loaded" in ready.json()["digits/digits"]["reason"]


def test_serves_the_models_of_a_folder(tmp_path):
    pytest.importorskip("skl2onnx")
    from sklearn.linear_model import LogisticRegression

    from examples.quickstart import export

    images = np.eye(64, dtype=np.float32)[:10]
    model = LogisticRegression().fit(images, np.arange(10))
    export({"stable": model, "candidate": model}, images[:1], tmp_path)

    with serving(build(tmp_path)) as service:
        answer = service.predict(image(7), user="user-42").json()
        ready = service.client.get("/readyz")

    variant = answer["record"]["digits-2026-11.variant"]
    assert answer["digit"] == 7
    assert len(answer["record"][f"{variant}.version"]) == 16
    assert ready.status_code == 200


def test_says_which_model_is_missing(tmp_path):
    with serving(build(tmp_path)) as service:
        wait_until(service, lambda: "loading" not in service.client.get("/readyz").text)
        ready = service.client.get("/readyz")

    assert ready.status_code == 503
    assert "does not exist" in ready.text


def test_concurrent_requests_share_a_batch():
    gate = GatedPredictor(brightest)
    batcher = batched(gate)

    with serving(batcher) as service, ThreadPoolExecutor(9) as clients:
        first = clients.submit(service.predict, image(9))
        gate.wait_entered()
        others = [clients.submit(service.predict, image(digit)) for digit in range(8)]
        wait_until(service, lambda: batcher.stats.queued == 8)
        gate.open()
        answers = [other.result(LIMIT).json() for other in others]

    assert first.result(LIMIT).json()["digit"] == 9
    assert [answer["digit"] for answer in answers] == list(range(8))
    assert {answer["record"]["digits.batch_size"] for answer in answers} == {8}


def test_says_when_to_come_back_if_the_queue_is_full():
    gate = GatedPredictor(brightest)
    batcher = batched(gate, max_queue_size=1)

    with serving(batcher) as service, ThreadPoolExecutor(2) as clients:
        running = clients.submit(service.predict, image(1))
        gate.wait_entered()
        queued = clients.submit(service.predict, image(2))
        wait_until(service, lambda: batcher.stats.queued == 1)
        refused = service.predict(image(3))
        gate.open()

    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert [running.result().json()["digit"], queued.result().json()["digit"]] == [1, 2]


def test_retry_after_is_in_whole_seconds():
    async def busy(_):
        raise ms.Overloaded("full", retry_after=1.2)

    with serving(ms.predictor(busy)) as service:
        assert service.predict().headers["Retry-After"] == str(math.ceil(1.2))


def test_lets_late_callers_go():
    with serving(batched(brightest), timeout=0.0) as service:
        answer = service.predict()

    assert answer.status_code == 504
    assert "deadline" in answer.json()["detail"]


def test_answers_work_in_flight_before_it_ends():
    gate = GatedPredictor(brightest)
    batcher = batched(gate)

    with serving(batcher) as service, ThreadPoolExecutor(1) as clients:
        in_flight = clients.submit(service.predict, image(5))
        gate.wait_entered()
        idle = http.client.HTTPConnection(*service.address, timeout=LIMIT)
        idle.request("GET", "/livez")
        idle.getresponse().read()
        service.begin_to_stop()
        assert idle.sock.recv(1) == b""  # it has begun to stop, and hangs up on the idle
        idle.close()
        gate.open()
        answer = in_flight.result(LIMIT)
        service.wait_until_stopped()

    assert (answer.status_code, answer.json()["digit"]) == (200, 5)
    with pytest.raises(ms.Closed):
        batcher(np.zeros(64, np.float32))
