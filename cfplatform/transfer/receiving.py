"""Save one document or asset from the storage to its final path in the destination.

This module does not use the state of the destination, so it also runs in other processes with access to the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import mimetypes
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .. import documents, naming
from ..destination import local
from ..destination.local import Destination, PartFile, Written
from ..destination.state import FinishedAsset, FinishedItem
from ..exceptions import InvalidResponseError
from ..http import ObjectStream, Run, Transport
from ..resources import WorkItem
from . import large_documents, resumable
from .steps import Job

#: Bytes at the start and end of a large document that are checked.
END = 4096
#: The default extension of an asset. Every asset gets one: otherwise an item ``a.png`` could have the same file name as
#: the PNG of an item ``a``.
DEFAULT_EXTENSION = ".bin"


class Target(NamedTuple):
    """The paths of the files of an item; extensions are added later."""

    folder: str
    stem: str
    known: FinishedItem | None = None
    asset: FinishedAsset | None = None

    def path(self, extension: str) -> str:
        """Return the path of the document inside the destination."""
        return f"{self.folder}/{self.stem}{extension}"

    def asset_path(self, extension: str) -> str:
        """Return the path of the asset inside the destination."""
        return f"{self.folder}/{local.ASSETS_FOLDER}/{self.stem}{extension}"

    @property
    def key(self) -> str:
        """The path that no other item may share."""
        return naming.collision_key(self.path(""))


class Receiver:
    """Saves the files of jobs whose ``target`` is a :class:`Target`.

    ``keep`` is called in the worker thread with the job and the saved file.
    """

    def __init__(
        self,
        calls: Transport,
        destination: Destination,
        keep: Callable[[Job, FinishedItem | FinishedAsset], object],
        *,
        inject: bool,
    ) -> None:
        self._calls = calls
        self._destination = destination
        self._keep = keep
        self._inject = inject

    def document(self, job: Job, stream: ObjectStream) -> None:
        """Save one document, unless the storage responds that it is unchanged."""
        if stream.status_code == 304:
            return
        item = job.item
        path = job.target.path(naming.extension(job.path))
        asset_url = item.asset_url if self._inject else None
        with self._destination.part() as part:
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
        self._keep(job, FinishedItem(path, item.revision, self._inject, stream.etag, *found))

    def _save_large(
        self, part: PartFile, path: str, head: list[bytes], chunks: Iterator[bytes], asset_url: str | None
    ) -> Written:
        """Save a document that is too large to parse, while it is being received."""
        if not self._inject:
            _write(part, itertools.chain(_taken(head), chunks))
            return part.commit(path)
        rewriter = large_documents.Rewriter(head, asset_url)
        _write(part, rewriter.rewritten(_taken(head), chunks))
        corrected = rewriter.corrected(part.read_back)
        if corrected is None:
            return part.commit(path)
        with self._destination.part() as second:
            _write(second, corrected)
            return second.commit(path)

    def asset(self, job: Job, renew: Callable[[], str] | None, run: Run) -> None:
        """Save one asset. ``renew`` returns a new signed URL; ``None`` if the URL is not from the platform."""
        target: Target = job.target
        self._destination.ensure_folder(target.folder, local.ASSETS_FOLDER)

        def look(stream: ObjectStream) -> None:
            check_asset(job.asset_url, stream)

        key = f"asset {job.project_id} {job.item.id}"
        with contextlib.closing(resumable.Resumable(self._destination, key)) as part:
            resumable.fetch(self._calls, job.asset_url, part, renew, look=look, plain=renew is None, run=run)
            path = target.asset_path(_extension(job.item.asset_url or "", part.media_type))
            found = part.commit(path, flush=False)
        self._keep(job, FinishedAsset(path, asset_source(job.item), *found))


def check_asset(url: str, stream: ObjectStream) -> None:
    """Refuse an HTML page instead of an asset; read the bytes as stored."""
    is_page = resumable.media_type(stream) == "text/html"
    if is_page and not url.partition("?")[0].endswith((".html", ".htm")):
        raise InvalidResponseError("The storage sent an HTML page instead of the asset.")
    stream.keep_encoding()


def asset_source(item: WorkItem) -> str:
    """Return a hash that identifies the asset of an item; the URL itself may contain a signature."""
    return hashlib.blake2b((item.asset_url or "").encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _extension(asset_url: str, media_type: str) -> str:
    """Return the extension in the URL of an asset, or of its media type."""
    path = asset_url.partition("?")[0].partition("#")[0]
    return naming.extension(path, "") or mimetypes.guess_extension(media_type) or DEFAULT_EXTENSION


def _taken(pieces: list[bytes]) -> Iterator[bytes]:
    """Yield chunks and drop the reference to each."""
    pieces.reverse()
    while pieces:
        yield pieces.pop()


def _write(part: PartFile, pieces: Iterable[bytes]) -> None:
    """Write the chunks of a document; raise at the end if it does not start and end like a JSON object."""
    head = tail = b""
    for piece in pieces:
        head += piece[: END - len(head)]
        tail = (tail + piece[-END:])[-END:]
        part.write(piece)
    documents.check_ends(head, tail)
