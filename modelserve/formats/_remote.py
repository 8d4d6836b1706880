"""Files behind URLs, by fsspec: read into memory at once, as if they were here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import urlsplit

from modelserve.errors import ModelLoadError
from modelserve.formats._door import ATTEMPTS, absent, check_location, check_size, elsewhere
from modelserve.formats._known import needs, told

HERE = {"file", "local"}
"""What fsspec calls the disk of this machine, where the checks of the door are better."""
SECRETS = re.compile(r"(?<=://)[^/\s]*@|(?<=\S)[?#][^\s'\")]+")
"""What in URLs is not for all to see: a user, and a query, which may be a signature."""

MARKS = re.compile(
    r"e-?tag|md5|sha\d*$|crc|checksum|digest|hash|oid|commit|generation|version"
    "|modif|mtime|write_time|updated|created",
    re.IGNORECASE,
)
"""How services call what is another once a file is: a digest, a number of its own, or a time."""


class Remote:
    """A file behind a URL, with as much of a path as a reader of models asks for."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in HERE:
            raise ModelLoadError(f"'{_shown(url)}' is a file of this machine: pass its path alone")
        if "::" in url:  # where fsspec would go through one to another, which may be here
            raise ModelLoadError(
                f"'{_shown(url)}' is a chain of URLs: pass the one of the file alone"
            )
        name = PurePosixPath(parts.path or parts.netloc)
        self._url = url
        self.name, self.stem, self.suffix = name.name, name.stem, name.suffix

    def __str__(self) -> str:
        """Show the URL without what may be secret in it."""
        return _shown(self._url)

    def take(self) -> bytes:
        """Return the bytes of the file, all of them of one moment. Raises ModelLoadError."""
        return cast("bytes", _guarded(_take, self._url))

    def beside(self, location: str) -> bytes:
        """Return the bytes of a file that the model names. Raises ModelLoadError.

        A name that a URL means otherwise than a folder does is refused, and so is one beside a URL
        of no path, where it would be another host. A query is of the model alone.
        """
        check_location(location, str(self))
        parts = urlsplit(self._url)
        folder, within, _ = parts.path.rpartition("/")
        if not within or not location.isprintable() or set("%?#") & set(location):
            raise elsewhere(location, str(self))
        return Remote(f"{parts.scheme}://{parts.netloc}{folder}/{location}").take()

    def identity(self) -> object:
        """Return what differs when the file is another, without reading it.

        It is None if that cannot be told, as by a service that tells the size of a file alone.
        """
        return _guarded(lambda fs, path, _: _identity(fs, path), self._url)

    def nbytes(self) -> int | None:
        """Return the size that the service tells, if it tells one."""
        try:
            return cast("int | None", _guarded(lambda fs, path, _: _info(fs, path)[0], self._url))
        except ModelLoadError:
            return None


def _guarded(do: Callable[[Any, str, str], Any], url: str) -> Any:
    """Do something with a file, of which whatever goes wrong is told in one way."""
    shown = _shown(url)
    try:
        import fsspec
    except ImportError as missing:
        raise ModelLoadError(
            f"'{shown}' cannot be fetched: {needs('fsspec', 'remote')}"
        ) from missing
    try:
        fs, path = fsspec.core.url_to_fs(url)
        return do(fs, path, shown)
    except ModelLoadError:
        raise
    except FileNotFoundError:
        raise absent(shown) from None
    except Exception as error:  # noqa: BLE001 - each service has errors of its own
        said = SECRETS.sub("", told(error).replace(url, shown))
        raise ModelLoadError(
            f"'{shown}' cannot be fetched: {said}: check the address and who may read it"
        ) from (error if shown == url else None)  # it may tell the URL


def _shown(url: str) -> str:
    """Return a URL without what may be secret in it."""
    return re.sub("(?<=://)[^/]*@", "", re.split("[?#]", url, maxsplit=1)[0])


def _take(fs: Any, path: str, shown: str) -> bytes:
    for _ in range(ATTEMPTS):
        size, before = _info(fs, path)
        if size is None:
            raise ModelLoadError(f"'{shown}' cannot be fetched: its size is not told: copy it here")
        check_size(size, f"'{shown}' cannot be fetched: it")
        with fs.open(path, "rb") as file:
            data: bytes = file.read(size + 1)
        if len(data) == size and _info(fs, path)[1] == before:
            return data
    raise ModelLoadError(
        f"'{shown}' changed while it was read, {ATTEMPTS} times: write it elsewhere"
    )


def _identity(fs: Any, path: str) -> str | None:
    """Return what a service tells of a file, if it would tell another of the same size."""
    info = _facts(fs, path)
    tells = any(MARKS.search(key) for key, value in info.items() if value is not None)
    return repr(sorted(info.items())) if tells else None


def _info(fs: Any, path: str) -> tuple[int | None, str]:
    """Return a file's size, and all that its service tells of it."""
    info = _facts(fs, path)
    return info.get("size"), repr(sorted(info.items()))


def _facts(fs: Any, path: str) -> dict[str, Any]:
    fs.invalidate_cache(path)
    info: dict[str, Any] = fs.info(path)
    if info.get("type") == "directory":
        raise IsADirectoryError("it is a folder")
    return info
