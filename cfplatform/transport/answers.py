"""The answers of the API: read whole, but never more than fits, and parsed."""

from __future__ import annotations

import json
from typing import Any

import requests

from ..exceptions import InvalidResponseError, blank, printable
from . import streams
from .lanes import AnyAnswer

#: Bytes of one API answer, at the most: a page of 100 items is some 50 KB.
MAX_ANSWER_BYTES = 64 * 1024 * 1024


def parsed(response: AnyAnswer, key: str) -> Any:
    """Read an answer and parse it.

    Raises:
        InvalidResponseError: If it is not whole JSON; without the key, should the server repeat that.
    """
    body = streams.whole_body(response, MAX_ANSWER_BYTES)
    try:
        return _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError):
        pass
    kind = printable(blank(response.headers.get("Content-Type", "no content type"), key)[:80])
    # Blanked before it is cut, since half a signature is not recognised as one.
    start = blank(body[:4096].decode("utf-8", "replace"), key)[:80]
    raise InvalidResponseError(
        f"The answer is not whole JSON ({kind}, {len(body)} bytes, begins with {start!r}). "
        "Check that the base URL is the CloudFactory AI Platform API.",
        status_code=response.status_code,
    )


def with_body(response: requests.Response) -> requests.Response:
    """Read an answer, and return it."""
    # What Response.content does, with a limit: that property would read a body of any size.
    response._content = streams.whole_body(response, MAX_ANSWER_BYTES)
    response._content_consumed = True  # type: ignore[attr-defined]
    return response


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
