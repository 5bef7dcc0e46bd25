"""The first pass over the labels: statistics, findings, and the documents that the gallery shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..coco.documents import Document, Folder
from ..coco.findings import ERROR, WARNING, Finding, FindingGroups
from ..coco.statistics import Stats, StatsBuilder
from ..coco.validation import check
from ..coco.values import Key, key, records
from ..progress import ProgressReporter
from ..viz.drawing import readable

#: Findings shown of each code, and of each sample.
NAMED, NAMED_OF_SAMPLE = 20, 5
#: Maximum characters of a text of a document.
MAX_TEXT = 200
#: Classes of a sample that the gallery can be filtered by.
_CLASSES = 100


def shown(text: object, limit: int = MAX_TEXT) -> str:
    """Return a text of a document as the page shows it."""
    return readable(text, limit)


@dataclass
class Sample:
    """A document that the gallery shows."""

    item_id: str
    batch: str
    path: Path
    asset: Path | None
    #: The name of the image in the document.
    file_name: str
    #: The number of annotations of each class.
    classes: dict[str, int]
    #: The number of all annotations, including those without a class.
    annotations: int
    #: The codes of its findings.
    codes: list[str]
    #: The first findings, as texts.
    findings: list[str]


@dataclass
class Survey:
    """The result of the first pass."""

    stats: Stats
    findings: FindingGroups
    samples: list[Sample]
    #: The number of images of each batch.
    assets: Counter[str]


def survey(folder: Folder, limit: int, reporter: ProgressReporter) -> Survey:
    """Read all documents of a folder once, one in memory at a time.

    Samples are spread evenly over the documents in the order of their names, so they are always the same.
    """
    builder, groups, assets = StatsBuilder(), FindingGroups(NAMED), Counter[str]()
    samples: list[Sample] = []
    total = folder.total
    wanted = min(limit, total)
    chosen = {number * total // wanted for number in range(wanted)}

    def unreadable(finding: Finding) -> None:
        builder.add_unreadable()
        groups.add(finding)
        reporter.advance("failed", 0)

    for position, document in enumerate(folder.documents(unreadable)):
        builder.add(document)
        assets[document.batch or ""] += document.asset is not None
        first: dict[str, Finding] = {}
        for finding in check(document):
            groups.add(finding)
            first.setdefault(finding.code, finding)
        # Unreadable documents have no position, so the last positions stay empty.
        if position in chosen:
            samples.append(_sample(document, builder.class_names(document), list(first.values())))
        reporter.advance("read", 0)
    return Survey(builder.result(), groups, samples, assets)


def _sample(document: Document, names: Mapping[Key, str], findings: list[Finding]) -> Sample:
    annotations = records(document.data, "annotations")
    categories = (key(each.get("category_id")) for each in annotations)
    classes = Counter(names[each] for each in categories if each is not None and each in names)
    images = records(document.data, "images")
    return Sample(
        item_id=shown(document.item_id or ""),
        batch=document.batch or "",
        path=document.path or Path(),
        asset=document.asset,
        file_name=shown(images[0].get("file_name") or "") if images else "",
        classes=dict(classes.most_common(_CLASSES)),
        annotations=len(annotations),
        codes=[finding.code for finding in findings],
        findings=[shown(f"{each.code} {each.pointer}: {each.message}") for each in findings[:NAMED_OF_SAMPLE]],
    )


def totals(found: Survey) -> list[tuple[str, str, Any]]:
    """Return the figures at the top of the page: name, figure, and an explanation."""
    stats = found.stats
    documents = stats.documents + stats.unreadable
    return [
        ("Work items", f"{documents:,}", f"{stats.unreadable:,} unreadable" if stats.unreadable else None),
        ("Images", f"{sum(found.assets.values()):,}", None),
        ("Annotations", f"{stats.annotations:,}", _per(stats.annotations, stats.images, "per image")),
        ("Classes", f"{len(stats.categories):,}", None),
        ("Empty images", f"{stats.empty_images:,}", _share(stats.empty_images, stats.images, "of the images")),
        ("Crowds", f"{stats.crowds:,}", _share(stats.crowds, stats.annotations, "of the annotations")),
        ("Errors", f"{found.findings.count(ERROR):,}", None),
        ("Warnings", f"{found.findings.count(WARNING):,}", None),
    ]


def _per(count: int, of: int, what: str) -> str | None:
    return f"{count / of:.1f} {what}" if of else None


def _share(count: int, of: int, what: str) -> str | None:
    return f"{count / of:.1%} {what}" if of else None
