"""A call in a thread of its own, which can be waited for, for a limited time, or given up."""

from __future__ import annotations

import contextvars
import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar, cast

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class Background(Generic[T]):
    """A call that is under way.

    The thread ends with the call. It is a daemon and knows nothing of who waits, so an outcome that nobody takes holds
    up neither the end of the program nor the collection of garbage.
    """

    def __init__(self, call: Callable[[threading.Event], T]) -> None:
        self._call = call
        self._stop = threading.Event()
        self._done = threading.Event()
        self._value: T | None = None
        self._error: BaseException | None = None
        self._pid = os.getpid()

    @classmethod
    def start(cls, call: Callable[[threading.Event], T], name: str) -> Self:
        """Begin a call; where no thread can be started it is made at once.

        Args:
            call: Made in the thread, with an event that ends it early.
            name: What the thread is called, behind "cfplatform-".
        """
        background = cls(call)
        try:
            # In the caller's context, so that a tracer knows which trace a request belongs to.
            run = functools.partial(contextvars.copy_context().run, background._run)
            threading.Thread(target=run, name=f"cfplatform-{name}", daemon=True).start()
        except RuntimeError:
            # There are too many, or the interpreter ends.
            background._run()
        return background

    def _run(self) -> None:
        try:
            self._value = self._call(self._stop)
        except BaseException as error:
            # For the thread that waits, which is the one that can do something about it.
            self._error = error
        self._done.set()

    @property
    def is_lost(self) -> bool:
        """Whether the thread stayed in the process that this one was forked from."""
        return self._pid != os.getpid() and not self._done.is_set()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the outcome; return or raise it.

        Raises:
            TimeoutError: If there is none in time.
        """
        # In slices, because an untimed wait cannot be interrupted by Ctrl-C on Windows.
        while not self._done.wait(0.5 if timeout is None else timeout):
            if timeout is not None:
                raise TimeoutError
        error, self._error = self._error, None
        if error is None:
            return cast(T, self._value)
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
