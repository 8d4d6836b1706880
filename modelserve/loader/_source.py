"""Where a model comes from."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelserve import formats
from modelserve.predictor import name_of

Source = Callable[["str | None"], "formats.Artefact | None"]


def open_source(source: Any) -> tuple[Source, str]:
    """Return how to fetch a model unless it is of the version given, and what to call it."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.nn.Module):
        return lambda _: formats.Artefact(source, None), type(source).__name__
    if callable(source):
        return lambda _: formats.Artefact(source(), None), name_of(source)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        formats.find(path)
        return lambda version: formats.read(path, unless=version), path.stem
    raise TypeError(f"{source!r} is no source: pass a path or a function of no arguments")
