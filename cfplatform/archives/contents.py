"""The bytes of a member, inflated in steps and proven by their CRC.

Not by ``ZipFile.open``, which takes a member that ends too early, or is followed by something, for whole if the CRC
is right, and which would need the directory once more for every member that is opened.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from ..exceptions import shown
from .checks import STEP, Source, broken, data_start


class Contents(io.RawIOBase):
    """A member as a file, whose last bytes come only after size and CRC have proven right.

    Raises:
        IncompleteDownloadError: If they are others than the directory says, also when asked again.
    """

    def __init__(self, source: Source, info: zipfile.ZipInfo, closing: bool = False) -> None:
        self._source = source
        self._closing = closing
        self._name = shown(info.orig_filename)
        self._position = data_start(source, info)
        self._end = self._position + info.compress_size
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS) if info.compress_type else None
        self._packed = b""
        self._expected = info.CRC
        self._crc = 0
        self._left = info.file_size

    def chunks(self) -> Iterator[bytes]:
        """Iterate over its bytes in steps."""
        return iter(lambda: self._proven(STEP), b"")

    def readable(self) -> bool:
        return True

    def readall(self) -> bytes:
        return b"".join(self.chunks())

    def readinto(self, buffer: Any) -> int:
        data = self._proven(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if self._closing:
            self._source.close()
        super().close()

    def _proven(self, count: int) -> bytes:
        data = self._next(count)
        self._crc = zlib.crc32(data, self._crc)
        self._left -= len(data)
        if self._left <= 0 or not data:
            # Asked again after an error, it must not look like the end.
            left, self._left = self._left, -1
            if left or (data and self._next(1)) or self._crc != self._expected:
                raise broken(f"{self._name} has not the size and CRC that the directory says")
            self._left = 0
        return data

    def _take(self, count: int) -> bytes:
        data = self._source.at(self._position, min(count, self._end - self._position))
        self._position += len(data)
        return data

    def _next(self, count: int) -> bytes:
        if self._inflate is None:
            return self._take(count)
        while not self._inflate.eof:
            self._packed = self._packed or self._take(STEP)
            try:
                data = self._inflate.decompress(self._packed, count)
            except zlib.error:
                raise broken(f"{self._name} cannot be unpacked") from None
            # At its end zlib may still have output without input; neither means that the rest is missing.
            if not self._packed and not data and not self._inflate.eof:
                raise broken(f"{self._name} ends too early")
            self._packed = self._inflate.unconsumed_tail
            if data:
                return data
        if self._inflate.unused_data or self._position != self._end:
            raise broken(f"{self._name} is followed by bytes that belong to nothing")
        return b""
