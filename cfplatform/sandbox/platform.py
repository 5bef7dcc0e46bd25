"""Everything the server answers from: the state, the settings, the planned faults and the log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from .catalogue import Catalogue
from .exports import Exports
from .faults import FaultPlan, RateLimit
from .keys import SigningKeys
from .recorder import Recorder
from .storage import Signer
from .store import Store
from .webhooks import Webhooks, callback_url

CursorStyle = Literal["camel", "snake"]

API_PREFIX = "/api/v1"
WELL_KNOWN_PREFIX = "/api/.well-known"
STORAGE_PREFIX = "/storage"
#: Where assets can be read by everybody.
PUBLIC_PREFIX = "/public"
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
        absolute_assets: bool,
        export_seconds: float,
        export_url_lifetime: float,
        webhook_url: str | None,
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
        self.webhook_url = webhook_url
        self._absolute_assets = absolute_assets
        self._origin = ""
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
        self.export_url_lifetime = non_negative("export_url_lifetime", export_url_lifetime)
        self.exports = Exports(self.store, seconds=non_negative("export_seconds", export_seconds))
        self.keys = SigningKeys(catalogue.ids)
        self.webhooks = Webhooks(self.keys)
        self._first_settings = self.settings()

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self._origin

    @origin.setter
    def origin(self, origin: str) -> None:
        self._origin = origin
        if self._absolute_assets:
            self.store.asset_prefix = f"{origin}{PUBLIC_PREFIX}/assets/"

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
            "items": self.store.item_count,
            "batches": self.store.batches.count,
            "settings": {**self.settings(), "rate_limit": limit.per_second if limit else None},
            "counts": recorder.counts,
            "connections": recorder.connections,
            "in_flight": recorder.in_flight,
            "max_in_flight": recorder.max_in_flight,
            "leaks": recorder.leaks,
        }

    def settings(self) -> dict[str, Any]:
        """Return the settings that can be changed, without the rate limit."""
        return {
            "latency": self.latency,
            "url_lifetime": self.signer.lifetime,
            "export_seconds": self.exports.seconds,
            "export_url_lifetime": self.export_url_lifetime,
            "webhook_url": self.webhook_url,
        }

    def change_settings(self, settings: Mapping[str, Any]) -> None:
        """Change some of the settings, or none if one is not valid.

        Raises:
            ValueError: If there is no such setting, or its value is not valid.
        """
        known = self.settings()
        if settings.keys() - known.keys():
            raise ValueError(f"settings are {', '.join(known)}, not {', '.join(settings.keys() - known.keys())}")
        for name, value in settings.items():
            if name != "webhook_url":
                non_negative(name, value)
            elif not isinstance(value, str | None):
                raise ValueError(f"webhook_url must be a string, not {value!r}")
        # Only what was given is set: another thread may be changing the rest.
        for name, value in settings.items():
            setattr(*self._setting(name), value)

    def _setting(self, name: str) -> tuple[object, str]:
        """Return where a setting is kept: the object and its attribute."""
        if name == "url_lifetime":
            return self.signer, "lifetime"
        return (self.exports, "seconds") if name == "export_seconds" else (self, name)

    def update_work_item(
        self, index: int, *, status: str | None = None, touch: bool = True, document: bytes | None = None
    ) -> None:
        """Change a work item, and send a webhook if its status is another one now."""
        before = self.store.state(index).status
        self.store.update(index, status=status, touch=touch, document=document)
        if status not in (None, before):
            self._announce(index)

    def set_status(self, index: int, status: str) -> None:
        """Set the status of a work item and send a webhook, also if it is the same as before."""
        self.store.update(index, status=status)
        self._announce(index)

    def _announce(self, index: int) -> None:
        item = self.store.work_item(index)
        url = callback_url(item, self.webhook_url)
        if url is not None:
            self.webhooks.send(url, item)

    def reset(self) -> None:
        """Bring back the state, the settings, the log and the faults of the beginning."""
        self.faults.clear()
        self.recorder.clear()
        self.store.reset()
        self.webhooks.clear()
        self.keys.reset()
        self.exports.reset()
        self.rate_limit = None
        self.change_settings(self._first_settings)


def non_negative(name: str, value: float) -> float:
    """Return a setting in seconds.

    Raises:
        ValueError: If it is not a finite number of at least 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a number of seconds, 0 or more, not {value!r}")
    return value
