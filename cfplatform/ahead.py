"""A call made before its outcome is needed, in a thread of its own."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class Ahead(Generic[T]):
    """A call that is under way; what comes of it is taken once, or given up.

    The thread ends with the call. It is a daemon and knows nothing of who waits, so an outcome that nobody takes holds
    up neither the end of the program nor the collection of garbage.

    Args:
        call: Made in the thread, with an event that ends it early.
        check: Called by who takes the outcome, before that; raises where the call would raise if it were made then.
    """

    def __init__(self, call: Callable[[threading.Event], T], check: Callable[[], object]) -> None:
        self._call = call
        self._check = check
        self._stop = threading.Event()
        self._done = threading.Event()
        self._value: T
        self._error: BaseException | None = None
        self._pid = os.getpid()

    @classmethod
    def start(cls, call: Callable[[threading.Event], T], check: Callable[[], object]) -> Self | None:
        """Begin a call; return ``None`` where no thread can be started."""
        ahead = cls(call, check)
        try:
            threading.Thread(target=ahead._run, name="cfplatform-ahead", daemon=True).start()
        except RuntimeError:
            # There are too many, or the interpreter ends: then the call is made when its outcome is needed.
            return None
        return ahead

    def _run(self) -> None:
        try:
            self._value = self._call(self._stop)
        except BaseException as error:
            # For the thread that waits, which is the one that can do something about it.
            self._error = error
        self._done.set()

    @property
    def is_done(self) -> bool:
        """Whether there is an outcome already."""
        return self._done.is_set()

    def result(self) -> T:
        """Wait for the outcome; return or raise it."""
        self._check()
        if self._pid != os.getpid() and not self._done.is_set():
            # The thread stayed in the process that this one was forked from.
            return self._call(threading.Event())
        # In slices, because an untimed wait cannot be interrupted by Ctrl-C on Windows.
        while not self._done.wait(0.5):
            pass
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            # Its traceback holds this frame, and so would hold it.
            del error

    def cancel(self) -> None:
        """Give the outcome up; what is under way ends soon."""
        # Neither a forked child nor an interpreter that ends can be sure to get the lock of the event.
        if self._pid == os.getpid() and not sys.is_finalizing():
            self._stop.set()
