"""The images of a source as a lazy sequence of documents."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from ..destination.reading import read_metadata
from ..exceptions import InvalidParameterError
from .documents import Document, Entry, Folder, PathLike, Source, Stream, open_source
from .values import records

#: Sections that :meth:`Document.by_image` repeats for each image.
_SHARED = ("categories", "licenses")


class Samples(Sequence[Document]):
    """A sequence of documents with one image each, stored as two blocks of bytes.

    A file with one image is read on access; documents of images that share a file, or that came from a stream, are
    stored as JSON. A million strings would be copied into each forked worker of a loader, because their reference
    counts change, and pickled for each spawned one.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._start = "" if root is None else f"{root}{os.sep}"
        self._rows = bytearray()
        self._ends = array("Q", [0])
        # JSON that the images of one document share; rows have its position.
        self._shared: list[str] = []
        self._last: dict[str, Any] = {}

    def add(self, document: Document) -> None:
        """Add a document made by :meth:`Document.by_image`, with its content.

        Raises:
            InvalidParameterError: If it contains values that are not JSON, or is nested too deeply.
        """
        shared = {name: value for name, value in document.data.items() if name in _SHARED}
        own = {name: value for name, value in document.data.items() if name not in _SHARED}
        try:
            data = json.dumps(own, separators=(",", ":"))
            if not self._shared or not _are_same(shared, self._last):
                text = json.dumps(shared, separators=(",", ":"))
                if self._shared[-1:] != [text]:
                    self._shared.append(text)
                self._last = shared
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidParameterError(f"A document of the source is not JSON: {error}", parameter="source") from None
        self._add(document, f"{len(self._shared) - 1}\0{data}")

    def halve(self) -> None:
        """Keep every second image, starting with the first."""
        kept = bytearray()
        ends = array("Q", [0])
        for number in range(0, len(self), 2):
            kept += self._rows[self._ends[number] : self._ends[number + 1]]
            ends.append(len(kept))
        self._rows, self._ends = kept, ends

    def add_file(self, entry: Entry | Document) -> None:
        """Add a file that has one image."""
        self._add(entry, "")

    def _add(self, of: Entry | Document, data: str) -> None:
        paths = ("" if each is None else self._short(str(each)) for each in (of.path, of.asset, of.images_from))
        # JSON has no null byte, unless the state is corrupt.
        known = of.metadata if isinstance(of, Entry) else json.dumps({**of.metadata}, default=str)
        metadata = "" if known is None or known == "{}" else known.replace("\0", "")
        row = "\0".join((of.item_id or "", of.batch or "", *paths, metadata, data))
        self._rows += row.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._rows))

    def _short(self, path: str) -> str:
        return path.removeprefix(self._start)

    def _long(self, path: str) -> Path | None:
        # An absolute path is unchanged.
        return Path(self._start, path) if path else None

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        """Return the document of an image; read again if the image has its own file.

        Raises:
            IndexError: If the index is out of range.
            InvalidResponseError: If the file is no longer a complete JSON object.
        """
        if isinstance(index, slice):
            return [self[each] for each in range(len(self))[index]]
        entry, kept = self._row(index)
        if not kept:
            return entry.read()
        position, _, own = kept.partition("\0")
        data = {**json.loads(own), **json.loads(self._shared[int(position)])}
        return Document(data, entry.item_id, entry.batch or None, *entry[2:-1], read_metadata(entry.metadata))

    @property
    def content(self) -> bytes:
        """The stored bytes of all images; they change with any path or stored document."""
        return bytes(self._rows) + "".join(self._shared).encode()

    def entry(self, index: int) -> Entry:
        """Return the entry of a document, without reading it."""
        return self._row(index)[0]

    def entries(self) -> Iterator[Entry]:
        """Yield the entries of the documents, without reading them."""
        return map(self.entry, range(len(self)))

    def _row(self, index: int) -> tuple[Entry, str]:
        number = range(len(self))[index]
        row = bytes(self._rows[self._ends[number] : self._ends[number + 1]]).decode("utf-8", "surrogatepass")
        item_id, batch, path, asset, images_from, metadata, data = row.split("\0", 6)
        paths: Any = map(self._long, (path, asset, images_from))
        return Entry(item_id or None, batch, *paths)._replace(metadata=metadata or None), data


def _are_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether these are identical objects, which is fast to check."""
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)


def samples_of(source: Source, *, images_from: PathLike | None = None, skip_missing: bool = False) -> Samples:
    """Return the images of a source that have a file.

    Files of a download are read later; other files are read now, since they may have any number of images.

    Args:
        source: A folder, a file or an iterable; see :func:`~cfplatform.coco.read`.
        images_from: The folder of the images, as for :func:`~cfplatform.coco.read`.
        skip_missing: Skip images without a file instead of raising.

    Raises:
        InvalidParameterError: If the source is not valid, or images are missing and ``skip_missing`` is false.
        InvalidResponseError: If a file is not a complete JSON object.
    """
    opened = open_source(source, images_from)
    found, missing = Samples(opened.root if isinstance(opened, Folder) else None), 0
    for each in opened.entries() if isinstance(opened, Folder) else opened.documents(None, streamed=True):
        if isinstance(each, Entry) and each.asset is not None:
            found.add_file(each)
            continue
        document = each.read(streamed=True) if isinstance(each, Entry) else each
        # A stream may yield other content than the file has.
        is_own_file = not isinstance(opened, Stream) and len(records(document.data, "images")) == 1
        for image in document.by_image():
            if image.asset is None:
                missing += 1
            elif is_own_file:
                found.add_file(image)
            else:
                found.add(image)
    if missing and not skip_missing:
        raise InvalidParameterError(
            f"{missing:,} of {len(found) + missing:,} images have no file. Download with assets=True, pass their "
            "folder as images_from, or pass skip_missing=True."
        )
    return found
