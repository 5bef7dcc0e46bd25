"""``write_comparison()``: a page with both drawings of each image whose labels differ."""

from __future__ import annotations

import contextlib
import heapq
import os
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import progress as _progress
from ..coco.comparing import KINDS, SAME, Change, Comparison, ImagePair, OnChange, run
from ..coco.documents import Document, OnError, PathLike, Source
from ..coco.output import written_atomically
from ..coco.samples import Samples
from ..destination import local
from ..exceptions import InvalidParameterError
from ..viz import class_colours
from .page import MAX_CHOICES, MAX_ROWS, filled, image_block
from .survey import shown
from .thumbnails import media_type, thumbnails
from .writing import page_path

#: Default and maximum number of images on the page.
DEFAULT_PAIRS, MAX_PAIRS = 200, 2_000
#: Maximum number of changes listed for an image.
_LISTED = 100


@dataclass(frozen=True)
class ComparisonSummary:
    """The summary of a comparison page.

    Attributes:
        path: The page.
        size: Its size in bytes.
        samples: Number of images on the page.
        comparison: The result of :func:`cfplatform.coco.compare`.
    """

    path: Path
    size: int
    samples: int
    comparison: Comparison


def write_comparison(
    a: Source,
    b: Source,
    output: str | os.PathLike[str],
    *,
    iou: float = 0.5,
    shape: str = "box",
    images_from: PathLike | None = None,
    samples: int = DEFAULT_PAIRS,
    title: str | None = None,
    made_at: datetime | None = None,
    on_change: OnChange | None = None,
    progress: _progress.Progress = None,
    on_error: OnError | None = None,
) -> ComparisonSummary:
    """Compare two sets of labels, and write an HTML page with both drawings of each image that differs, worst first.

    The page opens in any browser, offline. It is written atomically.

    Args:
        a: The reference, as for :func:`cfplatform.coco.compare`.
        b: The labels to compare with it.
        output: The page, a file that ends with ``.html``.
        iou: As for :func:`cfplatform.coco.compare`.
        shape: As for :func:`cfplatform.coco.compare`.
        images_from: The folder of the images, as for :func:`cfplatform.coco.read`.
        samples: Maximum number of images on the page, 0 to 2,000.
        title: The heading. Defaults to "Comparison".
        made_at: The creation time to show, with a time zone. Defaults to none.
        on_change: As for :func:`cfplatform.coco.compare`.
        progress: ``True`` for a progress bar (extra ``progress``), a function of (done, total), or a
            :class:`~cfplatform.ProgressReporter`.
        on_error: As for :func:`cfplatform.coco.compare`.

    Raises:
        InvalidParameterError: As for :func:`cfplatform.coco.compare`; or if the output is not valid, ``samples`` is out
            of range, or ``made_at`` has no time zone.
        DownloadError: If the output cannot be written.

    Example:
        >>> from cfplatform.report import write_comparison
        >>> summary = client.download_project(destination="labels", assets=True)
        >>> write_comparison("labels", "labels", "comparison.html").comparison.f1
        1.0
    """
    if not isinstance(samples, int) or not 0 <= samples <= MAX_PAIRS:
        raise InvalidParameterError(
            f"samples must be an integer from 0 to {MAX_PAIRS:,}, not {samples!r}.", parameter="samples"
        )
    if made_at is not None and made_at.tzinfo is None:
        raise InvalidParameterError(
            f"made_at: {made_at!r} has no time zone. Add one, such as datetime.now(timezone.utc).", parameter="made_at"
        )
    path = page_path(local.folder_path(output, "output"))
    worst = _Worst(samples)
    found = run(a, b, iou, shape, images_from, on_change, worst.add, _progress.reporter(progress), on_error)
    pairs = worst.pairs()
    documents = Samples()
    for pair in pairs:
        for document in _documents(pair):
            documents.add(document)
    confusions = [
        (first, second, count)
        for first, row in found.confusion.items()
        for second, count in row.items()
        if first != second
    ]
    head, tail = filled(
        "comparison",
        _index(pairs, list(found.categories)),
        title=title or "Comparison",
        subject="comparison",
        made_at=made_at,
        found=found,
        categories=list(found.categories.items()),
        confusions=sorted(confusions, key=lambda each: -each[2]),
        changed=worst.count,
        samples=len(pairs),
        max_rows=MAX_ROWS,
    )
    with written_atomically(path) as part, open(part, "w", encoding="utf-8", newline="\n") as file:
        file.write(head)
        with contextlib.closing(thumbnails(documents, range(len(documents)), class_colours(found.categories))) as drawn:
            for number, thumbnail in enumerate(drawn):
                file.write(image_block(number, thumbnail))
        file.write(tail)
    return ComparisonSummary(path, path.stat().st_size, len(pairs), found)


class _Worst:
    """The images that differ most."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit
        self._heap: list[tuple[float, int, ImagePair]] = []

    def add(self, pair: ImagePair) -> None:
        """Keep an image if it is among the worst."""
        self.count += 1
        entry = (pair.difference, -self.count, pair)
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, entry)
        elif self._heap and entry[:2] > self._heap[0][:2]:
            heapq.heapreplace(self._heap, entry)

    def pairs(self) -> list[ImagePair]:
        """Return the images, the worst first."""
        return [pair for *_, pair in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


def _documents(pair: ImagePair) -> Generator[Document]:
    """Yield both documents of an image, with the same file."""
    documents = [each.document(pair.categories) for each in (pair.a, pair.b)]
    paths = [each.asset or each.image_path(of.image) for each, of in zip(documents, (pair.a, pair.b), strict=True)]
    for document, own in zip(documents, paths, strict=True):
        yield replace(document, asset=own or paths[0] or paths[1])


def _index(pairs: list[ImagePair], categories: list[str]) -> dict[str, Any]:
    """Return the data for the script of the page; changes refer to kinds and categories by index."""
    kinds = [kind for kind in KINDS if kind != SAME]
    place_of = {name: place for place, name in enumerate(categories)}

    def entry(change: Change) -> list[Any]:
        names = (change.category_a, change.category_b)
        places = [-1 if name is None else place_of.get(name, -1) for name in names]
        return [kinds.index(change.kind), *places, None if change.iou is None else round(change.iou, 4)]

    entries, filters = [], []
    for pair in pairs:
        changes = [entry(each) for each in pair.changes if each.kind != SAME]
        counts = [sum(each[0] == kind for each in changes) for kind in range(len(kinds))]
        item = shown(pair.a.item_id or pair.b.item_id or "")
        entries.append([shown(pair.a.name), item, counts, changes[:_LISTED], max(0, len(changes) - _LISTED)])
        filters.append(sorted({(kind, place) for kind, *places, _ in changes for place in places if place >= 0}))
    return {
        "kind": media_type(),
        "kinds": kinds,
        "categories": [shown(name) for name in categories],
        "choices": MAX_CHOICES,
        "pairs": entries,
        "pairs_of": filters,
    }
