"""The first pass over the labels: statistics, findings, and the samples for the gallery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..coco.documents import Document, Folder, Opened, Stream
from ..coco.findings import ERROR, WARNING, Finding, FindingGroups
from ..coco.samples import Samples
from ..coco.statistics import Stats, StatsBuilder
from ..coco.validation import check
from ..coco.values import Key, key, records
from ..progress import ProgressReporter
from ..viz.drawing import readable

#: Maximum number of findings shown for each code, and for each sample.
NAMED, NAMED_OF_SAMPLE = 20, 5
#: Maximum number of characters of a text from a document.
MAX_TEXT = 200
#: Maximum number of classes of a sample for the filter of the gallery.
_CLASSES = 100


def shown(text: object, limit: int = MAX_TEXT) -> str:
    """Return text of a document as shown on the page."""
    return readable(text, limit)


@dataclass
class Sample:
    """A sample of the gallery; its document is in :attr:`Survey.documents`."""

    item_id: str
    batch: str
    #: The name of the image in the document.
    file_name: str
    #: The number of annotations of each class.
    classes: dict[str, int]
    #: The total number of annotations, including those without a class.
    annotations: int
    #: The codes of its findings.
    codes: list[str]
    #: The first findings, as texts.
    findings: list[str]
    #: Whether it has an image file that can be opened.
    has_image: bool


@dataclass
class Survey:
    """The result of the first pass."""

    stats: Stats
    findings: FindingGroups
    #: The samples of the gallery.
    samples: list[Sample]
    #: Their documents, in the same order.
    documents: Samples
    #: The number of images in all documents.
    images: int
    #: The number of image files of each batch.
    assets: Counter[str]


def survey(source: Opened, limit: int, reporter: ProgressReporter) -> Survey:
    """Read all documents of a source once, one in memory at a time.

    Samples are evenly spaced in the order of the source, so they are deterministic. If there are more files than the
    limit, the samples are chosen by the number of files alone.
    """
    builder, groups, assets, total = StatsBuilder(), FindingGroups(NAMED), Counter[str](), source.total
    kept = _EvenSamples(limit, source.root if isinstance(source, Folder) else None)
    wanted = limit if total is None else min(limit, total)
    chosen = None if total is None else {number * total // wanted for number in range(wanted)}
    images = 0

    def unreadable(finding: Finding) -> None:
        builder.add_unreadable()
        groups.add(finding)
        reporter.advance("failed", 0)

    for position, document in enumerate(source.documents(unreadable)):
        builder.add(document)
        count = len(records(document.data, "images"))
        images += count
        found = _FirstFindings(document, alone=count < 2)
        for finding in check(document):
            groups.add(finding)
            found.add(finding)
        # Unreadable documents are not counted, so the last positions stay empty.
        is_chosen = chosen is None or position in chosen
        # A document without an image is shown in the gallery, too.
        for each in document.by_image() if count else [document]:
            assets[each.batch or ""] += each.asset is not None
            if is_chosen and kept.takes_next():
                sample = _sample(each, builder.class_names(document), found.of(each))
                kept.add(sample, each, is_file=count < 2 and not isinstance(source, Stream))
        reporter.advance("read", 0)
    return Survey(builder.result(), groups, kept.samples, kept.documents, images, assets)


class _EvenSamples:
    """Evenly spaced samples: when there are too many, every second one is dropped, and the spacing doubles."""

    def __init__(self, limit: int, root: Path | None) -> None:
        self.samples: list[Sample] = []
        self.documents = Samples(root)
        self._limit = limit
        self._step, self._seen = 1, 0

    def takes_next(self) -> bool:
        """Return whether to keep the next image."""
        number, self._seen = self._seen, self._seen + 1
        if not self._limit or number % self._step:
            return False
        if len(self.samples) == self._limit:
            self._step *= 2
            self.samples = self.samples[::2]
            self.documents.halve()
        return number % self._step == 0

    def add(self, sample: Sample, document: Document, *, is_file: bool) -> None:
        """Keep a sample; its content is kept, too, unless the document is a file of its own."""
        self.samples.append(sample)
        if is_file:
            self.documents.add_file(document)
        else:
            self.documents.add(document)


class _FirstFindings:
    """The first finding of each code, for each image of a document."""

    def __init__(self, document: Document, *, alone: bool) -> None:
        self._data: Mapping[str, Any] = document.data
        self._alone = alone
        self._first: dict[Key | None, dict[str, Finding]] = {}

    def add(self, finding: Finding) -> None:
        """Keep a finding for its image; if it is not about one image, for all images."""
        own = None if self._alone else self._image(finding.pointer)
        self._first.setdefault(own, {}).setdefault(finding.code, finding)

    def of(self, document: Document) -> list[Finding]:
        """Return the findings of the image of a document from :meth:`Document.by_image`."""
        own = None if self._alone else key(records(document.data, "images")[0].get("id"))
        return list({**self._first.get(None, {}), **self._first.get(own, {})}.values())

    def _image(self, pointer: str) -> Key | None:
        section, number = [*pointer.split("/"), "", ""][1:3]
        name = {"images": "id", "annotations": "image_id"}.get(section)
        if name is None or not number.isdecimal():
            return None
        entry = self._data[section][int(number)]
        return key(entry.get(name)) if isinstance(entry, dict) else None


def _sample(document: Document, names: Mapping[Key, str], findings: list[Finding]) -> Sample:
    annotations = records(document.data, "annotations")
    categories = (key(each.get("category_id")) for each in annotations)
    classes = Counter(names[each] for each in categories if each is not None and each in names)
    images = records(document.data, "images")
    return Sample(
        item_id=shown(document.item_id or (document.path.stem if document.path else "")),
        batch=document.batch or "",
        file_name=shown(images[0].get("file_name") or "") if images else "",
        classes=dict(classes.most_common(_CLASSES)),
        annotations=len(annotations),
        codes=[finding.code for finding in findings],
        findings=[shown(f"{each.code} {each.pointer}: {each.message}") for each in findings[:NAMED_OF_SAMPLE]],
        has_image=document.asset is not None and all(finding.code != "bad-image" for finding in findings),
    )


def opening(samples: Sequence[Sample], limit: int) -> list[int]:
    """Return the positions of samples whose images together show as many classes as possible.

    The one with the most classes is first.
    """
    left = [number for number, sample in enumerate(samples) if sample.has_image]
    chosen: list[int] = []
    seen: set[str] = set()
    batches = Counter[str]()
    while left and len(chosen) < limit:
        # If several add as many classes, the first from the batch with the fewest chosen samples.
        best = max(left, key=lambda each: (len(samples[each].classes.keys() - seen), -batches[samples[each].batch]))
        if seen and not samples[best].classes.keys() - seen:
            # All classes are shown, so start over with the other images.
            seen = set()
            continue
        left.remove(best)
        chosen.append(best)
        seen |= samples[best].classes.keys()
        batches[samples[best].batch] += 1
    return chosen


def totals(found: Survey) -> list[tuple[str, str, Any]]:
    """Return the totals at the top of the page: name, number and explanation."""
    stats = found.stats
    documents = stats.documents + stats.unreadable
    files = sum(found.assets.values())
    return [
        # A file with many images is not one work item.
        (
            "Work items" if found.images <= documents else "Documents",
            f"{documents:,}",
            f"{stats.unreadable:,} unreadable" if stats.unreadable else None,
        ),
        ("Images", f"{stats.images:,}", None if files == stats.images else f"{files:,} with a file"),
        ("Annotations", f"{stats.annotations:,}", _per(stats.annotations, stats.images, "per image")),
        ("Classes", f"{len(stats.categories):,}", None),
        ("Empty images", f"{stats.empty_images:,}", _share(stats.empty_images, stats.images, "of images")),
        ("Crowds", f"{stats.crowds:,}", _share(stats.crowds, stats.annotations, "of annotations")),
        ("Errors", f"{found.findings.count(ERROR):,}", None),
        ("Warnings", f"{found.findings.count(WARNING):,}", None),
    ]


def _per(count: int, of: int, what: str) -> str | None:
    return f"{count / of:.1f} {what}" if of else None


def _share(count: int, of: int, what: str) -> str | None:
    return f"{count / of:.1%} {what}" if count else None
