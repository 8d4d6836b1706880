"""Models that are folders: copied to where nobody else writes, and hashed on the way."""

from __future__ import annotations

import os
from pathlib import Path

from modelserve.errors import ModelLoadError
from modelserve.formats._door import digest, take

DATA = {".json", ".safetensors", ".txt", ".model", ".jinja"}
"""What is copied: configurations, weights and vocabularies, and no code."""


def copy(folder: Path, to: Path) -> tuple[str, int]:
    """Copy the data of a folder; return the digest of all of it and how many bytes were read.

    The digest is that of what ``sha256sum`` prints for all files, sorted by name, other than those
    whose path has a hidden name in it. Links to folders are not followed. Raises ModelLoadError
    for what cannot be read, and OSError for what cannot be written.
    """
    lines: list[str] = []
    nbytes = 0
    for name in names(folder):
        data = take(folder / name, str(folder / name))
        lines.append(f"{digest(data)}  {name}\n")
        nbytes += len(data)
        if Path(name).suffix in DATA:
            place = to / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    return digest("".join(lines).encode()), nbytes


def names(folder: Path) -> list[str]:
    """Return the names of all files in a folder, sorted by their bytes, without hidden ones.

    Raises ModelLoadError if it cannot be read.
    """
    found: list[str] = []
    try:
        for where, folders, files in os.walk(folder, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            inner = Path(where).relative_to(folder)
            found += [(inner / name).as_posix() for name in files if not name.startswith(".")]
    except OSError as error:
        raise ModelLoadError(f"'{folder}' cannot be read: {error.strerror}") from error
    return sorted(found, key=os.fsencode)


def _raise(error: OSError) -> None:
    raise error
