"""Making a sandbox misbehave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .faults import Fault, FaultKind, Outage, OutageStatus, RateLimit, encode_body
from .platform import Platform


class Planner:
    """The part of a sandbox that concerns planned faults, limits and delays."""

    _platform: Platform

    def fail_next(
        self,
        status: int = 503,
        *,
        times: int | None = 1,
        path: str | None = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | Mapping[str, Any] | list[Any] | None = None,
    ) -> None:
        """Answer the next requests with an error.

        Args:
            status: The status of the answer.
            times: How many requests fail; ``None`` for all until ``clear_faults()``.
            path: A shell pattern for the request path, such as ``*/annotations`` or ``/storage/*``.
            method: The HTTP method that fails; every one if omitted.
            headers: Headers added to the answer.
            body: Text, bytes, or what is to be sent as JSON; the usual error if omitted.
        """
        content, content_type = encode_body(body)
        self._plan("fail", times, path, method, status, headers, content, content_type)

    def truncate_next(
        self, times: int | None = 1, *, path: str | None = None, method: str | None = None, keep: float = 0.5
    ) -> None:
        """Announce the next answers in full, send the part ``keep`` of the body and close the connection."""
        self._platform.faults.add(Fault("truncate", times, path, method, keep=keep))

    def drip_next(
        self, times: int | None = 1, *, path: str | None = None, method: str | None = None, keep: float = 0.5
    ) -> None:
        """Send the part ``keep`` of the body of the next answers, and the rest at 20 bytes a second."""
        self._platform.faults.add(Fault("drip", times, path, method, keep=keep))

    def reset_next(self, times: int | None = 1, *, path: str | None = None, method: str | None = None) -> None:
        """Close the connection instead of answering."""
        self._platform.faults.add(Fault("reset", times, path, method))

    def html_next(
        self,
        times: int | None = 1,
        *,
        path: str | None = None,
        method: str | None = None,
        status: int = 200,
        body: bytes | None = None,
    ) -> None:
        """Answer the next requests with a web page, as a proxy or a captive portal does."""
        self._plan("html", times, path, method, status, None, body)

    def replace_next(
        self,
        body: bytes,
        *,
        content_type: str = "application/json",
        status: int = 200,
        times: int | None = 1,
        path: str | None = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the next requests with other content."""
        self._plan("replace", times, path, method, status, headers, body, content_type)

    def outage(
        self,
        seconds: float,
        status: int | OutageStatus = 500,
        at: str | Iterable[str] = (),
        *,
        after: float = 0.0,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | Mapping[str, Any] | list[Any] | None = None,
    ) -> None:
        """Let every matching request fail for some seconds.

        Several outages may be planned. While one lasts, it goes before the faults of the other methods.
        ``clear_faults()`` ends them all.

        Args:
            seconds: How long it lasts.
            status: An HTTP status from 400 to 599; ``"reset"`` or ``"close"`` to reset or close the connection
                without an answer; or ``"refused"``: open connections are cut and the port refuses new ones, also
                those to the control API.
            at: The endpoints that fail, one name or several: ``work_items``, ``batches``, ``annotations``,
                ``signedurls``, ``storage``, ``exports``, or a name that ``counts`` has. Everything but the control API
                if omitted, and always with ``"refused"``.
            after: Seconds from now until it begins.
            headers: Headers added to the answer, such as ``{"Retry-After": "5"}``.
            body: Text, bytes, or a value to send as JSON; the usual error if omitted.

        Raises:
            ValueError: If an argument is not valid, or two of them exclude each other.

        Example:
            >>> sandbox.outage(20, 503, at="annotations", headers={"Retry-After": "5"})
            >>> sandbox.outage(5, "refused", after=60)
            >>> sandbox.clear_faults()
        """
        self._platform.faults.add_outage(Outage.plan(seconds, status, at, after=after, headers=headers, body=body))

    def rate_limit(self, per_second: float | None, *, retry_after: float = 1, http_date: bool = False) -> None:
        """Refuse API requests over a rate with 429, or with ``None`` lift the limit.

        Args:
            per_second: The rate; as many requests may come at once.
            retry_after: The wait in seconds that the answer asks for.
            http_date: Whether ``Retry-After`` is a date instead of a number.
        """
        limit = None if per_second is None else RateLimit(per_second, retry_after=retry_after, http_date=http_date)
        self._platform.rate_limit = limit

    @property
    def latency(self) -> float:
        """Seconds by which every answer is delayed."""
        return self._platform.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._platform.change_settings({"latency": seconds})

    @property
    def url_lifetime(self) -> float:
        """Seconds for which URLs signed from now on work."""
        return self._platform.signer.lifetime

    @url_lifetime.setter
    def url_lifetime(self, seconds: float) -> None:
        self._platform.change_settings({"url_lifetime": seconds})

    def expire_after(self, seconds: float) -> None:
        """Let URLs signed from now on, those of exports too, work for this many seconds."""
        self._platform.change_settings({"url_lifetime": seconds, "export_url_lifetime": seconds})

    def expire_urls(self) -> None:
        """Make every URL signed so far an expired one, without waiting."""
        self._platform.signer.expire_all()

    def clear_faults(self) -> None:
        """Drop the planned faults and end all outages; latency, URL lifetime and rate limit stay."""
        self._platform.faults.clear()

    def _plan(
        self,
        kind: FaultKind,
        times: int | None,
        path: str | None,
        method: str | None,
        status: int,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        content_type: str = "",
    ) -> None:
        self._platform.faults.add(Fault(kind, times, path, method, status, headers or {}, body, content_type))
