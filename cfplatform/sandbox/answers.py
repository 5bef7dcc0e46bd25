"""Answers of the API and of the object store, and the errors that end a request early."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    429: "rate_limited",
    500: "internal_error",
    503: "unavailable",
}
#: How much of a file is in memory while it is sent.
PIECE = 1 << 18

_STORAGE_CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}


class FilePart(Response):
    """An answer whose body is a part of a file, which is read while it is sent."""

    def __init__(self, path: Path, start: int, stop: int, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=status, headers={**headers, "Content-Length": str(stop - start)})
        self.path = path
        self.start = start
        self.stop = stop

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield a section of the body."""
        with self.path.open("rb") as file:
            file.seek(self.start + start)
            left = stop - start
            while left > 0 and (piece := file.read(min(left, PIECE))):
                left -= len(piece)
                yield piece


def body_size(response: Response) -> int:
    """Return how long the body of an answer is."""
    return response.stop - response.start if isinstance(response, FilePart) else len(response.body)


def body_pieces(response: Response, start: int, stop: int) -> Iterator[bytes]:
    """Yield a section of the body of an answer."""
    if isinstance(response, FilePart):
        return response.pieces(start, stop)
    return iter((bytes(response.body[start:stop]),))


class ApiError(Exception):
    """An error that a route answers with."""

    def __init__(self, status: int, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers

    def response(self) -> Response:
        """Return the answer in the API's own form."""
        return api_error(self.status, self.message, self.headers)


def api_error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error of the API."""
    content = {"code": _CODES.get(status, f"http_{status}"), "message": message}
    return JSONResponse(content, status, headers=headers)


def storage_error(
    status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """Return an error of the object store."""
    code = code or _STORAGE_CODES.get(status, "InvalidRequest")
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    )
    return Response(body, status, headers=headers, media_type="application/xml")


async def read_json(request: Request) -> Any:
    """Return the body of a request.

    Raises:
        ApiError: If it is not JSON.
    """
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from error
