"""The memory budget: it bounds the documents that are fetched before the caller takes them."""

from __future__ import annotations

from collections import deque
from typing import Any

#: Number of recent sizes from which the next one is estimated.
RECENT = 8


class OverBudgetError(Exception):
    """A document must be fetched again when there is memory for it."""


class MemoryBudget:
    """Counts documents and their bytes, from the moment at which they are fetched until they are handed out.

    Large documents take turns; small ones are not delayed. It must be used with a lock held.

    Args:
        limit: Maximum bytes of all documents together; a larger document is admitted alone.
        documents: Maximum number of documents that are fetched and not handed out.
    """

    def __init__(self, limit: int, documents: int) -> None:
        self.limit = limit
        self.documents = documents
        #: Whether a document waits for memory to be released.
        self.is_wanted = False
        self._taken = 0
        self._held = 0
        self._recent: deque[int] = deque(maxlen=RECENT)

    @property
    def expected(self) -> int:
        """The estimated size of a document: the smallest of the last ones. One large document
        among small ones delays none, and if all are large, few are started in vain."""
        return min(self._recent, default=0)

    def admit(self, job: Any, *, is_awaited: bool) -> bool:
        """Count a document that is about to be fetched, with its bytes as far as they are known.

        Args:
            job: Its job.
            is_awaited: Whether nothing is released before this document arrives, so that it is admitted in any case.
        """
        if self._held >= self.documents and not is_awaited:
            return False
        size = self.expected if job.size is None else job.size
        if not self._take(0, size, is_awaited):
            return False
        job.reserved = size
        job.is_held = True
        self._held += 1
        return True

    def reserve(self, job: Any, size: int, is_all: bool, *, is_awaited: bool) -> bool:
        """Reserve the bytes of a document; return whether there was memory for them, and release it if not.

        If there is no memory, the document is requested again alone, unless these bytes are all (``is_all``).
        """
        if not self._take(job.reserved, size, is_awaited):
            job.size = size if is_all else self.limit
            self.release(job)
            return False
        job.reserved = size
        if is_all:
            self._recent.append(size)
        return True

    def release(self, job: Any) -> None:
        """Stop counting a document."""
        if job.is_held:
            job.is_held = False
            self._held -= 1
        self._taken -= job.reserved
        job.reserved = 0

    def _take(self, held: int, size: int, is_awaited: bool) -> bool:
        others = self._taken - held
        if not is_awaited and others and others + size > self.limit and size > held:
            self.is_wanted = True
            return False
        self._taken = others + size
        return True
