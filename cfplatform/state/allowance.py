"""What a run that is killed may cost the next one: files that nobody knows of are fetched again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import State


class Allowance:
    """Entered while a document is fetched; has rows written down in time.

    Documents under way and files whose rows wait in memory are, together, never more than one for each worker.

    Args:
        workers: Documents under way at the same time, at the most.
        state: Returns the state, once it is open.
    """

    def __init__(self, workers: int, state: Callable[[], State]) -> None:
        self._workers = workers
        self._state = state
        self._under_way = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        state = self._state()
        with self._lock:
            self._under_way += 1
        try:
            if self._under_way + state.waiting > self._workers:
                state.flush()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._under_way -= 1
