"""Model files and models: one small module a format, imported when one of its kind is there."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, cast

from modelserve.errors import ModelLoadError

FORMATS = {".onnx": "onnx"}
"""The module of this folder that reads files of each suffix."""
RUNTIMES = {"onnxruntime": "onnx", "torch": "torch"}
"""The module of this folder that knows the models of each package."""

Fate: TypeAlias = Literal["keep", "reload", "refuse"]
"""What becomes of a loaded model in a forked child."""


class Artefact(NamedTuple):
    """A model, the version that its bytes make it or its maker calls it, and how many were read."""

    model: Any
    version: str | None
    nbytes: int = 0


class Format(Protocol):
    """What a module offers that reads files."""

    def load(self, data: bytes) -> Any:
        """Make a model of a file's bytes. Raises ModelLoadError."""
        ...


class Runtime(Protocol):
    """What a module offers that knows models of one kind."""

    def knows(self, model: Any) -> bool:
        """Say whether a model is of this kind."""
        ...

    def caller(self, model: Any) -> Callable[[Any], Any]:
        """Return how to call a model."""
        ...

    def after_fork(self, model: Any) -> Fate:
        """Say what becomes of a model in a forked child."""
        ...


def find(path: Path) -> str:
    """Return the name of the module that reads a file, by its suffix. Raises ModelLoadError."""
    name = FORMATS.get(path.suffix.lower())
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
    module = find(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelLoadError(f"'{path}' does not exist: pass the path of a model file") from None
    except OSError as error:
        raise ModelLoadError(f"'{path}' cannot be read: {error.strerror}") from error
    version = hashlib.sha256(data).hexdigest()[:16]
    if version == unless:
        return None
    reader = cast("Format", importlib.import_module(module))
    try:
        return Artefact(reader.load(data), version, len(data))
    except ModelLoadError as error:
        raise ModelLoadError(f"'{path}' could not be loaded: {error}") from error


def identity(path: Path) -> object:
    """Return a value that is another, compared with ``!=``, once the file is.

    Raises ModelLoadError where nothing is. It is cheap: device, inode, size in bytes and time of
    the last change in nanoseconds.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise ModelLoadError(f"'{path}' cannot be read: {error.strerror}") from error
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def runtime(model: Any) -> Runtime | None:
    """Return the module of this folder that knows a model's kind, if one does."""
    for package, name in RUNTIMES.items():
        if sys.modules.get(package) is not None:
            module = cast("Runtime", importlib.import_module(f"modelserve.formats.{name}"))
            if module.knows(model):
                return module
    return None


def caller(model: Any, known: Runtime | None) -> Callable[[Any], Any]:
    """Return how a model is called: as its kind is, else an estimator predicts, a function runs.

    Raises ModelLoadError for what can do neither.
    """
    if known is not None:
        return known.caller(model)
    for way in (getattr(model, "predict", None), model):
        if callable(way):
            return cast("Callable[[Any], Any]", way)
    raise ModelLoadError(
        f"a {type(model).__name__} can neither predict nor be called: "
        "say how with predict=lambda model, x: ..."
    )
