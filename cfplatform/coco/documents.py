"""Documents of a source: a downloaded folder, one file, or anything that can be iterated over."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .. import documents
from ..destination import local
from ..exceptions import InvalidParameterError, InvalidResponseError
from ..progress import ProgressReporter
from ..resources import WorkItem
from .findings import CODES, ERROR, Finding, Problem
from .values import number

if TYPE_CHECKING:
    from ..types import CocoDocument

#: A source of documents; :func:`read` describes each kind.
Source = str | os.PathLike[str] | Iterable[Mapping[str, Any]] | Iterable[tuple[WorkItem, Mapping[str, Any]]]

#: Called with each document that cannot be read.
OnError = Callable[[Finding], Any]

_SUFFIX = ".json"
#: Maximum characters of an ID in a finding.
_ID_LENGTH = 100


@dataclass(frozen=True)
class Document:
    """A COCO document and where it comes from.

    Attributes:
        data: The parsed document.
        item_id: The work item; ``None`` if unknown.
        batch: The folder of the batch, or its ID as text if the document came from a stream; ``None`` if unknown.
        path: The file; ``None`` if the document came from a stream.
        asset: The downloaded image or video; ``None`` if there is none.
    """

    data: CocoDocument
    item_id: str | None = None
    batch: str | None = None
    path: Path | None = None
    asset: Path | None = None

    if TYPE_CHECKING:
        # Any dict is taken, but read as what it should be.
        def __init__(
            self,
            data: Mapping[str, Any],
            item_id: str | None = None,
            batch: str | None = None,
            path: Path | None = None,
            asset: Path | None = None,
        ) -> None: ...

    def finding(self, code: str, severity: str, message: str, pointer: str = "", annotation_id: Any = None) -> Finding:
        """Return a finding about this document."""
        path = None if self.path is None else str(self.path)
        return Finding(code, severity, message, self.item_id, self.batch, path, pointer, annotation_id)


def finding_about(document: Document, problem: Problem) -> Finding:
    """Return the finding for a problem of a document."""
    own = problem.annotation_id
    plain = len(own) <= _ID_LENGTH if isinstance(own, str) else number(own) is not None
    severity = CODES[problem.code].severity
    return document.finding(problem.code, severity, problem.message, problem.pointer, own if plain else None)


class Entry(NamedTuple):
    """A document of a folder that is not read yet; the fields are those of :class:`Document`."""

    item_id: str
    batch: str
    path: Path
    asset: Path | None

    def read(self) -> Document:
        """Read the document; raise :class:`InvalidResponseError` if the file is not a complete JSON object."""
        return Document(cast("dict[str, Any]", _parsed(self.path, self.item_id, self.batch, None)), *self)


def read(source: Source, *, on_error: OnError | None = None) -> Generator[Document]:
    """Iterate over the documents of a source, one in memory at a time.

    Args:
        source: One of these:

            - a downloaded folder: ``<batch>/<work item>.json``, with the images in ``<batch>/assets``; also an unpacked
              export, and the folder of a single batch. Documents come in the order of their names, on every machine;
            - a file with one COCO document, which is loaded into memory;
            - an iterable of parsed documents, of (work item, document) as
              :meth:`~cfplatform.Client.iter_annotations` yields them, or of :class:`Document`.
        on_error: Called with a :class:`Finding` ("unreadable") for each file that is not a COCO document; the file is
            skipped. Without it, the first one raises.

    Raises:
        InvalidParameterError: At the call, if the source is none of these, or the folder has no labels.
        InvalidResponseError: While iterating, if a file is not a complete JSON object and ``on_error`` is not given.

    Example:
        >>> summary = client.download_project(destination="labels")
        >>> sum(len(document.data["annotations"]) for document in read("labels")) > 0
        True
    """
    return open_source(source).documents(on_error)


def open_source(source: Source) -> Opened:
    """Check a source and open it."""
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
    """A folder of batches, or of one batch."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        # SQLite keeps large tables on disk, so a million names take no memory; the file goes with the connection.
        self._names = sqlite3.connect("", check_same_thread=False)
        weakref.finalize(self, self._names.close)
        self._names.execute(
            "CREATE TABLE files (folder BLOB, stem BLOB, name BLOB, asset BLOB, PRIMARY KEY (folder, stem)) "
            "WITHOUT ROWID"
        )
        self._add_files(_folders_in(self.root))
        if not self.total:
            # The folder of a single batch.
            self._add_files([""])
        if not self.total:
            raise InvalidParameterError(
                f"{str(self.root)!r} holds no labels: none of its folders has a file that ends with {_SUFFIX}.",
                parameter="source",
            )
        folders = [os.fsdecode(row[0]) for row in self._names.execute("SELECT DISTINCT folder FROM files")]
        self._is_batch = folders == [""]
        # Of several assets the first by name, on every machine.
        self._names.executemany(
            "UPDATE files SET asset = ? WHERE folder = ? AND stem = ? AND (asset IS NULL OR asset > ?)",
            self._assets(folders),
        )

    @property
    def total(self) -> int:
        """The number of documents."""
        count: int = self._names.execute("SELECT count(*) FROM files").fetchone()[0]
        return count

    def documents(self, on_error: OnError | None) -> Generator[Document]:
        """Yield the documents in the order of their names."""
        for entry in self.entries():
            found = _parsed(entry.path, entry.item_id, entry.batch, on_error)
            if found is not None:
                yield Document(found, *entry)

    def entries(self) -> Generator[Entry]:
        """Yield the documents in the same order without reading them."""
        last, parent, batch = None, self.root, ""
        for row in self._names.execute("SELECT folder, stem, name, asset FROM files ORDER BY folder, stem"):
            if row[0] != last:
                last, folder = row[0], os.fsdecode(row[0])
                parent, batch = self.root / folder, folder or self.root.name
            stem, path = os.fsdecode(row[1]), parent / os.fsdecode(row[2])
            asset = None if row[3] is None else parent / local.ASSETS_FOLDER / os.fsdecode(row[3])
            yield Entry(stem, batch, path, asset)

    def reads(self, path: Path) -> bool:
        """Return whether a file at this path would be read as labels or as an asset."""
        folder = path.parent
        if folder.name == local.ASSETS_FOLDER and self._holds_labels(folder.parent):
            return True
        return path.suffix == _SUFFIX and self._holds_labels(folder)

    def _holds_labels(self, folder: Path) -> bool:
        # In the folder of one batch too: with labels in a folder below, it would be a folder of batches next time.
        return (folder.parent == self.root and not folder.name.startswith(".")) or (
            self._is_batch and folder == self.root
        )

    def _add_files(self, folders: Iterable[str]) -> None:
        found = (
            (os.fsencode(folder), os.fsencode(stem), os.fsencode(name))
            for folder in folders
            for name in _files_in(self.root / folder)
            for stem, suffix in [os.path.splitext(name)]
            if suffix == _SUFFIX
        )
        self._names.executemany("INSERT INTO files (folder, stem, name) VALUES (?, ?, ?)", found)

    def _assets(self, folders: Iterable[str]) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
        for folder in folders:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                for name in _files_in(self.root / folder / local.ASSETS_FOLDER):
                    stem, asset = os.path.splitext(name)[0], os.fsencode(name)
                    yield asset, os.fsencode(folder), os.fsencode(stem), asset


class File:
    """A file with one COCO document."""

    total = 1

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()

    def reads(self, path: Path) -> bool:
        """Return whether this is the file."""
        return path == self._path

    def documents(self, on_error: OnError | None) -> Generator[Document]:
        """Yield the one document."""
        found = _parsed(self._path, None, None, on_error)
        if found is not None:
            yield Document(found, path=self._path)


class Stream:
    """An iterable of documents."""

    total: int | None = None

    def __init__(self, source: Iterable[Any]) -> None:
        self._source = source

    def reads(self, path: Path) -> bool:
        """Return ``False``: no file is read."""
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


#: A source that was opened.
Opened = Folder | File | Stream


def _parsed(path: Path, item_id: str | None, batch: str | None, on_error: OnError | None) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > documents.LOAD_LIMIT:
            raise InvalidResponseError(f"The document has more than {documents.LOAD_LIMIT:,} bytes.")
        return documents.parse(path.read_bytes())
    except (OSError, InvalidResponseError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else error.message
        if on_error is None:
            raise InvalidResponseError(f"{str(path)!r}: {reason}") from None
        on_error(Finding("unreadable", ERROR, reason, item_id, batch, str(path)))
        return None


def _folders_in(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]


def _files_in(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_file():
                yield entry.name


def reported(opened: Opened, bar: ProgressReporter, on_error: OnError | None) -> Generator[Document]:
    """Yield the documents of a source, and report the progress.

    Each document counts when the next one is requested, with the size of its file; an unreadable file counts as failed.
    """

    def failed(finding: Finding) -> None:
        bar.advance("failed", 0)
        if on_error is not None:
            on_error(finding)

    bar.start(opened.total)
    try:
        for document in opened.documents(failed if on_error is not None else None):
            yield document
            bar.advance("read", _size(document))
    finally:
        bar.finish()


def _size(document: Document) -> int:
    # A stream may name files that do not exist here, and a file may be removed meanwhile.
    with contextlib.suppress(OSError):
        return document.path.stat().st_size if document.path else 0
    return 0
