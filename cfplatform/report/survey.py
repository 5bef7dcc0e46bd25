"""The first reading of the labels: what a report counts, which findings it names, which documents it shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..coco.findings import Finding
from ..coco.sources import Document, Folder
from ..coco.statistics import Stats, Tally
from ..coco.validating import check
from ..coco.values import key, records
from ..progress import ProgressReporter
from .texts import shown

#: Findings of each kind that are named, and of each sample.
NAMED, NAMED_OF_SAMPLE = 20, 5
#: Classes of a sample that the gallery can be filtered by.
_CLASSES = 100


@dataclass
class Group:
    """The findings of one kind.

    Attributes:
        code: What is wrong.
        severity: "error" or "warning".
        count: How many there are.
        first: The first ones.
    """

    code: str
    severity: str
    count: int = 0
    first: list[Finding] = field(default_factory=list)


@dataclass
class Sample:
    """A document that the gallery shows.

    Attributes:
        item_id: The work item.
        batch: Its batch.
        path: The file of the labels.
        asset: The picture, if there is one.
        file_name: The name of the picture in the document.
        classes: The labels of each class.
        labels: All labels, also those without a class.
        codes: Kinds of findings.
        findings: The first findings, as texts.
    """

    item_id: str
    batch: str
    path: Path
    asset: Path | None
    file_name: str
    classes: dict[str, int]
    labels: int
    codes: list[str]
    findings: list[str]


@dataclass
class Survey:
    """What the first reading found."""

    stats: Stats
    groups: list[Group]
    samples: list[Sample]
    pictures: Counter[str]


def survey(folder: Folder, limit: int, reporter: ProgressReporter) -> Survey:
    """Read all documents of a folder once, one in memory at a time.

    Samples are spread evenly over the documents, in the order of their names, so that they are the same ones each time.
    """
    tally, groups, pictures = Tally(), _Groups(), Counter[str]()
    samples: list[Sample] = []
    total = folder.total
    wanted = min(limit, total)
    chosen = {number * total // wanted for number in range(wanted)}

    def unreadable(finding: Finding) -> None:
        tally.add_unreadable()
        groups.add(finding)
        reporter.advance("failed", 0)

    for position, document in enumerate(folder.documents(unreadable)):
        tally.add(document)
        pictures[document.batch or ""] += document.asset is not None
        findings = list(groups.passing(document))
        # Those that cannot be read have no position: their places are at the end.
        if position in chosen:
            samples.append(_sample(document, findings))
        reporter.advance("read", 0)
    return Survey(tally.result(), groups.sorted(), samples, pictures)


class _Groups:
    """Findings by their kind."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}

    def add(self, finding: Finding) -> None:
        group = self._groups.setdefault(finding.code, Group(finding.code, finding.severity))
        group.count += 1
        if len(group.first) < NAMED:
            group.first.append(finding)

    def passing(self, document: Document) -> list[Finding]:
        """Add the findings of a document; return the first of each kind."""
        first: dict[str, Finding] = {}
        for finding in check(document):
            self.add(finding)
            first.setdefault(finding.code, finding)
        return list(first.values())

    def sorted(self) -> list[Group]:
        """Return them, errors first, then by their number."""
        return sorted(self._groups.values(), key=lambda group: (group.severity, -group.count, group.code))


def _sample(document: Document, findings: list[Finding]) -> Sample:
    names = {key(each.get("id")): each.get("name") for each in records(document.data, "categories")}
    annotations = records(document.data, "annotations")
    counts = Counter(names.get(key(each.get("category_id"))) for each in annotations)
    classes = {name: count for name, count in counts.most_common() if isinstance(name, str)}
    images = records(document.data, "images")
    return Sample(
        item_id=shown(document.item_id or ""),
        batch=document.batch or "",
        path=document.path or Path(),
        asset=document.asset,
        file_name=shown(images[0].get("file_name") or "") if images else "",
        classes=dict(list(classes.items())[:_CLASSES]),
        labels=len(annotations),
        codes=[finding.code for finding in findings],
        findings=[shown(f"{each.code} {each.pointer}: {each.message}") for each in findings[:NAMED_OF_SAMPLE]],
    )


def colours_of(stats: Stats) -> list[str]:
    """Return the names of all classes, for their colours."""
    return [name for name in stats.categories if isinstance(name, str)]


def totals(found: Survey) -> list[tuple[str, str, Any]]:
    """Return the figures at the head of the page: what they are, the figure, and what it means."""
    stats = found.stats
    errors = sum(group.count for group in found.groups if group.severity == "error")
    warnings = sum(group.count for group in found.groups) - errors
    documents = stats.documents + stats.unreadable
    return [
        ("Work items", f"{documents:,}", f"{stats.unreadable:,} cannot be read" if stats.unreadable else None),
        ("Pictures", f"{sum(found.pictures.values()):,}", None),
        ("Labels", f"{stats.annotations:,}", _per(stats.annotations, stats.images, "a picture")),
        ("Classes", f"{len(stats.categories):,}", None),
        ("Without labels", f"{stats.empty_images:,}", _share(stats.empty_images, stats.images, "of the pictures")),
        ("Crowds", f"{stats.crowds:,}", _share(stats.crowds, stats.annotations, "of the labels")),
        ("Errors", f"{errors:,}", None),
        ("Warnings", f"{warnings:,}", None),
    ]


def _per(count: int, of: int, what: str) -> str | None:
    return f"{count / of:.1f} {what}" if of else None


def _share(count: int, of: int, what: str) -> str | None:
    return f"{count / of:.1%} {what}" if of else None
