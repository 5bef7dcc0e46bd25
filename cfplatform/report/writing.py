"""``write_report()``: reads the labels, draws the samples and writes the page, piece by piece."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .. import progress as _progress
from ..coco.sources import Folder
from ..coco.writing import appearing
from ..destination import local
from ..exceptions import InvalidParameterError
from ..resources import Batch
from ..viz import class_colours
from .page import Page
from .survey import colours_of, survey
from .thumbnails import thumbnails

PathLike = str | os.PathLike[str]

#: Samples of the gallery if nothing else is asked for, and at the most.
DEFAULT_SAMPLES, MAX_SAMPLES = 10_000, 50_000
#: The page in the folder of the labels.
FILE_NAME = "report.html"


@dataclass(frozen=True)
class ReportSummary:
    """What was written.

    Attributes:
        path: The page.
        size: Its bytes.
        documents: Documents that were read.
        samples: Documents that the gallery shows.
        annotations: Labels that were counted.
        errors: Findings that are errors.
        warnings: Findings that are warnings.
    """

    path: Path
    size: int
    documents: int
    samples: int
    annotations: int
    errors: int
    warnings: int


def write_report(
    source: PathLike,
    output: PathLike | None = None,
    *,
    samples: int = DEFAULT_SAMPLES,
    batches: Iterable[Batch] | None = None,
    title: str | None = None,
    made_at: datetime | None = None,
    progress: _progress.Progress = None,
) -> ReportSummary:
    """Write one HTML page about a folder of labels, which opens in any browser, without a network.

    It has totals, batches, classes, sizes of boxes, what :func:`cfplatform.coco.validate` finds, and a gallery of
    pictures with their labels. The page appears whole or not at all; the same labels and arguments give the same bytes.

    Args:
        source: The folder that labels were downloaded into, best with ``assets=True``.
        output: The page, a file that ends with ``.html``; ``report.html`` in the folder if omitted.
        samples: Pictures in the gallery, at the most; 0 for none. Where there are more documents, those shown are
            spread evenly over them. The more there are, the smaller they are: 640 pixels up to 200 of them, 480 up to
            1 000, 320 up to 3 000, else 240. So 10 000 photographs take some 100 MB.
        batches: The batches of the project, such as ``client.get_batches()``: then the page tells how much of each is
            labelled and downloaded, else only what the folder has.
        title: The heading; the name of the folder if omitted.
        made_at: The time that the page says it was made at; none if omitted.
        progress: ``True`` for a tqdm bar, a function of (done, total), or a reporter. Each document counts twice: when
            it is read, and, if it is shown, when it is drawn.

    Raises:
        InvalidParameterError: If the source is not a folder with labels, the output cannot be a file, ``samples`` is
            out of range, or ``made_at`` has no time zone.
        DownloadError: If the output cannot be written.

    Example:
        >>> from cfplatform.report import write_report
        >>> summary = client.download_project(destination="labels", assets=True)
        >>> write_report("labels", batches=client.get_batches()).path.name
        'report.html'
    """
    root = local.folder_path(source, "source")
    if not root.is_dir():
        raise InvalidParameterError(
            f"source {str(root)!r} is not a folder that labels were downloaded into.", parameter="source"
        )
    if not isinstance(samples, int) or not 0 <= samples <= MAX_SAMPLES:
        raise InvalidParameterError(
            f"samples must be a whole number from 0 to {MAX_SAMPLES:,}, not {samples!r}.", parameter="samples"
        )
    if made_at is not None and made_at.tzinfo is None:
        raise InvalidParameterError(
            f"made_at {made_at} has no time zone; pass datetime.now(timezone.utc), for example.", parameter="made_at"
        )
    path = _output(root / FILE_NAME if output is None else local.folder_path(output, "output"))
    reporter = _progress.reporter(progress)
    folder = Folder(root)
    of_platform = None if batches is None else list(batches)
    reporter.start(folder.total + min(samples, folder.total))
    try:
        found = survey(folder, samples, reporter)
        page = Page(found, title or root.resolve().name, of_platform, made_at)
        with appearing(path) as part, open(part, "x", encoding="utf-8", newline="\n") as file:
            file.write(page.head())
            drawn = thumbnails(found.samples, class_colours(colours_of(found.stats)))
            with contextlib.closing(drawn):
                for number, thumbnail in enumerate(drawn):
                    file.write(page.picture(number, thumbnail))
                    reporter.advance("drawn", len(thumbnail.text))
            file.write(page.tail())
    finally:
        reporter.finish()
    counts = {
        severity: sum(each.count for each in found.groups if each.severity == severity) for severity in _SEVERITIES
    }
    return ReportSummary(
        path=path,
        size=path.stat().st_size,
        documents=found.stats.documents,
        samples=len(found.samples),
        annotations=found.stats.annotations,
        errors=counts["error"],
        warnings=counts["warning"],
    )


_SEVERITIES = ("error", "warning")


def _output(path: Path) -> Path:
    """Check where the page is to be written; another kind of file is never replaced."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise InvalidParameterError(f"output {str(path)!r} must be a file that ends with .html.", parameter="output")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "lies in a folder that is not there"
        raise InvalidParameterError(f"output {str(path)!r} {what}.", parameter="output")
    return path.resolve().parent / path.name
