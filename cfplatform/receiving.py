"""Receiving: one document or asset on its way from the storage to its final name.

Nothing here reads or writes the state of the destination, so it runs in the process that the caller has and in any
other that sees the same folder.
"""

from __future__ import annotations

import itertools
import mmap
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from . import assets, coco, files
from .pipeline import Job
from .places import Part, Place, Stat
from .state import FinishedAsset, FinishedItem
from .transport import ObjectStream, Transport

#: Bytes that are copied at a time where a large document is rewritten.
COPY_STEP = 1024 * 1024
#: Bytes at the start and at the end of a large document by which it is proven.
ENDS = 4096


class Target(NamedTuple):
    """Where an item goes; the extension becomes known with its annotation."""

    folder: str
    stem: str
    known: FinishedItem | None = None
    asset: FinishedAsset | None = None

    def path(self, extension: str) -> str:
        """Return the path inside the destination."""
        return f"{self.folder}/{self.stem}{extension}"

    @property
    def key(self) -> str:
        """What no other item may share."""
        return files.collision_key(f"{self.folder}/{self.stem}")


class Receiver:
    """Saves what belongs to jobs whose ``target`` is a :class:`Target`.

    Args:
        calls: The transport.
        place: The destination.
        inject: Set ``info.asset_url`` in documents.
    """

    def __init__(self, calls: Transport, place: Place, *, inject: bool) -> None:
        self._calls = calls
        self._place = place
        self._inject = inject

    def document(self, job: Job[Any], stream: ObjectStream) -> FinishedItem | None:
        """Save one document: read, prove, rewrite ``info.asset_url``, rename.

        Returns:
            What there is to remember; ``None`` where the storage says that the known one is unchanged.
        """
        if stream.status_code == 304:
            return None
        item = job.item
        path = job.target.path(files.extension(job.path))
        asset_url = item.asset_url if self._inject else None
        with self._place.part(path) as part:
            head = bytearray()
            chunks = stream.chunks()
            for chunk in chunks:
                head += chunk
                if len(head) > coco.PARSE_LIMIT:
                    break
            if len(head) <= coco.PARSE_LIMIT:
                document = bytes(head)
                coco.parse(document)
                part.write(coco.set_asset_url(document, asset_url) if self._inject else document)
            elif self._inject:
                self._rewrite_large(part, itertools.chain([bytes(head)], chunks), asset_url)
            else:
                _copy_large(part, itertools.chain([bytes(head)], chunks))
            found: Stat = part.commit(path)
        return FinishedItem(path, item.revision, self._inject, stream.etag, found.st_size, found.st_mtime_ns)

    def asset(self, job: Job[Any], renew: Callable[[], str] | None, stop: threading.Event) -> FinishedAsset:
        """Save one asset; return what there is to remember."""
        target = job.target
        return assets.fetch(self._calls, self._place, job.item, target.folder, target.stem, job.asset_url, renew, stop)

    def _rewrite_large(self, part: Part, chunks: Iterable[bytes], asset_url: str | None) -> None:
        """Rewrite a document that is too large to be parsed, with no more of it in memory than a window.

        It is received aside, because where ``info.asset_url`` stands may become known only at its end.
        """
        with files.PartFile(self._place.root) as aside:
            for chunk in chunks:
                aside.write(chunk)
            with mmap.mmap(aside.fileno(), 0, access=mmap.ACCESS_READ) as document:
                coco.check_ends(document[:ENDS], document[-ENDS:])
                start, end, value = coco.asset_url_edit(document, asset_url)
                for first, last in ((0, start), (end, len(document))):
                    for offset in range(first, last, COPY_STEP):
                        part.write(document[offset : min(offset + COPY_STEP, last)])
                    if first == 0:
                        part.write(value)


def _copy_large(part: Part, chunks: Iterable[bytes]) -> None:
    """Save a document that is too large to be parsed exactly as served."""
    start = end = b""
    for chunk in chunks:
        part.write(chunk)
        start = start or chunk[:ENDS]
        end = (end + chunk[-ENDS:])[-ENDS:]
    coco.check_ends(start, end)
