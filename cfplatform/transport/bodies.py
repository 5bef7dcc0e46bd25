"""What goes to the storage, and what is fetched from it in several attempts that go on where the last one stopped."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping
from typing import BinaryIO, Protocol

from ..exceptions import UploadError, printable, shown
from .retry import Interrupted


class Resumed(Protocol):
    """An object that is fetched in several attempts."""

    def headers(self) -> Mapping[str, str]:
        """Return what the next attempt asks for, such as ``Range`` and ``If-Range``."""
        ...

    def position(self) -> int:
        """Return how many bytes are there."""
        ...


class Body:
    """The bytes of a file from where it stands on, sent in steps and read again from there by each attempt.

    What goes wrong with the file is raised as :class:`UploadError`, which the layers below do not take for a fault of
    the network and so do not repeat.

    Args:
        file: Open for reading in binary mode, and able to seek.
        size: Bytes to send.
        name: What errors call the file.
        stop: Ends the sending early when it is set.
        is_unchanged: Asked before the last bytes leave: a file that changed meanwhile never becomes a whole object.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        *,
        name: object = "the file",
        stop: threading.Event | None = None,
        is_unchanged: Callable[[], bool] | None = None,
    ) -> None:
        self.size = size
        self._file = file
        self._name = name
        self._start = file.tell()
        self._at = 0
        self._stop = stop
        self._is_unchanged = is_unchanged

    def read(self, amount: int = -1) -> bytes:
        """Read the next bytes, at most that many."""
        if self._stop is not None and self._stop.is_set():
            raise Interrupted
        left = self.size - self._at
        wanted = left if amount < 0 else min(amount, left)
        problem = ""
        piece = b""
        try:
            # A file object may give fewer bytes than there are.
            while len(piece) < wanted and (more := self._file.read(wanted - len(piece))):
                piece += more
            if piece and wanted == left and self._is_unchanged is not None and not self._is_unchanged():
                problem = "it changed"
        except Exception as error:
            # Of any class: a file object may be anybody's.
            problem = _words(error)
        if not problem and len(piece) < wanted:
            problem = f"it ended after {self._at + len(piece)} of {self.size} bytes"
        if problem:
            raise self._failed(problem)
        self._at += len(piece)
        return piece

    def tell(self) -> int:
        """Return the position, counted from the first byte to send."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; only from the start, as the layers below do to send it again."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        problem = ""
        try:
            self._file.seek(self._start + offset)
        except Exception as error:
            problem = _words(error)
        if problem:
            raise self._failed(problem)
        self._at = offset
        return offset

    def _failed(self, problem: str) -> UploadError:
        return UploadError(f"{shown(self._name)} could not be read to its end while it was sent: {problem}.")


def _words(error: Exception) -> str:
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
