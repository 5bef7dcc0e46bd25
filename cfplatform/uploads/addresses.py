"""Addresses to upload to: asked for ten at a time, and never more than there are files."""

from __future__ import annotations

import copy
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .. import transport
from ..exceptions import CFPlatformError, InvalidResponseError, RateLimitError, ServerError, TransportError
from ..transport import Interrupted, Transport

#: Addresses in one request, at the most (published reference).
MAX_URLS = 10
#: Seconds that whoever asks for addresses waits for more files to join.
LINGER = 0.05
#: Seconds before addresses that could not be had are asked for again, beyond the repeats of each request: they are one
#: endpoint for all files, so an outage is sat out rather than paid for with the files that wait. A success starts the
#: pauses anew; once they are used up, further files fail without one.
SIGN_PAUSES = (5.0, 15.0, 40.0, 60.0, 120.0)

#: What may be over in a while. Every other refusal would meet each file, and so ends the run.
OUTAGE = (TransportError, RateLimitError, ServerError)


@dataclass(frozen=True)
class Address:
    """Where one file may go.

    Attributes:
        path: The place inside the space.
        url: The signed URL.
        answer: Counts the answers that addresses came with.
    """

    path: str
    url: str = field(repr=False)
    answer: int


class Addresses:
    """The addresses of one run, shared by its workers: who finds none asks for those of all files that wait.

    Args:
        calls: The transport.
        space_id: The space.
        stop: Ends waits early when it is set; :meth:`wake` is to be called then.
        pauses: Seconds to wait, in turn, while no address can be had.
    """

    def __init__(self, calls: Transport, space_id: str, stop: threading.Event, pauses: tuple[float, ...]) -> None:
        self._calls = calls
        self._path = transport.path("spaces", space_id, "signedurls")
        self._stop = stop
        self._pauses = pauses
        self._changed = threading.Condition()
        self._free: deque[Address] = deque()
        # Files without an address, and addresses that are being asked for.
        self._needed = self._asked = 0
        self._is_complete = False
        self._answers = 0
        self._refusals = 0
        self._refusal: CFPlatformError | None = None
        self._gave_up = False

    def need(self, count: int) -> None:
        """Say that one more file needs an address (1), or one less (-1)."""
        with self._changed:
            self._needed += count
            self._changed.notify_all()

    def complete(self) -> None:
        """Say that no more files will come, so that there is nothing to wait for."""
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()

    def wake(self) -> None:
        """Let everybody look at the stop event."""
        with self._changed:
            self._changed.notify_all()

    def replace(self, refused: Address) -> None:
        """Say that an address was refused, so that its file needs another."""
        with self._changed:
            # Those that came with it, or before it, are no younger.
            self._free = deque(address for address in self._free if address.answer > refused.answer)
            self._needed += 1
            self._changed.notify_all()

    def take(self) -> Address:
        """Take an address.

        Raises:
            CFPlatformError: If none can be had.
        """
        refusals = self._refusals
        while True:
            with self._changed:
                missing = self._wait(refusals)
                if self._free:
                    self._needed -= 1
                    return self._free.popleft()
                refusal = self._refusal
                self._asked += missing
            if not missing and refusal is not None:
                # A copy, because others raise it too.
                raise copy.copy(refusal)
            self._ask_for(missing)

    def _wait(self, refusals: int) -> int:
        """Wait for an address, for a refusal, or for a reason to ask; return how many are to be asked for."""
        lingered = False
        while not self._free and self._refusals == refusals:
            if self._stop.is_set():
                raise Interrupted
            missing = self._needed - self._asked
            if missing >= MAX_URLS or (missing > 0 and (self._is_complete or lingered)):
                return min(missing, MAX_URLS)
            lingered = not self._changed.wait(LINGER if missing > 0 else None)
        return 0

    def _ask_for(self, count: int) -> None:
        answer: dict[str, str] = {}
        refusal: CFPlatformError | None = None
        try:
            answer = self._ask_patiently(count)
        except OUTAGE as error:
            # Without its traceback, since it outlives this call.
            refusal = error.with_traceback(None)
        with self._changed:
            self._asked -= count
            self._answers += 1
            self._free.extend(Address(path, url, self._answers) for path, url in answer.items())
            if refusal is not None:
                self._refusal = refusal
                self._refusals += 1
            self._changed.notify_all()

    def _ask_patiently(self, count: int) -> dict[str, str]:
        pauses = iter(() if self._gave_up else self._pauses)
        while True:
            try:
                answer = self._ask(count)
            except OUTAGE:
                pause = next(pauses, None)
                if pause is None:
                    self._gave_up = True
                    raise
            else:
                self._gave_up = False
                return answer
            if self._stop.wait(pause):
                raise Interrupted

    def _ask(self, count: int) -> dict[str, str]:
        answer: Any = self._calls.get_json(self._path, [("count", str(count))], stop=self._stop)
        entries = answer.get("items") if isinstance(answer, dict) else None
        found = {
            entry["path"]: entry["signedUrl"]
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict) and _is_text(entry.get("path")) and _is_text(entry.get("signedUrl"))
        }
        if not found:
            raise InvalidResponseError("The answer to a request for upload URLs holds none.", method="GET")
        return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
