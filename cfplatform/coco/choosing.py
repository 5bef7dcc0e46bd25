"""Assigns each image to a part: by a hash of its group, stratified by class, as in an earlier split, or by batch."""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeGuard

from .. import naming
from ..destination import local
from ..exceptions import InvalidParameterError
from ..progress import Progress, reporter
from .documents import Document, Opened, PathLike, open_source, reported
from .findings import ERROR, WARNING, Finding, shown
from .strata import Spread, Strata
from .values import records

#: Unit to keep together: "item", "batch", "video", the name of a field, or a function that returns the group of an
#: image.
By = str | Callable[[Document, dict[str, Any]], Any]
#: The group of each item, or a CSV file that lists them.
Groups = Mapping[str, Any] | PathLike
#: The fraction or the batches of each part.
Parts = Mapping[str, float] | Mapping[str, Sequence[str]]

#: Tolerance for the sum of the fractions.
_TOLERANCE = 1e-6
#: Maximum number of videos and multi-image items whose group is cached; their images are consecutive.
_REMEMBERED = 10_000


class Chooser(ABC):
    """Returns the part of an image of a document; ``None`` skips the image.

    Call :meth:`begin` before the first image, and :meth:`end` after the last one.
    """

    def __init__(self) -> None:
        self._report: Callable[[Finding], object] = lambda finding: None

    def begin(self, opened: Opened, report: Callable[[Finding], object], progress: Progress = None) -> None:
        """Prepare to split a source; reads it once if groups depend on each other.

        Raises:
            InvalidParameterError: If the source cannot be split, or must be read twice and cannot be.
        """
        self._report = report

    @abstractmethod
    def __call__(self, document: Document, image: dict[str, Any]) -> str | None: ...

    def end(self) -> None:  # noqa: B027 - most have nothing to report
        """Report findings that are known only after the last image.

        Raises:
            InvalidParameterError: If the source cannot be split with these options.
        """


def chooser(
    parts: Parts,
    *,
    by: By = "item",
    groups: Groups | None = None,
    stratify: bool = False,
    keep: PathLike | None = None,
    seed: int | str = 0,
) -> Chooser:
    """Check the options of :func:`~cfplatform.coco.split`."""
    if not isinstance(parts, Mapping) or not parts:
        raise InvalidParameterError(
            f"parts must be a dict such as {{'train': 0.8, 'val': 0.2}}, not {parts!r}.", parameter="parts"
        )
    if not (callable(by) or (isinstance(by, str) and by)):
        raise InvalidParameterError(
            f"by must be 'item', 'batch', 'video', the name of a field, or a function, not {by!r}.", parameter="by"
        )
    if isinstance(seed, bool) or not isinstance(seed, (int, str)):
        raise InvalidParameterError(f"seed must be a number or a string, not {seed!r}.", parameter="seed")
    _check_names(parts)
    if groups is not None and by != "item":
        raise InvalidParameterError("groups and by cannot be used together. Pass one of them.", parameter="groups")
    fractions = {name: float(value) for name, value in parts.items() if _is_fraction(value)}
    if len(fractions) == len(parts):
        total = math.fsum(fractions.values())
        if abs(total - 1) > _TOLERANCE:
            raise InvalidParameterError(f"parts must be fractions that sum to 1, not {total:g}.", parameter="parts")
        rows = None if groups is None else _rows(groups)
        kept = None if keep is None else local.folder_path(keep, "keep")
        return _ByFraction(fractions, by, rows, bool(stratify), kept, seed)
    lists = {name: [*value] for name, value in parts.items() if _is_list(value)}
    if len(lists) != len(parts):
        raise InvalidParameterError(
            f"parts must be fractions between 0 and 1, or lists of batches, not {parts!r}.", parameter="parts"
        )
    batches = [batch for each in lists.values() for batch in each]
    if twice := sorted({batch for batch in batches if batches.count(batch) > 1}):
        raise InvalidParameterError(
            f"parts lists the batch {twice[0]!r} twice. List each batch once.", parameter="parts"
        )
    if by not in ("item", "batch") or groups is not None or stratify or keep is not None:
        raise InvalidParameterError(
            "by, groups, stratify and keep need fractions in parts: lists of batches already assign every image.",
            parameter="parts",
        )
    return _ByBatch(lists)


def _is_fraction(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1


def _is_list(value: object) -> TypeGuard[Sequence[str]]:
    return isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(each, str) for each in value)


def _check_names(parts: Mapping[str, Any]) -> None:
    seen: dict[str, str] = {}
    for name in parts:
        if not isinstance(name, str) or naming.safe_name(name) != name:
            raise InvalidParameterError(f"names of parts must be valid file names, not {name!r}.", parameter="parts")
        if (other := seen.setdefault(naming.collision_key(name), name)) != name:
            raise InvalidParameterError(
                f"parts {other!r} and {name!r} would be the same file on some systems. Rename one of them.",
                parameter="parts",
            )


class _ByBatch(Chooser):
    """Assigns parts by lists of batches."""

    def __init__(self, lists: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self._parts = {batch: name for name, batches in lists.items() for batch in batches}
        self._seen: set[str] = set()

    def __call__(self, document: Document, image: dict[str, Any]) -> str | None:
        batch = _batch(document, image)
        self._seen.add(batch)
        return self._parts.get(batch)

    def end(self) -> None:
        """Report batches that are missing from the lists or from the source."""
        for batch in sorted(self._seen - self._parts.keys()):
            message = f"The batch {shown(batch)} is in no part, so its items were skipped."
            self._report(Finding("batch-without-part", ERROR, message, batch=batch))
        for batch in sorted(self._parts.keys() - self._seen):
            message = f"The batch {shown(batch)} of the part {self._parts[batch]!r} is not in the source."
            self._report(Finding("unknown-batch", ERROR, message, batch=batch))


# --- Units to keep together ---------------------------------------------------------------------------------------


def _item(document: Document, image: dict[str, Any]) -> str:
    return str(next(filter(None, _names(document, image)), image.get("id")))


def _names(document: Document, image: dict[str, Any]) -> tuple[Any, ...]:
    """Return the names of an image, the most reliable first."""
    origin = document.origin(image)
    # A merge keeps all of them; original_file_name is the name before the merge.
    file = image.get("original_file_name") or image.get("file_name")
    return origin.item_id, document.video_of(image), origin.asset_url, file


def _batch(document: Document, image: dict[str, Any]) -> str:
    batch = document.origin(image).batch
    if batch is None:
        raise InvalidParameterError(
            "The batch of an image is unknown, so the source cannot be split by batch.",
            parameter="by",
            hint="Pass a downloaded folder or the stream of iter_annotations(), or use by='item'.",
        )
    return batch


#: The name of a group, and whether it is a single ungrouped image or item, which never shares its group.
_Group = tuple[str, bool]


class _Grouping:
    """Returns the group of an image, in one pass over a source."""

    def __init__(self, by: By, rows: Mapping[str, str] | None, report: Callable[[Finding], object]) -> None:
        self._by = by
        self._rows = rows
        self._report = report
        self._known: dict[str, _Group] = {}
        #: Whether any image has a group.
        self.has_groups = False
        #: Items of ``groups`` not yet found in the source.
        self.unseen = {} if rows is None else dict.fromkeys(rows)

    def __call__(self, document: Document, image: dict[str, Any]) -> _Group:
        if self._rows is None and self._by == "item":
            return _item(document, image), False
        if self._by == "batch":
            return _batch(document, image), False
        # The first image of an item or a video decides, so the item or video is never split.
        unit = document.origin(image).item_id or document.video_of(image)
        if unit is None:
            return self._found(document, image)
        group = self._known.get(unit)
        if group is None:
            if len(self._known) == _REMEMBERED:
                del self._known[next(iter(self._known))]
            group = self._known[unit] = self._found(document, image)
        return group

    def _found(self, document: Document, image: dict[str, Any]) -> _Group:
        group = _name_of(self._value(document, image))
        if group:
            self.has_groups = True
            return group, False
        item = _item(document, image)
        what = f"has no {shown(self._by)}" if isinstance(self._by, str) else "has no group"
        reason = what if self._rows is None else "is not in groups"
        message = f"The item {shown(item)} {reason}, so it becomes its own group."
        self._report(document.finding("no-group", WARNING, message))
        return item, True

    def _value(self, document: Document, image: dict[str, Any]) -> Any:
        if self._rows is not None:
            for name in _names(document, image):
                if isinstance(name, str) and name in self._rows:
                    self.unseen.pop(name, None)
                    return self._rows[name]
            return None
        if not isinstance(self._by, str):
            return self._by(document, image)
        video = document.video_of(image) if self._by == "video" else None
        return document.member_of(image, self._by) if video is None else video


def _name_of(value: Any) -> str:
    """Return the name of a group, equal for equal JSON values; empty if there is none."""
    if value is None:
        return ""
    if not isinstance(value, str):
        value = json.dumps(value, sort_keys=True, default=str)
    return value if value.isascii() else unicodedata.normalize("NFC", value)


def _rows(groups: Groups) -> dict[str, str]:
    """Return the group of each item."""
    if isinstance(groups, Mapping):
        rows = {item: _name_of(group) for item, group in groups.items()}
        for item, group in rows.items():
            if not isinstance(item, str) or not item or not group:
                raise InvalidParameterError(
                    f"groups must map items to groups, not {item!r}: {groups[item]!r}.", parameter="groups"
                )
    else:
        path = local.folder_path(groups, "groups")
        try:
            rows = _rows_of(path.read_bytes())
        except OSError as error:
            reason = error.strerror or error
            raise InvalidParameterError(
                f"groups {str(path)!r} could not be read: {reason}.", parameter="groups"
            ) from None
        except ValueError as error:
            raise InvalidParameterError(f"groups {str(path)!r}, {error}", parameter="groups") from None
    if not rows:
        raise InvalidParameterError("groups has no items.", parameter="groups")
    return rows


def _rows_of(content: bytes) -> dict[str, str]:
    """Read a CSV file of items and groups; raise :class:`ValueError` with the line and the reason."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"line {content.count(10, 0, error.start) + 1}: not UTF-8.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: dict[str, str] = {}
    try:
        for number, cells in enumerate(reader):
            row = [cell.strip() for cell in cells]
            if not any(row) or (number == 0 and [cell.lower() for cell in row] == ["item", "group"]):
                continue
            if len(row) != 2:
                raise ValueError(f"line {reader.line_num}: expected 2 cells, item and group, found {len(row)}.")
            if not all(row):
                raise ValueError(f"line {reader.line_num}: the {'group' if row[0] else 'item'} is empty.")
            item, group = row[0], _name_of(row[1])
            if rows.setdefault(item, group) != group:
                raise ValueError(f"line {reader.line_num}: the item {shown(item)} already has another group.")
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: not valid CSV: {error}.") from None
    return rows


# --- Parts by fractions ---------------------------------------------------------------------------------------------


class _ByFraction(Chooser):
    """Assigns parts by a hash, independently for each group unless the split is stratified."""

    def __init__(
        self,
        fractions: Mapping[str, float],
        by: By,
        rows: Mapping[str, str] | None,
        stratify: bool,
        keep: Path | None,
        seed: int | str,
    ) -> None:
        super().__init__()
        self._names = list(fractions)
        self._fractions = [*fractions.values()]
        # The last part takes the remainder after rounding.
        self._bounds = [*accumulate(self._fractions)][:-1]
        self._start = f"{seed}\0".encode("utf-8", "surrogatepass")
        self._by, self._rows = by, rows
        self._stratify = stratify
        self._keep = keep
        self._grouping = _Grouping(by, rows, self._report)
        self._is_by_item = rows is None and by == "item"
        #: The part of each item in the earlier split, and of each group, by number.
        self._old: dict[bytes, int] = {}
        self._assigned: dict[bytes, int] | None = None
        self._images = 0
        self._expected: int | None = None
        # The first groups, up to the number of parts, and the parts that are not empty.
        self._few: set[bytes] = set()
        self._used: set[int] = set()

    def begin(self, opened: Opened, report: Callable[[Finding], object], progress: Progress = None) -> None:
        """Read the earlier split, and the source if groups depend on each other."""
        super().begin(opened, report)
        self._grouping = _Grouping(self._by, self._rows, report)
        if self._keep is not None:
            self._read_earlier(self._keep)
        # An item without a group keeps its earlier part whatever else the source contains.
        if self._stratify or (self._keep is not None and not self._is_by_item):
            if getattr(opened, "is_read_once", False):
                raise InvalidParameterError(
                    "stratify and keep read the source twice, but this source can be read only once.",
                    parameter="source",
                    hint="Download it first and pass the folder, or pass a list.",
                )
            self._assign(opened, progress)

    def __call__(self, document: Document, image: dict[str, Any]) -> str:
        group = self._grouping(document, image)
        self._images += 1
        if self._is_by_item and not self._old and self._assigned is None:
            return self._names[self._hashed(group[0])]
        own = _digest(group)
        if self._assigned is not None:
            part = self._assigned.get(own)
            if part is None:
                raise _changed()
        else:
            part = self._old.get(own)
            if part is None:
                part = self._hashed(group[0])
        self._used.add(part)
        if len(self._few) < len(self._names):
            self._few.add(own)
        return self._names[part]

    def end(self) -> None:
        """Report items of ``groups`` that are not in the source, and empty parts."""
        if self._expected is not None and self._images != self._expected:
            raise _changed()
        if not self._images:
            return
        if not (self._is_by_item or self._by == "batch" or self._grouping.has_groups):
            raise self._no_groups_error()
        for item in self._grouping.unseen:
            message = f"The item {shown(item)} in groups is not in the source."
            self._report(Finding("unknown-item", WARNING, message, item_id=item))
        if self._is_by_item and self._assigned is None:
            return
        if len(self._few) < len(self._names):
            raise self._too_few_groups_error(len(self._few))
        for number in sorted({*range(len(self._names))} - self._used):
            message = f"No group is in the part {self._names[number]!r}. Use another seed, or stratify."
            self._report(Finding("empty-part", WARNING, message))

    def _no_groups_error(self) -> InvalidParameterError:
        if self._rows is not None:
            return InvalidParameterError(
                "None of the items in groups is in the source.",
                parameter="groups",
                hint="Items are work item IDs or, in datasets from other tools, names of videos or images.",
            )
        if not isinstance(self._by, str):
            return InvalidParameterError("by returned no group for any image.", parameter="by")
        return InvalidParameterError(
            f"by {self._by!r}: no image has this field, nor does the metadata of its work item or info.",
            parameter="by",
            hint="Downloads keep the metadata. coco.merge(..., metadata=[...]) copies it to a dataset.",
        )

    def _too_few_groups_error(self, count: int) -> InvalidParameterError:
        return InvalidParameterError(
            f"The source has {count} group{'s' * (count != 1)} for {len(self._names)} parts.",
            parameter="parts",
            hint="Use fewer parts or smaller groups.",
        )

    def _position(self, group: str) -> float:
        key = self._start + group.encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") / 2**64

    def _hashed(self, group: str) -> int:
        return self._part_at(self._position(group))

    def _part_at(self, position: float) -> int:
        return sum(position >= bound for bound in self._bounds)

    # --- The earlier split ---------------------------------------------------------------------------------------

    def _read_earlier(self, folder: Path) -> None:
        """Read the part of each item."""
        files = {name: _file_of_part(folder, name) for name in self._names}
        if not any(files.values()):
            raise InvalidParameterError(
                f"keep {str(folder)!r} is not an earlier split: it has no {self._names[0]}.json.",
                parameter="keep",
                hint="Pass the folder of an earlier split, or omit keep for the first split.",
            )
        for path in sorted(folder.glob("*.json")):
            if path.stem not in self._names:
                message = f"{path.name} of the earlier split is not a part of this one; its items are assigned again."
                self._report(Finding("unknown-part", WARNING, message, path=str(path)))
        for number, file in enumerate(files.values()):
            for document in () if file is None else open_source(file).documents(None):
                for image in records(document.data, "images"):
                    item = _item(document, image)
                    if self._old.setdefault(_digest((item, False)), number) != number:
                        other = self._names[self._old[_digest((item, False))]]
                        raise InvalidParameterError(
                            f"keep: The item {shown(item)} is in two parts, {other!r} and {self._names[number]!r}.",
                            parameter="keep",
                        )

    # --- Groups that depend on each other ------------------------------------------------------------------------

    def _assign(self, opened: Opened, progress: Progress) -> None:
        """Read the source and assign each group to a part."""
        grouping = _Grouping(self._by, self._rows, lambda finding: None)
        numbers: dict[bytes, int] = {}
        positions: list[float] = []
        fixed: dict[int, int] = {}
        strata = Strata()
        images = 0
        # Unreadable files are reported later, when the parts are written.
        for document in reported(opened, reporter(progress), lambda finding: None):
            owners: list[tuple[dict[str, Any], int]] = []
            for image in records(document.data, "images"):
                group = grouping(document, image)
                number = numbers.setdefault(_digest(group), len(numbers))
                if number == len(positions):
                    positions.append(self._position(group[0]))
                if self._old:
                    self._fix(fixed, number, group[0], _item(document, image))
                owners.append((image, number))
            images += len(owners)
            if self._stratify:
                strata.add(document, owners)
        if 0 < len(numbers) < len(self._names):
            raise self._too_few_groups_error(len(numbers))
        parts = [fixed.get(number, self._part_at(position)) for number, position in enumerate(positions)]
        if self._stratify:
            for name in strata.in_one_group():
                message = f"The class {shown(name)} is in only one group, so only one part has it."
                self._report(Finding("class-in-one-group", WARNING, message))
            # Sorted, so a folder, a stream and a merged file are split the same way.
            order = [number for _, number in sorted(numbers.items()) if number not in fixed]
            order.sort(key=positions.__getitem__)
            Spread(strata.rows(), self._fractions, parts).improve(order)
        self._assigned = dict(zip(numbers, parts, strict=True))
        self._expected = images

    def _fix(self, fixed: dict[int, int], number: int, group: str, item: str) -> None:
        """Keep a group in the part that one of its items had before."""
        old = self._old.get(_digest((item, False)))
        if old is None or fixed.setdefault(number, old) == old:
            return
        names = " and ".join(repr(self._names[part]) for part in sorted((old, fixed[number])))
        raise InvalidParameterError(
            f"keep: The group {shown(group)} was in two parts, {names}.",
            parameter="keep",
            hint="Use the by or groups of the earlier split, or omit keep.",
        )


def _digest(group: _Group) -> bytes:
    name, is_alone = group
    return blake2b(f"{is_alone:d}{name}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _changed() -> InvalidParameterError:
    return InvalidParameterError(
        "The source changed between the two passes that stratify and keep need.",
        parameter="source",
        hint="Wait until nothing writes to it. If it can be read only once, download it first, or pass a list.",
    )


def _file_of_part(folder: Path, name: str) -> Path | None:
    """Return the dataset of a part, in any layout that split or convert writes."""
    names = (f"{name}.json", f"annotations/instances_{name}.json", f"{name}/_annotations.coco.json")
    return next((path for path in map(folder.joinpath, names) if path.is_file()), None)
