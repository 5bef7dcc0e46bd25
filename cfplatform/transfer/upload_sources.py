"""The files of the caller: checked before anything is asked for, read while they are sent."""

from __future__ import annotations

import contextlib
import io
import mimetypes
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, TypeVar, cast

from ..exceptions import InvalidParameterError, UploadError, printable, shown
from ..http import Body

#: The type of a file whose name tells none.
UNKNOWN_TYPE = "application/octet-stream"
#: Characters of a content type, at the most (our limit): no registered one is nearly as long.
MAX_TYPE_LENGTH = 255

#: What can be uploaded: a path, or a binary file object that can seek.
File = str | os.PathLike[str] | BinaryIO

_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^`|~\w-]+/[!#$%&'*+.^`|~\w-]+( ?;[ -~]*[!-~])?", re.ASCII)

T = TypeVar("T")


def check_files(files: Any) -> Iterable[File]:
    """Check that it is an iterable of files, and not one file."""
    is_one = isinstance(files, (str, bytes, Mapping, os.PathLike)) or hasattr(files, "read")
    if is_one or not isinstance(files, Iterable):
        raise InvalidParameterError(
            f"files must be an iterable of paths or binary file objects, not {type(files).__name__}; "
            "for a single file use upload_file().",
            parameter="files",
        )
    return files


def check_content_type(value: Any) -> str | None:
    """Check a content type that the caller gives: a media type such as ``image/png``, with parameters or without."""
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_TYPE_LENGTH or not _MEDIA_TYPE.fullmatch(value):
        raise InvalidParameterError(
            f"content_type must be a media type such as 'image/png', in printable ASCII, not {shown(value)}.",
            parameter="content_type",
        )
    return value


def guess_content_type(name: str | None) -> str:
    """Return the content type that a name tells by its extension."""
    if not name:
        return UNKNOWN_TYPE
    # As a path, because a name with a colon would be taken for a URL.
    guessed, encoding = mimetypes.guess_type(f"./{name}", strict=False)
    # The type of what is compressed is not that of the compressed file.
    if guessed is None or encoding is not None or not _MEDIA_TYPE.fullmatch(guessed):
        return UNKNOWN_TYPE
    return guessed


def source(file: Any) -> OnDisk | OpenFile:
    """Return a file in the form in which it can be sent.

    Raises:
        InvalidParameterError: If it is nothing that can be sent.
        UploadError: If it cannot be read, or is empty.
    """
    if isinstance(file, (str, os.PathLike)):
        return OnDisk(_tried(type(file).__name__, os.fsdecode, file))
    if hasattr(file, "read"):
        return OpenFile(file)
    hint = " Wrap bytes in io.BytesIO." if isinstance(file, (bytes, bytearray, memoryview)) else ""
    raise InvalidParameterError(f"A file must be a path or a binary file object, not {type(file).__name__}.{hint}")


class OnDisk:
    """A file given by its path; opened only while it is sent."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.name: str | None = os.path.basename(path)
        _check_found(path, _tried(path, os.stat, path))
        if not os.access(path, os.R_OK):
            raise UploadError(f"{shown(path)} cannot be read: permission denied.")

    @contextlib.contextmanager
    def body(self, stop: threading.Event) -> Iterator[Body]:
        """Open it, and give what is to be sent."""
        with _tried(self._path, _opened, self._path) as file:
            found = os.fstat(file.fileno())
            _check_found(self._path, found)

            def is_unchanged() -> bool:
                now = os.fstat(file.fileno())
                return (now.st_size, now.st_mtime_ns) == (found.st_size, found.st_mtime_ns)

            yield Body(file, found.st_size, name=self._path, stop=stop, is_unchanged=is_unchanged)


class OpenFile:
    """A file object of the caller's, sent from where it stood and left standing there again."""

    def __init__(self, file: Any) -> None:
        name = getattr(file, "name", None)
        self.name = os.path.basename(name) if isinstance(name, str) else None
        self._shown = self.name or type(file).__name__
        self._file = file
        #: How many times it is still to be sent, counted by the thread of the caller.
        self.uses = 0
        # The same object may be given twice, but can only be read by one thread at a time.
        self._lock = threading.Lock()
        if isinstance(file, io.TextIOBase) or not isinstance(_tried(self._shown, file.read, 0), bytes):
            raise InvalidParameterError(
                f"{shown(self._shown)} was opened in text mode. Open it in binary mode, with open(path, 'rb')."
            )
        if not _tried(self._shown, self._can_seek):
            raise InvalidParameterError(
                f"{shown(self._shown)} cannot seek, so it could not be sent again after a fault. Pass a path, or wrap "
                "what it holds: io.BytesIO(file.read())."
            )
        self._start, self._end = _tried(self._shown, self._measure)
        if self._start >= self._end:
            raise UploadError(f"{shown(self._shown)} has no bytes from where it stands on. Rewind it with seek(0).")

    @contextlib.contextmanager
    def body(self, stop: threading.Event) -> Iterator[Body]:
        """Give what is to be sent, to one thread at a time."""
        with self._lock:
            _tried(self._shown, self._file.seek, self._start)
            try:
                yield Body(
                    self._file,
                    self._end - self._start,
                    name=self._shown,
                    stop=stop,
                    is_unchanged=lambda: self._measure()[1] == self._end,
                )
            finally:
                # The caller may have closed it meanwhile.
                with contextlib.suppress(Exception):
                    self._file.seek(self._start)

    def _can_seek(self) -> bool:
        if hasattr(self._file, "seekable"):
            return bool(self._file.seekable())
        # Python 3.10 has temporary files that can seek and do not say so.
        return hasattr(self._file, "seek") and hasattr(self._file, "tell")

    def _measure(self) -> tuple[int, int]:
        start = self._file.tell()
        self._file.seek(0, io.SEEK_END)
        end = self._file.tell()
        self._file.seek(start)
        return start, end


def _check_found(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise UploadError(f"{shown(path)} is {kind}; only files can be uploaded.")
    if not found.st_size:
        raise UploadError(f"{shown(path)} is empty: there is nothing to label in it.")


def _opened(path: str) -> BinaryIO:
    # A pipe that was put in the place of the file would keep the thread waiting for a writer.
    return cast(BinaryIO, open(path, "rb", opener=lambda path, flags: os.open(path, flags | _AT_ONCE)))  # noqa: SIM115


_AT_ONCE = getattr(os, "O_NONBLOCK", 0)


def _tried(name: str, function: Callable[..., T], *args: Any) -> T:
    """Call what touches a file; whatever goes wrong becomes an :class:`UploadError`."""
    try:
        return function(*args)
    except Exception as error:
        # Of any class: a file object may be anybody's.
        reason = printable(getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
    raise UploadError(f"{shown(name)} cannot be read: {reason}.")
