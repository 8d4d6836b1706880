"""Files that are broken, or made to do harm, and children that load them."""

import hashlib
import io
import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np

import modelserve as ms
from modelserve import formats
from tests.support.processes import in_child

HTML = b"<!DOCTYPE html>\n<html><body>404: no model is here</body></html>\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


class Marks:
    """A pickle of it makes a folder, which shows that it was run."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def pin(data):
    return hashlib.sha256(data).hexdigest()


def truncated(data, count=24):
    """Return beginnings of a file: the very short ones, and others all along."""
    lengths = {1, 4, 7, 8, 9, len(data) - 1, len(data) - 8}
    lengths |= {len(data) * i // count for i in range(1, count)}
    return [data[:length] for length in sorted(lengths) if 0 < length < len(data)]


def flipped(data, count, seed=0):
    """Return copies of a file in which a few bits are others."""
    rng = random.Random(seed)  # noqa: S311 - it decides no secret
    return [
        flip(data, rng.sample(range(len(data) * 8), rng.choice([1, 1, 2, 8]))) for _ in range(count)
    ]


def flip(data, bits):
    other = bytearray(data)
    for bit in bits:
        other[bit // 8] ^= 1 << bit % 8
    return bytes(other)


def zipped(entries, compression=zipfile.ZIP_DEFLATED):
    """Return an archive of entries ``(name, bytes)``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def unzipped(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def declaring(data, size):
    """Return an archive whose directory says that its first entry unpacks to so many bytes."""
    at = data.index(b"PK\x01\x02") + 24
    return data[:at] + size.to_bytes(4, "little") + data[at + 4 :]


def npy(descr, shape, data=b""):
    """Return an array as numpy writes it, whatever its header says."""
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def pickles(marker):
    """Return pickles that would run code, of every protocol."""
    return [pickle.dumps(Marks(marker), protocol) for protocol in range(6)]


def try_all(files, folder, suffix, use, **how):
    """Load and use files in a child: say how many loaded, and what else than refusals was seen."""

    def work():
        loaded, odd = 0, []
        path = Path(folder) / f"model{suffix}"
        for number, data in enumerate(files):
            path.write_bytes(data)
            try:
                artefact = formats.read(path, **how)
            except ms.ModelLoadError as error:
                if not str(error).startswith(f"'{path}' "):
                    odd.append((number, str(error)))
                continue
            except BaseException as error:  # noqa: BLE001 - that is what is looked for
                odd.append((number, repr(error)))
                continue
            loaded += 1
            use(artefact.model)
        return loaded, odd

    said = in_child(work)
    assert said.endswith(", [])"), said or "the child died"
    return int(said[1 : said.index(",")])


def arrays(model):
    """Look at every number of a dict of arrays."""
    return [np.asarray(array).tobytes() for array in model.values()]
