"""Stores of deliveries that were accepted, so that an exact copy of one is noticed."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Protocol, runtime_checkable

from ..exceptions import ConfigurationError


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
