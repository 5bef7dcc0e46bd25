"""The memory budget: limits the documents that are prefetched for the caller."""

from __future__ import annotations

from collections import deque
from typing import Any

#: Number of recent sizes used to estimate the next one.
RECENT = 8


class OverBudgetError(Exception):
    """There is no memory for a document; it must be fetched again later."""


class MemoryBudget:
    """Counts documents and their bytes, from the start of the fetch until they are returned to the caller.

    Large documents take turns; small ones are not delayed. Callers must hold a lock.

    Args:
        limit: Maximum total bytes; a larger document is admitted alone.
        documents: Maximum number of documents that are fetched but not yet returned.
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
        """The estimated size of a document: the smallest recent one.

        One large document among small ones does not delay others, and if all are large, few are started in vain.
        """
        return min(self._recent, default=0)

    def admit(self, job: Any, *, is_awaited: bool) -> bool:
        """Count a document before it is fetched, with its known or estimated size.

        Args:
            job: Its job.
            is_awaited: Whether the caller waits for this document, so it is always admitted.
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
        """Reserve memory for a document; return whether it succeeded, and release the document if not.

        ``is_all`` means that ``size`` is the full size. Otherwise the size is unknown, and after a failure the document
        is admitted alone the next time.
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
