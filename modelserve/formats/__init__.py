"""Model files: one small module a format, imported when a file of its kind is loaded."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast

from modelserve.errors import ModelLoadError

FORMATS = {".onnx": "onnx"}
"""The module of this folder that reads files of each suffix."""


class Artefact(NamedTuple):
    """A model and the version that its bytes make it."""

    model: Any
    version: str | None


class Format(Protocol):
    """What a format's module offers."""

    def load(self, data: bytes) -> Any:
        """Make a model of a file's bytes."""
        ...


def find(path: Path) -> str:
    """Return the name of the module that reads a file, by its suffix. Raises ModelLoadError."""
    name = FORMATS.get(path.suffix)
    if name is None:
        known = ", ".join(sorted(FORMATS))
        raise ModelLoadError(
            f"'{path}' is of no known format: use one of {known}, or pass a function that loads it"
        )
    return f"modelserve.formats.{name}"


def read(path: Path, unless: str | None = None) -> Artefact | None:
    """Load a model file, or return None if its version is the one given.

    Its version is the digest of the very bytes that are loaded.
    """
    reader = cast("Format", importlib.import_module(find(path)))
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelLoadError(f"'{path}' does not exist: pass the path of a model file") from None
    except OSError as error:
        raise ModelLoadError(f"'{path}' cannot be read: {error.strerror}") from error
    version = hashlib.sha256(data).hexdigest()[:16]
    if version == unless:
        return None
    try:
        return Artefact(reader.load(data), version)
    except ModelLoadError as error:
        raise ModelLoadError(f"'{path}' could not be loaded: {error}") from error


def caller(model: Any) -> Callable[[Any], Any]:
    """Return how a loaded model is called: the first of the ways that fits it.

    An ONNX Runtime session takes and gives arrays, a torch module runs in evaluation and
    inference mode, an estimator predicts, and anything else that can be called is called.
    """
    for runtime in ("onnx", "torch"):
        if _RUNTIMES[runtime] in sys.modules:
            module = importlib.import_module(f"modelserve.formats.{runtime}")
            call = cast("Callable[[Any], Any] | None", module.caller(model))
            if call is not None:
                return call
    predict = getattr(model, "predict", None)
    if callable(predict):
        return cast("Callable[[Any], Any]", predict)
    if callable(model):
        return cast("Callable[[Any], Any]", model)
    raise ModelLoadError(
        f"a {type(model).__name__} can neither predict nor be called: "
        "say how with predict=lambda model, x: ..."
    )


def after_fork(model: Any) -> Literal["keep", "reload", "refuse"]:
    """Say what becomes of a loaded model in a forked child."""
    for runtime in ("onnx", "torch"):
        if _RUNTIMES[runtime] in sys.modules:
            module = importlib.import_module(f"modelserve.formats.{runtime}")
            if module.caller(model) is not None:
                return cast("Literal['keep', 'reload', 'refuse']", module.after_fork(model))
    return "keep"


_RUNTIMES = {"onnx": "onnxruntime", "torch": "torch"}
