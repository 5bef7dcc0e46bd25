"""Room in memory for the documents that are under way and waiting: large ones take turns, small ones do not notice."""

from __future__ import annotations

from collections import deque

#: So many sizes are remembered to foresee the next one.
RECENT = 8


class NoRoom(Exception):
    """A document has to come again when others are gone."""


class Room:
    """Counts bytes. Whoever uses it holds a lock.

    Args:
        limit: Bytes that are taken together, at the most; a document that is larger is let in alone.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: Whether somebody waits for what is given back.
        self.is_wanted = False
        self._taken = 0
        self._recent: deque[int] = deque(maxlen=RECENT)

    @property
    def expected(self) -> int:
        """What a document takes of which nothing is known: the least of the last ones, so that the odd large one
        among small ones holds nobody up, and where all are large few are begun in vain."""
        return min(self._recent, default=0)

    def take(self, held: int, size: int, *, anyway: bool = False) -> bool:
        """Replace what a document holds by ``size`` bytes; tell whether there was room.

        Args:
            held: Bytes that it holds already.
            size: Bytes that it takes.
            anyway: Take them even where there is no room.
        """
        others = self._taken - held
        if not anyway and others and others + size > self.limit and size > held:
            self.is_wanted = True
            return False
        self._taken = others + size
        return True

    def remember(self, size: int) -> None:
        """Learn the size of a document."""
        self._recent.append(size)
