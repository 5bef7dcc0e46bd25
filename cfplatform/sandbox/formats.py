"""IDs, times (microseconds since 1970, UTC), and loopback addresses."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import time
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from uuid import UUID

SECOND = 1_000_000
HOUR = 3600 * SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII)

_INDEX_BITS = 32
_MASK = (1 << _INDEX_BITS) - 1
#: Multiplication by an odd number modulo a power of two is a permutation, so neighbors get dissimilar IDs.
_MULTIPLIER = 0x9E3779B1
_INVERSE = pow(_MULTIPLIER, -1, 1 << _INDEX_BITS)

#: Maximum number of objects of one kind.
MAX_OBJECTS = 1 << _INDEX_BITS


def parse_time(text: str) -> int:
    """Read an RFC 3339 date and time.

    Raises:
        ValueError: If the text is anything else, for example a date alone or a time without an offset.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 date and time: {text!r}")
    date, clock, fraction, zulu, sign, hours, minutes = match.groups()
    moment = datetime.fromisoformat(f"{date}T{clock}+00:00") - _EPOCH
    if not zulu:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        moment += offset if sign == "-" else -offset
    return moment // timedelta(microseconds=1) + int((fraction or "").ljust(6, "0")[:6])


def render_time(micros: int) -> str:
    """Format a time as RFC 3339 with ``Z``; with a fraction of a second only if there is one."""
    moment = _EPOCH + timedelta(microseconds=micros)
    precision = "microseconds" if micros % 1000 else "milliseconds" if micros % SECOND else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def now() -> int:
    return int(time.time() * SECOND)


class Identifiers:
    """Derives all IDs and other pseudo-random values of a sandbox from its seed.

    There is no table: an ID contains its index in the first 32 bits and a keyed hash of it in the others, so looking up
    an ID costs the same in a sandbox of ten items and in one of ten million.
    """

    def __init__(self, seed: int) -> None:
        self._key = hashlib.blake2b(b"cfplatform sandbox %d" % seed, digest_size=32).digest()
        self._offsets: dict[str, int] = {}

    def digest(self, label: str, number: int, size: int = 64) -> bytes:
        """Return ``size`` bytes that depend only on the seed, the label and the number."""
        return hashlib.blake2b(b"%s:%d" % (label.encode(), number), key=self._key, digest_size=size).digest()

    def encode(self, kind: str, index: int) -> str:
        """Return the ID of the ``index``-th object of a kind: a lower-case UUID in the form of version 4."""
        masked = (index * _MULTIPLIER + self._offset(kind)) & _MASK
        tail = self.digest(kind, index, 12).hex()
        variant = "89ab"[int(tail[8], 16) & 3]
        return f"{masked:08x}-{tail[:4]}-4{tail[5:8]}-{variant}{tail[9:12]}-{tail[12:]}"

    def decode(self, kind: str, text: str) -> int | None:
        """Return the index of an ID, or ``None`` if it is not an ID of this sandbox and kind."""
        try:
            masked = int(text[:8], 16)
        except ValueError:
            return None
        index = ((masked - self._offset(kind)) * _INVERSE) & _MASK
        return index if self.encode(kind, index) == text.lower() else None

    def _offset(self, kind: str) -> int:
        """Return the offset of the numbering of a kind, so that an item and its asset have dissimilar IDs."""
        if kind not in self._offsets:
            self._offsets[kind] = int.from_bytes(self.digest(f"offset {kind}", 0, 4), "big")
        return self._offsets[kind]


def is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


@lru_cache(maxsize=64)
def is_loopback(host: str | None) -> bool:
    """Return whether a host is this machine, without a name lookup."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
