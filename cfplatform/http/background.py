"""A call in a separate thread, whose result can be waited for with a time limit, or abandoned."""

from __future__ import annotations

import contextvars
import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Background(Generic[T]):
    """A call in a thread: a page that is prefetched, a name lookup, the request for a public document.

    The thread is a daemon, ends with the call and has no reference to the owner of this object. So an abandoned
    result delays neither the end of the program nor garbage collection.

    Args:
        call: Runs in the thread, with an event that ends it early. If no thread can be started, it runs at once.
        name: Name of the thread, after ``cfplatform-``.
        check: Called before a result is returned; raises if it must not be used any more.
    """

    def __init__(
        self, call: Callable[[threading.Event], T], name: str, check: Callable[[], object] | None = None
    ) -> None:
        self._call = call
        self._check = check
        self._stop = threading.Event()
        self._done = threading.Event()
        self._value: T | None = None
        self._error: BaseException | None = None
        self._pid = os.getpid()
        # In the caller's context, so that a tracer knows which trace a request belongs to.
        run = functools.partial(contextvars.copy_context().run, self._run)
        try:
            threading.Thread(target=run, name=f"cfplatform-{name}", daemon=True).start()
        except RuntimeError:
            # There are too many, or the interpreter is shutting down.
            self._run()

    def _run(self) -> None:
        try:
            self._value = self._call(self._stop)
        except BaseException as error:
            # For the waiting thread, which can handle it.
            self._error = error
        self._done.set()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result; return it, or raise what the call raised.

        Raises:
            TimeoutError: If the call has not ended in time.
            RuntimeError: If the thread is in the process that this one was forked from.
        """
        if self._check is not None:
            self._check()
        if self._pid != os.getpid() and not self._done.is_set():
            raise RuntimeError("The thread of this call is in another process.")
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
        """Abandon the result; the call ends soon."""
        # Neither a forked child nor an interpreter that is shutting down can be sure to get the lock of the event.
        if self._pid == os.getpid() and not sys.is_finalizing():
            self._stop.set()
