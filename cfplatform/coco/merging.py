"""Joins documents into one dataset, or into several, in one pass and flat memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from pathlib import Path

from ..destination import local
from ..exceptions import InvalidParameterError
from ..progress import Progress, ProgressReporter, reporter
from .findings import Finding
from .joining import Choose, Joiner
from .sources import File, Folder, OnError, Source, Stream, open_source
from .summaries import Account, MergeSummary
from .writing import DatasetFile, prepare_folder


def merge(
    source: Source, output: str | os.PathLike[str], *, progress: Progress = None, on_error: OnError | None = None
) -> MergeSummary:
    """Join all documents of a source into one COCO dataset.

    Images and annotations get new ids, counted from 1 in the order of the source. Categories are those that have the
    same ``name`` and ``supercategory``; licenses those with the same ``name`` and ``url``. Of ``info`` and of members
    that COCO does not know those are kept on which all documents agree. Every other member of an image or annotation
    stays as it is. An image gets, where they are known, ``work_item_id``, ``batch``, ``asset_url``, and ``asset_path``,
    the local picture as seen from the folder of the output. That is its ``file_name`` too, so that loaders whose root
    is that folder find it; what the document called it is in ``original_file_name``. Without a local picture
    ``file_name`` stays as it was, unless another image has it or it leads out of the folder.

    Documents are read one after the other, and memory does not grow with their number. The same source gives the same
    bytes. The output appears when it is whole; until then, and if anything fails, what was there before stays.

    Args:
        source: Where the documents come from; see :func:`~cfplatform.coco.read`.
        output: The file to write; it may not lie where the source would read it as labels.
        progress: ``True`` for a bar (needs the extra ``progress``), a function of (done, total), or a
            :class:`~cfplatform.ProgressReporter`.
        on_error: Called with a :class:`~cfplatform.coco.Finding` for each thing that cannot be joined and is left out;
            the first ones are also in the summary.

    Raises:
        InvalidParameterError: If the source or the output cannot be one.
        DownloadError: If the output cannot be written.

    Example:
        >>> from cfplatform import coco
        >>> summary = client.download_project(destination="labels")
        >>> merged = coco.merge("labels", "dataset.json")
        >>> merged.images == summary.successful
        True
    """
    opened = open_source(source)
    path = output_path(output, "output")
    refuse_own(opened, path)
    summary = MergeSummary(output=path)
    prepare_folder(path.parent)
    with ExitStack() as stack:
        dataset = DatasetFile(path)
        stack.callback(dataset.close)
        join(opened, path.parent, [dataset], lambda document, image: dataset, summary, progress, on_error)
    summary.images, summary.annotations = dataset.images.count, dataset.annotations.count
    summary.size = path.stat().st_size
    return summary


def join(
    opened: Folder | File | Stream,
    folder: Path,
    datasets: list[DatasetFile],
    choose: Choose,
    summary: Account,
    progress: Progress,
    on_error: OnError | None,
    missing: Callable[[], Iterable[Finding]] = tuple,
) -> None:
    """Read a source to its end and write it into datasets, which appear together.

    Args:
        opened: The source.
        folder: The folder of the datasets.
        datasets: Where the images go.
        choose: Names the dataset of an image.
        summary: Gets the account.
        progress: As for :func:`merge`.
        on_error: As for :func:`merge`.
        missing: Called when all documents have been read; returns what is found only then.
    """
    began = time.monotonic()
    shown = reporter(progress)

    def tell(finding: Finding) -> None:
        summary.add(finding)
        if on_error is not None and finding.severity == "error":
            on_error(finding)

    def unreadable(finding: Finding) -> None:
        tell(finding)
        shown.advance("failed", 0)

    joiner = Joiner(folder, tell, choose)
    shown.start(opened.total)
    try:
        summary.documents = _add_all(opened, joiner, shown, unreadable)
    finally:
        shown.finish()
    for finding in missing():
        tell(finding)
    for dataset in datasets:
        dataset.write(joiner.head(), joiner.lists())
    for dataset in datasets:
        dataset.commit()
    summary.categories, summary.licenses = len(joiner.categories.entries), len(joiner.licenses.entries)
    summary.elapsed = time.monotonic() - began


def _add_all(
    opened: Folder | File | Stream, joiner: Joiner, shown: ProgressReporter, unreadable: Callable[[Finding], None]
) -> int:
    count = 0
    with closing(opened.documents(unreadable)) as documents:
        for document in documents:
            size = joiner.add(document)
            count += size is not None
            shown.advance("failed" if size is None else "read", size or 0)
    return count


def output_path(value: object, what: str) -> Path:
    """Return the absolute path of an output, with the links of its folder followed.

    Raises:
        InvalidParameterError: If it cannot be one.
    """
    path = local.folder_path(value, what)
    if path.is_dir() or not path.name:
        raise InvalidParameterError(
            f"{what} must be the path of a file, such as 'dataset.json', not {str(path)!r}.", parameter=what
        )
    return path.parent.resolve() / path.name


def refuse_own(opened: Folder | File | Stream, path: Path) -> None:
    """Refuse an output that the source would read as labels the next time.

    Raises:
        InvalidParameterError: If it would.
    """
    if opened.reads(path):
        raise InvalidParameterError(
            f"output {str(path)!r} lies among the labels of the source, so a second run would read it as one of them. "
            "Write it elsewhere, such as beside the folder of the source.",
            parameter="output",
        )
