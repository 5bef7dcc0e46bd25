"""The threads of a run: started as there is use for them, told to stop when it ends, and waited for."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable

#: Seconds that the end of a run waits for threads that are still in a request. They are daemons and end by
#: themselves.
JOIN_TIMEOUT = 1.0
#: The same for each run that a program left open when it ended; there may be some of them.
EXIT_TIMEOUT = 0.4


class Threads:
    """The threads of one run; leaving the ``with`` block ends them. Not safe for threads: its user has a lock.

    Args:
        name: How their names begin.
        halt: Tells all of them to stop.
    """

    def __init__(self, name: str, halt: Callable[[], None]) -> None:
        self._name = name
        self._halt = halt
        self._pid = os.getpid()
        self._threads: list[threading.Thread] = []
        self._has_ended = False

    def __len__(self) -> int:
        return len(self._threads)

    def start(self, target: Callable[[], None]) -> None:
        """Start one more."""
        thread = threading.Thread(target=target, name=f"{self._name}-{len(self._threads)}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def __enter__(self) -> None:
        # While the interpreter shuts down a thread may be frozen with a lock in its hands, so a run that was left open
        # is ended before that.
        atexit.register(self._end, EXIT_TIMEOUT)

    def __exit__(self, *_: object) -> None:
        atexit.unregister(self._end)
        self._end()

    def _end(self, timeout: float = JOIN_TIMEOUT) -> None:
        if self._pid != os.getpid():
            # A forked child has copies of the run and of its locks, but not the threads that would give them back.
            return
        self._halt()
        if self._has_ended:
            # A run that was left open is ended before the interpreter closes it; who waits once has waited enough.
            return
        self._has_ended = True
        for thread in list(self._threads):
            thread.join(timeout / len(self._threads))
