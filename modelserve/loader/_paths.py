"""Files, and folders of versions: ``models/ranker/3/`` holds version 3."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

from modelserve import formats
from modelserve.errors import ModelLoadError
from modelserve.loader._how import PLAINLY, How
from modelserve.loader._manifest import entries, number, pointed, read_manifest
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
        found = entries(path)
        return not found or any(number(each) is not None for each in found)
    return not path.suffix and not path.exists()


class Pick(NamedTuple):
    """The version to serve: its label, what to read and to watch, and the digest it should have."""

    label: str
    content: Path
    watched: Path
    promised: str


@final
class Folder:
    """A folder of versions, each in a folder named by its number.

    The one of the highest number is taken, or the one that is pinned, or at which an alias points.
    What lies in it is read: what its manifest names, else the one file or folder there, or of
    several the one that is a model. Hidden names do not count.
    """

    far = False
    is_file = True

    def __init__(
        self, path: Path, version: str | None, how: How = PLAINLY, alias: str | None = None
    ) -> None:
        if version is not None and not (version.isascii() and version.isdigit()):
            raise ValueError(f"version={version!r} of '{path}': pass the number of a folder in it")
        self._path = path
        self._pinned = version
        self._alias = alias
        self._how = how._asdict()
        self.name = path.name if alias is None else f"{path.name}@{alias}"

    def fetch(self, now: Version | None, device: str | None) -> Fetched | None:
        """Read the version to serve, unless it is that of now."""
        pick = self._pick()
        same = now is not None and now.stamp.version == pick.label
        unless = now.digest if now is not None and same else None
        artefact = formats.read(
            pick.content, unless, promised=pick.promised, **self._how, device=device
        )
        if artefact is None:
            return None
        whole = bool(pick.promised)
        return Fetched(artefact.model, pick.label, artefact.version, artefact.nbytes, whole)

    def identity(self) -> object:
        """Return what is another once there is another version to serve, or that one changed."""
        pick = self._pick()
        return pick.label, formats.identity(pick.watched)

    def takes(self, device: str) -> bool:
        """Say whether the version to serve can be on a device."""
        return formats.takes(self._pick().content, device, self._how["factory"])

    def file(self) -> tuple[str, int | None]:
        """Return the suffix and the bytes of the version to serve."""
        try:
            content = self._pick().content
        except ModelLoadError:
            return "", None
        return content.suffix, formats.nbytes(content)

    def _pick(self) -> Pick:
        """Choose the version to serve."""
        if self._alias is not None:
            return self._aliased(self._alias)
        for folder in self._candidates():
            manifest = read_manifest(folder)
            if manifest is not None:
                return Pick(folder.name, folder / manifest.file, folder, manifest.digest)
            found = [each for each in entries(folder) if not each.name.startswith(".")]
            if found:
                content = found[0] if len(found) == 1 else _model(folder, found)
                return Pick(folder.name, content, content, "")
        raise ModelLoadError(
            f"'{self._path}' holds no version {self._pinned or 'yet'}: put the model into "
            f"a folder with a number, such as '{self._path / (self._pinned or '1')}'"
        )

    def _aliased(self, alias: str) -> Pick:
        label = pointed(self._path, alias)
        manifest = read_manifest(self._path / label)
        if manifest is None:
            raise ModelLoadError(
                f"the alias {alias!r} of '{self._path}' points at version {label}, which is not "
                "there with a manifest: publish it, or point the alias at one that is"
            )
        folder = self._path / label
        return Pick(label, folder / manifest.file, folder, manifest.digest)

    def _candidates(self) -> list[Path]:
        if self._pinned is not None:
            return [self._path / self._pinned]
        numbered = [(n, each) for each in entries(self._path) if (n := number(each)) is not None]
        return [each for _, each in sorted(numbered, reverse=True)]


def _model(folder: Path, found: list[Path]) -> Path:
    """Return the one model beside what belongs to it, or was left there.

    That is weights of an ONNX model, often a .bin, and texts and JSON, which are models at times.
    Weights as safetensors are one model with the ``config.json`` beside them.
    """
    known = [each for each in found if each.suffix.lower() in formats.FORMS]
    likely = [each for each in known if not formats.FORMS[each.suffix.lower()].fragile] or known
    if any(each.suffix.lower() == ".onnx" for each in likely):
        likely = [each for each in likely if each.suffix.lower() != ".bin"]
    whole = any(each.name == "config.json" for each in found)
    if whole and all(each.suffix.lower() == ".safetensors" for each in likely):
        return folder
    if len(likely) > 1:
        names = ", ".join(sorted(each.name for each in likely))
        raise ModelLoadError(f"'{folder}' holds several models, {names}: leave one of them there")
    return likely[0] if likely else folder


@final
class File:
    """One file, or one folder that is one model."""

    is_file = True

    def __init__(self, path: Path | formats.Remote, how: How = PLAINLY) -> None:
        self._path = path
        self._how = how._asdict()
        self.name = path.stem
        self.far = isinstance(path, formats.Remote)

    def fetch(self, now: Version | None, device: str | None) -> Fetched | None:
        """Read the file, unless its bytes are those of now."""
        unless = None if now is None else now.digest
        artefact = formats.read(self._path, unless, **self._how, device=device)
        if artefact is None:
            return None
        return Fetched(artefact.model, artefact.version, artefact.version, artefact.nbytes)

    def identity(self) -> object:
        """Return what the file system knows of it."""
        return formats.identity(self._path)

    def takes(self, device: str) -> bool:
        """Say whether the model can be on a device."""
        return formats.takes(self._path, device, self._how["factory"])

    def file(self) -> tuple[str, int | None]:
        """Return the suffix and the bytes of the file, with those that hold its weights."""
        return self._path.suffix, formats.nbytes(self._path)
