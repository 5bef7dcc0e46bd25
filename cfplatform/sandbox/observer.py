"""Seeing what was asked of a sandbox."""

from __future__ import annotations

from .recorder import RecordedRequest, Recorder


class Observer:
    """The part of a sandbox that concerns the log of requests."""

    _recorder: Recorder

    @property
    def requests(self) -> list[RecordedRequest]:
        """The last requests (up to 200,000), oldest first."""
        return self._recorder.requests

    @property
    def counts(self) -> dict[str, int]:
        """How many requests there were of each kind."""
        return self._recorder.counts

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return self._recorder.in_flight

    @property
    def max_in_flight(self) -> int:
        """How many requests were being answered at once, at most."""
        return self._recorder.max_in_flight

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        return self._recorder.connections

    @property
    def leaks(self) -> int:
        """How many requests brought an API key or other credentials to the storage."""
        return self._recorder.leaks

    def clear_requests(self) -> None:
        """Empty the log and set the counters to zero."""
        self._recorder.clear()
