"""COCO documents as bytes: prove that they are whole, and set ``info.asset_url`` without touching the rest."""

from __future__ import annotations

import json
import re
from typing import Any

from .exceptions import InvalidResponseError
from .scanning import Edit, find_edit

#: Documents up to this size are proven by parsing them whole; above it, by their framing, length and ends.
PARSE_LIMIT = 8 * 1024 * 1024
#: Documents up to this size are parsed for a caller who asks for the parsed document; parsed, one takes several times
#: as much memory.
LOAD_LIMIT = 512 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
#: Bytes of a document that are looked at together.
_STEP = 256 * 1024

#: A document that begins with an ``info``, up to its first member or its end.
_USUAL = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"info"[ \t\r\n]*:[ \t\r\n]*\{(?=[ \t\r\n]*(\})?)')


def parse(document: bytes | bytearray) -> dict[str, Any]:
    """Parse a COCO document and prove that it is one whole JSON object in UTF-8 (a BOM is allowed).

    Raises:
        InvalidResponseError: If it is not; the message says what it looks like instead.
    """
    try:
        parsed = json.loads(document.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidResponseError("The document is not valid UTF-8.") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    else:
        if isinstance(parsed, dict):
            return parsed
        reason = f"the top level is a JSON {_kind(parsed)}"
    raise InvalidResponseError(f"The document is not one whole JSON object: {reason}{_looks_like(document)}.")


def check_ends(head: bytes, tail: bytes) -> None:
    """Check the first and the last byte of a document that is too large to be parsed.

    Raises:
        InvalidResponseError: If they are not the braces of an object.
    """
    if not head.removeprefix(_BOM).lstrip().startswith(b"{") or not tail.rstrip().endswith(b"}"):
        raise InvalidResponseError(f"The document is not one whole JSON object{_looks_like(head)}.")


def asset_url_edit(document: bytes, asset_url: str | None) -> Edit:
    """Find the smallest edit that sets ``info.asset_url``.

    Args:
        document: One whole JSON object.
        asset_url: The value to set; ``None`` is written as ``""``, as the official client does.

    Returns:
        Start, end and the bytes to put in their place. Every byte outside of ``info`` stays as it was: only the
        value is replaced, or the key added in front of the others; ``info`` is made where there is none. Parsers take
        the last of several equal names, so that one is edited.
    """
    usual = _USUAL.match(document)
    if usual and document.count(b'"info"') == 1 and b'"asset_url"' not in document and b"\\u00" not in document:
        # There is one info, at the beginning, with no such member, and nothing that could spell either name otherwise.
        start = usual.end()
        member = b'"asset_url": ' + json.dumps(asset_url or "").encode()
        return Edit(start, start, member + (b"" if usual[1] else b", "))
    size = len(document)
    return find_edit((document[start : start + _STEP] for start in range(0, size, _STEP)), asset_url)


def set_asset_url(document: bytes, asset_url: str | None) -> bytes:
    """Return the document with ``info.asset_url`` set; see :func:`asset_url_edit` for what stays as it was.

    Example:
        >>> set_asset_url(b'{"info": {"year": 2026}, "images": []}', "assets/1")
        b'{"info": {"asset_url": "assets/1", "year": 2026}, "images": []}'
    """
    start, end, value = asset_url_edit(document, asset_url)
    return b"".join((document[:start], value, document[end:]))


def _kind(value: object) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")


def _looks_like(document: bytes | bytearray) -> str:
    start = document[:200].lstrip().lower()
    if not start:
        return "; it is empty"
    return "; it looks like an HTML page" if start.startswith((b"<!doctype", b"<html")) else ""
