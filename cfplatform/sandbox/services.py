"""Steering what the platform does on its own: exports and webhooks."""

from __future__ import annotations

import os
from pathlib import Path

from .archives import ANNOTATION, COCO_JSON, CONTENTS, FORMATS, ArchivePlan
from .catalogue import WorkItemFilter
from .platform import WELL_KNOWN_PREFIX, Platform
from .webhooks import Delivery


class Services:
    """The part of a sandbox that concerns exports and webhooks."""

    _platform: Platform

    @property
    def export_seconds(self) -> float:
        """Seconds that an export takes; a new value also counts for the one that is running."""
        return self._platform.exports.seconds

    @export_seconds.setter
    def export_seconds(self, seconds: float) -> None:
        self._platform.change_settings({"export_seconds": seconds})

    @property
    def export_url_lifetime(self) -> float:
        """Seconds for which a ``downloadUrl`` given from now on works."""
        return self._platform.export_url_lifetime

    @export_url_lifetime.setter
    def export_url_lifetime(self, seconds: float) -> None:
        self._platform.change_settings({"export_url_lifetime": seconds})

    def fail_next_export(self, reason: str) -> None:
        """Let the next export that is created end as ``FAILED``, with this ``error``."""
        self._platform.exports.fail_next(reason)

    def add_export(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        format: str = COCO_JSON,
        content: str = ANNOTATION,
    ) -> str:
        """Register a file as the zip of a new export that is ``COMPLETED``.

        It may be as large as you like and need not be a zip at all. It is served from where it is, so leave it
        alone; deleting the export does not delete it.

        Args:
            path: The file.
            name: The name of the export; that of the file if omitted.
            format: The ``format`` of the export.
            content: The ``content`` of the export.

        Returns:
            The id of the export.

        Raises:
            OSError: If the file cannot be read.

        Example:
            >>> from pathlib import Path
            >>> _ = Path("any.zip").write_bytes(b"no zip at all")
            >>> export_id = sandbox.add_export("any.zip", name="broken")
        """
        if format not in FORMATS or content not in CONTENTS:
            raise ValueError(f"format is one of {FORMATS} and content one of {CONTENTS}, not {format!r}, {content!r}")
        file = Path(path).resolve(strict=True)
        return self._platform.exports.add(file, name or file.name, ArchivePlan(format, content, WorkItemFilter())).id

    @property
    def webhook_url(self) -> str | None:
        """Where webhooks go if a work item has no ``metadata.callbackUrl``; a loopback address, or nowhere."""
        return self._platform.webhook_url

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        self._platform.change_settings({"webhook_url": url})

    @property
    def jwks_url(self) -> str:
        """Where the public keys of webhooks are."""
        return f"{self._platform.origin}{WELL_KNOWN_PREFIX}/jwks.json"

    @property
    def webhook_key_id(self) -> str:
        """The id of the key that webhooks are signed with now."""
        return self._platform.keys.key_id

    def rotate_webhook_key(self, keep_old: bool = True) -> str:
        """Sign webhooks with a new key from now on.

        Args:
            keep_old: Whether the old keys stay in the published set.

        Returns:
            The id of the new key.
        """
        self._platform.keys.rotate(keep_old=keep_old)
        return self._platform.keys.key_id

    def sign_webhook(self, body: bytes) -> dict[str, str]:
        """Return the headers that a webhook with this body is sent with now.

        Example:
            >>> headers = sandbox.sign_webhook(b'{"status": "COMPLETED"}')
            >>> sorted(headers)
            ['Content-Type', 'X-Payload-Key-Id', 'X-Payload-Signature', 'X-Payload-Timestamp']
        """
        return self._platform.keys.sign(body)

    @property
    def deliveries(self) -> list[Delivery]:
        """The last webhooks (up to 10,000), oldest first, with what became of them."""
        return self._platform.webhooks.deliveries

    def wait_for_deliveries(self, timeout: float = 10.0) -> bool:
        """Wait until no webhook is on its way, and tell whether that came within ``timeout`` seconds."""
        return self._platform.webhooks.wait(timeout)
