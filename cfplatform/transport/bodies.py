"""What goes to the storage, and what is fetched from it in several attempts that go on where the last one stopped."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping
from typing import BinaryIO, Protocol

from .retry import Interrupted


class Resumed(Protocol):
    """An object that is fetched in several attempts."""

    def headers(self) -> Mapping[str, str]:
        """Return what the next attempt asks for, such as ``Range`` and ``If-Range``."""

    def position(self) -> int:
        """Return how many bytes are there."""


class Body:
    """The bytes of a file from where it stands on, sent in steps and read again from there by each attempt.

    Args:
        file: Open for reading in binary mode, and able to seek.
        size: Bytes to send. More that follow are left alone; fewer are an error.
        stop: Ends the sending early when it is set.
        sent: Called with the bytes that were sent, as they go; with a negative number when they are sent again.

    Attributes:
        failure: What went wrong with the file; to the layers below it looks like a fault of the network.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        *,
        stop: threading.Event | None = None,
        sent: Callable[[int], object] | None = None,
    ) -> None:
        self.size = size
        self.failure: OSError | None = None
        self._file = file
        self._start = file.tell()
        self._at = 0
        self._stop = stop
        self._sent = sent

    def read(self, amount: int = -1) -> bytes:
        """Read the next bytes, at most that many."""
        if self._stop is not None and self._stop.is_set():
            raise Interrupted
        left = self.size - self._at
        wanted = left if amount < 0 else min(amount, left)
        try:
            piece = self._file.read(wanted) if wanted else b""
            if len(piece) < wanted:
                raise OSError(f"it ended after {self._at + len(piece)} of {self.size} bytes")
        except OSError as error:
            self.failure = error
            raise
        self._move(len(piece))
        return piece

    def tell(self) -> int:
        """Return the position, counted from the first byte to send."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; only from the start, as the layers below do to send it again."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        self._file.seek(self._start + offset)
        self._move(offset - self._at)
        return self._at

    def _move(self, by: int) -> None:
        self._at += by
        if self._sent is not None and by:
            self._sent(by)
