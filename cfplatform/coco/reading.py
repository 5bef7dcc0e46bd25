"""Documents of a source, with a report on how far the reading is."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from ..progress import Progress, ProgressReporter, reporter
from .findings import Finding
from .sources import Document, File, Folder, OnError, Source, Stream, open_source


def reported(source: Source, progress: Progress, on_error: OnError | None) -> Generator[Document]:
    """Check the arguments, and return what iterates over the documents and reports on each.

    Each document counts once the next one is asked for, with the bytes of its file; a file that cannot be read counts
    as failed.
    """
    return _reported(open_source(source), reporter(progress), on_error)


def _reported(opened: Folder | File | Stream, shown: ProgressReporter, on_error: OnError | None) -> Generator[Document]:
    def failed(finding: Finding) -> None:
        shown.advance("failed", 0)
        if on_error is not None:
            on_error(finding)

    shown.start(opened.total)
    try:
        for document in opened.documents(failed if on_error is not None else None):
            yield document
            shown.advance("read", _size(document))
    finally:
        shown.finish()


def _size(document: Document) -> int:
    # A stream may name files that are not here, and somebody may take one away.
    with contextlib.suppress(OSError):
        return document.path.stat().st_size if document.path else 0
    return 0
