"""The state, settings, planned faults and log of the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .catalogue import Catalogue
from .exports import Exports
from .faults import FaultPlan
from .recorder import Recorder
from .settings import Settings
from .storage import Signer
from .store import Store
from .webhooks import SigningKeys, Webhooks

API_PREFIX = "/api/v1"
WELL_KNOWN_PREFIX = "/api/.well-known"
#: Prefix of assets that can be read without a signature.
PUBLIC_PREFIX = "/public"
CONTROL_PREFIX = "/_sandbox"


class Platform:
    """The simulated platform, shared by the routes and the ``Sandbox`` object."""

    def __init__(self, settings: Settings) -> None:
        catalogue = Catalogue(settings)
        self.settings = settings
        self.api_key = settings.api_key or f"sandbox-key-{catalogue.ids.digest('api key', 0, 12).hex()}"
        self.store = Store(catalogue)
        self.faults = FaultPlan()
        self.recorder = Recorder()
        self.signer = Signer(catalogue.ids.digest("storage key", 0, 32), settings)
        self.exports = Exports(self.store, settings)
        self.keys = SigningKeys(catalogue.ids)
        self.webhooks = Webhooks(self.keys)
        #: Scheme, host and port.
        self.origin = ""

    def describe(self) -> dict[str, Any]:
        limit = self.settings.rate_limit
        counters = ("counts", "connections", "in_flight", "max_in_flight", "leaks")
        return {
            "base_url": self.origin + API_PREFIX,
            "api_key": self.api_key,
            "project_id": self.store.project_id,
            "space_id": self.store.space_id,
            "items": self.store.item_count,
            "batches": self.store.batch_count,
            "settings": {**self.settings.changeable(), "rate_limit": limit.per_second if limit else None},
            **{name: getattr(self.recorder, name) for name in counters},
        }

    def index(self, item: str | int) -> int:
        """Return the index of an existing work item, given by ID or index.

        Raises:
            LookupError: If there is no such work item.
        """
        index = self.store.find_item(item)
        if index is None:
            raise LookupError(f"no work item {item!r} in this sandbox")
        return index

    def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Change settings; a new ``export_seconds`` also applies to the running export.

        Raises:
            ValueError: If a setting is unknown or its value is not valid.
        """
        self.settings.change(changes)
        running = self.exports.running() if "export_seconds" in changes else None
        if running is not None:
            running.seconds = changes["export_seconds"]

    def update_work_item(
        self,
        index: int,
        *,
        status: str | None = None,
        touch: bool = True,
        document: bytes | None = None,
        always_announce: bool = False,
    ) -> None:
        """Change a work item, and send a webhook if its status changed, or always."""
        before = self.store.state(index).status
        changes = {"status": status, "document": document}
        self.store.update(index, touch=touch, **{name: new for name, new in changes.items() if new is not None})
        if always_announce or status not in (None, before):
            self._announce(index)

    def _announce(self, index: int) -> None:
        """Send a webhook to the item's own URL, else to the URL of the project."""
        item = self.store.work_item(index)
        metadata = item.get("metadata")
        own = metadata.get("callbackUrl") if isinstance(metadata, Mapping) else None
        url = own if isinstance(own, str) and own else self.settings.webhook_url
        if url is not None:
            self.webhooks.send(url, item)

    def reset(self) -> None:
        self.faults.clear()
        self.recorder.clear()
        self.store.reset()
        self.webhooks.clear()
        self.keys.reset()
        self.exports.reset()
        self.settings.reset()
