"""Files, and folders of versions: ``models/ranker/3/`` holds version 3."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, final

from modelserve import formats
from modelserve.errors import ModelLoadError
from modelserve.loader._how import PLAINLY, How
from modelserve.loader._version import Fetched

if TYPE_CHECKING:
    from modelserve.loader._version import Version


def open_path(source: str | os.PathLike[str], version: str | None, how: How) -> File | Folder:
    """Return what reads models of a file, a folder or a URL."""
    path = formats.place(source)
    if isinstance(path, Path) and (is_versioned(path) or (version and path.is_dir())):
        return Folder(path, version, how)
    formats.find(path, **how._asdict())
    if version is not None:
        raise ValueError(
            f"version={version!r} of '{path}': a file's version is its digest, so leave it out"
        )
    return File(path, how)


def is_versioned(path: Path) -> bool:
    """Say whether a path is a folder of versions, or may become one."""
    if path.is_dir():
        entries = _entries(path)
        return not entries or any(_number(each) is not None for each in entries)
    return not path.suffix and not path.exists()


def _number(path: Path) -> int | None:
    name = path.name
    return int(name) if name.isascii() and name.isdigit() and path.is_dir() else None


@final
class Folder:
    """A folder of versions, each in a folder named by its number.

    The one of the highest number is taken, or the one that is pinned. What lies in it is read: the
    one file or folder there, or of several the one that is a model. Hidden names do not count.
    """

    far = False

    def __init__(self, path: Path, version: str | None, how: How = PLAINLY) -> None:
        if version is not None and not (version.isascii() and version.isdigit()):
            raise ValueError(f"version={version!r} of '{path}': pass the number of a folder in it")
        self._path = path
        self._pinned = version
        self._how = how._asdict()
        self.name = path.name

    def fetch(self, now: Version | None) -> Fetched | None:
        """Read the version to serve, unless it is that of now."""
        label, content = self._pick()
        same = now is not None and now.stamp.version == label
        unless = now.digest if now is not None and same else None
        artefact = formats.read(content, unless, **self._how)
        if artefact is None:
            return None
        return Fetched(artefact.model, label, artefact.version, artefact.nbytes)

    def identity(self) -> object:
        """Return what is another once there is another version to serve, or that one changed."""
        label, content = self._pick()
        return label, formats.identity(content)

    def _pick(self) -> tuple[str, Path]:
        """Return the name of the version to serve, and what to read."""
        for folder in self._candidates():
            found = [each for each in _entries(folder) if not each.name.startswith(".")]
            if found:
                return folder.name, found[0] if len(found) == 1 else _model(folder, found)
        raise ModelLoadError(
            f"'{self._path}' holds no version {self._pinned or 'yet'}: put the model into "
            f"a folder with a number, such as '{self._path / (self._pinned or '1')}'"
        )

    def _candidates(self) -> list[Path]:
        if self._pinned is not None:
            return [self._path / self._pinned]
        numbered = [(n, each) for each in _entries(self._path) if (n := _number(each)) is not None]
        return [each for _, each in sorted(numbered, reverse=True)]


def _model(folder: Path, found: list[Path]) -> Path:
    """Return the one model beside what belongs to it, or was left there.

    That is weights of an ONNX model, often a .bin, and texts and JSON, which are models at times.
    """
    known = [each for each in found if each.suffix.lower() in formats.FORMS]
    likely = [each for each in known if not formats.FORMS[each.suffix.lower()].fragile] or known
    if any(each.suffix.lower() == ".onnx" for each in likely):
        likely = [each for each in likely if each.suffix.lower() != ".bin"]
    if len(likely) > 1:
        names = ", ".join(sorted(each.name for each in likely))
        raise ModelLoadError(f"'{folder}' holds several models, {names}: leave one of them there")
    return likely[0] if likely else folder


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ModelLoadError(f"'{folder}' cannot be read: {error.strerror}") from error


@final
class File:
    """One file, or one folder that is one model."""

    def __init__(self, path: Path | formats.Remote, how: How = PLAINLY) -> None:
        self._path = path
        self._how = how._asdict()
        self.name = path.stem
        self.far = isinstance(path, formats.Remote)

    def fetch(self, now: Version | None) -> Fetched | None:
        """Read the file, unless its bytes are those of now."""
        artefact = formats.read(self._path, None if now is None else now.digest, **self._how)
        if artefact is None:
            return None
        return Fetched(artefact.model, artefact.version, artefact.version, artefact.nbytes)

    def identity(self) -> object:
        """Return what the file system knows of it."""
        return formats.identity(self._path)
