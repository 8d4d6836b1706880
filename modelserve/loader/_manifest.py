"""What lies in a registry: the manifests of versions, and what aliases point at."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from modelserve.errors import ModelLoadError

MANIFEST = "SHA256SUMS"
"""The file in the folder of a version that holds what ``sha256sum`` prints for its files."""
ALIASES = "aliases"
"""The folder in a registry that holds a file an alias, with the number at which it points."""
LINE = re.compile(r"([0-9a-f]{64}) [ *]([^\\\0]+)")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Manifest(NamedTuple):
    """The model file of a version, and the digest of it and of all files that belong to it."""

    file: str
    digest: str


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a version, if it has one. Raises ModelLoadError if it is broken."""
    text = _text_of(folder / MANIFEST)
    if text is None:
        return None
    lines = [LINE.fullmatch(line) for line in text.splitlines()]
    pairs = [(line[1], line[2]) for line in lines if line is not None]
    if not pairs or len(pairs) < len(lines) or not text.endswith("\n") or "/" in pairs[0][1]:
        raise ModelLoadError(
            f"'{folder / MANIFEST}' is broken: write what `sha256sum` prints for the model file, "
            "and then for the files that belong to it, or publish the model anew"
        )
    digest, file = pairs[0]
    if len(pairs) > 1:
        import hashlib

        canonical = "".join(f"{digest}  {file}\n" for digest, file in pairs)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
    return Manifest(file, digest)


def pointed(registry: Path, alias: str) -> str:
    """Return the number at which an alias points. Raises ModelLoadError."""
    text = _text_of(registry / ALIASES / alias)
    if text is None:
        known = ", ".join(map(repr, aliases_of(registry))) or "none"
        raise ModelLoadError(
            f"'{registry}' has no alias {alias!r} (there are: {known}): "
            f"point it at a version with modelserve.Registry(path).point({alias!r}, version)"
        )
    label = text.strip()
    if not (label.isascii() and label.isdigit()):
        raise ModelLoadError(
            f"the alias {alias!r} of '{registry}' is broken, as it holds no number: point it anew"
        )
    return label


def aliases_of(registry: Path) -> list[str]:
    """Return the names of all aliases, sorted."""
    folder = registry / ALIASES
    if not folder.is_dir():
        return []
    return sorted(each.name for each in entries(folder) if NAME.fullmatch(each.name))


def number(path: Path) -> int | None:
    """Return the number that is the name of a folder, if it is one."""
    name = path.name
    return int(name) if name.isascii() and name.isdigit() and path.is_dir() else None


def entries(folder: Path) -> list[Path]:
    """Return what lies in a folder. Raises ModelLoadError."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ModelLoadError(f"'{folder}' cannot be read: {error.strerror}") from error


def _text_of(path: Path) -> str | None:
    """Return the text of a file, None if it is not there. Raises ModelLoadError."""
    try:
        return path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelLoadError(f"'{path}' cannot be read: {error.strerror}") from error
