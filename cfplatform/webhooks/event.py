"""What a delivery says once its signature is proven, why it is refused, and whether it is a copy."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn, Protocol, runtime_checkable

from .. import timestamps
from ..exceptions import ConfigurationError, WebhookVerificationError

#: Levels of objects and lists inside each other, at the most; the platform sends one.
MAX_DEPTH = 64


@dataclass(frozen=True)
class WebhookEvent:
    """A change of a work item's status, as a verified delivery told it.

    Attributes:
        work_item_id: The work item.
        status: Its new status; the platform may add statuses, so any text can come.
        asset_type: Such as ``"image"``, or ``None``.
        asset_url: The asset's place in the storage, or ``None``.
        created_at: When the work item was created, with a time zone; ``None`` if that was not said readably.
        updated_at: When it changed, with a time zone; ``None`` if that was not said readably.
        delivered_at: When the platform sent this, with a time zone. A repeated delivery has a later one.
        key_id: The key that signed it.
        delivery_id: SHA-256 of the signed body in hexadecimal: two deliveries are copies of each other exactly if it
            is the same.
    """

    work_item_id: str
    status: str
    asset_type: str | None = field(repr=False)
    asset_url: str | None = field(repr=False)
    created_at: datetime | None = field(repr=False)
    updated_at: datetime | None = field(repr=False)
    delivered_at: datetime
    key_id: str = field(repr=False)
    delivery_id: str = field(repr=False)
    _body: dict[str, Any] = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return a copy of the whole body as parsed JSON, with every field that the platform sent."""
        return copy.deepcopy(self._body)


@runtime_checkable
class SeenDeliveries(Protocol):
    """What ``WebhookVerifier(seen=...)`` takes. Redis' ``SET key 1 NX EX seconds`` is exactly this method."""

    def remember(self, delivery_id: str, seconds: float) -> bool:
        """Remember a delivery, in one step that no other thread or process can come between.

        Args:
            delivery_id: 64 hexadecimal digits.
            seconds: How long; after that the delivery is refused for its age.

        Returns:
            True if it is new, False if it was remembered already.
        """
        ...


class RecentDeliveries:
    """Remembers deliveries in the memory of this process; safe to use from many threads.

    It knows nothing of other processes and of the time before a restart.

    Args:
        max_entries: Deliveries remembered at the most, some 250 bytes each. When it is full, the oldest one is
            forgotten early, and a copy of that one would be accepted. Only deliveries with a good signature get here,
            so nobody but the platform can fill it.

    Example:
        >>> from cfplatform.webhooks import RecentDeliveries
        >>> seen = RecentDeliveries()
        >>> seen.remember("0123", 600), seen.remember("0123", 600)
        (True, False)
        >>> seen.forget("0123")
        >>> seen.remember("0123", 600)
        True
    """

    def __init__(self, max_entries: int = 100_000) -> None:
        if isinstance(max_entries, bool) or not isinstance(max_entries, int) or max_entries < 1:
            raise ConfigurationError("max_entries must be a whole number from 1 up.", parameter="max_entries")
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def remember(self, delivery_id: str, seconds: float) -> bool:
        """Remember a delivery for some seconds; return False if it was remembered already."""
        with self._lock:
            now = time.monotonic()
            while self._until and next(iter(self._until.values())) <= now:
                self._until.popitem(last=False)
            if self._until.get(delivery_id, now) > now:
                return False
            self._until[delivery_id] = now + seconds
            self._until.move_to_end(delivery_id)
            if len(self._until) > self._max_entries:
                self._until.popitem(last=False)
            return True

    def forget(self, delivery_id: str) -> None:
        """Forget a delivery that could not be handled, so that the platform may send the same one again."""
        with self._lock:
            self._until.pop(delivery_id, None)

    def __len__(self) -> int:
        return len(self._until)


def refused(
    reason: str, message: str, *, parameter: str | None = None, hint: str | None = None
) -> WebhookVerificationError:
    """Return the error for a delivery that is not accepted; its message never repeats what was delivered."""
    error = WebhookVerificationError(f"The webhook delivery was refused: {message}", parameter=parameter, hint=hint)
    error.reason = reason
    return error


def read_event(body: bytes, *, key_id: str, delivery_id: str) -> WebhookEvent:
    """Read a body whose signature is good; ``delivery_id`` is its hash."""
    data = _parsed(body)
    work_item_id, status = data.get("workItemID"), data.get("status")
    delivered_at = _moment(data.get("deliveredAt"))
    if not (isinstance(work_item_id, str) and work_item_id and isinstance(status, str) and delivered_at):
        raise refused(
            "malformed",
            "its signature is good, but the body lacks workItemID, status or a deliveredAt with a time zone. A newer "
            "release of cfplatform may know this kind of message.",
        )
    return WebhookEvent(
        work_item_id=work_item_id,
        status=status,
        asset_type=_text(data.get("assetType")),
        asset_url=_text(data.get("assetUrl")),
        created_at=_moment(data.get("createdAt")),
        updated_at=_moment(data.get("updatedAt")),
        delivered_at=delivered_at,
        key_id=key_id,
        delivery_id=delivery_id,
        _body=data,
    )


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        # Decoded here, because json.loads would also take UTF-16 and UTF-32.
        data = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not _is_flat_enough(data):
        raise refused(
            "malformed",
            "its signature is good, but the body is not one JSON object in UTF-8, or is nested deeper than "
            f"{MAX_DEPTH} levels. Check that the URL receives webhooks of the CloudFactory AI Platform only.",
        )
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_flat_enough(data: dict[str, Any]) -> bool:
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        nested = [part for part in level if isinstance(part, (dict, list))]
        level = [inner for part in nested for inner in (part.values() if isinstance(part, dict) else part)]
    return not level


def _moment(value: object) -> datetime | None:
    moment = timestamps.parse_or_none(value)
    return moment if moment is not None and moment.tzinfo is not None else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
