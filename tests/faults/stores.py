"""A platform with one finished export, and a storage with scripted responses."""

from __future__ import annotations

import io
import random
import re
import zipfile
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.http.scripted import Answer, Request, ScriptedServer, raw, said
from tests.tools import SIGNATURE

SPACE, EXPORT = "s", "e"
#: What the archive is called in the destination.
NAME = "Nightly e.zip"
EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
REFUSED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"

Give = Callable[[Request], bytes]


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that cannot be compressed."""
    return random.Random(seed).randbytes(size)


def zipped(size: int, seed: int = 0, members: int = 4) -> bytes:
    """A zip of stored random bytes, about as large as was asked for."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(members):
            archive.writestr(f"batch/{number}.bin", noise(size // members, seed + number))
    return file.getvalue()


def part(content: bytes, first: int, last: int, total: object, *headers: str, status: int = 206) -> bytes:
    """Return the answer to a request for a range."""
    return raw(status, content[first : last + 1], f"Content-Range: bytes {first}-{last}/{total}", *headers)


class Store:
    """Serves one archive by the rules of HTTP, unless an answer is planned.

    Args:
        serve: The fixture.
        content: The archive.
        etag: Its entity tag; ``None`` for none.
        cut: Bytes after which every body breaks off.
    """

    def __init__(
        self, serve: Callable[..., ScriptedServer], content: bytes, etag: str | None = '"v1"', cut: int | None = None
    ) -> None:
        self.content = content
        self.etag = etag
        self.cut = cut
        #: Answers of the storage, used up in their order.
        self.planned: deque[Give] = deque()
        #: How often a link was given.
        self.links = 0
        #: Bytes of bodies that were sent.
        self.sent = 0
        self.server = serve(default=Answer(self._answer, end="close"))

    @property
    def gets(self) -> list[Request]:
        """What the storage was asked for."""
        return [request for request in self.server.requests if request.target.startswith("/o?")]

    @property
    def ranges(self) -> list[str | None]:
        """From where it was asked for."""
        return [next(iter(request.values("Range")), None) for request in self.gets]

    def headers(self) -> list[str]:
        """The headers of an answer with the archive."""
        return ["Connection: close", *([f"ETag: {self.etag}"] if self.etag is not None else [])]

    def whole(self, request: Request) -> bytes:
        """Return what the rules of HTTP ask for."""
        wanted = re.fullmatch(r"bytes=(\d+)-", next(iter(request.values("Range")), ""))
        fresh = request.values("If-Range") in ([], [self.etag])
        start = int(wanted.group(1)) if wanted and fresh else 0
        size = len(self.content)
        if wanted and fresh and start >= size:
            return raw(416, b"", f"Content-Range: bytes */{size}", "Connection: close")
        body = self.content[start : size if self.cut is None else start + self.cut]
        self.sent += len(body)
        ranged = [f"Content-Range: bytes {start}-{size - 1}/{size}"] if wanted and fresh else []
        return raw(206 if ranged else 200, body, *ranged, *self.headers(), f"Content-Length: {size - start}")

    def broken(self, count: int) -> Give:
        """Return an answer that announces the whole archive and breaks off after some bytes."""
        return lambda request: raw(200, self.content[:count], *self.headers(), f"Content-Length: {len(self.content)}")

    def _answer(self, request: Request) -> bytes:
        if request.target.startswith("/o?"):
            return (self.planned.popleft() if self.planned else self.whole)(request)
        self.links += 1
        return said(self.export(), 200, "Connection: close")

    def export(self, **fields: Any) -> dict[str, Any]:
        """Return the export as the platform sends it."""
        return {
            "exportId": EXPORT,
            "name": "Nightly",
            "status": "COMPLETED",
            "format": "COCO_JSON",
            "downloadUrl": f"{self.server.origin}/o?X-Amz-Signature={SIGNATURE}&n={self.links}",
            **fields,
        }
