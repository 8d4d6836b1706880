"""Where a model comes from."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, final

from modelserve.errors import ModelLoadError
from modelserve.loader._how import PLAINLY, How
from modelserve.loader._registry import Alias
from modelserve.loader._version import Fetched
from modelserve.predictor import name_of

if TYPE_CHECKING:
    from modelserve.loader._version import Version

READS = 3
"""How often a source that changes while it is read is read again at once."""
GONE: Final = object()
"""The identity of what is not there."""


class Source(Protocol):
    """What models are fetched from."""

    name: str
    """What to call a loader of it."""
    far: bool
    """Whether even a look at it may take long."""

    is_file: bool
    """Whether nobody but the loader can have chosen where its models are."""

    def fetch(self, now: Version | None, device: str | None) -> Fetched | None:
        """Make the model that is there on a device, unless it is that of now.

        Without a device it stays where it is made. Raises whatever it may.
        """
        ...

    def takes(self, device: str) -> bool:
        """Say whether the model can be on a device, as far as that is known before it is made."""
        ...

    def file(self) -> tuple[str, int | None] | None:
        """Return the suffix and the bytes of what is to be read, if it is a file.

        The bytes are None where they are not told. Nothing is read.
        """
        ...

    def identity(self) -> object:
        """Return what is another once the model is; None if it cannot be told.

        Raises ModelLoadError where nothing is.
        """
        ...


class Torn(ModelLoadError):
    """A source changed while it was read, again and again."""


def identity_of(source: Source) -> object:
    """Return the identity of a source, or that of nothing."""
    try:
        return source.identity()
    except Exception:  # noqa: BLE001 - a load will tell what it is
        return GONE


def read(
    source: Source, now: Version | None, device: str | None = None
) -> tuple[object, Fetched | None]:
    """Fetch what is the same before and after, with its identity.

    What changed meanwhile may be half of one file and half of another. If that never ends, what
    is whole all the same is taken, such as a version that was published before its alias moved on;
    else Torn is raised.
    """
    for attempt in range(READS):
        before = identity_of(source)
        try:
            fetched = source.fetch(now, device)
        except Exception:
            if identity_of(source) == before:
                raise
        else:
            whole = attempt == READS - 1 and fetched is not None and fetched.whole
            if whole or identity_of(source) == before:
                return before, fetched
    raise Torn(
        f"{source.name!r} changed while it was read: write models elsewhere and rename them "
        "when they are complete"
    )


def open_source(source: Any, version: str | None, how: How = PLAINLY) -> Source:
    """Return what fetches models of a source."""
    module = getattr(sys.modules.get("torch.nn"), "Module", None)  # None while torch is imported
    if module is not None and isinstance(source, module):
        _check_plain(how, type(source).__name__)
        return Function(lambda: source, type(source).__name__, version)
    if callable(source):
        _check_function(source)
        _check_plain(how, name_of(source))
        return Function(source, name_of(source), version)
    if isinstance(source, Alias):
        from modelserve.loader._paths import Folder

        if version is not None:
            raise ValueError(f"version={version!r}: {source!r} says which version, so leave it out")
        return Folder(Path(source.path), None, how, source.name)
    if isinstance(source, str | os.PathLike):
        from modelserve.loader._paths import open_path

        return open_path(cast("str", source), version, how)
    raise TypeError(
        f"a {type(source).__name__} is no source: pass a path, a torch module, or a function of "
        "no arguments that returns the model, such as `lambda: model`"
    )


@final
class Function:
    """A function that makes a model, and cannot tell whether it would be another."""

    far = False
    is_file = False

    def __init__(self, make: Callable[[], Any], name: str, version: str | None) -> None:
        self._make = make
        self._version = version
        self.name = name

    def fetch(self, now: Version | None, device: str | None) -> Fetched:  # noqa: ARG002 - as all do
        """Make a model, and move it."""
        model = self._make()
        if device is not None:
            from modelserve import formats

            model = formats.put(model, formats.runtime(model), device)
        return Fetched(model, self._version, None, 0)

    def takes(self, device: str) -> bool:  # noqa: ARG002 - as all do
        """Know nothing against any device."""
        return True

    def file(self) -> None:
        """Tell nothing."""

    def identity(self) -> None:
        """Tell nothing."""


def _check_plain(how: How, name: str) -> None:
    """Refuse what says how to read a file where there is none: a pin would pin nothing."""
    for option, value in how._replace(threads=None)._asdict().items():
        if value != PLAINLY._asdict()[option]:
            raise ValueError(
                f"{option}={value!r}: {name!r} is no file, which it is for: leave it out, or pass "
                "the path of the model"
            )


def _check_function(source: Callable[[], Any]) -> None:
    """Refuse a function that cannot be called without arguments or does not return a model."""
    import inspect

    if inspect.iscoroutinefunction(source):
        raise TypeError(
            f"the source {name_of(source)!r} is async: pass a plain function, which is called on a "
            "thread of its own"
        )
    try:
        signature = inspect.signature(source)
    except ValueError:  # a builtin that does not tell
        return
    try:
        signature.bind()
    except TypeError:
        raise TypeError(
            f"the source {name_of(source)!r} takes arguments: pass a function of no arguments "
            "that returns the model, such as `lambda: model`"
        ) from None
