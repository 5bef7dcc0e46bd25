"""Resumable downloads: a large object is kept across attempts and runs, and resumed only if that is safe.

The bytes are in the hidden folder of the destination, with a note of their strong entity tag. Without one, nothing
shows that the rest belongs to the same object, so it is fetched from the start. The ``Content-Range`` of each response
is checked against the bytes on disk; the status alone is never trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from .. import naming, progress
from ..destination import local, locks
from ..exceptions import APIError, IncompleteDownloadError, UnsafePathError
from ..http import SINGLE, ObjectStream, Run, Transport
from .steps import should_renew

#: Folder inside the state folder for partial objects.
FOLDER = "resume"
_DATA, _NOTE = "data", "note.json"
#: Maximum size of an object: 1 TiB (our limit). Protects against a faulty server.
MAX_BYTES = 1 << 40
#: Seconds without growth after which a partial object is removed as stale.
KEPT_FOR = 7 * 24 * 3600
#: Seconds without growth after which a partial object counts as abandoned, if files cannot be locked.
QUIET = 60.0


class _Span(NamedTuple):
    """The values of ``Content-Range``: first and last byte, and the total size if known."""

    first: int
    last: int
    total: int | None


class Resumable:
    """The partial file of an object.

    It is in its own folder and belongs to the holder of its lock. A file without a lock holder was abandoned and is
    resumed, even if it was started on another machine. If files cannot be locked, a file that has not grown for a
    minute counts as abandoned and is copied, because its owner may continue. Nothing ever writes to a file that another
    process uses, or that has its final name.

    Args:
        destination: The destination, prepared.
        key: Identifies the object in this run and later ones.
        reporter: Receives the total size and the size of each chunk, negative if bytes are discarded.
    """

    def __init__(
        self, destination: local.Destination, key: str, reporter: progress.ProgressReporter | None = None
    ) -> None:
        self._destination = destination
        self._root = root = destination.root
        self._reporter = reporter
        self._reported: int | None = None
        self._announced: int | None = None
        self._size = 0
        self._done = False
        self._prefix = f"{naming.safe_name(key)}~{naming.digest(key)}."
        with destination.errors():
            self._outer = local.Folder(root, local.STATE_FOLDER, FOLDER, make=True)
            self._folder, descriptor = self._claim()
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
            #: The content type of the object, from the response with its first byte.
            self.media_type: str
            self._etag, self.total, self.media_type = self._read_note()
        if self._etag is None:
            self.restart()
        else:
            self._size = os.fstat(self._file.fileno()).st_size

    def _claim(self) -> tuple[local.Folder, int]:
        """Take over the largest file that earlier runs left, or create one."""
        own = None
        for size, grown_at, name in sorted(self._left(), reverse=True):
            is_ours, is_old = name.startswith(self._prefix), time.time() - grown_at > KEPT_FOR
            found = None
            if size < 0 and (is_ours or is_old):
                with contextlib.suppress(OSError, UnsafePathError):
                    _remove(self._outer, local.Folder(self._outer, name))
            elif is_ours or is_old:
                found = self._take(name, grown_at, is_wanted=is_ours and own is None)
            own = own or found
        return own or self._begin()

    def _left(self) -> Iterator[tuple[int, float, str]]:
        """Yield the size, time and name of each partial file; the size is -1 if the file is missing."""
        names = []
        # The state folder may have been removed.
        with contextlib.suppress(FileNotFoundError), os.scandir(self._outer.path) as entries:
            # A link is not ours.
            names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        for name in names:
            with contextlib.suppress(OSError):
                folder = self._outer.path / name
                if os.path.isfile(folder / _DATA):
                    found = os.stat(folder / _DATA)
                    yield found.st_size, found.st_mtime, name
                else:
                    yield -1, folder.stat().st_mtime, name

    def _take(self, name: str, grown_at: float, *, is_wanted: bool) -> tuple[local.Folder, int] | None:
        """Open an abandoned file, or remove it."""
        try:
            folder = local.Folder(self._outer, name)
            descriptor = _open(folder, _DATA, os.O_RDWR)
        except (OSError, UnsafePathError):
            return None
        copied = None
        try:
            is_free = locks.try_lock(descriptor)
            if is_free:
                is_free = locks.is_at(descriptor, folder.at(_DATA), folder.descriptor)
                if is_free and is_wanted:
                    kept, descriptor = descriptor, -1
                    return folder, kept
            elif is_free is None:
                is_free = time.time() - grown_at > QUIET
                if is_free and is_wanted:
                    copied = self._copy(folder, descriptor)
            if is_free:
                descriptor = _remove(self._outer, folder, descriptor)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return copied

    def _copy(self, folder: local.Folder, descriptor: int) -> tuple[local.Folder, int]:
        """Copy another partial file, whose owner may still write to it."""
        note = _content(folder)
        copy, copied = self._begin()
        try:
            with open(os.dup(descriptor), "rb") as old, open(os.dup(copied), "wb") as new:
                shutil.copyfileobj(old, new)
            # If the note changed, its owner started again, and the bytes may belong to two objects.
            if note is not None and _content(folder) == note:
                with open(_open(copy, _NOTE, os.O_WRONLY | os.O_CREAT), "wb") as file:
                    file.write(note)
        except BaseException:
            copied = _remove(self._outer, copy, copied)
            if copied >= 0:
                os.close(copied)
            raise
        return copy, copied

    def _begin(self) -> tuple[local.Folder, int]:
        while True:
            try:
                folder = local.Folder(self._outer, self._prefix + locks.unique_name(), make=True)
                descriptor = _open(folder, _DATA, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            except FileNotFoundError:
                # Another process removed the empty file as abandoned, or the state folder was removed.
                self._outer.close()
                self._outer = local.Folder(self._root, local.STATE_FOLDER, FOLDER, make=True)
                continue
            # Another process may have taken it before it was locked.
            if locks.try_lock(descriptor) is not False and locks.is_at(descriptor, folder.at(_DATA), folder.descriptor):
                return folder, descriptor
            os.close(descriptor)

    def close(self) -> None:
        """Close the file; keep it if another run can resume it."""
        if self._done:
            return
        if self._etag is None:
            self.discard()
            return
        self._done = True
        # On Windows it is already closed if the rename failed.
        if not self._file.closed:
            with contextlib.suppress(OSError):
                # Explicitly, because a forked child also holds the lock.
                locks.unlock(self._file.fileno())
        self._file.close()
        self._folder.close()
        self._outer.close()

    @property
    def path(self) -> Path:
        """The path of the file until :meth:`commit`."""
        return self._folder.path / _DATA

    # --- Called by the transport -----------------------------------------------------------------------------

    def headers(self) -> Mapping[str, str]:
        """Return the headers that request the rest, if the object is unchanged."""
        if self._etag is None or self._size == 0:
            return {}
        return {"Range": f"bytes={self._size}-", "If-Range": self._etag}

    def position(self) -> int:
        """Return the number of bytes that the next attempt can keep."""
        return self._size if self._etag is not None else 0

    # --- Receiving -------------------------------------------------------------------------------------------

    def receive(self, stream: ObjectStream) -> None:
        """Save a response with the rest or the full object; refuse any other range."""
        text = stream.headers.get("Content-Range")
        span = _span(text)
        plain = stream.is_plain
        if span is None and (text is not None or stream.status_code == 206):
            raise self._refused("a range without a valid Content-Range")
        if span is not None and not (plain and self._fits(span, stream.etag)):
            raise self._refused("a range of another object, or the wrong range")
        first = span.first if span is not None else 0
        if first == 0:
            self.restart()
            total = span.total if span is not None else stream.length
            self.media_type = media_type(stream)
            self._write_note(_strong(stream.etag) if plain else None, total if plain else None)
            if self._reporter is not None and self._reported is not None and self._announced != self.total:
                # The object has another size, so progress starts again.
                self._reporter.finish()
                self._reported = None
        self._cut(first)
        for chunk in stream.chunks(MAX_BYTES):
            self._write(chunk)
        if span is not None and self._size != span.last + 1:
            raise self._refused("more or fewer bytes than the range has")
        if span is not None and self._size != self.total:
            # If the total is unknown, the storage refuses a range after the last byte.
            raise IncompleteDownloadError(f"The storage sent {self._size} of {self.total or 'unknown'} bytes.")

    def _fits(self, span: _Span, etag: str | None) -> bool:
        """Return whether a range starts within the bytes on disk and belongs to the same object."""
        if span.first > self._size:
            return False
        if span.first == 0:
            # The start of any object is accepted: the bytes on disk are discarded.
            return True
        known = self.total is None or span.total is None or self.total == span.total
        return known and (etag is None or etag == self._etag)

    def _refused(self, what: str) -> IncompleteDownloadError:
        self.restart()
        return IncompleteDownloadError(f"The storage sent {what}. The object is fetched from the start.")

    def is_complete(self, refusal: APIError) -> bool:
        """Return whether a 416 response means that the object is complete."""
        if refusal.status_code != 416 or not self.position():
            return False
        received = refusal.response.headers.get("content-range", "") if refusal.response else ""
        return received == f"bytes */{self._size}" and self.total in (None, self._size)

    # --- The file --------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Discard the bytes on disk."""
        # The note first: if the process is killed in between, it must not describe other bytes.
        self._write_note(None, None)
        self._cut(0)

    def commit(self, path: str, *, flush: bool = True) -> local.Written:
        """Move the file to its final path in the destination.

        Args:
            flush: Whether to flush the file to disk before the rename, and the folder after it. Otherwise the result
                has a digest of the content, by which the state recognizes the file.
        """
        digest = None
        with self._destination.errors(path):
            if flush:
                os.fsync(self._file.fileno())
            else:
                # A full disk may be reported only when a file is closed.
                os.close(os.dup(self._file.fileno()))
                digest = local.digest(self._file)
            if os.name == "nt":
                # Windows cannot rename an open file. Elsewhere the lock is held until the file is renamed.
                self._file.close()
            try:
                written = self._destination.take(self._folder, _DATA, path)
            except FileNotFoundError:
                written = self._saved_again(path)
            if flush:
                with local.Folder(self._root, *path.split("/")[:-1]) as folder:
                    if folder.descriptor is not None:
                        os.fsync(folder.descriptor)
        self.discard()
        return written._replace(digest=digest)

    def _saved_again(self, path: str) -> local.Written:
        """Save the file from its open handle, because the state folder was removed."""
        with self._destination.part() as part:
            self._file.seek(0)
            while piece := self._file.read(local.READ_STEP):
                part.write(piece)
            return part.commit(path)

    def discard(self) -> None:
        """Remove the file and its folder."""
        if self._done:
            return
        self._done = True
        if os.name == "nt":
            # Windows cannot remove an open file. Elsewhere the lock is held until the file is removed.
            self._file.close()
        _remove(self._outer, self._folder)
        self._file.close()
        self._outer.close()

    def _write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        try:
            while len(view):
                count = self._file.write(view)
                view = view[count:]
                self._size += count
        except OSError as error:
            raise self._destination.failure(error) from None
        self._report()

    def _cut(self, size: int) -> None:
        with self._destination.errors():
            self._file.truncate(size)
            self._file.seek(size)
        self._size = size
        if self._reported is not None:
            self._report()

    def _report(self) -> None:
        if self._reporter is not None:
            if self._reported is None:
                self._reported, self._announced = 0, self.total
                self._reporter.start(self.total)
            self._reporter.advance("downloaded", self._size - self._reported)
            self._reported = self._size

    def _read_note(self) -> tuple[str | None, int | None, str]:
        try:
            note = json.loads(_content(self._folder) or b"")
            etag, total, media_type = note["etag"], note["total"], note["type"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            # It may be a link, which would block the next note.
            _unlink(self._folder, _NOTE)
            return None, None, ""
        if not isinstance(etag, str) or not isinstance(media_type, str) or _strong(etag) is None:
            return None, None, ""
        return etag, total if isinstance(total, int) else None, media_type

    def _write_note(self, etag: str | None, total: int | None) -> None:
        """Record the entity tag of the following bytes; without one, remove the note."""
        self._etag, self.total = etag, total
        with self._destination.errors(), contextlib.suppress(FileNotFoundError):
            if etag is None:
                _unlink(self._folder, _NOTE)
                return
            with open(_open(self._folder, _NOTE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
                file.write(json.dumps({"etag": etag, "total": total, "type": self.media_type}).encode())


def _open(folder: local.Folder, name: str, flags: int) -> int:
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, flag, 0)
    return os.open(folder.at(name), flags, 0o666, dir_fd=folder.descriptor)


def _unlink(folder: local.Folder, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(folder.at(name), dir_fd=folder.descriptor)


def _content(folder: local.Folder) -> bytes | None:
    """Return the note of a partial file."""
    with contextlib.suppress(OSError), open(_open(folder, _NOTE, os.O_RDONLY), "rb") as file:
        return file.read(4096)
    return None


def _remove(outer: local.Folder, folder: local.Folder, descriptor: int = -1) -> int:
    """Remove and close the folder of a partial file; return its descriptor, or -1 if it had to be closed."""
    if descriptor >= 0 and os.name == "nt":
        os.close(descriptor)
        descriptor = -1
    with contextlib.suppress(OSError):
        _unlink(folder, _NOTE)
        _unlink(folder, _DATA)
        folder.close()
        os.rmdir(outer.at(folder.path.name), dir_fd=outer.descriptor)
    return descriptor


def fetch(
    calls: Transport,
    url: str,
    target: Resumable,
    renew: Callable[[], str] | None,
    *,
    look: Callable[[ObjectStream], None] | None = None,
    plain: bool = False,
    run: Run = SINGLE,
    is_essential: bool = False,
) -> None:
    """Fetch the missing bytes of an object.

    Args:
        url: A signed URL of the object.
        target: Its partial file.
        renew: Returns a new signed URL when the old one has expired; ``None`` if the URL cannot be renewed.
        look: Called with each response before its body is read; raises to refuse it.
        plain: Whether an ``http://`` URL is allowed.
        is_essential: Whether the run cannot continue without it.

    Raises:
        CFPlatformError: If the download fails. Received bytes are kept.
    """
    has_restarted = False
    # Number of renewals since the last progress, and the position then.
    renewals, reached = 0, target.position()

    def receive(stream: ObjectStream) -> None:
        if look is not None:
            look(stream)
        target.receive(stream)

    def renewed(refusal: APIError) -> str | None:
        nonlocal url, has_restarted, renewals, reached
        is_range_refused = refusal.status_code == 416 and target.position() > 0
        # Only once: otherwise a storage that refuses every range would cause an endless loop.
        if is_range_refused and not has_restarted and not target.is_complete(refusal):
            has_restarted = True
            target.restart()
            renewals = reached = 0
            return url
        if target.position() > reached:
            renewals, reached = 0, target.position()
        if renew is None or not should_renew(refusal, renewals):
            return None
        renewals += 1
        url = renew()
        return url

    if target.total is not None and target.position() >= target.total:
        return
    try:
        calls.fetch(url, receive, resumed=target, renew=renewed, plain=plain, run=run, is_essential=is_essential)
    except APIError as error:
        if not target.is_complete(error):
            raise


def media_type(stream: ObjectStream) -> str:
    """Return the content type of a response, without parameters."""
    return stream.headers.get("Content-Type", "").partition(";")[0].strip().lower()[:100]


def _strong(etag: str | None) -> str | None:
    """Return an entity tag if it is strong; a weak one does not guarantee equal bytes."""
    return etag if etag is not None and re.fullmatch(r'"[\x21\x23-\x7e]+"', etag) else None


def _span(text: str | None) -> _Span | None:
    """Parse ``Content-Range``; return ``None`` if it is missing or malformed."""
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", (text or "").strip(" \t"))
    if match is None:
        return None
    first, last = int(match.group(1)), int(match.group(2))
    total = None if match.group(3) == "*" else int(match.group(3))
    return _Span(first, last, total) if first <= last and (total is None or last < total) else None
