"""``write_report()``: reads the labels, draws the samples, and writes the page in pieces."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .. import progress as _progress
from ..coco.documents import File, Folder, Source, open_source
from ..coco.findings import ERROR, WARNING
from ..coco.output import written_atomically
from ..coco.selecting import Selection
from ..destination import local
from ..exceptions import InvalidParameterError
from ..resources import Batch
from ..resources.base import table
from ..viz import class_colours
from .page import Page
from .survey import survey
from .thumbnails import Thumbnail, thumbnails

PathLike = str | os.PathLike[str]

#: Default and maximum number of samples in the gallery.
DEFAULT_SAMPLES, MAX_SAMPLES = 10_000, 50_000
#: The default file name, in the folder of the labels.
FILE_NAME = "report.html"


@dataclass(frozen=True)
class ReportSummary:
    """The summary of a report.

    Attributes:
        path: The page.
        size: Its size in bytes.
        documents: Number of documents.
        samples: Number of images in the gallery.
        annotations: Number of annotations.
        errors: Number of errors.
        warnings: Number of warnings.
    """

    path: Path
    size: int
    documents: int
    samples: int
    annotations: int
    errors: int
    warnings: int

    def _repr_html_(self) -> str:
        counts = [(name, f"{number:,}") for name, number in vars(self).items() if name != "path"]
        return table(type(self).__name__, [("path", self.path), *counts])


def write_report(
    source: Source,
    output: PathLike | None = None,
    *,
    images_from: PathLike | None = None,
    samples: int = DEFAULT_SAMPLES,
    batches: Iterable[Batch] | None = None,
    title: str | None = None,
    made_at: datetime | None = None,
    progress: _progress.Progress = None,
) -> ReportSummary:
    """Write an HTML page about labels, which opens in any browser, offline.

    It starts with a few annotated images, followed by totals, batches, classes, box sizes, the findings of
    :func:`cfplatform.coco.validate`, and a gallery. The page is written atomically; the same labels and arguments give
    the same bytes.

    Args:
        source: A folder downloaded with ``assets=True``, a merged dataset, or any other source of
            :func:`cfplatform.coco.read`. Sampled documents are kept in memory as JSON, except files with a single
            image.
        output: The page, a ``.html`` file. Defaults to ``report.html`` in the folder; required if the source is not a
            folder.
        images_from: The folder of the images, as for :func:`cfplatform.coco.read`.
        samples: Maximum number of images in the gallery, 0 to 50,000. If there are more images, samples are evenly
            spaced (with several images per document, there may be only half as many). The longer side of each is 640
            pixels for up to 200 images, 480 for up to 1,000, 320 for up to 3,000, else 240. 10,000 photographs take
            about 100 MB.
        batches: The batches of the project, such as ``client.get_batches()``, to show how much of each batch is
            annotated and downloaded.
        title: The heading. Defaults to the name of the folder or file.
        made_at: The creation time to show, with a time zone. Defaults to none.
        progress: ``True`` for a progress bar (extra ``progress``), a function of (done, total), or a
            :class:`~cfplatform.ProgressReporter`. Counts each document when it is read and each sample when it is
            drawn.

    Raises:
        InvalidParameterError: If the source or the output is not valid, ``samples`` is out of range, or ``made_at`` has
            no time zone.
        DownloadError: If the output cannot be written.

    Example:
        >>> from cfplatform.report import write_report
        >>> summary = client.download_project(destination="labels", assets=True)
        >>> write_report("labels", batches=client.get_batches()).path.name
        'report.html'
    """
    if not isinstance(samples, int) or not 0 <= samples <= MAX_SAMPLES:
        raise InvalidParameterError(
            f"samples must be an integer from 0 to {MAX_SAMPLES:,}, not {samples!r}.", parameter="samples"
        )
    if made_at is not None and made_at.tzinfo is None:
        raise InvalidParameterError(
            f"made_at: {made_at!r} has no time zone. Add one, such as datetime.now(timezone.utc).", parameter="made_at"
        )
    path = None if output is None else page_path(local.folder_path(output, "output"))
    opened = open_source(source, images_from)
    # A selection of a folder belongs to the folder, too.
    whole = opened.source if isinstance(opened, Selection) else opened
    if path is None:
        if not isinstance(whole, Folder):
            raise InvalidParameterError("output is required, because the source is not a folder.", parameter="output")
        path = page_path(whole.root / FILE_NAME)
    own = whole.path.name if isinstance(whole, File) else whole.root.name if isinstance(whole, Folder) else "Report"
    reporter = _progress.reporter(progress)
    on_platform = None if batches is None else list(batches)
    # The number of images in a file or a stream is unknown before it is read.
    reporter.start(opened.total + min(samples, opened.total) if isinstance(opened, Folder) else None)
    try:
        found = survey(opened, samples, reporter)
        page = Page(found, title or own, on_platform, made_at)
        with written_atomically(path) as part, open(part, "w", encoding="utf-8", newline="\n") as file:
            drawn = thumbnails(found.documents, page.order, class_colours(found.stats.categories))
            with contextlib.closing(drawn):
                file.writelines(page.pieces(_reported(drawn, reporter)))
    finally:
        reporter.finish()
    return ReportSummary(
        path=path,
        size=path.stat().st_size,
        documents=found.stats.documents,
        samples=len(found.samples),
        annotations=found.stats.annotations,
        errors=found.findings.count(ERROR),
        warnings=found.findings.count(WARNING),
    )


def _reported(drawn: Iterable[Thumbnail], reporter: _progress.ProgressReporter) -> Generator[Thumbnail]:
    for thumbnail in drawn:
        reporter.advance("drawn", len(thumbnail.text))
        yield thumbnail


def page_path(path: Path) -> Path:
    """Check the path of the page; only HTML files are replaced."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise InvalidParameterError(f"output {str(path)!r} must end with .html.", parameter="output")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "is in a folder that does not exist"
        raise InvalidParameterError(f"output {str(path)!r} {what}.", parameter="output")
    return path.resolve().parent / path.name
