"""COCO documents as bytes: prove that they are whole, and set ``info.asset_url`` without touching the rest."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator
from typing import Any

from .exceptions import InvalidResponseError

#: Documents up to this size are proven by parsing them whole; above it, by their framing, length and ends.
PARSE_LIMIT = 8 * 1024 * 1024
#: Documents up to this size are parsed for a caller who asks for the parsed document; parsed, one takes several times
#: as much memory.
LOAD_LIMIT = 512 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
_STRING, _ESCAPE = b'"\\'
#: A string, or its part before the first escape, or a mark. The repeat is of one class of bytes only, so that a
#: string of any length takes no memory to match.
_TOKEN = re.compile(rb'"[^"\\]*["\\]|[{}\[\],]')
_QUOTE_OR_ESCAPE = re.compile(rb'["\\]')
#: An escape that could spell a letter of the names that are looked for.
_ESCAPED_LETTER = re.compile(rb"\\u00[567]")

#: Bytes, or a file mapped into memory, which the scanner walks over without copying it.
Buffer = bytes | mmap.mmap


def parse(document: bytes) -> dict[str, Any]:
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


def asset_url_edit(document: Buffer, asset_url: str | None) -> tuple[int, int, bytes]:
    """Find the smallest edit that sets ``info.asset_url``.

    Args:
        document: One whole JSON object.
        asset_url: The value to set; ``None`` is written as ``""``, as the official client does.

    Returns:
        Start, end and the bytes to put in their place. Every byte outside of ``info`` stays as it was: only the
        value is replaced, or the key added in front of the others; ``info`` is made where there is none.
    """
    value = json.dumps(asset_url or "").encode()
    info = _find_member(document, 0, b"info")
    member = b'"asset_url": ' + value
    if info is None:
        start, empty = _inside(document, 0)
        return start, start, b'"info": {' + member + b"}" + (b"" if empty else b", ")
    start, end = info
    if document[start : start + 1] != b"{":
        return start, end, b"{" + member + b"}"
    current = _find_member(document, start, b"asset_url")
    if current is not None:
        return *current, value
    start, empty = _inside(document, start)
    return start, start, member + (b"" if empty else b", ")


def set_asset_url(document: bytes, asset_url: str | None) -> bytes:
    """Return the document with ``info.asset_url`` set; see :func:`asset_url_edit` for what stays as it was.

    Example:
        >>> set_asset_url(b'{"info": {"year": 2026}, "images": []}', "assets/1")
        b'{"info": {"asset_url": "assets/1", "year": 2026}, "images": []}'
    """
    start, end, value = asset_url_edit(document, asset_url)
    return b"".join((document[:start], value, document[end:]))


def _inside(document: Buffer, opening: int) -> tuple[int, bool]:
    """Return the position behind the next ``{`` and whether its object is empty."""
    start = document.find(b"{", opening) + 1
    after = _skip_blank(document, start)
    return start, document[after : after + 1] == b"}"


def _find_member(document: Buffer, opening: int, name: bytes) -> tuple[int, int] | None:
    """Return start and end of the value of a member of the object that begins at ``opening``.

    Parsers take the last of several equal names, so the search stops early only where the name, spelled plainly,
    occurs once in the whole document.
    """
    quoted = b'"' + name + b'"'
    first_use = document.find(quoted)
    occurs_once = (
        first_use >= 0 and document.find(quoted, first_use + 1) < 0 and _ESCAPED_LETTER.search(document) is None
    )
    found = None
    for token, start, end in _members(document, opening):
        if _same_name(token, name):
            found = (start, end)
            if occurs_once:
                break
    return found


def _members(document: Buffer, opening: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of value for each member of the object that begins at ``opening``."""
    depth = 0
    name = b""
    start = -1
    for mark, first, last in _tokens(document, opening):
        if mark == _STRING:
            if depth == 1 and start < 0:
                name = document[first:last]
                colon = _skip_blank(document, last)
                start = _skip_blank(document, colon + 1)
            continue
        if depth == 1 and start >= 0 and mark in b",}":
            yield name, start, _rstrip(document, start, first)
            start = -1
        if mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if depth == 0:
                return


def _tokens(document: Buffer, position: int) -> Iterator[tuple[int, int, int]]:
    """Yield the first byte, start and end of each string and each of ``{}[],`` from a position on."""
    while position >= 0:
        matches = _TOKEN.finditer(document, position)
        position = -1
        for match in matches:
            start, end = match.span()
            mark = document[start]
            if mark == _STRING and document[end - 1] == _ESCAPE:
                # The search goes on behind the string.
                position = end = _end_of_string(document, end)
            yield mark, start, end
            if position >= 0:
                break


def _end_of_string(document: Buffer, position: int) -> int:
    """Return the end of a string, given the position behind its first backslash."""
    while (match := _QUOTE_OR_ESCAPE.search(document, position + 1)) is not None:
        position = match.end()
        if document[position - 1] == _STRING:
            return position
    return len(document)


def _same_name(token: bytes, name: bytes) -> bool:
    if b"\\" not in token:
        return token[1:-1] == name
    return bool(json.loads(token) == name.decode())


def _skip_blank(document: Buffer, start: int) -> int:
    while document[start : start + 1] in (b" ", b"\t", b"\r", b"\n"):
        start += 1
    return start


def _rstrip(document: Buffer, start: int, end: int) -> int:
    while end > start and document[end - 1 : end] in (b" ", b"\t", b"\r", b"\n"):
        end -= 1
    return end


def _kind(value: object) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")


def _looks_like(document: bytes) -> str:
    start = document[:200].lstrip().lower()
    if not start:
        return "; it is empty"
    return "; it looks like an HTML page" if start.startswith((b"<!doctype", b"<html")) else ""
