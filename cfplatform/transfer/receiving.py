"""Receiving: one document or asset on its way from the storage to its final name.

Nothing here reads or writes the state of the destination, so it runs in the process that the caller has and in any
other that sees the same folder.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from .. import documents, naming
from ..destination import local
from ..destination.places import Part, Place, Stat
from ..destination.state import FinishedAsset, FinishedItem
from ..http import ObjectStream, Run, Transport
from . import assets, large_documents
from .job import Job

#: Bytes at the beginning and at the end of a large document that are looked at.
END = 4096


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
        return naming.collision_key(f"{self.folder}/{self.stem}")


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

    def release(self) -> None:
        """Let go of what is held open of the destination; a thread that is late opens it for itself."""
        self._place.release()

    def document(self, job: Job[Any], stream: ObjectStream) -> FinishedItem | None:
        """Save one document: read, prove, rewrite ``info.asset_url``, rename.

        Returns:
            What there is to remember; ``None`` where the storage says that the known one is unchanged.
        """
        if stream.status_code == 304:
            return None
        item = job.item
        path = job.target.path(naming.extension(job.path))
        asset_url = item.asset_url if self._inject else None
        with self._place.part(path) as part:
            chunks = stream.chunks()
            head: list[bytes] = []
            size = 0
            for chunk in chunks:
                head.append(chunk)
                size += len(chunk)
                if size > documents.PARSE_LIMIT:
                    found = self._save_large(part, path, head, chunks, asset_url)
                    break
            else:
                document = b"".join(head)
                if self._inject:
                    document = documents.set_asset_url(document, asset_url)
                else:
                    documents.parse(document)
                part.write(document)
                found = part.commit(path)
        return FinishedItem(path, item.revision, self._inject, stream.etag, found.st_size, found.st_mtime_ns)

    def asset(self, job: Job[Any], renew: Callable[[], str] | None, run: Run) -> FinishedAsset:
        """Save one asset; return what there is to remember."""
        target = job.target
        return assets.fetch(
            self._calls, self._place, job.project_id, job.item, target.folder, target.stem, job.asset_url, renew, run
        )

    def _save_large(
        self, part: Part, path: str, head: list[bytes], chunks: Iterator[bytes], asset_url: str | None
    ) -> Stat:
        """Save a document that is too large to be parsed, as it arrives."""
        rewriter = large_documents.Rewriter(head, asset_url) if self._inject else None
        ends = _Ends()
        pieces = ends.seen(itertools.chain(_taken(head), chunks))
        if rewriter is None:
            _write(part, pieces)
            ends.check()
            return part.commit(path)
        # Where what was written may have to be corrected it must be read back, which no object can.
        with contextlib.ExitStack() as stack:
            first = part if isinstance(part, local.PartFile) else stack.enter_context(local.PartFile(self._place.root))
            _write(first, rewriter.rewritten(pieces))
            ends.check()
            corrected = rewriter.corrected(first.read_back)
            if corrected is None and first is part:
                return part.commit(path)
            target = stack.enter_context(self._place.part(path))
            _write(target, corrected or first.read_back())
            return target.commit(path)


class _Ends:
    """The first and the last bytes of a document that passes by."""

    def __init__(self) -> None:
        self._head = self._tail = b""

    def seen(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._head += piece[: END - len(self._head)]
            self._tail = (self._tail + piece[-END:])[-END:]
            yield piece

    def check(self) -> None:
        """Raise where they are not those of an object."""
        documents.check_ends(self._head, self._tail)


def _taken(pieces: list[bytes]) -> Iterator[bytes]:
    """Yield pieces so that nothing holds them any longer."""
    pieces.reverse()
    while pieces:
        yield pieces.pop()


def _write(part: Part, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        part.write(piece)
