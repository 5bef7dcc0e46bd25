"""A large object on its way into a file: kept across attempts and runs, and continued only where that is proven right.

The bytes lie in the hidden folder of the destination, with a note beside them that holds the strong entity tag under
which they were sent. Without such a tag nothing proves that a later part belongs to the same object, so it is fetched
from its start. What the storage sends is judged by its ``Content-Range`` against the bytes on disk, never by its
status alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from typing_extensions import Self

from . import files, progress, signing
from .exceptions import APIError, IncompleteDownloadError, InvalidResponseError
from .transport import ObjectStream, Transport

#: Folder inside the state folder that holds them.
FOLDER = "resume"
_DATA, _NOTE = "data", "note.json"
#: Bytes of one object, at the most: 1 TiB. The disk ends before that; it keeps a server gone mad from being believed.
MAX_BYTES = 1 << 40


class _Span(NamedTuple):
    """What a ``Content-Range`` says: first and last byte, and the size of the whole where it is told."""

    first: int
    last: int
    total: int | None


class Resumable:
    """The file that an object is collected in.

    It lies in a folder of its own that belongs to one process at a time: who takes up what another process left behind
    renames the folder, which succeeds for one of them only. So two that fetch the same object never meet in one file,
    and no lock is needed.

    Args:
        root: The destination, prepared.
        key: What names the object, in this run and in a later one.
        reporter: Is told the size of the whole and of each piece that arrives; a negative one where bytes are given up.
    """

    def __init__(self, root: Path, key: str, reporter: progress.ProgressReporter | None = None) -> None:
        self._root = root
        self._reporter = reporter
        self._reported: int | None = None
        self._size = 0
        name = f"{files.safe_name(key)}~{files.digest(key)}"
        self._free, self._own = f"{name}.free", f"{name}.{files.unique_name()}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(root / files.STATE_FOLDER / FOLDER, 0o700)
        self._outer = files.Folder(root, files.STATE_FOLDER, FOLDER)
        try:
            self._claim(name)
            self._folder = files.Folder(root, files.STATE_FOLDER, FOLDER, self._own)
        except BaseException:
            self._outer.close()
            raise
        try:
            self._file = os.fdopen(self._open(_DATA, os.O_RDWR | os.O_CREAT), "r+b", buffering=0)
        except BaseException:
            self._folder.close()
            self._outer.close()
            raise
        self._etag, self.total = self._read_note()
        if self._etag is None:
            self.restart()
        else:
            self._size = os.fstat(self._file.fileno()).st_size

    def _claim(self, name: str) -> None:
        """Take up what an earlier run left, or begin anew."""
        left = [self._free]
        with os.scandir(self._root / files.STATE_FOLDER / FOLDER) as entries:
            left += [
                entry.name
                for entry in entries
                if entry.name.startswith(f"{name}.") and files.is_left_behind(entry.name[len(name) + 1 :])
            ]
        for each in left:
            with contextlib.suppress(OSError):
                self._rename(each, self._own)
                return
        os.mkdir(self._outer.place(self._own), 0o700, dir_fd=self._outer.descriptor)

    def _rename(self, old: str, new: str) -> None:
        held = self._outer.descriptor
        os.rename(self._outer.place(old), self._outer.place(new), src_dir_fd=held, dst_dir_fd=held)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it; what arrived is kept for another run."""
        if self._file.closed:
            return
        self._file.close()
        self._folder.close()
        with contextlib.suppress(OSError):
            # Fails where another process left the same object: that one is as good.
            self._rename(self._own, self._free)
        self._outer.close()

    @property
    def path(self) -> Path:
        """Where the bytes lie until :meth:`commit`."""
        return self._root / files.STATE_FOLDER / FOLDER / self._own / _DATA

    # --- As the transport sees it ----------------------------------------------------------------------------

    def headers(self) -> Mapping[str, str]:
        """Return what asks for the rest, provided that it belongs to the same object."""
        if self._etag is None or self._size == 0:
            return {}
        return {"Range": f"bytes={self._size}-", "If-Range": self._etag}

    def position(self) -> int:
        """Return how many bytes a next attempt need not fetch again."""
        return self._size if self._etag is not None else 0

    # --- Receiving -------------------------------------------------------------------------------------------

    def receive(self, stream: ObjectStream) -> None:
        """Take what the storage sends: the rest, or the whole from its start.

        Raises:
            IncompleteDownloadError: If it is another part than the one that is needed, or not all of it.
        """
        span = _span(stream.headers)
        plain = stream.headers.get("Content-Encoding", "identity").strip().lower() in ("", "identity")
        if stream.status_code == 206 and (span is None or not plain):
            raise self._refused("a part that does not say which one it is")
        if span is not None and not self._fits(span, stream.etag):
            raise self._refused("a part of another object, or another part of it")
        first = span.first if span is not None else 0
        if first == 0:
            self.restart()
            total = span.total if span is not None else stream.length
            self._write_note(_strong(stream.etag) if plain else None, total if plain else None)
        self._cut(first)
        for chunk in stream.chunks(MAX_BYTES):
            self._write(chunk)
        if span is not None and self._size != span.last + 1:
            raise self._refused("more or fewer bytes than its range has")
        if span is not None and self._etag is not None and self._size != self.total:
            # Where the total is not told, the storage will refuse to send what comes after the last byte.
            raise IncompleteDownloadError(f"The storage sent {self._size} of {self.total or 'unknown'} bytes.")

    def _fits(self, span: _Span, etag: str | None) -> bool:
        """Tell whether a part begins where there are bytes already, and belongs to the same object."""
        if span.first > self._size:
            return False
        if span.first == 0:
            # The start of any object will do: what is there is given up.
            return True
        known = self.total is None or span.total is None or self.total == span.total
        return known and (etag is None or etag == self._etag)

    def _refused(self, what: str) -> IncompleteDownloadError:
        self.restart()
        return IncompleteDownloadError(f"The storage sent {what}; the object is fetched from its start.")

    def is_whole(self, refusal: APIError) -> bool:
        """Tell whether an answer 416 means that there was nothing left to send."""
        said = refusal.response.headers.get("content-range", "") if refusal.response else ""
        return said == f"bytes */{self._size}" and self.total in (None, self._size)

    # --- The file --------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Give up what is there."""
        # The note first: a process that is killed in between must not find it beside other bytes.
        self._write_note(None, None)
        self._cut(0)

    def commit(self, path: str) -> os.stat_result:
        """Give the file its final name, relative to the destination, once it is safe on the disk."""
        os.fsync(self._file.fileno())
        found = os.fstat(self._file.fileno())
        self._file.close()
        files.move(self._folder, self._folder.place(_DATA), self._root, path)
        self._remove()
        return found

    def discard(self) -> None:
        """Remove it."""
        self._file.close()
        self._remove()

    def _remove(self) -> None:
        for name in (_NOTE, _DATA):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._folder.place(name), dir_fd=self._folder.descriptor)
        self._folder.close()
        with contextlib.suppress(OSError):
            os.rmdir(self._outer.place(self._own), dir_fd=self._outer.descriptor)
        self._outer.close()

    def _write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while len(view):
            count = self._file.write(view)
            view = view[count:]
            self._size += count
        self._report()

    def _cut(self, size: int) -> None:
        self._file.truncate(size)
        self._file.seek(size)
        self._size = size
        if self._reported is not None:
            self._report()

    def _report(self) -> None:
        if self._reporter is not None:
            if self._reported is None:
                self._reported = 0
                self._reporter.start(self.total)
            self._reporter.advance("downloaded", self._size - self._reported)
            self._reported = self._size

    def _open(self, place: str, flags: int) -> int:
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        return os.open(self._folder.place(place), flags, 0o666, dir_fd=self._folder.descriptor)

    def _read_note(self) -> tuple[str | None, int | None]:
        try:
            with os.fdopen(self._open(_NOTE, os.O_RDONLY), "rb") as file:
                note = json.loads(file.read(4096))
            etag, total = note["etag"], note["total"]
        except (OSError, ValueError, KeyError, TypeError):
            return None, None
        known = isinstance(etag, str) and _strong(etag) is not None and etag.isascii() and etag.isprintable()
        return (etag, total if isinstance(total, int) else None) if known else (None, None)

    def _write_note(self, etag: str | None, total: int | None) -> None:
        """Remember under which tag the bytes that follow are sent; without one there is no note."""
        self._etag, self.total = etag, total
        if etag is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._folder.place(_NOTE), dir_fd=self._folder.descriptor)
            return
        with os.fdopen(self._open(_NOTE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(json.dumps({"etag": etag, "total": total}).encode())


def fetch(calls: Transport, url: str, target: Resumable, renew: Callable[[], str]) -> None:
    """Fetch all that is missing of an object.

    Args:
        calls: The transport.
        url: A signed URL of the object.
        target: Where it is collected.
        renew: Returns a new signed URL, when the storage says that the one in use has expired.

    Raises:
        CFPlatformError: If it cannot be had; what arrived is kept.
    """
    renewals = 0
    while target.total is None or target.position() < target.total:
        before = target.position()
        failure = _failure(calls, url, target)
        if failure is None:
            return
        if failure.status_code == 416 and before:
            if target.is_whole(failure):
                return
            target.restart()
            continue
        if target.position() > before:
            renewals = 0
        if not signing.should_renew(failure, renewals):
            raise failure
        renewals += 1
        url = renew()


def _failure(calls: Transport, url: str, target: Resumable) -> APIError | None:
    try:
        calls.fetch(url, target.receive, resumed=target)
    except APIError as error:
        return error.with_traceback(None)
    return None


def _strong(etag: str | None) -> str | None:
    """Return an entity tag that promises equal bytes; a weak one does not."""
    return etag if etag is not None and re.fullmatch(r'"[^"]+"', etag) else None


def _span(headers: Mapping[str, str]) -> _Span | None:
    """Read ``Content-Range``; ``None`` where there is none.

    Raises:
        InvalidResponseError: If it cannot be read.
    """
    text = headers.get("Content-Range")
    if text is None:
        return None
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", text.strip())
    if match is not None:
        first, last = int(match.group(1)), int(match.group(2))
        total = None if match.group(3) == "*" else int(match.group(3))
        if first <= last and (total is None or last < total):
            return _Span(first, last, total)
    raise InvalidResponseError(f"The storage sent a range that is none: {text[:60]!r}.")
