"""COCO documents as bytes: check that they are complete, and set ``info.asset_url`` without changing anything else."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any, NamedTuple

from .exceptions import InvalidResponseError

#: Documents up to this size are parsed to check them. Larger ones are checked by length, first and last byte.
PARSE_LIMIT = 8 * 1024 * 1024
#: Maximum size of documents that are parsed for the caller. A parsed document takes several times its size in memory.
LOAD_LIMIT = 512 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
_BLANKS = " \t\r\n"
_OPENING = re.compile(rf"[{_BLANKS}]*\{{()[{_BLANKS}]*(\}}?)")
_NAME = re.compile(rf'[{_BLANKS}]*(?=")')
_COLON = re.compile(rf"[{_BLANKS}]*:[{_BLANKS}]*")
_NEXT = re.compile(rf"[{_BLANKS}]*[,}}]")
_decode = json.JSONDecoder().raw_decode


class Members(NamedTuple):
    """The members of an object in a document.

    Attributes:
        start: The position after the opening brace.
        is_empty: Whether the object has no members.
        found: Start and end of the value of the requested member; of the last one if the name is repeated.
        end: The end of the object.
    """

    start: int
    is_empty: bool
    found: tuple[int, int] | None = None
    end: int = 0


class Edit(NamedTuple):
    """Replace bytes ``start`` to ``end`` of a document with ``value``."""

    start: int
    end: int
    value: bytes


def parse(document: bytes | bytearray) -> dict[str, Any]:
    """Parse a COCO document: one JSON object in UTF-8 (a BOM is allowed)."""
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
    raise InvalidResponseError(f"The document is not one complete JSON object: {reason}{_looks_like(document)}.")


def check_ends(head: bytes, tail: bytes) -> None:
    """Check that a document too large to parse starts with ``{`` and ends with ``}``."""
    if not head.removeprefix(_BOM).lstrip().startswith(b"{") or not tail.rstrip().endswith(b"}"):
        raise InvalidResponseError(f"The document is not one complete JSON object{_looks_like(head)}.")


def set_asset_url(document: bytes, asset_url: str | None) -> bytes:
    """Check a document like :func:`parse`, and return it with ``info.asset_url`` set.

    Only the value is replaced; a missing member becomes the first of its object, a missing ``info`` the first of the
    document. All other bytes stay the same. If a name is repeated, the last one is edited, because parsers use that
    one. ``None`` is written as ``""``, as the official client does.

    Example:
        >>> set_asset_url(b'{"info": {"year": 2026}, "images": []}', "assets/1")
        b'{"info": {"asset_url": "assets/1", "year": 2026}, "images": []}'
    """
    with contextlib.suppress(ValueError, RecursionError):
        text = document.decode()
        outer, inner = members(text, int(text.startswith("\ufeff")), "info"), None
        if outer.found is not None and text.startswith("{", outer.found[0]):
            inner = members(text, outer.found[0], "asset_url")
        if not text[outer.end :].strip(_BLANKS):
            start, end, value = edit(asset_url, outer, inner)
            return text[:start].encode() + value + text[end:].encode()
    parse(document)
    raise InvalidResponseError("The document is not one complete JSON object.")


def edit(asset_url: str | None, document: Members, info: Members | None) -> Edit:
    """Return the smallest edit that sets ``info.asset_url``, given the members of the document and of its ``info``."""
    value = json.dumps(asset_url or "").encode()
    if info is not None and info.found is not None:
        return Edit(*info.found, value)
    value = b'"asset_url": ' + value
    if info is None:
        value = b"{" + value + b"}"
        if document.found is not None:
            return Edit(*document.found, value)
        value = b'"info": ' + value
    added_to = info or document
    return Edit(added_to.start, added_to.start, value + (b"" if added_to.is_empty else b", "))


def members(text: str, at: int, name: str) -> Members:
    """Read the object that starts at ``at``; raise ``ValueError`` if it is not valid JSON."""
    opening = _match(_OPENING, text, at)
    found, at, mark = None, opening.end(), opening[2]
    while mark != "}":
        key, value, at = member(text, at)
        mark = text[at - 1]
        if key == name:
            found = value
    return Members(opening.start(1), bool(opening[2]), found, at)


def member(text: str, at: int) -> tuple[str, tuple[int, int], int]:
    """Read a member: its name, the position of its value, and the end of the delimiter after it."""
    key, at = _decode(text, _match(_NAME, text, at).end())
    start = _match(_COLON, text, at).end()
    _, end = _decode(text, start)
    return key, (start, end), _match(_NEXT, text, end).end()


def _match(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    match = pattern.match(text, at)
    if match is None:
        raise ValueError
    return match


def _kind(value: object) -> str:
    return {list: "array", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")


def _looks_like(document: bytes | bytearray) -> str:
    start = document[:200].lstrip().lower()
    if not start:
        return "; it is empty"
    return "; it looks like an HTML page" if start.startswith((b"<!doctype", b"<html")) else ""
