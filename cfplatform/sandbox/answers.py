"""Answers of the API and of the object store, and the errors that end a request early."""

from __future__ import annotations

import json
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
_STORAGE_CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}


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
