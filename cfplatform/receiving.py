"""Receiving: one document or asset on its way from the storage to its final name.

Nothing here reads or writes the state of the destination, so it runs in the process that the caller has and in any
other that sees the same folder.
"""

from __future__ import annotations

import itertools
import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from . import assets, coco, files
from .pipeline import Job
from .state import FinishedAsset, FinishedItem
from .transport import ObjectStream, Transport

#: Bytes that are copied at a time where a large document is rewritten.
COPY_STEP = 1024 * 1024


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
        root: The destination, prepared.
        inject: Set ``info.asset_url`` in documents.
    """

    def __init__(self, calls: Transport, root: Path, *, inject: bool) -> None:
        self._calls = calls
        self._root = root
        self._held: files.Held | None = files.Held(root)
        self._inject = inject

    def release(self) -> None:
        """Let go of the destination's folders; a thread that is late opens them for itself."""
        self._held = None

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
        with files.PartFile(self._held or self._root) as part:
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
                found = part.commit(path)
            else:
                for chunk in itertools.chain([bytes(head)], chunks):
                    part.write(chunk)
                found = self._finish_large(part, path, asset_url)
        return FinishedItem(path, item.revision, self._inject, stream.etag, found.st_size, found.st_mtime_ns)

    def asset(self, job: Job[Any], renew: Callable[[], str] | None, stop: threading.Event) -> FinishedAsset:
        """Save one asset; return what there is to remember."""
        target = job.target
        return assets.fetch(self._calls, self._root, job.item, target.folder, target.stem, job.asset_url, renew, stop)

    def _finish_large(self, part: files.PartFile, path: str, asset_url: str | None) -> os.stat_result:
        """Finish a document that is too large to be parsed, with no more of it in memory than a window."""
        with mmap.mmap(part.fileno(), 0, access=mmap.ACCESS_READ) as document:
            coco.check_ends(document[:4096], document[-4096:])
            if self._inject:
                start, end, value = coco.asset_url_edit(document, asset_url)
                with files.PartFile(self._held or self._root) as rewritten:
                    for first, last in ((0, start), (end, len(document))):
                        for offset in range(first, last, COPY_STEP):
                            rewritten.write(document[offset : min(offset + COPY_STEP, last)])
                        if first == 0:
                            rewritten.write(value)
                    return rewritten.commit(path)
        return part.commit(path)
