"""Model files and models: one small module a format, imported when one of its kind is there."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, cast

from modelserve.errors import ModelLoadError
from modelserve.formats import _door, _external
from modelserve.formats._door import pinned
from modelserve.formats._known import FORMS, Ask, Form, cannot, demand_trust, guess, told
from modelserve.formats._remote import Remote

__all__ = [
    "FORMS",
    "RUNTIMES",
    "Artefact",
    "Fate",
    "Format",
    "Remote",
    "Runtime",
    "caller",
    "find",
    "identity",
    "pinned",
    "place",
    "read",
    "runtime",
]

RUNTIMES = {"onnxruntime": "onnx", "torch": "torch", "xgboost": "xgboost", "lightgbm": "lightgbm"}
"""The module of this folder that knows the models of each package."""
VERSION_DIGITS = 16
"""How many digits of its digest are a file's version."""

Fate: TypeAlias = Literal["keep", "reload", "refuse"]
"""What becomes of a loaded model in a forked child."""


class Artefact(NamedTuple):
    """A model, the version that its bytes make it or its maker calls it, and how many were read."""

    model: Any
    version: str | None
    nbytes: int = 0


class Format(Protocol):
    """What a module offers that reads files."""

    def load(self, data: bytes, ask: Ask) -> Any:
        """Make a model of a file's bytes. May raise anything."""
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


def place(source: str | os.PathLike[str]) -> Path | Remote:
    """Return where a file lies: a path, or a URL such as ``s3://models/ranker.onnx``.

    Raises ModelLoadError for a URL that leads to a file of this machine.

    >>> place("models/ranker.onnx").stem, place("s3://models/ranker.onnx").stem
    ('ranker', 'ranker')
    """
    where = os.fspath(source)
    return Remote(where) if "://" in where else Path(where)


def identity(path: Path | Remote) -> object:
    """Return what differs, by ``!=``, when a file is another or has other contents.

    It is device, inode, size and modification time, of the files that hold its weights too, and
    of every file of a folder; of a URL it is what its service tells of it alone, and None if
    that could be the same for another. Nothing is read but a new ONNX model, once, for the names of
    its files. Raises ModelLoadError.
    """
    return path.identity() if isinstance(path, Remote) else _door.identity(path)


def find(
    path: Path | Remote,
    *,
    factory: Callable[[], Any] | None = None,
    sha256: str | None = None,
    allow_pickle: bool = False,
) -> Form:
    """Return the format of a file, by its suffix, without a look at it.

    Raises ModelLoadError for one that is not known, or not with these options, and ValueError for
    a ``sha256`` that is no digest.
    """
    pin = pinned(sha256)
    form = FORMS.get(path.suffix.lower())
    if form is None:
        known = ", ".join(sorted(FORMS))
        raise ModelLoadError(
            f"'{path}' is of no known format: use one of {known}, or pass a function that loads it"
        )
    if form.fragile and not pin:
        raise _failed(
            path,
            f"a broken one could end the process, as {form.reader} believes what it "
            "reads: pass sha256= of a file that you trust, or export it as .onnx",
        )
    if form.code:
        try:
            demand_trust(Ask(trusted=_door.trusts(pin, allow_pickle)), f"a {path.suffix} file")
        except ModelLoadError as error:
            raise _failed(path, error) from None
    if factory is not None and not form.factory:
        raise ModelLoadError(
            f"'{path}' takes no factory=, as {form.reader} makes the whole model: leave it out"
        )
    return form


def read(
    path: Path | Remote,
    unless: str | None = None,
    *,
    factory: Callable[[], Any] | None = None,
    sha256: str | None = None,
    allow_pickle: bool = False,
) -> Artefact | None:
    """Load a model file, or return None if its version is the one given.

    Its version is the beginning of the SHA-256 of the very bytes that are loaded; that of an ONNX
    model with external data is of what ``sha256sum`` prints for the model and for those files in
    the order of their names. ``sha256`` pins it: other bytes are refused before they are parsed.

    Raises ModelLoadError for everything that keeps it from being loaded, and nothing else.
    """
    form = find(path, factory=factory, sha256=sha256, allow_pickle=allow_pickle)
    contents = _gather(path)
    pin = pinned(sha256)
    _door.check_pin(contents.digest, pin, str(path))
    version = contents.digest[:VERSION_DIGITS]
    if version == unless:
        return None
    ask = Ask(factory, _door.trusts(pin, allow_pickle), path.suffix.lower(), contents.beside)
    return Artefact(_make(path, form, contents.data, ask), version, contents.nbytes)


def _gather(path: Path | Remote) -> _door.Contents:
    """Read a file, and the files beside it that it names."""
    for _ in range(_door.ATTEMPTS):  # all of them of one moment
        before = identity(path) if path.suffix.lower() == ".onnx" else None
        data = path.take() if isinstance(path, Remote) else _door.take(path, str(path))
        try:
            names = _external.locations(data) if path.suffix.lower() == ".onnx" else []
        except ModelLoadError as error:
            raise _failed(path, error) from None
        if not names:
            return _door.Contents(data, {}, _door.digest(data))
        beside = {name: _beside(path, name) for name in names}
        if identity(path) == before:
            return _door.Contents(data, beside, _door.digest_of_all({path.name: data} | beside))
    raise _door.changed(str(path))


def _beside(path: Path | Remote, name: str) -> bytes:
    if isinstance(path, Remote):
        return path.beside(name)
    return _door.take(_door.within(path.parent, name, str(path)), str(path.parent / name))


def _make(path: Path | Remote, form: Form, data: bytes, ask: Ask) -> Any:
    """Make a model of bytes that may be anything."""
    if (plain := guess(data)) is not None:
        raise _failed(path, cannot(form.reader, *plain))
    try:
        module = importlib.import_module(f"modelserve.formats.{form.module}")
        return cast("Format", module).load(data, ask)
    except ModelLoadError as error:
        raise _failed(path, error) from error.__cause__
    except Exception as error:  # a file that is not what it should be can raise anything
        raise _failed(path, cannot(form.reader, told(error))) from error


def _failed(path: Path | Remote, why: object) -> ModelLoadError:
    return ModelLoadError(f"'{path}' could not be loaded: {why}")


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
