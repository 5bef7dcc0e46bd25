"""Webhooks: prove that a delivery was signed by the platform, is fresh, and is meant for you.

Needs the extra ``webhooks`` (cryptography), which is imported when the first verifier is built.
"""

from __future__ import annotations

from .event import WebhookEvent
from .seen import RecentDeliveries, SeenDeliveries
from .verifying import MAX_BODY_BYTES, Headers, WebhookVerifier

__all__ = ["MAX_BODY_BYTES", "Headers", "RecentDeliveries", "SeenDeliveries", "WebhookEvent", "WebhookVerifier"]
