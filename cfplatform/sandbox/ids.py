"""Identifiers that look random and can be turned back into the number they were made from."""

from __future__ import annotations

import hashlib
from uuid import UUID

_INDEX_BITS = 32
_MASK = (1 << _INDEX_BITS) - 1
#: Multiplying by an odd number modulo a power of two is a permutation, so neighbours get unlike ids.
_MULTIPLIER = 0x9E3779B1
_INVERSE = pow(_MULTIPLIER, -1, 1 << _INDEX_BITS)

#: The highest number of objects of one kind.
MAX_OBJECTS = 1 << _INDEX_BITS


class Identifiers:
    """Derives every id and every other pseudo-random value of a sandbox from its seed.

    No table is kept: an id carries its index in the first 32 bits and a keyed hash of it in the others, so
    looking up an id costs the same in a sandbox of ten items and of ten million.
    """

    def __init__(self, seed: int) -> None:
        self._key = hashlib.blake2b(b"cfplatform sandbox %d" % seed, digest_size=32).digest()
        self._offsets: dict[str, int] = {}

    def digest(self, label: str, number: int, size: int = 64) -> bytes:
        """Return ``size`` bytes that depend on the seed, the label and the number only."""
        return hashlib.blake2b(b"%s:%d" % (label.encode(), number), key=self._key, digest_size=size).digest()

    def encode(self, kind: str, index: int) -> str:
        """Return the UUID (version 4 in looks, lower case) of the ``index``-th object of a kind."""
        masked = (index * _MULTIPLIER + self._offset(kind)) & _MASK
        tail = self.digest(kind, index, 12).hex()
        variant = "89ab"[int(tail[8], 16) & 3]
        return f"{masked:08x}-{tail[:4]}-4{tail[5:8]}-{variant}{tail[9:12]}-{tail[12:]}"

    def decode(self, kind: str, text: str) -> int | None:
        """Return the index an id was made from, or ``None`` if it is not an id of this sandbox and kind."""
        try:
            masked = int(text[:8], 16)
        except ValueError:
            return None
        index = ((masked - self._offset(kind)) * _INVERSE) & _MASK
        return index if self.encode(kind, index) == text.lower() else None

    def _offset(self, kind: str) -> int:
        """Return where the numbering of a kind begins, so that an item and its asset have unlike ids."""
        if kind not in self._offsets:
            self._offsets[kind] = int.from_bytes(self.digest(f"offset {kind}", 0, 4), "big")
        return self._offsets[kind]


def is_uuid(text: str) -> bool:
    """Tell whether a text has the form of a UUID."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
