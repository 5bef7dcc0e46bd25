"""Everything the server answers from: the state, the settings, the planned faults and the log."""

from __future__ import annotations

import math
from typing import Any, Literal

from .catalogue import Catalogue
from .faults import FaultPlan, RateLimit
from .recorder import Recorder
from .storage import Signer
from .store import Store

CursorStyle = Literal["camel", "snake"]

API_PREFIX = "/api/v1"
STORAGE_PREFIX = "/storage"
CONTROL_PREFIX = "/_sandbox"
BUCKET = "cf-sandbox"

#: The platform's limit on the page size.
MAX_PAGE_SIZE = 100


class Platform:
    """The imitated platform, shared by the routes and the `Sandbox` that users hold."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        api_key: str | None,
        latency: float,
        url_lifetime: float,
        page_size_default: int,
        cursor_style: CursorStyle,
        with_total: bool,
        overlap: int,
    ) -> None:
        if not 1 <= page_size_default <= MAX_PAGE_SIZE:
            raise ValueError(f"page_size_default must be between 1 and {MAX_PAGE_SIZE}, not {page_size_default}")
        if cursor_style not in ("camel", "snake"):
            raise ValueError(f"cursor_style must be 'camel' or 'snake', not {cursor_style!r}")
        if overlap < 0:
            raise ValueError(f"overlap must not be negative, not {overlap}")
        self.api_key = api_key or f"sandbox-key-{catalogue.ids.digest('api key', 0, 12).hex()}"
        self.page_size_default = page_size_default
        self.cursor_style = cursor_style
        self.with_total = with_total
        self.overlap = overlap
        self.origin = ""
        self.store = Store(catalogue, bucket=BUCKET)
        self.faults = FaultPlan()
        self.recorder = Recorder()
        self.rate_limit: RateLimit | None = None
        self.signer = Signer(
            catalogue.ids.digest("storage key", 0, 32),
            prefix=f"{STORAGE_PREFIX}/{BUCKET}/",
            lifetime=non_negative("url_lifetime", url_lifetime),
        )
        self.latency = non_negative("latency", latency)
        self._first_settings = (self.latency, self.signer.lifetime)

    @property
    def base_url(self) -> str:
        """The URL an API client is given."""
        return self.origin + API_PREFIX

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point a client here."""
        return {
            "CF_API_KEY": self.api_key,
            "CF_PLATFORM_BASE_URL": self.base_url,
            "CF_PROJECT_ID": self.store.project_id,
            "CF_SPACE_ID": self.store.space_id,
        }

    def describe(self) -> dict[str, Any]:
        """Return what the control API tells about this sandbox."""
        recorder, limit = self.recorder, self.rate_limit
        return {
            "base_url": self.base_url,
            "api_key": self.api_key,
            "project_id": self.store.project_id,
            "space_id": self.store.space_id,
            "items": self.store.catalogue.items,
            "batches": self.store.catalogue.batches,
            "settings": {
                "latency": self.latency,
                "url_lifetime": self.signer.lifetime,
                "rate_limit": limit.per_second if limit else None,
            },
            "counts": recorder.counts,
            "connections": recorder.connections,
            "in_flight": recorder.in_flight,
            "max_in_flight": recorder.max_in_flight,
            "leaks": recorder.leaks,
        }

    def reset(self) -> None:
        """Bring back the state, the settings, the log and the faults of the beginning."""
        self.faults.clear()
        self.recorder.clear()
        self.store.reset()
        self.rate_limit = None
        self.latency, self.signer.lifetime = self._first_settings


def non_negative(name: str, value: float) -> float:
    """Return a setting in seconds.

    Raises:
        ValueError: If it is not a finite number of at least 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a number of seconds, 0 or more, not {value!r}")
    return value
