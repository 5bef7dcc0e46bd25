"""Where documents come from: a downloaded folder, one file, or anything that can be iterated over."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from .. import documents
from ..destination import local
from ..exceptions import InvalidParameterError, InvalidResponseError
from ..resources import WorkItem
from .findings import Finding

#: What functions of this package read labels from; :func:`read` says what each kind means.
Source = str | os.PathLike[str] | Iterable[dict[str, Any]] | Iterable[tuple[WorkItem, dict[str, Any]]]

#: Called with each document that cannot be read.
OnError = Callable[[Finding], Any]

_SUFFIX = ".json"


@dataclass(frozen=True)
class Document:
    """One COCO document, and what is known of it from where it lies.

    Attributes:
        data: The document, parsed.
        item_id: The work item; ``None`` where nobody told.
        batch: The folder of the batch, or its id as text where the document came from a stream; ``None`` if unknown.
        path: The file; ``None`` where the document came from a stream.
        asset: The downloaded picture or video; ``None`` where there is none beside the labels.
    """

    data: dict[str, Any]
    item_id: str | None = None
    batch: str | None = None
    path: Path | None = None
    asset: Path | None = None

    def finding(self, code: str, severity: str, message: str, pointer: str = "", annotation_id: Any = None) -> Finding:
        """Return a finding about this document."""
        path = None if self.path is None else str(self.path)
        return Finding(code, severity, message, self.item_id, self.batch, path, pointer, annotation_id)


class Entry(NamedTuple):
    """Where a document of a folder lies; its fields are those of :class:`Document`."""

    item_id: str
    batch: str
    path: Path
    asset: Path | None

    def read(self) -> Document:
        """Read the document.

        Raises:
            InvalidResponseError: If the file is not one whole JSON object.
        """
        return Document(cast("dict[str, Any]", _parsed(self.path, self.item_id, self.batch, None)), *self)


def read(source: Source, *, on_error: OnError | None = None) -> Generator[Document]:
    """Iterate over the documents of a source, one in memory at a time.

    Args:
        source: One of these:

            - a folder that labels were downloaded into: ``<batch>/<work item>.json``, with the pictures in
              ``<batch>/assets``; also a folder that an export was unpacked into, and the folder of a single batch. The
              order is that of the names, so it is the same on every machine;
            - a file that holds one COCO document, which is held in memory whole;
            - an iterable of parsed documents, of (work item, document) as
              :meth:`~cfplatform.Client.iter_annotations` yields them, or of :class:`Document`.
        on_error: Called with a :class:`Finding` ("unreadable") for each file that is no COCO document, which is then
            left out; without it, the first one raises.

    Raises:
        InvalidParameterError: At the call: if the source is none of these, or the folder holds no labels.
        InvalidResponseError: While iterating: if a file is not one whole JSON object and ``on_error`` is not given.

    Example:
        >>> summary = client.download_project(destination="labels")
        >>> sum(len(document.data["annotations"]) for document in read("labels")) > 0
        True
    """
    return open_source(source).documents(on_error)


def open_source(source: Source) -> Folder | File | Stream:
    """Check a source, and return what reads it."""
    if isinstance(source, (str, os.PathLike)):
        path = local.folder_path(source, "source")
        if path.is_dir():
            return Folder(path)
        if path.is_file():
            return File(path)
        raise InvalidParameterError(f"source {str(path)!r} is neither a folder nor a file.", parameter="source")
    if isinstance(source, dict) or not isinstance(source, Iterable):
        raise InvalidParameterError(
            f"source must be a folder, a file, or an iterable of documents, not {type(source).__name__}.",
            parameter="source",
        )
    return Stream(source)


class Folder:
    """A folder of batches, or of one batch.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        # SQLite keeps what is large on the disk, so that a million names take no memory; removed with the last handle.
        self._names = sqlite3.connect("", check_same_thread=False)
        # Closed with this object, however far it was read.
        weakref.finalize(self, self._names.close)
        self._names.execute(
            "CREATE TABLE files (folder BLOB, stem BLOB, name BLOB, PRIMARY KEY (folder, stem)) WITHOUT ROWID"
        )
        self._names.execute(
            "CREATE TABLE assets (folder BLOB, stem BLOB, name BLOB, PRIMARY KEY (folder, stem)) WITHOUT ROWID"
        )
        self._names.executemany("INSERT INTO files VALUES (?, ?, ?)", self._listed(_folders_in(self.root)))
        if not self.total:
            # The folder of a single batch holds labels only itself.
            self._names.executemany("INSERT INTO files VALUES (?, ?, ?)", self._listed([""]))
        if not self.total:
            raise InvalidParameterError(
                f"{str(self.root)!r} holds no labels: none of its folders has a file that ends with {_SUFFIX}.",
                parameter="source",
            )
        folders = [os.fsdecode(row[0]) for row in self._names.execute("SELECT DISTINCT folder FROM files")]
        self._is_batch = folders == [""]
        # Of several the first by name, so that it is the same one on every machine.
        self._names.executemany(
            "INSERT INTO assets VALUES (?, ?, ?) "
            "ON CONFLICT (folder, stem) DO UPDATE SET name = min(name, excluded.name)",
            self._listed_assets(folders),
        )

    @property
    def total(self) -> int:
        """Documents of the folder."""
        count: int = self._names.execute("SELECT count(*) FROM files").fetchone()[0]
        return count

    def documents(self, on_error: OnError | None) -> Generator[Document]:
        """Yield the documents in the order of their names."""
        for entry in self.entries():
            found = _parsed(entry.path, entry.item_id, entry.batch, on_error)
            if found is not None:
                yield Document(found, *entry)

    def entries(self) -> Generator[Entry]:
        """Yield what there is, in the same order; no document is read."""
        statement = (
            "SELECT folder, stem, files.name, assets.name FROM files LEFT JOIN assets USING (folder, stem) "
            "ORDER BY folder, stem"
        )
        last, place, batch = None, self.root, ""
        for row in self._names.execute(statement):
            if row[0] != last:
                last, folder = row[0], os.fsdecode(row[0])
                place, batch = self.root / folder, folder or self.root.name
            stem, path = os.fsdecode(row[1]), place / os.fsdecode(row[2])
            asset = None if row[3] is None else place / local.ASSETS_FOLDER / os.fsdecode(row[3])
            yield Entry(stem, batch, path, asset)

    def reads(self, path: Path) -> bool:
        """Tell whether a file would be taken for labels or for a picture, if it were there."""
        folder = path.parent
        if folder.name == local.ASSETS_FOLDER and self._holds_labels(folder.parent):
            return True
        return path.suffix == _SUFFIX and self._holds_labels(folder)

    def _holds_labels(self, folder: Path) -> bool:
        # Also where this is the folder of one batch: it would not be any more, if a folder of it had labels.
        return (folder.parent == self.root and not folder.name.startswith(".")) or (
            self._is_batch and folder == self.root
        )

    def _listed(self, folders: Iterable[str]) -> Iterator[tuple[bytes, bytes, bytes]]:
        for folder in folders:
            for name in _files_in(self.root / folder):
                stem, suffix = os.path.splitext(name)
                if suffix == _SUFFIX:
                    yield os.fsencode(folder), os.fsencode(stem), os.fsencode(name)

    def _listed_assets(self, folders: Iterable[str]) -> Iterator[tuple[bytes, bytes, bytes]]:
        for folder in folders:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                for name in _files_in(self.root / folder / local.ASSETS_FOLDER):
                    stem = os.path.splitext(name)[0]
                    yield os.fsencode(folder), os.fsencode(stem), os.fsencode(name)


class File:
    """A file that holds one COCO document.

    Args:
        path: The file.
    """

    total = 1

    def __init__(self, path: Path) -> None:
        self.root = path.resolve().parent
        self._path = path.resolve()

    def reads(self, path: Path) -> bool:
        """Tell whether it is this file."""
        return path == self._path

    def documents(self, on_error: OnError | None) -> Generator[Document]:
        """Yield the one document."""
        found = _parsed(self._path, None, None, on_error)
        if found is not None:
            yield Document(found, path=self._path)


class Stream:
    """Anything that yields documents.

    Args:
        source: The iterable.
    """

    total: int | None = None
    root: Path | None = None

    def __init__(self, source: Iterable[Any]) -> None:
        self._source = source

    def reads(self, path: Path) -> bool:
        """Tell that no file is read."""
        return False

    def documents(self, on_error: OnError | None) -> Generator[Document]:
        """Yield the documents in the order of the iterable."""
        for each in self._source:
            if isinstance(each, Document):
                yield each
            elif isinstance(each, dict):
                yield Document(each)
            elif isinstance(each, tuple) and len(each) == 2 and isinstance(each[1], dict):
                item, data = each
                yield Document(data, item.id, None if item.batch_id is None else str(item.batch_id))
            else:
                raise InvalidParameterError(
                    f"source must yield documents, or pairs of a work item and a document, not {type(each).__name__}.",
                    parameter="source",
                )


def _parsed(path: Path, item_id: str | None, batch: str | None, on_error: OnError | None) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > documents.LOAD_LIMIT:
            raise InvalidResponseError(f"The document has more than {documents.LOAD_LIMIT:,} bytes.")
        return documents.parse(path.read_bytes())
    except (OSError, InvalidResponseError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else error.message
        if on_error is None:
            raise InvalidResponseError(f"{str(path)!r}: {reason}") from None
        on_error(Finding("unreadable", "error", reason, item_id, batch, str(path)))
        return None


def _folders_in(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]


def _files_in(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_file():
                yield entry.name
