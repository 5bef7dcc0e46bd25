"""The account of a merge or a split: what was joined, what was left out, and what does not quite agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..exceptions import InvalidResponseError
from ..resources import markup
from .findings import Finding

#: Findings of each kind that a summary keeps; all are counted.
KEPT = 100
#: Problems that an error names.
_NAMED = 3


@dataclass
class Account:
    """What both summaries tell.

    Attributes:
        documents: Documents that were joined.
        categories: Categories of the result.
        licenses: Licenses of the result.
        elapsed: Seconds that it took.
        problem_count: What could not be joined and was left out, or cannot be relied upon.
        conflict_count: Where documents do not agree, although nothing was lost.
        counts: How often each code was found, of problems and conflicts.
        problems: The first problems.
        conflicts: The first conflicts, each once.
    """

    documents: int = 0
    categories: int = 0
    licenses: int = 0
    elapsed: float = 0.0
    problem_count: int = 0
    conflict_count: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[Finding] = field(default_factory=list, repr=False)
    conflicts: list[Finding] = field(default_factory=list, repr=False)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if it is one of the first."""
        self.counts[finding.code] = self.counts.get(finding.code, 0) + 1
        if finding.severity == "error":
            self.problem_count += 1
            kept = self.problems
        else:
            self.conflict_count += 1
            kept = self.conflicts
        if len(kept) < KEPT:
            kept.append(finding)

    def raise_for_problems(self) -> None:
        """Raise if anything was left out.

        Raises:
            InvalidResponseError: Naming the first problems.

        Example:
            >>> from cfplatform import coco
            >>> summary = client.download_project(destination="labels")
            >>> coco.merge("labels", "dataset.json").raise_for_problems()
        """
        if not self.problem_count:
            return
        named = " ".join(f"{_place(each)}: {each.message}" for each in self.problems[:_NAMED])
        more = f" And {self.problem_count - _NAMED:,} more." if self.problem_count > _NAMED else ""
        raise InvalidResponseError(
            f"{self.problem_count:,} things in the labels could not be joined. {named}{more} The rest was written; "
            "problems of the summary has the first of them, and on_error is called with each."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON, without the findings themselves."""
        plain = asdict(self)
        del plain["problems"], plain["conflicts"]
        return plain

    def _table(self, figures: Sequence[tuple[str, Any]]) -> str:
        counts = [(name, f"{count:,}") for name, count in sorted(self.counts.items())]
        return markup.table(type(self).__name__, [*figures, *counts, ("elapsed", f"{self.elapsed:.1f} s")])


@dataclass
class MergeSummary(Account):
    """The account of a merge.

    Attributes:
        output: The file, absolute.
        images: Pictures in it.
        annotations: Labels in it.
        size: Its bytes.
    """

    output: Path = Path()
    images: int = 0
    annotations: int = 0
    size: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON, without the findings themselves."""
        return {**super().as_dict(), "output": str(self.output)}

    def _repr_html_(self) -> str:
        names = ("documents", "images", "annotations", "categories", "size")
        return self._table([("output", self.output), *((name, f"{getattr(self, name):,}") for name in names)])


@dataclass
class Part:
    """One file of a split.

    Attributes:
        output: The file, absolute.
        images: Pictures in it.
        annotations: Labels in it.
        size: Its bytes.
    """

    output: Path
    images: int = 0
    annotations: int = 0
    size: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON."""
        return {**asdict(self), "output": str(self.output)}


@dataclass
class SplitSummary(Account):
    """The account of a split.

    Attributes:
        parts: Each part by its name.
    """

    parts: dict[str, Part] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON, without the findings themselves."""
        return {**super().as_dict(), "parts": {name: part.as_dict() for name, part in self.parts.items()}}

    def _repr_html_(self) -> str:
        shares = [(name, f"{part.images:,} images, {part.annotations:,} labels") for name, part in self.parts.items()]
        return self._table([("documents", f"{self.documents:,}"), *shares])


def _place(finding: Finding) -> str:
    return f"{finding.path or finding.item_id or 'document'} {finding.pointer}".rstrip()
