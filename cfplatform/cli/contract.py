"""``cfplatform doctor --contract``: what docs/protocol.rst assumes about the platform, checked by read requests.

Each check is a small function that looks at raw responses. Its result contains nothing private, see :mod:`.reading`, so
it can be shared.
"""

from __future__ import annotations

import io
import json
import re
import time
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from .. import config, timestamps
from ..exceptions import CFPlatformError, InvalidResponseError
from .reading import (
    KINDS,
    MAX_DIRECTORY,
    MAX_DOCUMENT,
    SET_PROJECT,
    SET_SPACE,
    TIMES,
    NotSeenError,
    Page,
    Platform,
    Stored,
    constants,
    ids_of,
    kind,
    layout,
    listed,
    media_type,
    read_page,
    signed_entries,
    signed_urls,
)
from .text import counted

if TYPE_CHECKING:
    import requests

CONFIRMED, DIFFERENT, NOT_SEEN = "confirmed", "different", "not seen"
#: In seconds: the minimum lifetime of a signed URL, the lifetime of the URL of an export, and the maximum clock
#: difference.
LIFETIME, EXPORT_LIFETIME, CLOSE = 300, 7 * 24 * 3600, 40


class Seen(NamedTuple):
    """What a check saw: confirmed or different, a sentence, and details for the record."""

    result: str
    words: str
    details: Mapping[str, Any] = {}


class Finding(NamedTuple):
    """The result of one check, without anything private."""

    check: str
    expected: str
    seen: Seen
    advice: str | None = None


def _verdict(is_confirmed: bool, words: str, **details: Any) -> Seen:
    return Seen(CONFIRMED if is_confirmed else DIFFERENT, words, details)


# --- The checks -------------------------------------------------------------------------------------------------------

#: Name, what docs/protocol.rst says, and the function of each check, in their order.
CHECKS: list[tuple[str, str, Callable[[Platform], Seen]]] = []


def _check(name: str, expected: str) -> Callable[[Callable[[Platform], Seen]], Callable[[Platform], Seen]]:
    def add(function: Callable[[Platform], Seen]) -> Callable[[Platform], Seen]:
        CHECKS.append((name, expected, function))
        return function

    return add


def findings(platform: Platform) -> Iterator[Finding]:
    """Yield the result of each check as soon as it is known.

    Raises:
        CFPlatformError: If nothing can be checked: the platform does not respond, or rejects key or project.
    """
    platform.reach()
    for name, expected, function in CHECKS:
        try:
            yield Finding(name, expected, function(platform))
        except NotSeenError as error:
            yield Finding(name, expected, Seen(NOT_SEEN, str(error)), error.advice)
        except CFPlatformError as error:
            # Its message may name the host.
            yield Finding(name, expected, Seen(NOT_SEEN, f"a request failed ({type(error).__name__})"), "Try again.")
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            # Such as an object where every known platform sends a string.
            yield Finding(name, expected, Seen(DIFFERENT, f"a response in an unknown format ({type(error).__name__})"))


def _envelope(page: Page) -> str:
    if not isinstance(page.body, dict):
        return kind(page.body)
    members = {name: kind(page.body[name]) if name in page.body else "missing" for name in ("items", "meta")}
    return " and ".join(f"{name} ({found})" for name, found in members.items())


_ENVELOPE = "items (array) and meta (object)"


@_check("listing", "A page is an object with items and meta.")
def _listing(platform: Platform) -> Seen:
    seen = {"work items": _envelope(platform.first), "batches": _envelope(platform.batches)}
    words = "; ".join(f"{name}: {found}" for name, found in seen.items())
    return _verdict(set(seen.values()) == {_ENVELOPE}, words)


_META = {"object": {"word", "text"}, "limit": {"integer"}, "page": {"word", "null"}}


@_check("meta", "meta has object, limit and page.")
def _meta(platform: Platform) -> Seen:
    metas = [page.meta for page in (platform.first, platform.batches) if page.meta is not None]
    if not metas:
        raise NotSeenError("no page has a meta")
    cursors = ("cursorNext", "cursorPrev", "cursor_next", "cursor_prev")
    return _fields([{name: meta[name] for name in meta if name not in cursors} for meta in metas], _META)


def _cursors(page: Page) -> Seen:
    if page.meta is None:
        raise NotSeenError("no page has a meta")
    found = [
        name for name in page.meta if re.fullmatch(r"(?i)[a-z]{0,10}_?cursor_?[a-z]{0,10}|(next|prev)[a-z_]*", name)
    ]
    if not found:
        raise NotSeenError("there is no cursor, perhaps because there is only one page")
    kinds = {name: kind(page.meta[name]) for name in found}
    return _verdict(set(found) <= {"cursorNext", "cursorPrev"}, listed(found), cursors=list(kinds))


@_check("cursors of work items", "The cursors of work items are spelled cursorNext and cursorPrev.")
def _item_cursors(platform: Platform) -> Seen:
    return _cursors(platform.first)


@_check("cursors of batches", "The cursors of batches are spelled cursorNext and cursorPrev.")
def _batch_cursors(platform: Platform) -> Seen:
    return _cursors(platform.batches)


@_check("next page", "A cursor, sent with page=NEXT, returns the next page.")
def _next_page(platform: Platform) -> Seen:
    status = platform.following.status_code
    if status != 200:
        return _verdict(False, f"status {status}")
    ids, before = ids_of(platform.second), ids_of(platform.first)
    is_new = bool(ids) and ids[0] != before[0]
    return _verdict(
        is_new, f"{counted(len(ids), 'items')}, {'different from' if is_new else 'the same as on'} the first page"
    )


@_check("overlap", "Neighboring pages may overlap, but each has new items.")
def _overlap(platform: Platform) -> Seen:
    ids, before = set(ids_of(platform.second)), set(ids_of(platform.first))
    return _verdict(bool(ids - before), f"{len(ids & before)} of {counted(len(ids), 'items')} repeated")


@_check("end of a listing", "The next cursor of the last page is null, missing or empty.")
def _end(platform: Platform) -> Seen:
    platform.require_id_filter()
    if platform.only.meta is None:
        raise NotSeenError("no page has a meta")
    found = [platform.only.meta[name] for name in ("cursorNext", "cursor_next") if name in platform.only.meta]
    seen = {None: "null", "": "empty"}.get(found[0], "a cursor") if found else "missing"
    return _verdict(seen != "a cursor", seen)


@_check("largest page", "A limit above 100 is refused with status 400.")
def _largest(platform: Platform) -> Seen:
    response = platform.get(platform.project_path("workItems"), ("limit", "101"))
    if response.status_code != 200:
        return _verdict(response.status_code == 400, f"status {response.status_code}")
    page = read_page(response)
    limit = (page.meta or {}).get("limit")
    applied = f"meta.limit is {limit}" if kind(limit) == "integer" else "meta.limit is not a number"
    # Not the number of items, which may be that of the project.
    size = "more than 100 items" if len(page.entries) > 100 else "no more than 100 items"
    return _verdict(False, f"status 200, {size}, {applied}")


@_check("default page", "Without limit a page has 20 items.")
def _default_page(platform: Platform) -> Seen:
    _ = platform.first
    page = platform.usual
    size = len(page.entries) if page.cursor else (page.meta or {}).get("limit")
    if not isinstance(size, int):
        raise NotSeenError("a page shows neither its limit nor whether there is a next one")
    return _verdict(size == 20, counted(size, "items"))


@_check("total", "A page of work items has total, the number of all matches.")
def _total(platform: Platform) -> Seen:
    pages = [platform.first, platform.only]
    if not any(isinstance(page.body, dict) for page in pages):
        raise NotSeenError("a page is an array")
    totals = [page.body.get("total", "missing") for page in pages]
    if "missing" in totals:
        return _verdict(False, "not sent")
    kinds = [kind(total) for total in totals]
    if kinds != ["integer", "integer"]:
        return _verdict(False, f"sent as {listed(dict.fromkeys(kinds))}")
    platform.require_id_filter()
    plausible = totals[0] >= len(platform.first.entries) + bool(platform.first.cursor)
    words = "follows the filters" if totals[1] == 1 else "does not follow the filters"
    return _verdict(plausible and totals[1] == 1, words if plausible else "less than the number of items on a page")


@_check("id filter", "workItemIDs=ID selects that work item.")
def _id_filter(platform: Platform) -> Seen:
    found = ids_of(platform.only)
    if found == [platform.item_id]:
        return _verdict(True, "that work item only")
    return _verdict(False, f"{counted(len(found), 'items')}, {'with' if platform.item_id in found else 'without'} it")


@_check("unknown id", "An unknown ID in a filter selects nothing and is not an error.")
def _unknown_id(platform: Platform) -> Seen:
    response = platform.get(platform.project_path("workItems"), ("workItemIDs", str(uuid.uuid4())), ("limit", "3"))
    if response.status_code != 200:
        return _verdict(False, f"status {response.status_code}")
    found = len(read_page(response).entries)
    return _verdict(found == 0, counted(found, "items") if found else "an empty page")


@_check("batch filter", "Repeated keys, batchIds=1&batchIds=2, select the items of both batches.")
def _batch_filter(platform: Platform) -> Seen:
    platform.require_id_filter()
    batches: dict[int, str] = {}
    for entry in platform.many.entries:
        if kind(entry.get("batchId")) == "integer" and isinstance(entry.get("id"), str):
            batches.setdefault(entry["batchId"], entry["id"])
    # The first 100 may all be of one batch.
    for batch in platform.batches.entries if len(batches) < 2 else ():
        if kind(batch.get("id")) == "integer" and batch["id"] not in batches:
            page = platform.items(("batchIds", str(batch["id"])), ("limit", "1"))
            if ids_of(page) and isinstance(ids_of(page)[0], str):
                batches[batch["id"]] = ids_of(page)[0]
    if len(batches) < 2:
        raise NotSeenError(
            "fewer than two batches have work items", "Set CF_PROJECT_ID to a project with several batches."
        )
    (one, first), (other, second) = list(batches.items())[:2]
    ids = [("workItemIDs", first), ("workItemIDs", second)]
    both = {first, second} & set(ids_of(platform.items(("batchIds", str(one)), ("batchIds", str(other)), *ids)))
    single = {first, second} & set(ids_of(platform.items(("batchIds", str(one)), *ids)))
    words = {frozenset((first, second)): "both", frozenset((first,)): "the first", frozenset((second,)): "the second"}
    seen = f"two IDs select {words.get(frozenset(both), 'none')}, one selects {words.get(frozenset(single), 'none')}"
    return _verdict(both == {first, second} and single == {first}, seen)


@_check("date filters", "Date filters are inclusive, and accept Z and offsets.")
def _dates(platform: Platform) -> Seen:
    platform.require_id_filter()
    item = platform.only.entries[0]
    sent = {name: item.get(name) for name in ("createdAt", "updatedAt")}
    times = {name: timestamps.parse(value) for name, value in sent.items() if kind(value) in TIMES}
    if "createdAt" not in times:
        raise NotSeenError("work items have no createdAt with a time zone")

    def selects(name: str, first: str, last: str | None = None) -> bool:
        query = [(f"{name}From", first), *([(f"{name}To", last)] if last is not None else [])]
        response = platform.get(platform.project_path("workItems"), ("workItemIDs", platform.item_id), *query)
        return response.status_code == 200 and platform.item_id in ids_of(read_page(response))

    created = times["createdAt"]
    shifted = created.astimezone(timezone(timedelta(hours=5, minutes=45))).isoformat()
    seen = {
        "createdAt is inclusive": selects("createdAt", sent["createdAt"], sent["createdAt"]),
        "an offset is understood": selects("createdAt", shifted, shifted),
        "older items are left out": not selects("createdAt", (created + timedelta(seconds=1)).isoformat()),
    }
    if "updatedAt" in times:
        seen["updatedAt is inclusive"] = selects("updatedAt", sent["updatedAt"], sent["updatedAt"])
    wrong = [name for name, is_so in seen.items() if not is_so]
    return _verdict(not wrong, f"wrong: {'; '.join(wrong)}" if wrong else "; ".join(seen), checks=seen)


@_check("status filter", "status=COMPLETED selects the work items with that status.")
def _status_filter(platform: Platform) -> Seen:
    found = [entry.get("status") for entry in platform.finished.entries]
    if not found:
        if any(entry.get("status") == "COMPLETED" for entry in platform.many.entries):
            return _verdict(False, "none, although the project has some")
        raise NotSeenError("the project has no finished work items", SET_PROJECT)
    if not any(isinstance(status, str) for status in found):
        raise NotSeenError("no work item has a status that is a string")
    return _verdict(set(found) == {"COMPLETED"}, listed(constants(found)))


@_check("statuses", "The statuses of work items are COMPLETED and CLIENT_REVIEW.")
def _statuses(platform: Platform) -> Seen:
    found = [entry.get("status") for entry in platform.many.entries if "status" in entry]
    if not found:
        raise NotSeenError("work items have no status")
    seen = constants(found)
    return _verdict(set(seen) <= {"COMPLETED", "CLIENT_REVIEW"}, listed(seen), statuses=seen)


_TEXT = {name for name, _ in KINDS}
_WORK_ITEM = {
    "id": {"uuid"},
    "projectId": {"uuid"},
    "batchId": {"integer", "null"},
    "status": _TEXT,
    "assetType": _TEXT,
    "assetUrl": {"path", "http URL", "null"},
    "resultUrl": {"http URL", "null"},
    "createdAt": TIMES,
    "updatedAt": TIMES,
    "metadata": {"object", "null"},
}
_BATCH = {
    "id": {"integer"},
    "projectId": {"uuid"},
    "name": _TEXT,
    "createdBy": {"uuid"},
    "createdAt": TIMES,
    "metadata": {"object", "null"},
    "priority": {"integer"},
    "totalCount": {"integer"},
    "completedCount": {"integer"},
}
_EXPORT = {
    "exportId": {"uuid"},
    "status": _TEXT,
    "name": {*_TEXT, "null"},
    "format": {"word", "null"},
    "content": {"word", "null"},
    "createdBy": {"e-mail", "null"},
    "downloadUrl": {"http URL", "null"},
    "error": {*_TEXT, "null"},
    "createdAt": {*TIMES, "null"},
}
_ANNOTATION = {"id": _TEXT, "projectID": {"uuid"}, "workItemID": {"uuid"}, "metadata": {"object", "null"}}


def _fields(entries: Iterable[Mapping[str, Any]], known: Mapping[str, Iterable[str]]) -> Seen:
    """Compare the fields of objects, and the kinds of their values, with those that are expected."""
    kinds: dict[str, set[str]] = {}
    for entry in entries:
        for name, value in entry.items():
            # A name that could be one that a user chose is not repeated.
            name = name if re.fullmatch(r"[A-Za-z][A-Za-z_]{0,39}", name) else "another form"
            kinds.setdefault(name, set()).add(kind(value))
    missing = [name for name in known if name not in kinds]
    others = {name: found - set(known[name]) for name, found in kinds.items() if name in known}
    problems = {
        "missing": missing,
        "new": [f"{name} ({listed(sorted(found))})" for name, found in kinds.items() if name not in known],
        "of another kind": [f"{name} ({listed(sorted(found))})" for name, found in others.items() if found],
    }
    words = "; ".join(f"{problem}: {', '.join(names)}" for problem, names in problems.items() if names)
    return _verdict(not words, words or ", ".join(kinds), fields={name: sorted(kinds[name]) for name in kinds})


@_check(
    "work item fields",
    "A work item has id, projectId, batchId, status, assetType, assetUrl, resultUrl, createdAt, updatedAt, metadata.",
)
def _work_item_fields(platform: Platform) -> Seen:
    return _fields(platform.many.entries, _WORK_ITEM)


@_check("asset URLs", "assetUrl is a path in the space or an http(s) URL.")
def _asset_urls(platform: Platform) -> Seen:
    found = {kind(entry.get("assetUrl")) for entry in platform.many.entries if entry.get("assetUrl") is not None}
    if not found:
        raise NotSeenError("no work item has an assetUrl")
    return _verdict(found <= {"path", "http URL"}, listed(sorted(found)))


@_check(
    "batch fields",
    "A batch has id, projectId, name, createdBy, createdAt, metadata, priority, totalCount and completedCount.",
)
def _batch_fields(platform: Platform) -> Seen:
    return _fields(platform.some_batches, _BATCH)


def _status(response: requests.Response, expected: int) -> Seen:
    return _verdict(response.status_code == expected, f"status {response.status_code}")


@_check("unknown project", "An unknown project gets status 404.")
def _unknown_project(platform: Platform) -> Seen:
    return _status(platform.unknown_project, 404)


@_check("wrong key", "A key that is not valid gets status 401.")
def _wrong_key(platform: Platform) -> Seen:
    return _status(platform.wrong_key, 401)


@_check("wrong cursor", "A cursor that is not valid gets status 400.")
def _wrong_cursor(platform: Platform) -> Seen:
    return _status(platform.wrong_cursor, 400)


@_check("unknown work item", "The annotation of an unknown work item gets status 404.")
def _unknown_work_item(platform: Platform) -> Seen:
    return _status(platform.unknown_work_item, 404)


#: Members of error bodies that are named.
_ERROR_MEMBERS = ("message", "error", "detail", "title", "code", "status", "type", "errors", "requestId", "timestamp")


def _error(response: requests.Response) -> dict[str, Any]:
    found: dict[str, Any] = {"status": response.status_code, "content type": media_type(response.headers)}
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return {**found, "body": "not JSON"}
    if not isinstance(body, dict):
        return {**found, "body": kind(body)}
    members = [name for name in _ERROR_MEMBERS if name in body]
    others = len(body) - len(members)
    return {**found, "members": {name: kind(body[name]) for name in members}, "other members": others}


@_check("error bodies", "An error is a JSON object with a message.")
def _error_bodies(platform: Platform) -> Seen:
    errors = {name: _error(response) for name, response in platform.errors.items()}
    described = {
        name: f"{error['content type']} with {listed(error['members'])}"
        if "members" in error
        else f"{error['content type']}, {error['body']}"
        for name, error in errors.items()
    }
    is_known = all(error.get("members", {}).get("message") in _TEXT for error in errors.values())
    if len(set(described.values())) == 1:
        words = next(iter(described.values()))
    else:
        words = "; ".join(f"{name}: {found}" for name, found in described.items())
    return _verdict(is_known, words, errors=errors)


#: Other headers that contain a request ID.
_REQUEST_IDS = ("X-Request-ID", "X-Amzn-RequestId", "X-Correlation-ID", "X-Amz-Cf-Id", "X-Amzn-Trace-Id", "CF-Ray")


@_check("request ids", "An error has an X-Request-ID.")
def _request_ids(platform: Platform) -> Seen:
    errors = platform.errors.values()
    found = [name for name in _REQUEST_IDS if any(name in response.headers for response in errors)]
    return _verdict(all("X-Request-ID" in response.headers for response in errors), listed(found))


@_check("annotation", "An annotation is one object with id, projectID, workItemID and metadata.")
def _annotation(platform: Platform) -> Seen:
    found = platform.annotations
    if not all(isinstance(annotation, dict) for annotation in found):
        return _verdict(False, listed(sorted({kind(annotation) for annotation in found})))
    return _fields(found, _ANNOTATION)


@_check("storage path", "metadata.coco_results_url is s3://<bucket>/spaces/<space id>/<path>.")
def _storage_path(platform: Platform) -> Seen:
    seen = set()
    for url in platform.storage_paths:
        scheme, separator, rest = url.partition("?")[0].partition("://")
        named = scheme if scheme in ("s3", "gs", "http", "https") else "<scheme>"
        seen.add(f"{named}://<bucket>/{layout(rest.partition('/')[2])}" if separator else layout(scheme))
    known = all(form.startswith("s3://<bucket>/spaces/<uuid>/") for form in seen)
    return _verdict(known, listed(sorted(seen)))


@_check("space of a path", "The space in the storage path is the space of the project.")
def _space_of_path(platform: Platform) -> Seen:
    if platform.given_space is None:
        raise NotSeenError("no space is set", SET_SPACE)
    is_given = {space for space, _ in platform.located} == {platform.given_space}
    return _verdict(is_given, "the configured space" if is_given else "another space")


@_check("signing", "Signing returns path and signedUrl for each path.")
def _signing(platform: Platform) -> Seen:
    status = platform.signing.status_code
    if status != 200:
        return _verdict(False, f"status {status}")
    page, wanted = read_page(platform.signing), platform.paths
    is_complete = set(wanted) <= set(signed_urls(platform.signing)) and _envelope(page).startswith("items (array)")
    names = sorted(
        {name for entry in page.entries for name in entry} & {"path", "signedUrl", "url", "signed_url", "expiresAt"}
    )
    return _verdict(is_complete, f"{len(page.entries)} for {counted(len(wanted), 'paths')}, with {listed(names)}")


@_check("signing order", "Signed URLs are in the order of the request.")
def _signing_order(platform: Platform) -> Seen:
    wanted, found = platform.paths, [path for path, _ in signed_entries(platform.signing)]
    if len(wanted) < 2:
        raise NotSeenError("there is only one annotation", SET_PROJECT)
    if set(wanted) - set(found):
        raise NotSeenError("not every path was signed")
    return _verdict(found == wanted, "the order of the request" if found == wanted else "another order")


@_check("signing duplicates", "A path that is sent twice is signed twice.")
def _signing_duplicates(platform: Platform) -> Seen:
    path = platform.paths[0]
    response = platform.sign(path, path)
    if response.status_code >= 300:
        return _verdict(False, f"status {response.status_code}")
    found = len(signed_entries(response))
    return _verdict(found == 2, f"{counted(found, 'URLs')} for a path that was sent twice")


def _signed_anyway(platform: Platform, path: str) -> str | Stored:
    """Sign another path beside a good one; return what the storage has there, or why it was not signed."""
    response = platform.sign(platform.paths[0], path)
    if response.status_code >= 300:
        return f"the request is refused with status {response.status_code}"
    url = signed_urls(response).get(path)
    return "left out" if url is None else platform.stored(url)


@_check("unknown path", "An unknown path is signed too; the storage then responds with 404.")
def _unknown_path(platform: Platform) -> Seen:
    found = _signed_anyway(platform, f"coco_output/{uuid.uuid4()}.json")
    if isinstance(found, str):
        return _verdict(False, found)
    return _verdict(found.status == 404, f"signed; the storage responds with {found.status}")


@_check("complete path", "A complete s3:// path does not lead to the object; paths are relative to the space.")
def _complete_path(platform: Platform) -> Seen:
    url = next(url for url in platform.storage_paths if url.endswith(platform.paths[0]))
    found = _signed_anyway(platform, url)
    if isinstance(found, str):
        return _verdict(True, found)
    return _verdict(found.status != 200, f"signed; the storage responds with {found.status}")


def lifetime(url: str, now: float) -> tuple[str, float] | None:
    """Return the parameter of a signed URL that limits its lifetime, and that lifetime in seconds."""
    query = {name.lower(): values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    for name in ("X-Amz-Expires", "X-Goog-Expires"):
        if re.fullmatch(r"[0-9]{1,9}", query.get(name.lower(), "")):
            return name, float(query[name.lower()])
    if re.fullmatch(r"[0-9]{1,11}", query.get("expires", "")):
        # A point in time, rounded to the minute.
        return "Expires", round((float(query["expires"]) - now) / 60) * 60.0
    end = timestamps.parse_or_none(query.get("se"))
    if end is not None and end.tzinfo is not None:
        return "se", round((end.timestamp() - now) / 60) * 60.0
    return None


def _lives(url: str, is_expected: Callable[[float], bool]) -> Seen:
    found = lifetime(url, time.time())
    if found is None:
        raise NotSeenError("the URL does not show when it expires")
    name, seconds = found
    return _verdict(is_expected(seconds), f"{seconds:,.0f} s, from {name}")


@_check("signed URL lifetime", "A signed URL is valid for 5 minutes or longer.")
def _signed_lifetime(platform: Platform) -> Seen:
    return _lives(platform.url, lambda seconds: seconds >= LIFETIME)


@_check("ETag", "The storage sends a strong ETag.")
def _etag(platform: Platform) -> Seen:
    found = platform.document.headers.get("ETag", "")
    seen = "none" if not found else "weak" if found.startswith("W/") else "strong"
    return _verdict(seen == "strong", seen)


@_check("length", "The storage sends the Content-Length.")
def _length(platform: Platform) -> Seen:
    found, body = platform.document.headers.get("Content-Length"), platform.document.body
    if found is None:
        return _verdict(False, "not sent")
    is_whole = len(body) < MAX_DOCUMENT and "Content-Encoding" not in platform.document.headers
    is_right = not is_whole or found == str(len(body))
    return _verdict(is_right, "sent" if is_right else "not the length of the body")


@_check("ranges", "The storage sends Accept-Ranges, and responds to a Range with 206.")
def _ranges(platform: Platform) -> Seen:
    part = platform.part
    is_part = (
        part.status == 206 and len(part.body) == 10 and part.headers.get("Content-Range", "").startswith("bytes 0-9/")
    )
    accepts = platform.document.headers.get("Accept-Ranges") == "bytes"
    words = f"status {part.status}, Accept-Ranges {'sent' if accepts else 'missing'}"
    return _verdict(is_part and accepts, words)


@_check("If-Range", "The part is sent if If-Range has the ETag, else the complete object.")
def _if_range(platform: Platform) -> Seen:
    etag = platform.etag
    if platform.part.status != 206:
        raise NotSeenError("the storage does not support ranges")
    same = platform.stored(platform.url, Range="bytes=0-9", If_Range=etag).status
    other = platform.stored(platform.url, Range="bytes=0-9", If_Range='"0"').status
    return _verdict((same, other) == (206, 200), f"status {same} for the ETag, {other} for another one")


@_check("If-None-Match", "An unchanged object gets status 304.")
def _if_none_match(platform: Platform) -> Seen:
    found = platform.stored(platform.url, If_None_Match=platform.etag).status
    return _verdict(found == 304, f"status {found}")


@_check("HEAD", "A URL that is signed for GET can be used with HEAD.")
def _head(platform: Platform) -> Seen:
    found = platform.stored(platform.url, "HEAD").status
    return _verdict(found == 200, f"status {found}")


@_check("content encoding", "Documents have no Content-Encoding.")
def _encoding(platform: Platform) -> Seen:
    found = platform.document.headers.get("Content-Encoding", "none").lower()
    shown = found if found in ("none", "identity", "gzip", "br", "deflate", "zstd", "aws-chunked") else "another"
    return _verdict(shown in ("none", "identity"), shown)


_COCO = {"info": "object", "images": "array", "annotations": "array", "categories": "array"}


def _document(platform: Platform) -> Any:
    if len(platform.document.body) >= MAX_DOCUMENT:
        raise NotSeenError(f"the document is larger than {MAX_DOCUMENT >> 20} MiB")
    try:
        return json.loads(platform.document.body)
    except (ValueError, RecursionError):
        return None


@_check("document", "A document is an object with info, images, annotations and categories.")
def _coco(platform: Platform) -> Seen:
    document = _document(platform)
    if not isinstance(document, dict):
        return _verdict(False, "not a JSON object")
    kinds = {name: kind(document[name]) for name in (*_COCO, "licenses") if name in document}
    others = len(document) - len(kinds)
    words = ", ".join(f"{name} ({found})" for name, found in kinds.items())
    is_known = all(kinds.get(name) == found for name, found in _COCO.items())
    return _verdict(is_known, words or "none of them", members=kinds, others=others)


@_check("asset_url", "A stored document has no info.asset_url.")
def _asset_url(platform: Platform) -> Seen:
    document = _document(platform)
    info = document.get("info") if isinstance(document, dict) else None
    if not isinstance(info, dict):
        raise NotSeenError("the document has no info")
    return _verdict("asset_url" not in info, kind(info["asset_url"]) if "asset_url" in info else "none")


@_check("exports", "The list of exports is an object with items and meta.")
def _exports(platform: Platform) -> Seen:
    found = _envelope(platform.export_page)
    return _verdict(found == _ENVELOPE, found)


@_check(
    "export fields",
    "An export has exportId, status, name, format, content, createdBy, downloadUrl, error and createdAt.",
)
def _export_fields(platform: Platform) -> Seen:
    return _fields(platform.exports, _EXPORT)


@_check("export order", "Exports are listed newest first.")
def _export_order(platform: Platform) -> Seen:
    times = [
        timestamps.parse(export["createdAt"]) for export in platform.exports if kind(export.get("createdAt")) in TIMES
    ]
    if len(set(times)) < 2:
        raise NotSeenError("fewer than two exports have different times", "Create two: cfplatform exports create NAME")
    orders = {"newest first": sorted(times, reverse=True), "oldest first": sorted(times)}
    found = next((name for name, order in orders.items() if order == times), "another order")
    return _verdict(found == "newest first", found)


@_check("export statuses", "The statuses of exports are PENDING, IN_PROGRESS, COMPLETED and FAILED.")
def _export_statuses(platform: Platform) -> Seen:
    found = constants(export.get("status") for export in platform.exports)
    return _verdict(set(found) <= {"PENDING", "IN_PROGRESS", "COMPLETED", "FAILED"}, listed(found))


@_check("downloadUrl lifetime", "The downloadUrl of an export is valid for 7 days.")
def _export_lifetime(platform: Platform) -> Seen:
    return _lives(platform.completed_export["downloadUrl"], lambda seconds: seconds == EXPORT_LIFETIME)


class _End(io.RawIOBase):
    """The end of a file, with the positions of the complete file; the rest cannot be read."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._start = size - len(data)
        self._size = size

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._start + self._data.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        if target < self._start:
            raise OSError("before the part that was read")
        self._data.seek(target - self._start)
        return target

    def read(self, size: int = -1) -> bytes:
        return self._data.read(size)


def _names(platform: Platform) -> list[str]:
    """Return the names in the archive of an export, whose directory is read from its end."""
    found = platform.stored(
        platform.completed_export["downloadUrl"], limit=MAX_DIRECTORY, Range=f"bytes=-{MAX_DIRECTORY}"
    )
    size = len(found.body)
    if found.status == 206:
        total = found.headers.get("Content-Range", "").rpartition("/")[2]
        if not re.fullmatch(r"[0-9]{1,18}", total) or int(total) < size:
            raise NotSeenError("the storage sent a part without its position")
        size = int(total)
    elif found.status != 200:
        raise NotSeenError(f"the storage responded with status {found.status}")
    elif size >= MAX_DIRECTORY:
        raise NotSeenError("the archive is too large to be read without ranges")
    try:
        with zipfile.ZipFile(_End(found.body, size)) as archive:
            return archive.namelist()
    except OSError:
        raise NotSeenError("the directory of the archive is larger than 1 MiB") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        raise NotSeenError("the object is not a zip archive") from None


@_check(
    "archive layout",
    "A COCO_JSON archive holds <batch>/<work item id>.json, a JSON one annotations.json, a CSV one annotations.csv.",
)
def _archive(platform: Platform) -> Seen:
    format = platform.completed_export.get("format")
    format = format if format in ("COCO_JSON", "JSON", "CSV") else "unknown"
    # The exact count is private.
    found = Counter(map(layout, _names(platform)))
    shown = {pattern: "one" if count == 1 else "several" for pattern, count in found.most_common(5)}
    known = {"COCO_JSON": {"<name>/<uuid>.json", "Default/<uuid>.json", "<number>/<uuid>.json"}}
    known |= {"JSON": {"annotations.json"}, "CSV": {"annotations.csv"}}
    words = ", ".join(f"{pattern} ({count})" for pattern, count in shown.items()) or "empty"
    return _verdict(set(found) <= known.get(format, set()), f"{format}: {words}", format=format, names=shown)


@_check("webhook keys", "The key set has Ed25519 keys (kty OKP, crv Ed25519, use sig) and may be cached.")
def _webhook_keys(platform: Platform) -> Seen:
    try:
        content, cache = platform.key_set()
    except InvalidResponseError:
        return _verdict(False, "there is no key set")
    try:
        keys = json.loads(content)["keys"]
        members = [{name: key.get(name) for name in ("kty", "crv", "use", "alg")} for key in keys]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return _verdict(False, "not a key set")
    known = {"OKP", "Ed25519", "sig", "EdDSA", "EC", "RSA", "P-256", "RS256", "ES256", None}
    shown = [{name: value if value in known else "other" for name, value in key.items()} for key in members]
    usual = {"kty": "OKP", "crv": "Ed25519", "use": "sig"}
    is_known = bool(shown) and all(usual.items() <= key.items() for key in shown)
    age = re.search(r"max-age=(\d{1,9})", cache)
    forms = sorted({" ".join(f"{name} {value}" for name, value in key.items() if value) for key in shown})
    words = f"{counted(len(shown), 'keys')}: {'; '.join(forms)}; {f'max-age {age[1]}' if age else 'no max-age'}"
    return _verdict(is_known and age is not None, words)


@_check("rate limits", "Responses have no rate limit headers.")
def _rate_limits(platform: Platform) -> Seen:
    names = {name.lower() for response in platform.responses for name in response.headers}
    # Any other name could contain the name of a customer.
    parts = r"(x-)?rate-?limit(-(limit|remaining|reset|reset-after|used|policy|resource|scope|bucket))?"
    usual = {name for name in names if re.fullmatch(rf"{parts}|retry-after", name)}
    others = {"an unusual name" for name in names - usual if re.search("rate-?limit", name)}
    found = [*sorted(usual), *others]
    return _verdict(not found, f"{listed(found)} in {counted(len(platform.responses), 'responses')}")


@_check("clock", "Every response has a Date, close to the time of this machine.")
def _clock(platform: Platform) -> Seen:
    now = time.time()
    times = []
    for response in platform.responses:
        try:
            times.append(parsedate_to_datetime(response.headers.get("Date", "")).timestamp())
        except (ValueError, TypeError):
            return _verdict(False, "missing, or not a date")
    apart = now - times[-1]
    is_close = abs(apart) <= CLOSE
    return _verdict(
        is_close, f"within {CLOSE} s" if is_close else f"{abs(apart):,.0f} s {'behind' if apart > 0 else 'ahead'}"
    )


@_check("redirects", "The API does not redirect.")
def _redirects(platform: Platform) -> Seen:
    found = sum(300 <= response.status_code < 400 for response in platform.responses)
    return _verdict(found == 0, f"{found or 'none'} in {counted(len(platform.responses), 'responses')}")


# --- The record -------------------------------------------------------------------------------------------------------


def record(found: Iterable[Finding], *, version: str, base_url: str, sent: int) -> dict[str, Any]:
    """Return the content of the ``--record`` file, without anything private."""
    return {
        "cfplatform": version,
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "platform": "production" if base_url == config.DEFAULT_BASE_URL else "another base URL",
        "requests": sent,
        "checks": [
            {
                "check": each.check,
                "result": each.seen.result,
                "seen": each.seen.words,
                "expected": each.expected,
                "details": dict(each.seen.details),
            }
            for each in found
        ],
    }
