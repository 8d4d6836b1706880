"""A whole FastAPI service over the tree of the quickstart.

It tells that it lives at /livez and whether its models are loaded at /readyz, answers at /predict
before a deadline, refuses what is too much, and finishes what it has accepted before it ends.

    python examples/quickstart.py --models models
    python examples/fastapi_app.py models
"""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import uvicorn
from fastapi import Body, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field

import modelserve as ms

Pixel = Annotated[float, Field(ge=0, le=1)]
Image = Annotated[list[Pixel], Body(min_length=64, max_length=64)]


def build(folder: Path) -> ms.TrafficSplitter[Any, Any]:
    """Make the tree; its models load in the background while the service starts."""

    def serve(name: str) -> ms.PredictionCache[Any, Any]:
        model: ms.ModelLoader[Any, Any] = ms.ModelLoader(
            folder / f"{name}.onnx", mode="background", warmup=[np.zeros((1, 64), np.float32)]
        )
        batcher = ms.DynamicBatcher(model, max_batch_size=64)
        return ms.PredictionCache(batcher, maxsize=10_000, ttl=60.0)

    return ms.TrafficSplitter(
        ms.Variant("stable", serve("stable"), weight=0.9),
        ms.Variant("candidate", serve("candidate"), weight=0.1),
        salt="digits-2026-11",
    )


def create_app(predict: Any, *, timeout: float = 1.0) -> FastAPI:
    """Serve a tree that answers for one image; ``timeout`` is each caller's, in seconds."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with predict:  # opens the tree, and in the end waits for what it has accepted
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/livez")
    async def livez() -> dict[str, bool]:
        return {"live": ms.health(predict).live}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        health = ms.health(predict)
        response.status_code = 200 if health.ready else 503
        return {path: part._asdict() for path, part in health.parts.items()}

    @app.post("/predict")
    async def answer(image: Image, user: Annotated[str | None, Header()] = None) -> dict[str, Any]:
        with ms.request(unit=user, timeout=timeout) as r:
            y = await predict.acall(np.array(image, np.float32))
        return {"digit": int(y["label"]), "record": r.record}

    @app.exception_handler(RequestValidationError)
    async def refused(_: Request, __: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": "pass a list of 64 numbers from 0 to 1"}, 422)

    @app.exception_handler(ms.Overloaded)
    async def overloaded(_: Request, error: ms.Overloaded) -> JSONResponse:
        again = str(math.ceil(error.retry_after or 1))
        return JSONResponse({"detail": str(error)}, 503, {"Retry-After": again})

    @app.exception_handler(ms.DeadlineExceeded)
    async def late(_: Request, error: ms.DeadlineExceeded) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 504)

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(build(Path(sys.argv[1]))))
