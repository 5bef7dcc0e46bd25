"""How many documents may be fetched before they are taken, and of how many bytes."""

from __future__ import annotations

from typing import Any

from .handover import Handover
from .job import Job
from .room import Room


class Limits:
    """Counts documents from the moment at which they are fetched until they are handed out.

    Only the board uses it, with its lock held.

    Args:
        handover: Tells which job the caller waits for.
        ordered: Whether jobs are handed out in the order in which they came.
        held: Documents, at the most; ``None`` for no limit.
        room: Bytes, at the most; one document that has more goes alone. ``None`` for no limit.

    Attributes:
        most: Documents, at the most.
    """

    def __init__(self, handover: Handover[Any], *, ordered: bool, held: int | None, room: int | None) -> None:
        self._handover = handover
        self._ordered = ordered
        self.most = held
        self._held = 0
        self._room = None if room is None else Room(room)

    def let_in(self, job: Job[Any]) -> bool:
        """Count a document that is about to be fetched, with its bytes as far as they are known, if there is place."""
        if self.most is not None:
            # In order by position, so that the job that is waited for can always go on.
            before = job.index - self._handover.handed_out if self._ordered else self._held
            if before >= self.most:
                return False
        if self._room is not None:
            size = self._room.expected if job.size is None else job.size
            # Nobody gives anything back before the one is there that is waited for.
            if not self._room.take(0, size, anyway=self._handover.is_awaited(job)):
                return False
            job.room = size
        job.held = True
        self._held += 1
        return True

    def make_room(self, job: Job[Any], size: int, is_all: bool) -> bool:
        """Set aside the bytes of a document; tell whether there was room. See :meth:`Pipeline.make_room`."""
        if self._room is None:
            return True
        if not self._room.take(job.room, size, anyway=self._handover.is_awaited(job)):
            job.size = size if is_all else self._room.limit
            return False
        job.room = size
        if is_all:
            self._room.remember(size)
        return True

    def release(self, job: Job[Any]) -> None:
        """Count a document no longer."""
        if job.held:
            job.held = False
            self._held -= 1
        if self._room is not None:
            self._room.take(job.room, 0)
            job.room = 0

    def was_room_wanted(self) -> bool:
        """Tell, once, whether somebody found no room, so that they are to be woken where some was given back."""
        if self._room is None or not self._room.is_wanted:
            return False
        self._room.is_wanted = False
        return True
