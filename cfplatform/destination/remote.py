"""Objects of a remote store as a destination, through fsspec: each appears whole or not at all.

A small one is sent with one request. A larger one is sent in parts while it is received, and the store is told that it
is complete only after it is proven; until then nobody sees it, and a run that fails takes the parts back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from typing_extensions import Self

from ..exceptions import (
    MAX_MESSAGE_LENGTH,
    CFPlatformError,
    ConfigurationError,
    DestinationError,
    DownloadError,
    InvalidParameterError,
    blank,
    printable,
)

#: Bytes that an object may have to be sent with one request.
ONE_REQUEST = 8 * 1024 * 1024
#: Bytes of a part of a larger one: the least that S3 takes, since a worker holds a part several times.
PART = 5 * 1024 * 1024
#: Bytes that are copied at a time from a file on disk.
COPY_STEP = 1024 * 1024
#: Parts that an upload may have; stores allow 10 000.
MAX_PARTS = 9_000

#: The store in the memory of this process; it shows a file from the moment that it is opened, however it is opened.
_MEMORY = "memory"
#: What makes an object of one request visible only when it is complete. Other stores, such as ``sftp``, write a file in
#: place, unless they are asked to write it aside and rename it.
_ONE_REQUEST = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", _MEMORY}
#: Parts of the names of errors that are told by no class of Python's own: those of botocore, aiohttp and google-auth,
#: and the codes of S3.
_REFUSALS = ("Credential", "Forbidden", "Unauthorized", "RefreshError")
_MISNAMED = ("InvalidBucketName", "ParamValidation", "PermanentRedirect", "AuthorizationHeaderMalformed")
_UNREACHABLE = ("EndpointConnection", "ConnectTimeout", "ClientConnector", "ConnectionRefused", "gaierror")


class Written(NamedTuple):
    """Size of an object, and a number of its entity tag, or 0; named as what ``os.stat`` tells of a file."""

    st_size: int
    st_mtime_ns: int


class FileOnDisk(Protocol):
    """A complete file that waits for its place, such as a :class:`~cfplatform.transfer.resumable.Resumable`."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        ...

    def discard(self) -> None:
        """Remove it."""


class RemotePlace:
    """A destination whose files are objects of a store; what belongs to this machine lies in a local folder.

    Args:
        url: The destination, without credentials and without a slash at its end.
        root: The local folder of its state, prepared.
    """

    def __init__(self, url: str, root: Path) -> None:
        self.url = url
        self.root = root
        self._scheme = url.partition("://")[0]
        self.one_request = self._scheme in _ONE_REQUEST
        self.in_parts = self.is_shared = self._scheme != _MEMORY
        self._connecting = threading.Lock()
        self._pid = -1
        # What lay in a folder when it was listed first, and what was written there since.
        self._listed: dict[str, dict[str, Written]] = {}

    def __reduce__(self) -> tuple[type[RemotePlace], tuple[str, Path]]:
        # A store is opened anew in each process: its threads and connections belong to one.
        return RemotePlace, (self.url, self.root)

    def connect(self) -> Any:
        """Return the file system of the store; nothing is sent yet.

        Raises:
            ConfigurationError: If a package is missing or the store's settings are wrong.
            InvalidParameterError: If no such store is known.
        """
        with self._connecting:
            if self._pid != os.getpid():
                self._store, self._base = _open_store(self.url)
                self._pid = os.getpid()
            return self._store

    def full(self, path: str) -> str:
        """Return how the store calls a path inside the destination."""
        self.connect()
        return f"{self._base}/{path}"

    def part(self, path: str) -> ObjectPart:
        """Begin an object."""
        return ObjectPart(self, path)

    def release(self) -> None:
        """Nothing is held for all objects of a run."""

    def ensure_folder(self, *names: str) -> None:
        """Make a folder, where the store has any."""
        # Object stores have none, and some would make a bucket in its place.
        if not self.one_request:
            path = "/".join(names)
            with self.told(path):
                self.connect().makedirs(self.full(path), exist_ok=True)

    def has(self, path: str, size: int, mark: int) -> bool:
        """Tell whether an object is the one that was written; the folder is listed once, not the object asked for."""
        folder, _, name = path.rpartition("/")
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        found = self._listed[folder].get(name)
        return found is not None and _is_same(found, size, mark)

    def remove_unchanged(self, path: str, size: int, mark: int) -> None:
        """Remove an object if it is the one that was written."""
        store, place = self.connect(), self.full(path)
        # An object that is left behind is no reason to call the one that was saved a failure.
        with contextlib.suppress(FileNotFoundError, DownloadError), self.told(path, missing=True):
            if _is_same(_written(store.info(place)), size, mark):
                store.rm_file(place)

    def adopt(self, file: FileOnDisk, path: str) -> Written:
        """Make an object of a complete file, and remove the file."""
        with self.part(path) as part, open(file.path, "rb") as source:
            part.expect(os.fstat(source.fileno()).st_size)
            shutil.copyfileobj(source, part, COPY_STEP)
            found = part.commit(path)
        file.discard()
        return found

    def note(self, path: str, written: Written) -> None:
        """Remember what was written, where its folder was listed before."""
        folder, _, name = path.rpartition("/")
        if folder in self._listed:
            self._listed[folder][name] = written

    def _list(self, folder: str) -> dict[str, Written]:
        store, place = self.connect(), self.full(folder)
        store.invalidate_cache(place)
        with self.told(folder, missing=True):
            try:
                found = store.ls(place, detail=True)
            except FileNotFoundError:
                return {}
        store.invalidate_cache(place)
        return {
            each["name"].rstrip("/").rpartition("/")[2]: _written(each) for each in found if each["type"] != "directory"
        }

    @contextlib.contextmanager
    def told(self, path: str, *, missing: bool = False) -> Iterator[None]:
        """Turn what a store complains of into an error that says what to do.

        Args:
            path: What it is about, inside the destination.
            missing: Let ``FileNotFoundError`` pass.
        """
        try:
            yield
        except CFPlatformError:
            raise
        except Exception as error:
            if missing and isinstance(error, FileNotFoundError):
                raise
            raise _problem(error, f"{self.url}/{path}") from None


class ObjectPart:
    """An object that appears only when :meth:`commit` is called, and then as a whole; see ``files.PartFile``."""

    def __init__(self, place: RemotePlace, path: str) -> None:
        self._place = place
        self._path = path
        self._held = bytearray()
        self._block = PART
        self._size = 0
        self._upload: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def expect(self, size: int) -> None:
        """Make the parts large enough for an object of this size."""
        self._block = max(PART, -(-size // MAX_PARTS))

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._size += len(chunk)
        if self._upload is not None:
            with self._place.told(self._path):
                self._upload.write(chunk)
            return
        self._held += chunk
        if self._place.in_parts and len(self._held) > ONE_REQUEST:
            self._begin()

    def commit(self, path: str) -> Written:
        """Make the object visible; return its size and what tells it from a later one.

        Args:
            path: The place that was given at the beginning; the call is that of ``files.PartFile``.
        """
        mark = 0
        with self._place.told(path):
            if self._upload is None and self._place.one_request:
                answer = self._place.connect().pipe_file(self._place.full(path), bytes(self._held))
                mark = _mark(answer) if isinstance(answer, Mapping) else 0
            else:
                upload = self._begin() if self._upload is None else self._upload
                upload.close()
                upload.commit()
        self._upload = None
        self._held = bytearray()
        written = Written(self._size, mark)
        self._place.note(path, written)
        return written

    def discard(self) -> None:
        """Take back what was sent, unless it was committed."""
        upload, self._upload = self._upload, None
        if upload is not None:
            with contextlib.suppress(Exception):
                upload.discard()
            # Else it would be finished when it is collected. Files of some stores cannot be told so.
            with contextlib.suppress(AttributeError):
                upload.closed = True

    def _begin(self) -> Any:
        store, path = self._place.connect(), self._place.full(self._path)
        with self._place.told(self._path):
            # Not open(): it would give the file to a transaction that belongs to all users of the store.
            self._upload = store._open(path, mode="wb", block_size=self._block, autocommit=False)
            # Bit by bit, so that the store never holds more than a part of it.
            with memoryview(self._held) as held:
                for offset in range(0, len(held), PART):
                    self._upload.write(held[offset : offset + PART])
        self._held = bytearray()
        return self._upload


def _open_store(url: str) -> tuple[Any, str]:
    scheme = url.partition("://")[0]
    try:
        import fsspec
    except ImportError:
        raise ConfigurationError(
            "A destination that is a URL needs fsspec: pip install 'cfplatform[fsspec]'", parameter="destination"
        ) from None
    if scheme not in {*fsspec.available_protocols(), *fsspec.registry}:
        raise InvalidParameterError(
            f"destination: fsspec knows no {scheme}:// store. Pass the path of a folder, or a URL such as "
            "s3://bucket/labels.",
            parameter="destination",
        )
    try:
        store, base = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ConfigurationError(
            f"A destination {scheme}:// needs a package of its own: {_words(error)}", parameter="destination"
        ) from None
    except Exception as error:
        raise ConfigurationError(
            f"The store of {url} cannot be opened ({type(error).__name__}: {_words(error)}). Check its settings: the "
            "environment variables of the store, or fsspec's configuration.",
            parameter="destination",
        ) from None
    return store, base.rstrip("/")


def _problem(error: Exception, place: str) -> DownloadError:
    """Return what to raise where a store fails: an error that ends the run where every other item would meet it too."""
    cls: type[DownloadError] = DestinationError
    names = " ".join([_code(error), *(cls.__name__ for cls in type(error).__mro__)])
    if isinstance(error, PermissionError) or any(name in names for name in _REFUSALS):
        advice = "Check the credentials of the store, and that they may list, write and delete."
    elif isinstance(error, FileNotFoundError) or any(name in names for name in _MISNAMED):
        advice = "Check the name of the bucket or container, and its region; it is not made by itself."
    elif isinstance(error, ConnectionError) or any(name in names for name in _UNREACHABLE):
        advice = "The store cannot be reached. Check its endpoint, region and network."
    elif isinstance(error, NotImplementedError):
        advice = "The store cannot be written."
    else:
        cls, advice = DownloadError, "Run it again to fetch only what is missing."
    told = f" ({type(error).__name__}: {_words(error)})"
    return cls(f"{place} cannot be written or looked at{told}. {advice} What is finished is kept.")


def _code(error: Exception) -> str:
    """Return the code that S3 gave, which s3fs keeps with the error that it made of it."""
    answer = getattr(error.__cause__, "response", None)
    told = answer.get("Error") if isinstance(answer, Mapping) else None
    return str(told.get("Code")) if isinstance(told, Mapping) else ""


def _words(error: Exception) -> str:
    return printable(" ".join(blank(str(error)).split()))[:MAX_MESSAGE_LENGTH].rstrip(".")


def _written(info: Mapping[str, Any]) -> Written:
    return Written(int(info.get("size") or 0), _mark(info))


def _mark(info: Mapping[str, Any]) -> int:
    """Return a number that stands for an entity tag; 0 where there is none."""
    tag = info.get("ETag") or info.get("etag")
    if not isinstance(tag, str):
        return 0
    return int.from_bytes(hashlib.blake2b(tag.strip('"').encode(), digest_size=7).digest(), "big")


def _is_same(found: Written, size: int, mark: int) -> bool:
    return found.st_size == size and (found.st_mtime_ns == mark or 0 in (found.st_mtime_ns, mark))
