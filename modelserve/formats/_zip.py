"""Zip archives: what they declare is checked before anything in them is unpacked."""

from __future__ import annotations

import zipfile
from io import BytesIO

from modelserve.errors import ModelLoadError
from modelserve.formats._door import check_size

ALWAYS = 1 << 30
"""Bytes that any archive may unpack to."""
RATIO = 20
"""How many times its own size a larger archive may unpack to; weights shrink by half at best."""
ENCRYPTED = 0x1


def open_zip(data: bytes) -> zipfile.ZipFile:
    """Open an archive whose directory is sound. Raises ModelLoadError, or what ``zipfile`` does."""
    archive = zipfile.ZipFile(BytesIO(data))
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    for name in names:
        if name.startswith(("/", "\\")) or {"..", ""} & set(name.rstrip("/").split("/")):
            raise _unsound(f"an entry is called {name[:80]!r}")
    if len(set(names)) < len(names):
        raise _unsound("two entries are of one name")
    if any(entry.flag_bits & ENCRYPTED for entry in entries):
        raise _unsound("it is encrypted")
    if sum(entry.compress_size for entry in entries) > len(data):
        raise _unsound("its entries overlap")
    unpacked = sum(entry.file_size for entry in entries)
    check_size(unpacked, "unpacked it")
    if unpacked > max(ALWAYS, RATIO * len(data)):
        raise _unsound(f"{len(data):,} bytes unpack to {unpacked:,}")
    return archive


def _unsound(why: str) -> ModelLoadError:
    return ModelLoadError(f"save it again, as no sound zip archive is like this ({why})")
