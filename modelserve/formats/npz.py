"""Arrays by name, as ``numpy.savez`` writes them."""

from __future__ import annotations

import zipfile
from math import prod
from typing import Any

import numpy as np
from numpy.lib import format as npy

from modelserve.errors import ModelLoadError
from modelserve.formats._known import Ask, cannot
from modelserve.formats._zip import open_zip

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def load(data: bytes, ask: Ask) -> dict[str, np.ndarray[Any, Any]]:  # noqa: ARG001 - as all do
    """Make a dict of arrays of a file's bytes."""
    with open_zip(data) as archive:
        return {e.filename.removesuffix(".npy"): _array(archive, e) for e in archive.infolist()}


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    """Read one array, once its header says no more than the archive does."""
    with archive.open(entry) as file:
        shape, _, dtype = HEADERS[npy.read_magic(file)](file)
        rest = entry.file_size - file.tell()
    if dtype.hasobject:
        why = f"{entry.filename!r} holds Python objects"
        raise ModelLoadError(cannot("numpy", why, "save arrays of numbers or texts alone"))
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != rest:
        raise ModelLoadError(cannot("numpy", f"{entry.filename!r} is not of the size it tells"))
    with archive.open(entry) as file:
        return npy.read_array(file, allow_pickle=False)
