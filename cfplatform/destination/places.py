"""Where downloads go: a folder of this machine, or a URL whose objects a remote store keeps."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from typing_extensions import Self

from .. import naming
from ..exceptions import InvalidParameterError
from . import local
from .remote import RemotePlace

#: A scheme of one letter would be a drive of Windows; ``::`` is how fsspec puts one store before another.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z0-9+.:-]+)?)://(.*)", re.DOTALL)
#: What becomes of a URL that is made a ``pathlib.Path``: one slash is lost.
_LOST_SLASH = re.compile(r"(s3|s3a|gs|gcs|az|abfs|abfss|memory|file):[/\\][^/\\]")


class Stat(Protocol):
    """What tells a file or object that was written from a later one."""

    @property
    def st_size(self) -> int:
        """Its bytes."""
        ...

    @property
    def st_mtime_ns(self) -> int:
        """Its time, or a number of its entity tag."""
        ...


class Part(Protocol):
    """Something that appears under its final name only when it is committed, and then as a whole."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

    def write(self, chunk: bytes) -> None:
        """Append bytes."""

    def commit(self, path: str) -> Stat:
        """Make it visible; return what tells it from a later one."""
        ...


class Place(Protocol):
    """A destination. All paths are relative to it, with ``/`` between their parts."""

    @property
    def root(self) -> Path:
        """The local folder that holds the state, and files that are not complete yet."""
        ...

    @property
    def url(self) -> str | None:
        """The destination, where it is a URL."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other processes can write there."""
        ...

    def part(self, path: str) -> Part:
        """Begin a file."""
        ...

    def release(self) -> None:
        """Let go of what is held open for all files of a run."""

    def adopt(self, file: Any, path: str) -> Stat:
        """Give a complete :class:`~cfplatform.transfer.resumable.Resumable` its final place."""
        ...

    def ensure_folder(self, *names: str) -> None:
        """Make a folder."""

    def has(self, path: str, size: int, mark: int) -> bool:
        """Tell whether a file is the one that was written."""
        ...

    def remove_unchanged(self, path: str, size: int, mark: int) -> None:
        """Remove a file if it is the one that was written."""


class LocalPlace:
    """A folder of this machine.

    Args:
        root: The folder, prepared.
    """

    url = None
    is_shared = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self._held: local.Held | None = local.Held(root)

    def __reduce__(self) -> tuple[type[LocalPlace], tuple[Path]]:
        # Folders are opened anew in each process.
        return LocalPlace, (self.root,)

    def part(self, path: str) -> local.PartFile:
        """Begin a file."""
        return local.PartFile(self._held or self.root)

    def release(self) -> None:
        """Let go of the folders; a thread that is late opens them for itself."""
        self._held = None

    def adopt(self, file: Any, path: str) -> os.stat_result:
        """Give a complete file its final name."""
        found: os.stat_result = file.commit(path, flush=False)
        return found

    def ensure_folder(self, *names: str) -> None:
        """Make a folder."""
        local.ensure_folder(self.root, *names)

    def has(self, path: str, size: int, mark: int) -> bool:
        """Tell whether a file has the size and time that were written down."""
        try:
            found = os.lstat(f"{self.root}/{path}")
        except OSError:
            return False
        return found.st_size == size and found.st_mtime_ns == mark

    def remove_unchanged(self, path: str, size: int, mark: int) -> None:
        """Remove a file that has the size and time that were written down."""
        local.remove_unchanged(self.root, path, size, mark)


def choose(destination: object, state: object = None) -> Place:
    """Return the place that a destination names, ready to be written.

    Raises:
        InvalidParameterError: If it cannot be a destination, or the folder of its state is missing or not wanted.
        ConfigurationError: If the store needs a package that is not installed, or cannot be opened.
    """
    url = remote_url(destination)
    if url is not None:
        return _remote(url, state)
    if state is not None:
        raise InvalidParameterError(
            "state is for destinations that are URLs; a folder keeps its state in itself. Leave it out.",
            parameter="state",
        )
    return LocalPlace(local.prepare_destination(local_path(destination)))


def _remote(url: str, state: object) -> RemotePlace:
    root = state_root(url, state)
    place = RemotePlace(url, root)
    place.connect()
    local.prepare_destination(root, "state")
    return place


def state_root(url: str, state: object) -> Path:
    """Return the folder in ``state`` that belongs to one URL, so that two of them never share what is finished."""
    if state is None:
        raise InvalidParameterError(
            f"destination {url} needs a local folder that remembers what is finished there.",
            parameter="state",
            hint="Pass its path as state=..., the same one each time.",
        )
    return local.folder_path(state, "state").resolve() / f"{naming.safe_name(url)}~{naming.digest(url)}"


def remote_url(destination: object) -> str | None:
    """Return a destination that is a URL of a remote store, without a slash at its end; ``None`` for a folder.

    Raises:
        InvalidParameterError: If it holds credentials, a query, or several stores.
    """
    if not isinstance(destination, str):
        if isinstance(destination, os.PathLike) and _LOST_SLASH.match(str(destination)):
            raise InvalidParameterError(
                "A destination that is a URL must be a text: a path loses one of its slashes.", parameter="destination"
            )
        return None
    match = _URL.fullmatch(destination.strip())
    if match is None or match.group(1).lower() in ("file", "local"):
        return None
    scheme, rest = match.group(1).lower(), match.group(2).rstrip("/")
    # None of these messages repeats the URL: it may hold a password.
    if "?" in rest or ":" in rest.rpartition("@")[0]:
        raise InvalidParameterError(
            f"The {scheme}:// URL of the destination must hold no password, key or query. Give them to the store by "
            "its own environment variables, or by fsspec's configuration.",
            parameter="destination",
        )
    if "::" in destination:
        raise InvalidParameterError(
            "destination must be one URL, such as s3://bucket/labels, without '::'.", parameter="destination"
        )
    if not rest and scheme != "memory":
        raise InvalidParameterError(
            f"destination {scheme}:// names no bucket; pass one, as in {scheme}://bucket/labels.",
            parameter="destination",
        )
    return f"{scheme}://{rest}"


def refuse_url(destination: object, instead: str = "") -> None:
    """Refuse a URL where only a folder will do.

    Raises:
        InvalidParameterError: If it is one.
    """
    if remote_url(destination) is not None:
        advice = f" {instead} takes URLs." if instead else ""
        raise InvalidParameterError(
            f"destination must be the path of a folder here, not a URL.{advice}", parameter="destination"
        )


def local_path(destination: object) -> object:
    """Return the path that a ``file://`` URL names; anything else as it is."""
    if not isinstance(destination, str) or not re.match(r"(?i)\s*(file|local)://", destination):
        return destination
    # Only here, because it takes its time.
    import urllib.parse
    import urllib.request

    parts = urllib.parse.urlsplit(destination.strip())
    if parts.netloc.lower() not in ("", "localhost"):
        raise InvalidParameterError(
            "A file:// destination needs an absolute path after three slashes.", parameter="destination"
        )
    return urllib.request.url2pathname(parts.path)
