"""Read, merge, split, convert, compare, count and validate COCO labels, document by document.

Every function takes the same kinds of source; see :func:`read`. :mod:`~cfplatform.coco.mask` decodes segmentations.
"""

from __future__ import annotations

# Modules are not named like the functions, which would hide them here.
from . import mask
from .comparing import Agreement, Change, Comparison, ImageAgreement, compare
from .converting import ConvertSummary, convert
from .documents import Document, Source, read
from .findings import CODES, ERROR, WARNING, Finding, FindingGroup, FindingGroups
from .merging import MergeSummary, merge
from .selecting import Removed, Selection, select
from .splitting import Part, SplitSummary, split
from .statistics import BatchStats, CategoryStats, Stats, StatsBuilder, Tally, stats
from .validation import check, validate

__all__ = [
    "CODES",
    "ERROR",
    "WARNING",
    "Agreement",
    "BatchStats",
    "CategoryStats",
    "Change",
    "Comparison",
    "ConvertSummary",
    "Document",
    "Finding",
    "FindingGroup",
    "FindingGroups",
    "ImageAgreement",
    "MergeSummary",
    "Part",
    "Removed",
    "Selection",
    "Source",
    "SplitSummary",
    "Stats",
    "StatsBuilder",
    "Tally",
    "check",
    "compare",
    "convert",
    "mask",
    "merge",
    "read",
    "select",
    "split",
    "stats",
    "validate",
]
