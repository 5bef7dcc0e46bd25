"""A call in a separate thread. Its result can be waited for with a timeout, or abandoned."""

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
    """A call in a thread: a prefetched page, a name lookup, a request for a public document.

    The thread is a daemon, ends with the call and has no reference to the owner of this object. An abandoned result
    delays neither the end of the program nor garbage collection.

    Args:
        call: Runs in the thread; gets an event that ends it early. Runs in the calling thread if no thread can start.
        name: Name of the thread, after ``cfplatform-``.
        check: Called before a result is returned; raises if the result must not be used anymore.
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
        # In the caller's context: a tracer must know the trace of a request.
        run = functools.partial(contextvars.copy_context().run, self._run)
        try:
            threading.Thread(target=run, name=f"cfplatform-{name}", daemon=True).start()
        except RuntimeError:
            # Too many threads, or the interpreter is shutting down.
            self._run()

    def _run(self) -> None:
        try:
            self._value = self._call(self._stop)
        except BaseException as error:
            # Raised in the waiting thread.
            self._error = error
        self._done.set()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result and return it, or raise the exception of the call.

        Raises:
            TimeoutError: If the call has not ended in time.
            RuntimeError: In a forked child, if the thread is in the parent process.
        """
        if self._check is not None:
            self._check()
        if self._pid != os.getpid() and not self._done.is_set():
            raise RuntimeError("The thread of this call is in another process.")
        # In slices: on Windows, Ctrl-C does not interrupt a wait without a timeout.
        while not self._done.wait(0.5 if timeout is None else timeout):
            if timeout is not None:
                raise TimeoutError
        error, self._error = self._error, None
        if error is None:
            return cast(T, self._value)
        try:
            raise error
        finally:
            # Avoids a reference cycle: the traceback refers to this frame.
            del error

    def cancel(self) -> None:
        """Abandon the result; the call ends early."""
        # In a forked child or at interpreter shutdown, the lock of the event may never be released.
        if self._pid == os.getpid() and not sys.is_finalizing():
            self._stop.set()
