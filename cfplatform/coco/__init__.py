"""Labels as one COCO dataset: read what was downloaded, or what a stream brings, document by document.

Every function takes the same kinds of source; see :func:`read`.
"""

from __future__ import annotations

from .codes import CODES, ERROR, WARNING
from .findings import Finding
from .sources import Document, Source, read
from .statistics import BatchStats, CategoryStats, Stats, Tally, stats
from .validating import check, validate

__all__ = [
    "CODES",
    "ERROR",
    "WARNING",
    "BatchStats",
    "CategoryStats",
    "Document",
    "Finding",
    "Source",
    "Stats",
    "Tally",
    "check",
    "read",
    "stats",
    "validate",
]
