"""A registry of the versions of one model in a plain folder, with aliases that move."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, final

from modelserve.errors import ModelLoadError
from modelserve.loader._manifest import (
    ALIASES,
    MANIFEST,
    NAME,
    aliases_of,
    entries,
    number,
    pointed,
    read_manifest,
)


class Alias(NamedTuple):
    """What a loader follows: an alias in the registry at a path."""

    path: str
    name: str


@final
class Registry:
    """The versions of one model in a folder, and aliases such as "prod" that point at one each.

    It is a folder of versions, ``ranker/3/model.onnx``, with a manifest in each,
    ``ranker/3/SHA256SUMS``, and a file an alias, ``ranker/aliases/prod``, which holds a number.
    Each is written elsewhere and renamed, so that readers see all of it or nothing, and writers,
    in other processes too, need no lock.

    A loader of :meth:`at` serves the version at which the alias points, under its number. With
    ``reload=OnChange()`` it follows the alias, forth and back. Bytes of another digest than the
    manifest's are refused.

    >>> import numpy as np
    >>> import modelserve as ms
    >>> np.savez("linear.npz", weights=np.ones((2, 1)))
    >>> registry = ms.Registry("models/linear")
    >>> registry.publish("linear.npz")
    '1'
    >>> registry.point("prod", "1")
    >>> linear = ms.ModelLoader(registry.at("prod"), predict=lambda m, x: x @ m["weights"])
    >>> linear(np.ones((1, 2))), linear.name, linear.version
    (array([[2.]]), 'linear@prod', '1')
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    @property
    def versions(self) -> list[str]:
        """The numbers of all versions that have a manifest, the oldest first."""
        return [
            str(n) for n in sorted(self._numbers()) if (self._path / str(n) / MANIFEST).exists()
        ]

    @property
    def aliases(self) -> dict[str, str]:
        """The version at which each alias points, by name. Raises ModelLoadError."""
        return {name: pointed(self._path, name) for name in aliases_of(self._path)}

    def at(self, alias: str) -> Alias:
        """Return the source of a loader that serves the version at which an alias points.

        The alias may come later. Raises ValueError for what is no name of one.
        """
        _check_alias(alias)
        return Alias(str(self._path), alias)

    def publish(self, model: str | os.PathLike[str]) -> str:
        """Copy a model file, and the files that it names, into a new version; return its number.

        No alias points at it yet. Raises ModelLoadError for what cannot be read or is of no known
        format, and OSError where it cannot be written.
        """
        import shutil

        from modelserve import formats

        files = formats.gather(formats.place(model))
        self._path.mkdir(parents=True, exist_ok=True)
        made = self._elsewhere("publishing")
        made.mkdir()
        try:
            for name, data in files.items():
                _write(made / name, data)
            _write(made / MANIFEST, formats.sums(files).encode())
            return self._claim(made, max(self._numbers(), default=0) + 1)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise

    def point(self, alias: str, version: str) -> None:
        """Have an alias point at a version, from now on.

        Raises ModelLoadError unless the version is there with its manifest, and ValueError for
        what is no name of an alias.
        """
        _check_alias(alias)
        if not (version.isascii() and version.isdigit()):
            raise ValueError(f"version {version!r}: pass a number that publish() returned")
        if read_manifest(self._path / version) is None:
            raise ModelLoadError(
                f"'{self._path}' holds no version {version} with a manifest: publish it first"
            )
        place = self._path / ALIASES / alias
        place.parent.mkdir(exist_ok=True)
        made = self._elsewhere("pointing")
        try:
            _write(made, f"{version}\n".encode())
            made.replace(place)
        finally:
            made.unlink(missing_ok=True)

    def __repr__(self) -> str:
        """Show the path."""
        return f"Registry({str(self._path)!r})"

    def _numbers(self) -> list[int]:
        if not self._path.is_dir():
            return []
        return [n for each in entries(self._path) if (n := number(each)) is not None]

    def _elsewhere(self, doing: str) -> Path:
        """Return a path at which no other writer writes and no reader looks."""
        return self._path / f".{doing}-{os.urandom(8).hex()}"

    def _claim(self, made: Path, n: int) -> str:
        """Give a complete version the first number from ``n`` on that nobody else has taken."""
        while True:
            place = self._path / str(n)
            try:
                made.rename(place)
            except OSError:
                if not place.exists():
                    raise
                n += 1
            else:
                return str(n)


def _check_alias(alias: str) -> None:
    if not NAME.fullmatch(alias):
        raise ValueError(
            f"{alias!r} is no alias: use letters, digits, '.', '_' and '-', as in 'prod'"
        )


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is on the disk before it is renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
