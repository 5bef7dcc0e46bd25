"""The bytes of a member, inflated in steps and proven by their CRC."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from ..exceptions import shown
from .directory import STEP, STORED, Entry, Source, broken, data_start


def contents(source: Source, entry: Entry) -> Iterator[bytes]:
    """Yield the bytes of a member in steps; the last step comes only after size and CRC have proven right.

    Raises:
        IncompleteDownloadError: If they are others than the directory says.
    """
    crc = count = 0
    held = b""
    for chunk in _unpacked(source, entry, data_start(source, entry)):
        count += len(chunk)
        if count > entry.size:
            break
        crc = zlib.crc32(chunk, crc)
        if held:
            yield held
        held = chunk
    if (count, crc) != (entry.size, entry.crc):
        raise broken(f"{shown(entry.name)} has not the size and CRC that the directory says")
    if held:
        yield held


def _unpacked(source: Source, entry: Entry, position: int) -> Iterator[bytes]:
    end = position + entry.compressed
    if entry.method == STORED:
        for offset in range(position, end, STEP):
            yield source.read(offset, min(STEP, end - offset))
        return
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = b""
    while not inflate.eof:
        if not packed:
            packed = source.read(position, min(STEP, end - position))
            position += len(packed)
        try:
            chunk = inflate.decompress(packed, STEP)
        except zlib.error:
            raise broken(f"{shown(entry.name)} cannot be unpacked") from None
        # At its end zlib may still have output without input; neither means that the rest is missing.
        if not packed and not chunk and not inflate.eof:
            raise broken(f"{shown(entry.name)} ends too early")
        packed = inflate.unconsumed_tail
        if chunk:
            yield chunk
    if inflate.unused_data or position != end:
        raise broken(f"{shown(entry.name)} is followed by bytes that belong to nothing")
