"""Model files and models: one small module a format, imported when one of its kind is there."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

from modelserve.errors import ModelLoadError
from modelserve.formats import _door, _external, _folders
from modelserve.formats._door import pinned, sums
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
    "budgeted",
    "caller",
    "find",
    "gather",
    "identity",
    "nbytes",
    "pinned",
    "place",
    "put",
    "read",
    "runtime",
    "sums",
    "takes",
]

RUNTIMES = {"onnxruntime": "onnx", "torch": "torch", "xgboost": "xgboost", "lightgbm": "lightgbm"}
"""The module of this folder that knows the models of each package."""
FOLDER = Form("transformers", "transformers")
"""The format of a folder that is one model."""
CPU = "cpu"
TORCH = {"torch_files", "torch_export"}
"""The modules of this folder that make torch modules and nothing else."""
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

    def device(self, model: Any) -> str:
        """Return the device that a model is on, by torch's name for it."""
        ...


@runtime_checkable
class Mover(Protocol):
    """What a module offers whose models can be moved to another device."""

    def put(self, model: Any, device: str) -> Any:
        """Return a model on a device. May raise anything."""
        ...


@runtime_checkable
class Budgeted(Protocol):
    """What a module offers whose models are told with each call on how many threads to run."""

    def budgeted(self, call: Callable[[Any], Any], threads: int) -> Callable[[Any], Any]:
        """Return a call that runs on so many threads."""
        ...


@runtime_checkable
class Chooser(Protocol):
    """What a module offers whose models are made for one device."""

    def takes(self, device: str) -> bool:
        """Say whether what is installed can run a model there."""
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


def nbytes(path: Path | Remote) -> int | None:
    """Return how many bytes reading it will read, None where that is not told. Nothing is read."""
    return path.nbytes() if isinstance(path, Remote) else _door.nbytes(path)


def find(  # noqa: PLR0913 - one word each
    path: Path | Remote,
    *,
    factory: Callable[[], Any] | None = None,
    sha256: str | None = None,
    allow_pickle: bool = False,
    promised: str = "",
    threads: int | None = None,
) -> Form:
    """Return the format of a file, by its suffix, without a look at it.

    Raises ModelLoadError for one that is not known, or not with these options, and ValueError for
    a ``sha256`` that is no digest and ``threads`` that its models cannot be told.
    """
    pin = pinned(sha256)
    form = _form(path)
    if form.fragile and not (pin or promised):
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
    if threads is not None and factory is None and form.module not in {"onnx", *TORCH}:
        raise ValueError(
            f"threads={threads!r} of '{path}': that is for ONNX models and torch modules alone, so "
            "leave it out"
        )
    if factory is not None and not form.factory:
        raise ModelLoadError(
            f"'{path}' takes no factory=, as {form.reader} makes the whole model: leave it out"
        )
    return form


def read(  # noqa: PLR0913 - one word each
    path: Path | Remote,
    unless: str | None = None,
    *,
    factory: Callable[[], Any] | None = None,
    sha256: str | None = None,
    allow_pickle: bool = False,
    promised: str = "",
    threads: int | None = None,
    device: str | None = None,
) -> Artefact | None:
    """Load a model file, or return None if its version is the one given.

    Its version is the beginning of the SHA-256 of the very bytes that are loaded; that of an ONNX
    model with external data is of what ``sha256sum`` prints for the model and for those files in
    the order of their names, and that of a folder, which is a model of Hugging Face transformers,
    of what it prints for all files in it. ``sha256`` pins it: other bytes are refused before they
    are parsed. So does ``promised``, the whole digest that a manifest beside the file tells; but as
    whoever writes the one can write the other, it lets nothing run code. ``device`` is where models
    go that can be elsewhere than on the CPU, see :func:`takes`; without it they stay where they
    were made.

    Raises ModelLoadError for everything that keeps it from being loaded, and nothing else.
    """
    form = find(path, factory=factory, sha256=sha256, allow_pickle=allow_pickle, promised=promised)
    if form is FOLDER:
        return _read_folder(cast("Path", path), unless, pinned(sha256), promised)
    contents = _contents(path)
    pin = pinned(sha256)
    _door.check_promise(contents.digest, promised, str(path))
    _door.check_pin(contents.digest, pin, str(path))
    version = contents.digest[:VERSION_DIGITS]
    if version == unless:
        return None
    trusted, suffix = _door.trusts(pin, allow_pickle), path.suffix.lower()
    ask = Ask(factory, trusted, suffix, contents.beside, device, threads)
    return Artefact(_make(path, form, contents.data, ask), version, contents.nbytes)


def gather(path: Path | Remote) -> dict[str, bytes]:
    """Return the bytes of a model file and of those that it names, by name, in this order.

    Nothing is parsed but an ONNX model's names of files. Raises ModelLoadError.
    """
    if _form(path) is FOLDER:
        raise ModelLoadError(f"'{path}' is a folder: pass the path of a model file")
    contents = _contents(path)
    return {path.name: contents.data} | contents.beside


def _form(path: Path | Remote) -> Form:
    form = FORMS.get(path.suffix.lower())
    if form is None and isinstance(path, Path) and path.is_dir():
        return FOLDER
    if form is None:
        known = ", ".join(sorted(FORMS))
        raise ModelLoadError(
            f"'{path}' is of no known format: use one of {known}, or pass a function that loads it"
        )
    return form


def takes(path: Path | Remote, device: str, factory: Callable[[], Any] | None = None) -> bool:
    """Say whether what a file makes can be on a device, as far as what is installed goes.

    Torch modules can be on any, ONNX models where ONNX Runtime has the provider, others, and those
    of folders, on the CPU.
    """
    if device == CPU:
        return True
    form = FORMS.get(path.suffix.lower())
    if form is None:  # a model of a folder, or nothing that can be read, as reading it will say
        return not (isinstance(path, Path) and path.is_dir())
    try:
        module = importlib.import_module(f"modelserve.formats.{form.module}")
    except ModelLoadError:  # not installed: reading it will say so
        return False
    if isinstance(module, Chooser):
        return bool(module.takes(device))
    return factory is not None or form.module in TORCH


def _contents(path: Path | Remote) -> _door.Contents:
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


def _read_folder(path: Path, unless: str | None, pin: str, promised: str) -> Artefact | None:
    """Load a folder that is one model, from a copy that nobody else writes to."""
    from tempfile import TemporaryDirectory

    try:
        with TemporaryDirectory(prefix="modelserve-", ignore_cleanup_errors=True) as private:
            digest, nbytes = _folders.copy(path, Path(private))
            _door.check_promise(digest, promised, str(path))
            _door.check_pin(digest, pin, str(path))
            version = digest[:VERSION_DIGITS]
            if version == unless:
                return None
            with _told(path, FOLDER, private):
                module: Any = importlib.import_module(f"modelserve.formats.{FOLDER.module}")
                return Artefact(module.load_folder(Path(private)), version, nbytes)
    except OSError as error:
        raise _failed(path, f"it could not be copied ({told(error)}): make room") from error


def _make(path: Path | Remote, form: Form, data: bytes, ask: Ask) -> Any:
    """Make a model of bytes that may be anything."""
    if (plain := guess(data)) is not None:
        raise _failed(path, cannot(form.reader, *plain))
    with _told(path, form):
        module = importlib.import_module(f"modelserve.formats.{form.module}")
        model = cast("Format", module).load(data, ask)
        return model if ask.device is None else put(model, runtime(model), ask.device)


@contextlib.contextmanager
def _told(path: Path | Remote, form: Form, private: str = "") -> Generator[None]:
    """Tell in one way of whatever a reader raises, by the path that the user knows."""
    try:
        yield
    except ModelLoadError as error:
        raise _failed(path, error) from error.__cause__
    except Exception as error:  # a file that is not what it should be can raise anything
        why = told(error)
        why = why.replace(private, str(path)) if private else why
        raise _failed(path, cannot(form.reader, why)) from error


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


def put(model: Any, known: Runtime | None, device: str) -> Any:
    """Return a model on a device, or where it is if its kind cannot be moved. May raise anything.

    What fails on the way leaves it on the CPU.
    """
    if not isinstance(known, Mover):
        return model
    try:
        return known.put(model, device)
    except Exception:
        with contextlib.suppress(Exception):
            known.put(model, CPU)  # so the memory that a half of it took is free again
        raise


def budgeted(
    call: Callable[[Any], Any], known: Runtime | None, threads: int, *, is_file: bool
) -> Callable[[Any], Any]:
    """Return a call of a model that runs on so many threads, as far as it was not made so.

    Raises ModelLoadError for a kind of model that cannot be told.
    """
    if isinstance(known, Budgeted):
        return known.budgeted(call, threads)
    if is_file:
        return call
    raise ModelLoadError(
        f"threads={threads} is for torch modules and files of ONNX models: let the function that "
        "makes this model tell it"
    )


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
