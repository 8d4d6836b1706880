"""Where a model comes from."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, cast

from modelserve import formats
from modelserve.predictor import name_of

Source = Callable[["str | None"], "formats.Artefact | None"]


def open_source(
    source: Any,
    version: str | None,
    *,
    factory: Callable[[], Any] | None = None,
    sha256: str | None = None,
    allow_pickle: bool = False,
) -> tuple[Source, str]:
    """Return how to fetch a model unless it is of the version given, and what to call it."""
    module = getattr(sys.modules.get("torch.nn"), "Module", None)  # None while torch is imported
    if module is not None and isinstance(source, module):
        return lambda _: formats.Artefact(source, version), type(source).__name__
    if callable(source):
        _check_function(source)
        return lambda _: formats.Artefact(source(), version), name_of(source)
    if isinstance(source, str | os.PathLike):
        path = formats.place(cast("str", source))
        how: dict[str, Any] = {"factory": factory, "sha256": sha256, "allow_pickle": allow_pickle}
        formats.find(path, **how)
        if version is not None:
            raise ValueError(
                f"version={version!r} of '{path}': a file's version is its digest, so leave it out"
            )
        return lambda unless: formats.read(path, unless, **how), path.stem
    raise TypeError(
        f"a {type(source).__name__} is no source: pass a path, a torch module, or a function of "
        "no arguments that returns the model, such as `lambda: model`"
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
