"""The settings of a sandbox."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Literal, get_args

from .formats import MAX_OBJECTS

CursorStyle = Literal["camel", "snake"]

#: The platform's limit for the page size.
MAX_PAGE_SIZE = 100

_SECONDS = ("latency", "url_lifetime", "export_seconds", "export_url_lifetime")


class RateLimit:
    """A token bucket that holds at most one second's worth of requests."""

    def __init__(self, per_second: float, *, retry_after: float = 1, http_date: bool = False) -> None:
        if per_second <= 0 or retry_after < 0:
            raise ValueError(
                f"per_second must be above 0 and retry_after not negative, not {per_second} and {retry_after}"
            )
        self.per_second = per_second
        self._retry_after = retry_after
        self._http_date = http_date
        self._capacity = max(1.0, per_second)
        self._tokens = self._capacity
        self._filled_at = time.monotonic()

    def admit(self) -> bool:
        """Return whether another request is within the limit; only called by the server thread."""
        now = time.monotonic()
        self._tokens = min(self._capacity, self._tokens + (now - self._filled_at) * self.per_second)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    @property
    def retry_after(self) -> str:
        """The value of the Retry-After header."""
        if self._http_date:
            return formatdate(time.time() + self._retry_after, usegmt=True)
        return f"{self._retry_after:g}"


@dataclass
class Settings:
    """The arguments of ``Sandbox``; those in ``CHANGEABLE`` can be changed by ``change`` while it runs."""

    items: int
    batches: int
    seed: int
    in_review: float
    batch_names: Sequence[str]
    unbatched: int
    api_key: str | None
    latency: float
    url_lifetime: float
    page_size_default: int
    cursor_style: CursorStyle
    with_total: bool
    overlap: int
    absolute_assets: bool
    export_seconds: float
    export_url_lifetime: float
    webhook_url: str | None
    rate_limit: RateLimit | None = None

    CHANGEABLE = (*_SECONDS, "webhook_url", "rate_limit")

    def __post_init__(self) -> None:
        self.batch_names = tuple(self.batch_names)
        bounds = {
            "items": (0, MAX_OBJECTS),
            "batches": (0, MAX_OBJECTS),
            "unbatched": (0, self.items),
            "in_review": (0.0, 1.0),
            "page_size_default": (1, MAX_PAGE_SIZE),
            "overlap": (0, MAX_OBJECTS),
        }
        for name, (least, most) in bounds.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be between {least:,} and {most:,}, not {getattr(self, name):,}")
        if len(self.batch_names) > self.batches:
            raise ValueError(f"{len(self.batch_names)} batch_names were given for {self.batches} batches")
        if self.cursor_style not in get_args(CursorStyle):
            raise ValueError(f"cursor_style must be 'camel' or 'snake', not {self.cursor_style!r}")
        self.change(self.changeable())
        self._first = self.changeable()

    def changeable(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.CHANGEABLE}

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change settings; if one is not valid, none is changed.

        Raises:
            ValueError: If a setting is unknown or its value is not valid.
        """
        unknown = [name for name in changes if name not in self.CHANGEABLE]
        if unknown:
            raise ValueError(f"settings must be among {', '.join(self.CHANGEABLE)}, not {', '.join(unknown)}")
        for name, value in changes.items():
            if name == "webhook_url":
                if not isinstance(value, str | None):
                    raise ValueError(f"webhook_url must be a string, not {value!r}")
            elif name == "rate_limit":
                if not isinstance(value, RateLimit | None):
                    raise ValueError(f"rate_limit must be a RateLimit, not {value!r}")
            elif not is_finite(value) or value < 0:
                raise ValueError(f"{name} must be a number of seconds, 0 or more, not {value!r}")
        # Only the given settings: another thread may be changing others.
        for name, value in changes.items():
            setattr(self, name, value)

    def reset(self) -> None:
        self.change(self._first)


def is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False
