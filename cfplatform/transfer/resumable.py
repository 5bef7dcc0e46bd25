"""A large object that is downloaded into a file, kept across attempts and runs, and resumed only where that is safe.

The bytes are in the hidden folder of the destination, with a note that holds the strong entity tag under which they
were sent. Without such a tag nothing shows that a later part belongs to the same object, so it is fetched from its
start. What the storage sends is checked by its ``Content-Range`` against the bytes on disk, never by its status alone.
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

#: Folder inside the state folder that holds them.
FOLDER = "resume"
_DATA, _NOTE = "data", "note.json"
#: Maximum size of an object: 1 TiB. It guards against a faulty server.
MAX_BYTES = 1 << 40
#: Seconds after which a part that has not grown is removed as abandoned.
KEPT_FOR = 7 * 24 * 3600
#: Seconds without growth after which a part counts as left behind where files cannot be locked.
QUIET = 60.0


class _Span(NamedTuple):
    """The values of a ``Content-Range``: first and last byte, and the total size if it is known."""

    first: int
    last: int
    total: int | None


class Resumable:
    """The file that an object is collected in.

    It has a folder, and belongs to the holder of its lock. A part whose lock is free was left behind and is
    continued, whichever machine it was started on. If files cannot be locked, a part that has not grown for a minute
    counts as left behind, and is copied, since its owner may come back. So nothing ever writes to a file that another
    process uses, nor to one that has its final name.

    Args:
        destination: The destination, prepared.
        key: What names the object, in this run and in a later one.
        reporter: Receives the total size and that of each piece that arrives; a negative one where bytes are discarded.
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
        """Continue what an earlier run left, or begin; of several that were left, the largest is enough."""
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
        """Yield the size, the time and the name of each part; the size is -1 where there is no file."""
        names = []
        # Somebody may have removed the state folder.
        with contextlib.suppress(FileNotFoundError), os.scandir(self._outer.path) as entries:
            # A link instead of a folder is none of ours.
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
        """Open a part that nobody works on any more, or remove it."""
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
        """Begin with what is in another part, whose owner may come back and write to it meanwhile."""
        note = _content(folder)
        copy, copied = self._begin()
        try:
            with open(os.dup(descriptor), "rb") as old, open(os.dup(copied), "wb") as new:
                shutil.copyfileobj(old, new)
            # Otherwise its owner has begun again, and the bytes may be those of two objects.
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
                # Another process took it for one that was left behind, as it was empty; or somebody removed the state.
                self._outer.close()
                self._outer = local.Folder(self._root, local.STATE_FOLDER, FOLDER, make=True)
                continue
            # Another process may have found it before it was locked.
            if locks.try_lock(descriptor) is not False and locks.is_at(descriptor, folder.at(_DATA), folder.descriptor):
                return folder, descriptor
            os.close(descriptor)

    def close(self) -> None:
        """Close it; what arrived is kept for another run, if that can resume it."""
        if self._done:
            return
        if self._etag is None:
            self.discard()
            return
        self._done = True
        # It is closed where giving it its final name failed on Windows.
        if not self._file.closed:
            with contextlib.suppress(OSError):
                # By hand, because a child that was forked meanwhile holds the lock open too.
                locks.unlock(self._file.fileno())
        self._file.close()
        self._folder.close()
        self._outer.close()

    @property
    def path(self) -> Path:
        """Where the bytes are until :meth:`commit`."""
        return self._folder.path / _DATA

    # --- As the transport sees it ----------------------------------------------------------------------------

    def headers(self) -> Mapping[str, str]:
        """Return the headers that request the rest, provided that it belongs to the same object."""
        if self._etag is None or self._size == 0:
            return {}
        return {"Range": f"bytes={self._size}-", "If-Range": self._etag}

    def position(self) -> int:
        """Return how many bytes a next attempt need not fetch again."""
        return self._size if self._etag is not None else 0

    # --- Receiving -------------------------------------------------------------------------------------------

    def receive(self, stream: ObjectStream) -> None:
        """Save what the storage sends: the rest, or all from the start; refuse any other part."""
        text = stream.headers.get("Content-Range")
        span = _span(text)
        plain = stream.is_plain
        if span is None and (text is not None or stream.status_code == 206):
            raise self._refused("a part without a valid Content-Range")
        if span is not None and not (plain and self._fits(span, stream.etag)):
            raise self._refused("a part of another object, or another part of it")
        first = span.first if span is not None else 0
        if first == 0:
            self.restart()
            total = span.total if span is not None else stream.length
            self.media_type = media_type(stream)
            self._write_note(_strong(stream.etag) if plain else None, total if plain else None)
            if self._reporter is not None and self._reported is not None and self._announced != self.total:
                # Begins again: the object has another size.
                self._reporter.finish()
                self._reported = None
        self._cut(first)
        for chunk in stream.chunks(MAX_BYTES):
            self._write(chunk)
        if span is not None and self._size != span.last + 1:
            raise self._refused("more or fewer bytes than its range has")
        if span is not None and self._size != self.total:
            # Where the total is not known, the storage will refuse to send what comes after the last byte.
            raise IncompleteDownloadError(f"The storage sent {self._size} of {self.total or 'unknown'} bytes.")

    def _fits(self, span: _Span, etag: str | None) -> bool:
        """Return whether a part begins within the bytes on disk, and belongs to the same object."""
        if span.first > self._size:
            return False
        if span.first == 0:
            # The start of any object is accepted: what is there is discarded.
            return True
        known = self.total is None or span.total is None or self.total == span.total
        return known and (etag is None or etag == self._etag)

    def _refused(self, what: str) -> IncompleteDownloadError:
        self.restart()
        return IncompleteDownloadError(f"The storage sent {what}; the object is fetched from its start.")

    def is_complete(self, refusal: APIError) -> bool:
        """Return whether a status 416 means that nothing was left to send."""
        if refusal.status_code != 416 or not self.position():
            return False
        received = refusal.response.headers.get("content-range", "") if refusal.response else ""
        return received == f"bytes */{self._size}" and self.total in (None, self._size)

    # --- The file --------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Discard what is there."""
        # The note first: a process that is killed in between must not find it beside other bytes.
        self._write_note(None, None)
        self._cut(0)

    def commit(self, path: str, *, flush: bool = True) -> local.Written:
        """Move the file to its final path in the destination.

        Args:
            flush: Whether to flush the file to the disk before, and its name after. Otherwise what is returned has a
                digest of the content, by which the state recognises the file.
        """
        digest = None
        with self._destination.errors(path):
            if flush:
                os.fsync(self._file.fileno())
            else:
                # A full disk may show only when a file is closed.
                os.close(os.dup(self._file.fileno()))
                digest = local.digest(self._file)
            if os.name == "nt":
                # An open file cannot be renamed there. Elsewhere the lock is held until the file is gone.
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
        """Save the file from the open handle: the state folder was removed."""
        with self._destination.part() as part:
            self._file.seek(0)
            while piece := self._file.read(local.READ_STEP):
                part.write(piece)
            return part.commit(path)

    def discard(self) -> None:
        """Remove what is left of it."""
        if self._done:
            return
        self._done = True
        if os.name == "nt":
            # An open file cannot be removed there. Elsewhere the lock is held until nobody can find it.
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
            # It may be a link, which would be in the way.
            _unlink(self._folder, _NOTE)
            return None, None, ""
        if not isinstance(etag, str) or not isinstance(media_type, str) or _strong(etag) is None:
            return None, None, ""
        return etag, total if isinstance(total, int) else None, media_type

    def _write_note(self, etag: str | None, total: int | None) -> None:
        """Record the tag under which the following bytes are sent; without one there is no note."""
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
    """Return the note of a part."""
    with contextlib.suppress(OSError), open(_open(folder, _NOTE, os.O_RDONLY), "rb") as file:
        return file.read(4096)
    return None


def _remove(outer: local.Folder, folder: local.Folder, descriptor: int = -1) -> int:
    """Remove the folder of a part, and close it; return the open file of it, or -1 if it had to be closed before."""
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
    """Fetch all that is missing of an object.

    Args:
        url: A signed URL of the object.
        target: Where it is collected.
        renew: Returns a new signed URL, when the storage reports that the one in use has expired; ``None`` where there
            can be none.
        look: Called with each response before its body is read; what it raises refuses it.
        plain: Whether an ``http://`` URL is allowed.
        is_essential: Whether the run needs it.

    Raises:
        CFPlatformError: If the download fails; what arrived is kept.
    """
    has_restarted = False
    # New signed URLs since bytes arrived last, and how many bytes there were then.
    renewals, reached = 0, target.position()

    def receive(stream: ObjectStream) -> None:
        if look is not None:
            look(stream)
        target.receive(stream)

    def renewed(refusal: APIError) -> str | None:
        nonlocal url, has_restarted, renewals, reached
        is_range_refused = refusal.status_code == 416 and target.position() > 0
        # Once: a storage that refuses every range and breaks off every body would be requested forever.
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
    """Return the content type that the storage sent, without parameters."""
    return stream.headers.get("Content-Type", "").partition(";")[0].strip().lower()[:100]


def _strong(etag: str | None) -> str | None:
    """Return a strong entity tag, which guarantees equal bytes; a weak one does not."""
    return etag if etag is not None and re.fullmatch(r'"[\x21\x23-\x7e]+"', etag) else None


def _span(text: str | None) -> _Span | None:
    """Read ``Content-Range``; ``None`` if it is missing or malformed."""
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", (text or "").strip(" \t"))
    if match is None:
        return None
    first, last = int(match.group(1)), int(match.group(2))
    total = None if match.group(3) == "*" else int(match.group(3))
    return _Span(first, last, total) if first <= last and (total is None or last < total) else None
