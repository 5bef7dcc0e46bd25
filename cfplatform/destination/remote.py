"""Remote destinations: URLs of stores that fsspec supports.

A file is written locally first, and uploaded with one call when it is complete and checked. Its size and entity tag are
then read from the store, and later runs compare them.
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

#: Size in MiB of the parts of a large upload, which are in memory one at a time.
CHUNK_MIB = 8
#: Maximum number of parts of an upload; S3 allows 10,000.
MAX_PARTS = 9_000

#: Stores with atomic uploads, and whether ``put_file`` has a ``chunksize``, whose default is 50 MiB (on S3, ten of them
#: at a time). In other stores a file is uploaded with a temporary name and renamed.
_OBJECT_STORES = {"s3": True, "s3a": True, "gs": True, "gcs": True, "az": False, "abfs": False, "abfss": False}
#: The store in the memory of this process.
_MEMORY = "memory"
#: A scheme of one letter would be a drive on Windows; ``::`` chains stores in fsspec.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z0-9+.:-]+)?)://(.*)", re.DOTALL)
#: A URL converted to ``pathlib.Path``, which drops one slash.
_LOST_SLASH = re.compile(r"(s3|s3a|gs|gcs|az|abfs|abfss|memory|file):[/\\][^/\\]")
#: Parts of the names of botocore, aiohttp and google-auth exceptions without a built-in base class, and of S3 error
#: codes.
_REFUSALS = ("Credential", "Forbidden", "Unauthorized", "RefreshError")
_MISNAMED = ("InvalidBucketName", "ParamValidation", "PermanentRedirect", "AuthorizationHeaderMalformed")
_UNREACHABLE = ("EndpointConnection", "ConnectTimeout", "ClientConnector", "ConnectionRefused", "gaierror")


def open_destination(destination: object, state: object = None) -> Destination:
    """Return the destination for a path or URL, ready for writing.

    Raises:
        InvalidParameterError: If it is not a valid destination, or ``state`` is missing.
        DestinationError: If a folder cannot be created or is not writable.
        ConfigurationError: If the store cannot be opened or needs a package that is not installed.
    """
    url = remote_url(destination)
    if url is None:
        folder = local.prepare_destination(destination)
        if state is None:
            return Destination(folder)
        return Destination(folder, local.prepare_destination(state_root(str(folder), state), "state"))
    root = state_root(url, state)
    remote = RemoteDestination(url, root)
    # Opened now, because errors of the store must be reported before a folder is created.
    remote.open()
    local.prepare_destination(root, "state")
    return remote


def state_root(url: str, state: object) -> Path:
    """Return the folder of a destination in ``state``; each destination has its own."""
    if state is None:
        raise InvalidParameterError(
            f"destination {url} needs a local state folder.",
            parameter="state",
            hint="Pass its path as state=..., the same each time.",
        )
    return local.folder_path(state, "state").resolve() / f"{naming.safe_name(url)}~{naming.digest(url)}"


def remote_url(destination: object) -> str | None:
    """Return the URL of a remote destination, without a trailing slash; ``None`` for a folder.

    Raises:
        InvalidParameterError: If the URL has credentials or a query, or chains several stores.
    """
    if not isinstance(destination, str):
        # The file system path of a cloud library's path object is in a cache, so its str() is used.
        text = str(destination) if isinstance(destination, os.PathLike) or hasattr(destination, "protocol") else ""
        if _LOST_SLASH.match(text):
            raise InvalidParameterError(
                "destination: pass a URL as a string, not as a pathlib.Path, which drops a slash.",
                parameter="destination",
            )
        destination = text
    match = _URL.fullmatch(destination.strip())
    if match is None or match.group(1).lower() in ("file", "local"):
        return None
    scheme, rest = match.group(1).lower(), match.group(2).rstrip("/")
    # These messages do not show the URL, because it may contain a password.
    if "?" in rest or ":" in rest.rpartition("@")[0]:
        raise InvalidParameterError(
            f"destination: the {scheme}:// URL must not contain a password, key or query. Set them in the environment "
            "variables of the store, or in fsspec's configuration.",
            parameter="destination",
        )
    if "::" in destination:
        raise InvalidParameterError(
            "destination must be a single URL, such as s3://bucket/labels, without '::'.", parameter="destination"
        )
    if not rest and scheme != _MEMORY:
        raise InvalidParameterError(
            f"destination {scheme}:// has no bucket. Add one, as in {scheme}://bucket/labels.",
            parameter="destination",
        )
    return f"{scheme}://{rest}"


def refuse_url(destination: object, instead: str = "") -> None:
    """Raise :class:`InvalidParameterError` if the destination is a URL."""
    if remote_url(destination) is not None:
        advice = f" Use {instead} for URLs." if instead else ""
        raise InvalidParameterError(
            f"destination must be the path of a folder, not a URL.{advice}", parameter="destination"
        )


class RemoteDestination(Destination):
    """A destination in a store. Incomplete files are in its local state folder.

    Args:
        url: The URL, from :func:`remote_url`.
        root: The local state folder.
    """

    def __init__(self, url: str, root: Path) -> None:
        super().__init__(root)
        self.url = url
        self._scheme = url.partition("://")[0]
        self._is_object_store = self._scheme in _OBJECT_STORES
        self.is_shared = self._scheme != _MEMORY
        #: Returns the file system of the store and the path of the destination in it; sends nothing.
        self.open = functools.cache(functools.partial(_open_store, url))
        # The objects of each folder: those of the first listing, and those written since.
        self._listed: dict[str, dict[str, Written]] = {}

    def __reduce__(self) -> tuple[type[Destination], tuple[Any, ...]]:
        # The store is opened again in each process, because of its threads and connections.
        return RemoteDestination, (self.url, self.root)

    def take(self, folder: Folder, name: str, path: str) -> Written:
        """Upload a complete file, check the size in the store, and remove the local file."""
        file, (store, base) = folder.path / name, self.open()
        final, size = f"{base}/{path}", file.stat().st_size
        options = {"chunksize": chunk_size(size), "max_concurrency": 1} if _OBJECT_STORES.get(self._scheme) else {}
        target = final if self._is_object_store else f"{final.rpartition('/')[0]}/.{locks.unique_name()}.part"
        with self._store_errors(path):
            try:
                store.put_file(str(file), target, **options)
                # Twice, because a listing of another thread may have been cached in between.
                written = self._look_up(target, size) or self._look_up(target, size)
                if written is None:
                    raise DownloadError(
                        f"{self.url}/{path} was uploaded, but the store does not have its {size:,} bytes. "
                        "Run it again to fetch the missing items."
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
        """Create a folder, if the store has folders."""
        # Object stores have no folders, and some would create a bucket instead.
        if not self._is_object_store:
            (store, base), path = self.open(), "/".join(names)
            with self._store_errors(path):
                store.makedirs(f"{base}/{path}", exist_ok=True)

    def holds(self, path: str) -> bool:
        """Return whether an object exists. Each folder is listed only once."""
        folder, _, name = path.rpartition("/")
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        return name in self._listed[folder]

    def unchanged(self, path: str, known: Written) -> Written | None:
        """Return ``known`` if an object is unchanged, else ``None``.

        Each folder is listed only once.
        """
        folder, _, name = path.rpartition("/")
        is_same = self.holds(path) and _is_same(self._listed[folder][name], known)
        return known if is_same else None

    def remove_unchanged(self, path: str, known: Written) -> bool:
        """Remove an object if it is unchanged; return whether it was removed."""
        store, base = self.open()
        # An error here must not fail the item that was saved.
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

    def are_different(self, path: str, other: str) -> bool:
        """Return whether two paths of existing objects are different objects."""
        return self._is_object_store or super().are_different(path, other)

    def _look_up(self, target: str, size: int) -> Written | None:
        """Fetch size and entity tag of an object; ``None`` if there is none with this size."""
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
    """Return the size of the parts of an upload in bytes: full MiB, because Google needs multiples of 256 KiB."""
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
            f"destination: fsspec does not support {scheme}:// URLs. Pass the path of a folder, or a URL such as "
            "s3://bucket/labels.",
            parameter="destination",
        )
    try:
        store, base = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ConfigurationError(
            f"A {scheme}:// destination needs another package: {_words(error)}", parameter="destination"
        ) from None
    except Exception as error:
        raise ConfigurationError(
            f"Could not open the store of {url} ({type(error).__name__}: {_words(error)}). Check the environment "
            "variables of the store, or fsspec's configuration.",
            parameter="destination",
        ) from None
    return store, base.rstrip("/")


def _store_error(error: Exception, url: str) -> DownloadError:
    """Convert an error of a store: to ``DestinationError``, which ends the run, if it affects all items."""
    cls: type[DownloadError] = DestinationError
    names = " ".join([_code(error), *(cls.__name__ for cls in type(error).__mro__)])
    if isinstance(error, PermissionError) or any(name in names for name in _REFUSALS):
        advice = "Check the credentials of the store, and their permissions to list, write and delete."
    elif isinstance(error, FileNotFoundError) or any(name in names for name in _MISNAMED):
        advice = "Check the name and region of the bucket or container. It is not created automatically."
    elif isinstance(error, ConnectionError) or any(name in names for name in _UNREACHABLE):
        advice = "The store is not reachable. Check its endpoint and region, and the network."
    elif isinstance(error, NotImplementedError):
        advice = "The store is read-only."
    else:
        cls, advice = DownloadError, "Run it again to fetch the missing items."
    details = f" ({type(error).__name__}: {_words(error)})"
    return cls(f"Could not access {url}{details}. {advice} Finished items are kept.")


def _code(error: Exception) -> str:
    """Return the S3 error code of an s3fs error."""
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
