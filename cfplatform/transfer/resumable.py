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
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from .. import naming, progress
from ..destination import local
from ..exceptions import APIError, IncompleteDownloadError
from ..http import SINGLE, ObjectStream, Run, Transport
from .steps import should_renew

#: Folder inside the state folder that holds them.
FOLDER = "resume"
_DATA, _NOTE = "data", "note.json"
#: Bytes of one object, at the most: 1 TiB. No disk has that; it guards against a server that sends nonsense.
MAX_BYTES = 1 << 40


class _Span(NamedTuple):
    """What a ``Content-Range`` says: first and last byte, and the total size where it is known."""

    first: int
    last: int
    total: int | None


class Resumable:
    """The file that an object is collected in.

    It has its own folder, which belongs to one process at a time: a process that resumes what another one left behind
    renames the folder, which succeeds for one of them only. So two processes that fetch the same object never write to
    one file, and no lock is needed.

    Args:
        root: The destination, prepared.
        key: What names the object, in this run and in a later one.
        reporter: Receives the total size and that of each piece that arrives; a negative one where bytes are discarded.
    """

    def __init__(self, root: Path, key: str, reporter: progress.ProgressReporter | None = None) -> None:
        self._root = root
        self._reporter = reporter
        self._reported: int | None = None
        self._announced: int | None = None
        self._size = 0
        self._done = False
        name = f"{naming.safe_name(key)}~{naming.digest(key)}"
        self._free, self._own = f"{name}.free", f"{name}.{local.unique_name()}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(root / local.STATE_FOLDER / FOLDER, 0o700)
        self._outer = local.Folder(root, local.STATE_FOLDER, FOLDER)
        self._claim(name)
        self._folder = local.Folder(self._outer, self._own)
        self._drop_foreign()
        self._file = os.fdopen(self._open(_DATA, os.O_RDWR | os.O_CREAT), "r+b", buffering=0)
        #: What the storage said that the object is, with the response that brought its first byte.
        self.media_type: str
        self._etag, self.total, self.media_type = self._read_note()
        if self._etag is None:
            self.restart()
        else:
            self._size = os.fstat(self._file.fileno()).st_size

    def _claim(self, name: str) -> None:
        """Resume what an earlier run left, or begin again; of several that were left, one is enough."""
        outer = self._root / local.STATE_FOLDER / FOLDER
        with os.scandir(outer) as entries:
            # A link instead of a folder is none of ours.
            found = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        dead = [each for each in found if each.startswith(f"{name}.") and local.is_left_behind(each[len(name) + 1 :])]
        for each in [self._free] * (self._free in found) + dead:
            with contextlib.suppress(OSError):
                self._rename(each, self._own)
                break
        else:
            os.mkdir(self._outer.at(self._own), 0o700, dir_fd=self._outer.descriptor)
        for each in dead:
            # Renamed first, so that nobody resumes it while it is removed; fails for the one that is resumed here.
            with contextlib.suppress(OSError):
                self._rename(each, f"{self._own}.old")
                shutil.rmtree(outer / f"{self._own}.old", ignore_errors=True)

    def _rename(self, old: str, new: str) -> None:
        outer = self._outer.descriptor
        os.rename(self._outer.at(old), self._outer.at(new), src_dir_fd=outer, dst_dir_fd=outer)

    def close(self) -> None:
        """Close it; what arrived is kept for another run, if that can resume it."""
        if self._done:
            return
        if self._etag is None:
            self.discard()
            return
        self._done = True
        self._file.close()
        self._folder.close()
        with contextlib.suppress(OSError):
            # Fails where another process left the same object: that one is as good.
            self._rename(self._own, self._free)
        self._outer.close()

    @property
    def path(self) -> Path:
        """Where the bytes are until :meth:`commit`."""
        return self._root / local.STATE_FOLDER / FOLDER / self._own / _DATA

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
            raise self._refused("a part that does not say which one it is")
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
        """Tell whether a part begins where there are bytes already, and belongs to the same object."""
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
        """Tell whether a status 416 means that there was nothing left to send."""
        if refusal.status_code != 416 or not self.position():
            return False
        said = refusal.response.headers.get("content-range", "") if refusal.response else ""
        return said == f"bytes */{self._size}" and self.total in (None, self._size)

    # --- The file --------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Discard what is there."""
        # The note first: a process that is killed in between must not find it beside other bytes.
        self._write_note(None, None)
        self._cut(0)

    def commit(self, path: str, *, flush: bool = True) -> local.Written:
        """Move the file to its final path in the destination; flush it to disk before, its name after."""
        if flush:
            os.fsync(self._file.fileno())
        found = os.fstat(self._file.fileno())
        self._file.close()
        local.move(self._folder, _DATA, self._root, path)
        if flush:
            with local.Folder(self._root, *path.split("/")[:-1]) as folder:
                if folder.descriptor is not None:
                    os.fsync(folder.descriptor)
        self.discard()
        return local.Written(found.st_size, found.st_mtime_ns)

    def discard(self) -> None:
        """Remove what is left of it."""
        if self._done:
            return
        self._done = True
        self._file.close()
        self._unlink(_NOTE)
        self._unlink(_DATA)
        self._folder.close()
        with contextlib.suppress(OSError):
            os.rmdir(self._outer.at(self._own), dir_fd=self._outer.descriptor)
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
                self._reported, self._announced = 0, self.total
                self._reporter.start(self.total)
            self._reporter.advance("downloaded", self._size - self._reported)
            self._reported = self._size

    def _open(self, name: str, flags: int) -> int:
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        return os.open(self._folder.at(name), flags, 0o666, dir_fd=self._folder.descriptor)

    def _drop_foreign(self) -> None:
        """Remove what is not a file: a link would lead elsewhere, and a pipe would block."""
        for name in (_NOTE, _DATA):
            with contextlib.suppress(FileNotFoundError):
                path, descriptor = self._folder.at(name), self._folder.descriptor
                if not stat.S_ISREG(os.stat(path, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    self._unlink(name)

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._folder.at(name), dir_fd=self._folder.descriptor)

    def _read_note(self) -> tuple[str | None, int | None, str]:
        try:
            with os.fdopen(self._open(_NOTE, os.O_RDONLY), "rb") as file:
                note = json.loads(file.read(4096))
            etag, total, media_type = note["etag"], note["total"], note["type"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None, None, ""
        if not isinstance(etag, str) or not isinstance(media_type, str) or _strong(etag) is None:
            return None, None, ""
        return etag, total if isinstance(total, int) else None, media_type

    def _write_note(self, etag: str | None, total: int | None) -> None:
        """Remember under which tag the bytes that follow are sent; without one there is no note."""
        self._etag, self.total = etag, total
        if etag is None:
            self._unlink(_NOTE)
            return
        with os.fdopen(self._open(_NOTE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(json.dumps({"etag": etag, "total": total, "type": self.media_type}).encode())


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
        renew: Returns a new signed URL, when the storage says that the one in use has expired; ``None`` where there
            can be none.
        look: Called with each response before its body is read; what it raises refuses it.
        plain: Whether an ``http://`` address will do.
        is_essential: Whether the run needs it.

    Raises:
        CFPlatformError: If it cannot be had; what arrived is kept.
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
    """Return what the storage says that an object is, without parameters."""
    return stream.headers.get("Content-Type", "").partition(";")[0].strip().lower()[:100]


def _strong(etag: str | None) -> str | None:
    """Return an entity tag that promises equal bytes; a weak one does not."""
    return etag if etag is not None and re.fullmatch(r'"[\x21\x23-\x7e]+"', etag) else None


def _span(text: str | None) -> _Span | None:
    """Read ``Content-Range``; ``None`` where there is none that can be read."""
    match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", (text or "").strip(" \t"))
    if match is None:
        return None
    first, last = int(match.group(1)), int(match.group(2))
    total = None if match.group(3) == "*" else int(match.group(3))
    return _Span(first, last, total) if first <= last and (total is None or last < total) else None
