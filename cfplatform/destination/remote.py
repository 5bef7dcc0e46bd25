"""Remote destinations: URLs of stores that fsspec knows.

A file is written to a local spool first, and put into the store with one call when it is complete and checked. Its size
and entity tag are then read from the store, and a later run compares them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import naming
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
from . import local, locks
from .local import Destination, Folder, Written

#: MiB of a part of a large object, which is how much of it is in memory at a time.
CHUNK_MIB = 8
#: Maximum number of parts of an upload; S3 allows 10,000.
MAX_PARTS = 9_000

#: Stores that show an object only when it is complete, and whether ``put_file`` takes a ``chunksize``: the default of
#: these is 50 MiB, S3 with ten of them at a time. In other stores a file is put aside and renamed.
_OBJECT_STORES = {"s3": True, "s3a": True, "gs": True, "gcs": True, "az": False, "abfs": False, "abfss": False}
#: The store in the memory of this process.
_MEMORY = "memory"
#: A scheme of one letter would be a drive on Windows; ``::`` chains stores in fsspec.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z0-9+.:-]+)?)://(.*)", re.DOTALL)
#: A URL that went through ``pathlib.Path``, which drops one slash.
_LOST_SLASH = re.compile(r"(s3|s3a|gs|gcs|az|abfs|abfss|memory|file):[/\\][^/\\]")
#: Parts of the names of errors of botocore, aiohttp and google-auth that no built-in exception covers, and of the codes
#: of S3.
_REFUSALS = ("Credential", "Forbidden", "Unauthorized", "RefreshError")
_MISNAMED = ("InvalidBucketName", "ParamValidation", "PermanentRedirect", "AuthorizationHeaderMalformed")
_UNREACHABLE = ("EndpointConnection", "ConnectTimeout", "ClientConnector", "ConnectionRefused", "gaierror")


def open_destination(destination: object, state: object = None) -> Destination:
    """Return the destination that a path or URL names, ready to be written.

    Raises:
        InvalidParameterError: If it is not a valid destination, or ``state`` is missing.
        DestinationError: If a folder cannot be created or written.
        ConfigurationError: If the store needs a package that is not installed, or cannot be opened.
    """
    url = remote_url(destination)
    if url is None:
        folder = local.prepare_destination(destination)
        if state is None:
            return Destination(folder)
        return Destination(folder, local.prepare_destination(state_root(str(folder), state), "state"))
    root = state_root(url, state)
    remote = RemoteDestination(url, root)
    # Now, since an error of the store must be reported before a folder is created.
    remote.open()
    local.prepare_destination(root, "state")
    return remote


def state_root(url: str, state: object) -> Path:
    """Return the folder in ``state`` that belongs to a destination, so that two never share what is finished."""
    if state is None:
        raise InvalidParameterError(
            f"destination {url} needs a local folder for its state.",
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
        # A path object of a cloud library is used as it prints; its file system path is that of a cache.
        text = str(destination) if isinstance(destination, os.PathLike) or hasattr(destination, "protocol") else ""
        if _LOST_SLASH.match(text):
            raise InvalidParameterError(
                "A destination that is a URL must be a string: a path loses one of its slashes.",
                parameter="destination",
            )
        destination = text
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
    if not rest and scheme != _MEMORY:
        raise InvalidParameterError(
            f"destination {scheme}:// names no bucket; pass one, as in {scheme}://bucket/labels.",
            parameter="destination",
        )
    return f"{scheme}://{rest}"


def refuse_url(destination: object, instead: str = "") -> None:
    """Raise :class:`InvalidParameterError` for a URL where only a folder will do."""
    if remote_url(destination) is not None:
        advice = f" {instead} takes URLs." if instead else ""
        raise InvalidParameterError(
            f"destination must be the path of a folder here, not a URL.{advice}", parameter="destination"
        )


class RemoteDestination(Destination):
    """A destination whose files are objects of a store; until they are complete, they are in its state folder.

    The URL comes from :func:`remote_url`; ``root`` is the local folder of its state.
    """

    def __init__(self, url: str, root: Path) -> None:
        super().__init__(root)
        self.url = url
        self._scheme = url.partition("://")[0]
        self._is_object_store = self._scheme in _OBJECT_STORES
        self.is_shared = self._scheme != _MEMORY
        #: Returns the file system of the store, and the path of the destination in it; nothing is sent yet.
        self.open = functools.cache(functools.partial(_open_store, url))
        # What was in a folder when it was listed first, and what was written there since.
        self._listed: dict[str, dict[str, Written]] = {}

    def __reduce__(self) -> tuple[type[Destination], tuple[Any, ...]]:
        # A store is opened again in each process: its threads and connections belong to one.
        return RemoteDestination, (self.url, self.root)

    def take(self, folder: Folder, name: str, path: str) -> Written:
        """Put a complete file into the store, check the store's record of it, return that, and remove the file."""
        file, (store, base) = folder.path / name, self.open()
        final, size = f"{base}/{path}", file.stat().st_size
        options = {"chunksize": chunk_size(size), "max_concurrency": 1} if _OBJECT_STORES.get(self._scheme) else {}
        target = final if self._is_object_store else f"{final.rpartition('/')[0]}/.{locks.unique_name()}.part"
        with self._store_errors(path):
            try:
                store.put_file(str(file), target, **options)
                # Twice, since the listing of another thread may have been cached in between.
                written = self._look_up(target, size) or self._look_up(target, size)
                if written is None:
                    raise DownloadError(
                        f"{self.url}/{path} was sent, but the store does not have its {size} bytes. "
                        "Run it again to fetch only what is missing."
                    )
                if target != final:
                    store.mv(target, final)
            except BaseException:
                if target != final:
                    with contextlib.suppress(Exception):
                        store.rm_file(target)
                raise
        directory, _, name = path.rpartition("/")
        if directory in self._listed:
            self._listed[directory][name] = written
        with contextlib.suppress(OSError):
            file.unlink()
        return written

    def ensure_folder(self, *names: str) -> None:
        """Create a folder, where the store has any."""
        # Object stores have none, and some would create a bucket instead.
        if not self._is_object_store:
            (store, base), path = self.open(), "/".join(names)
            with self._store_errors(path):
                store.makedirs(f"{base}/{path}", exist_ok=True)

    def holds(self, path: str) -> bool:
        """Return whether there is an object; its folder is listed once for all objects."""
        folder, _, name = path.rpartition("/")
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        return name in self._listed[folder]

    def unchanged(self, path: str, known: Written) -> Written | None:
        """Return what is known of an object if it is still the one that was written.

        Its folder is listed once for all objects.
        """
        folder, _, name = path.rpartition("/")
        is_same = self.holds(path) and _is_same(self._listed[folder][name], known)
        return known if is_same else None

    def remove_unchanged(self, path: str, known: Written) -> bool:
        """Remove an object that is still the one that was written; return whether it is gone."""
        store, base = self.open()
        # A leftover object must not fail the one that was saved.
        with contextlib.suppress(DownloadError), self._store_errors(path):
            found = self._look_up(f"{base}/{path}", known.size)
            if found is not None and _is_same(found, known):
                store.rm_file(f"{base}/{path}")
                return True
        return False

    def _names(self, folder: str) -> set[str]:
        (store, base), found = self.open(), []
        with contextlib.suppress(DownloadError), self._store_errors(folder):
            found = store.ls(f"{base}/{folder}".rstrip("/"), detail=False)
        return {name.rstrip("/").rpartition("/")[2] for name in found}

    def are_two(self, path: str, other: str) -> bool:
        """Tell whether the paths of two objects that are there lead to different ones."""
        return self._is_object_store or super().are_two(path, other)

    def _look_up(self, target: str, size: int) -> Written | None:
        """Request what the store knows of an object; ``None`` if it has none of this size."""
        store, _ = self.open()
        store.invalidate_cache(target.rpartition("/")[0])
        try:
            found = _written(store.info(target))
        except FileNotFoundError:
            return None
        return found if found.size == size else None

    def _list(self, folder: str) -> dict[str, Written]:
        store, base = self.open()
        target = f"{base}/{folder}"
        store.invalidate_cache(target)
        with self._store_errors(folder):
            try:
                found = store.ls(target, detail=True)
            except FileNotFoundError:
                return {}
        store.invalidate_cache(target)
        return {
            each["name"].rstrip("/").rpartition("/")[2]: _written(each) for each in found if each["type"] != "directory"
        }

    @contextlib.contextmanager
    def _store_errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except CFPlatformError:
            raise
        except Exception as error:
            raise _store_error(error, f"{self.url}/{path}") from None


def chunk_size(size: int) -> int:
    """Return the bytes of a part, for an object of some size: full MiB, as Google requires multiples of 256 KiB."""
    return max(CHUNK_MIB, -(-size // (MAX_PARTS << 20))) << 20


def _open_store(url: str) -> tuple[Any, str]:
    scheme = url.partition("://")[0]
    try:
        import fsspec
    except ImportError:
        raise ConfigurationError(
            "A destination URL needs fsspec: pip install 'cfplatform[fsspec]'", parameter="destination"
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
            f"A destination {scheme}:// needs another package: {_words(error)}", parameter="destination"
        ) from None
    except Exception as error:
        raise ConfigurationError(
            f"The store of {url} cannot be opened ({type(error).__name__}: {_words(error)}). Check its settings: the "
            "environment variables of the store, or fsspec's configuration.",
            parameter="destination",
        ) from None
    return store, base.rstrip("/")


def _store_error(error: Exception, url: str) -> DownloadError:
    """Return the exception for a failed store: one that ends the run if it affects every other item too."""
    cls: type[DownloadError] = DestinationError
    names = " ".join([_code(error), *(cls.__name__ for cls in type(error).__mro__)])
    if isinstance(error, PermissionError) or any(name in names for name in _REFUSALS):
        advice = "Check the credentials of the store, and that they may list, write and delete."
    elif isinstance(error, FileNotFoundError) or any(name in names for name in _MISNAMED):
        advice = "Check the name of the bucket or container, and its region; it is not created automatically."
    elif isinstance(error, ConnectionError) or any(name in names for name in _UNREACHABLE):
        advice = "The store cannot be reached. Check its endpoint, region and network."
    elif isinstance(error, NotImplementedError):
        advice = "The store cannot be written."
    else:
        cls, advice = DownloadError, "Run it again to fetch only what is missing."
    details = f" ({type(error).__name__}: {_words(error)})"
    return cls(f"{url} cannot be read or written{details}. {advice} What is finished is kept.")


def _code(error: Exception) -> str:
    """Return the error code of S3, which s3fs keeps with its error."""
    try:
        return str(error.__cause__.response["Error"]["Code"])  # type: ignore[union-attr]
    except (AttributeError, LookupError, TypeError):
        return ""


def _words(error: Exception) -> str:
    return printable(" ".join(blank(str(error)).split()))[:MAX_MESSAGE_LENGTH].rstrip(".")


def _written(info: Mapping[str, Any]) -> Written:
    tag = info.get("ETag") or info.get("etag")
    number = 0
    if isinstance(tag, str):
        number = int.from_bytes(hashlib.blake2b(tag.strip('"').encode(), digest_size=7).digest(), "big")
    return Written(int(info.get("size") or 0), number)


def _is_same(found: Written, known: Written) -> bool:
    return found.size == known.size and (found.mtime_ns == known.mtime_ns or 0 in (found.mtime_ns, known.mtime_ns))
