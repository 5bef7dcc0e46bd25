"""Labels as one COCO dataset: read what was downloaded, or what a stream brings, document by document.

Every function takes the same kinds of source; see :func:`read`.
"""

from __future__ import annotations

from .findings import Finding
from .merging import merge
from .sources import Document, Source, read
from .splitting import split
from .summaries import MergeSummary, Part, SplitSummary

__all__ = ["Document", "Finding", "MergeSummary", "Part", "Source", "SplitSummary", "merge", "read", "split"]
