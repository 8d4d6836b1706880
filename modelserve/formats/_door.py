"""The door: bytes are read once, hashed, and only then looked at; nothing is read twice."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from modelserve._policy import limits
from modelserve.errors import ModelLoadError
from modelserve.formats._external import locations

ATTEMPTS = 3
"""How often a file that changes while it is read is read anew."""
SHORTEST_PIN, WHOLE_PIN = 16, 64
"""Hexadecimal digits that a pinned digest has at least, and all of them."""
ROOT = Path("/")
BESIDE = ("{name}.data", "{name}_data", "{stem}.data", "{stem}.bin")
"""What exporters call the file that holds the weights of a model file."""

FileState = tuple[int, int, int, int]


class Contents(NamedTuple):
    """What was read: the model's own bytes, those of files beside it by name, and their digest."""

    data: bytes
    beside: dict[str, bytes]
    digest: str

    @property
    def nbytes(self) -> int:
        """How many bytes were read."""
        return len(self.data) + sum(map(len, self.beside.values()))


def take(path: Path, shown: str) -> bytes:
    """Return the bytes of a regular file, all of them of one moment. Raises ModelLoadError.

    They are read into memory: a map of a file shows what others write into it later.
    """
    for _ in range(ATTEMPTS):
        try:
            with open(path, "rb", opener=_opener) as file:
                before = os.fstat(file.fileno())
                _check(before, shown)
                data = file.read(before.st_size + 1)
                after = os.fstat(file.fileno()), path.stat()
        except FileNotFoundError:
            raise absent(shown) from None
        except (OSError, ValueError) as error:
            raise _unreadable(error, shown) from error
        if len(data) == before.st_size and {_state(s) for s in after} == {_state(before)}:
            return data
    raise changed(shown)


def changed(shown: str) -> ModelLoadError:
    """Return the error of a file that never rests."""
    return ModelLoadError(
        f"'{shown}' changed while it was read, {ATTEMPTS} times: write it elsewhere and rename it"
    )


def _opener(path: str, flags: int) -> int:
    """Open a file without waiting, as a pipe would have us do."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check(state: os.stat_result, shown: str) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise ModelLoadError(f"'{shown}' cannot be read: it is no regular file: pass one that is")
    check_size(state.st_size, f"'{shown}' cannot be read: it")


def absent(shown: str) -> ModelLoadError:
    """Return the error of a file that is not there."""
    return ModelLoadError(f"'{shown}' does not exist: pass the path of a model file")


def _unreadable(error: OSError | ValueError, shown: str) -> ModelLoadError:
    if isinstance(error, IsADirectoryError):
        why = "it is a folder: pass the path of the file in it"
    elif isinstance(error, OSError):
        why = f"{error.strerror}: check the path and who may read it"
    else:  # a zero byte, say
        why = f"{error}: pass the path of a model file"
    return ModelLoadError(f"'{shown}' cannot be read: {why}")


def check_size(size: int, what: str) -> None:
    """Refuse what does not fit this machine's memory. Raises ModelLoadError."""
    limit = room()
    if size > limit:
        raise ModelLoadError(
            f"{what} has {size:,} bytes, and there are {limit:,} bytes of memory: "
            "check the file, or use a larger machine"
        )


def room(root: Path = ROOT) -> int:
    """Return the memory of the machine, or of its control groups where they have less, in bytes."""
    rooms = [sys.maxsize]
    with contextlib.suppress(AttributeError, ValueError):  # not every system tells
        rooms.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    v2, folders = limits.folders(_text(root / "proc/self/cgroup"), "memory")
    name = "memory.max" if v2 else "memory.limit_in_bytes"
    base = root / "sys/fs/cgroup" / ("" if v2 else "memory")
    bounds = (limits.nbytes(_text(base / folder / name)) for folder in folders)
    return min([*rooms, *(bound for bound in bounds if bound is not None)])


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text("utf-8", "surrogateescape")
    return ""


def within(folder: Path, location: str, shown: str) -> Path:
    """Return where a file lies that a model names, if it lies in the model's folder.

    Raises ModelLoadError: a model could otherwise have any file of this machine read.
    """
    check_location(location, shown)
    try:
        root = folder.resolve()
        path = (root / location).resolve()
        alone = not path.exists() or path.stat().st_nlink == 1
    except (OSError, ValueError, RuntimeError):  # a loop of links, or a name that cannot be
        raise elsewhere(location, shown) from None
    if not alone or not path.is_relative_to(root):
        raise elsewhere(location, shown)
    return path


def check_location(location: str, shown: str) -> None:
    """Refuse a name that leads out of a folder by its very words. Raises ModelLoadError."""
    parts = location.split("/")
    if not all(parts) or {".", ".."} & set(parts) or set("\\:\0") & set(location):
        raise elsewhere(location, shown)


def elsewhere(location: str, shown: str) -> ModelLoadError:
    """Return the error of external data that does not lie beside its model."""
    return ModelLoadError(
        f"'{shown}' names the external data {location[:80]!r}, which does not lie in its folder as "
        "a file of its own: export it anew, with all of its data beside it and no links"
    )


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes, as ``sha256sum`` prints it."""
    return hashlib.sha256(data).hexdigest()


def sums(files: dict[str, bytes]) -> str:
    """Return what ``sha256sum`` prints for files, by name in this order."""
    return "".join(f"{digest(files[name])}  {name}\n" for name in files)


def digest_of_all(files: dict[str, bytes]) -> str:
    """Return the SHA-256 of what ``sha256sum`` prints for files, by name in this order."""
    return digest(sums(files).encode())


def pinned(sha256: object) -> str:
    """Return a pinned digest as ``hexdigest`` would spell it, or nothing. Raises ValueError."""
    pin = sha256.lower() if isinstance(sha256, str) else ""
    if sha256 is not None and not (SHORTEST_PIN <= len(pin) <= WHOLE_PIN and set(pin) <= set(_HEX)):
        raise ValueError(
            f"sha256={sha256!r}: pass the digest that `sha256sum` prints, 64 hexadecimal digits "
            f"or the first {SHORTEST_PIN} at least"
        )
    return pin


def trusts(pin: str, allow_pickle: bool) -> bool:  # noqa: FBT001 - as the user says it
    """Say whether a file may run code: who finds bytes to the beginning of a digest may not."""
    return allow_pickle and len(pin) == WHOLE_PIN


_HEX = "0123456789abcdef"


def check_pin(found: str, pin: str, shown: str) -> None:
    """Refuse bytes that are not those that were pinned. Raises ModelLoadError."""
    if not found.startswith(pin):
        raise ModelLoadError(
            f"'{shown}' has the digest {found[: len(pin)]}, and sha256= pins {pin}: "
            "fetch the file again, or pin the new one if you trust it"
        )


def check_promise(found: str, promised: str, shown: str) -> None:
    """Refuse bytes that are not those of which a manifest tells. Raises ModelLoadError."""
    if promised and found != promised:
        raise ModelLoadError(
            f"'{shown}' has the digest {found}, and its manifest says {promised}: "
            "copy the version again, or publish the model anew"
        )


def identity(path: Path) -> object:
    """Return what differs, by ``!=``, when a file is another or has other contents.

    It is device, inode, size and modification time, of the files that hold its weights too, and
    of every file of a folder: cheap, as nothing is read but a new ONNX model, once, for the names
    of its files. Raises ModelLoadError.
    """
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            return tuple(_states(sorted(p for p in path.rglob("*") if not p.is_dir())))
    except FileNotFoundError:
        raise absent(str(path)) from None
    except (OSError, ValueError) as error:
        raise _unreadable(error, str(path)) from error
    names = [name.format(name=path.name, stem=path.stem) for name in BESIDE]
    if path.suffix.lower() == ".onnx":
        with contextlib.suppress(ModelLoadError):  # it may be half there yet
            names += _named(path, _state(state))
    return (_state(state), *_states(path.parent / name for name in names))


@functools.lru_cache(maxsize=1024)
def _named(path: Path, state: FileState) -> tuple[str, ...]:  # noqa: ARG001 - what it is kept for
    """Return the names of the files that an ONNX model names, read once for each of its states."""
    return tuple(locations(take(path, str(path))))


def nbytes(path: Path) -> int | None:
    """Return the bytes of a file and of those that hold its weights, or of all files of a folder.

    None where there is nothing, or nothing that may be read.
    """
    try:
        if path.is_dir():
            return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        names = BESIDE if path.suffix.lower() == ".onnx" else ()
        beside = [path.with_name(n.format(name=path.name, stem=path.stem)) for n in names]
        return sum(p.stat().st_size for p in (path, *beside) if p == path or p.is_file())
    except (OSError, ValueError):
        return None


def _states(paths: Iterable[Path]) -> Iterable[tuple[str, FileState]]:
    for path in paths:
        with contextlib.suppress(OSError, ValueError):  # gone at any moment, or a loop of links
            yield str(path), _state(path.stat())


def _state(state: os.stat_result) -> FileState:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
