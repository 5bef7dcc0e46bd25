"""Reading a platform for ``cfplatform doctor --contract``: each response once, and how its values may be described.

A value is described in terms of the protocol and by kinds such as "uuid", so that a description never holds an ID, a
name, a key, a signature or a host.
"""

from __future__ import annotations

import functools
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from .. import http
from ..client import Client
from ..exceptions import CFPlatformError

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

#: Maximum number of requests, not counting retries, and of seconds before the last one.
MAX_REQUESTS = 40
MAX_SECONDS = 120.0
TIMEOUT = (5.0, 15.0)
RETRIES = 1
#: Maximum bytes that are read of a document, and of the end of an archive, which has its directory.
MAX_DOCUMENT = 8 * 1024 * 1024
MAX_DIRECTORY = 1024 * 1024
#: A key that was never issued.
NO_KEY = "cfplatform-contract-check"

SET_PROJECT = "Set CF_PROJECT_ID to a project with finished work items."
SET_SPACE = "Set CF_SPACE_ID."
_CREATE_EXPORT = "Create one: cfplatform exports create NAME"


class NotSeenError(Exception):
    """A check that cannot be made: why, and what to set."""

    def __init__(self, reason: str, advice: str | None = None) -> None:
        super().__init__(reason)
        self.advice = advice


# --- Descriptions of values -------------------------------------------------------------------------------------------

#: Types of files that are named; others may be the user's own.
_EXTENSIONS = ("json", "csv", "txt", "jpg", "jpeg", "png", "zip")
#: Parts of storage paths and archives that are the platform's.
_FOLDERS = ("spaces", "coco_output", "assets", "exports", "Default")
_FILES = ("annotations.json", "annotations.csv")
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
#: Kinds of strings with their patterns; the first match is used.
KINDS = (
    ("empty text", r"\s*"),
    ("uuid", _UUID),
    ("time with Z", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?[Zz]"),
    ("time with offset", r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?[+-]\d\d:?\d\d"),
    ("time without zone", r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?)?"),
    ("http URL", r"(?i)https?://.+"),
    ("storage path", r"(s3|gs)://.+"),
    ("e-mail", r"[^@\s/]+@[^@\s/]+"),
    ("digits", r"\d+"),
    ("word", r"[A-Z][A-Z_]*"),
    ("path", r"[^\s/]+/.*"),
    ("text", r".*"),
)
TIMES = frozenset({"time with Z", "time with offset"})


def kind(value: object) -> str:
    """Return the JSON type of a value; for a string its pattern, such as "uuid"."""
    if isinstance(value, str):
        return next(name for name, pattern in KINDS if re.fullmatch(pattern, value, re.DOTALL))
    types = {type(None): "null", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    return types[type(value)]


def layout(path: str) -> str:
    """Return the pattern of a path, such as ``<name>/<uuid>.json``."""
    return "/".join(map(_part, path.split("/")))


def _part(part: str) -> str:
    if part in _FOLDERS or part in _FILES or not part:
        return part
    stem, dot, extension = part.rpartition(".")
    if not dot or extension.lower() not in _EXTENSIONS:
        stem, extension = part, ""
    known = {"uuid": "<uuid>", "digits": "<number>"}.get(kind(stem), "<name>")
    return f"{known}.{extension}" if extension else known


def _is_word(text: object) -> bool:
    """Return whether a string looks like a constant of the platform, such as ``CLIENT_REVIEW``."""
    return isinstance(text, str) and re.fullmatch(r"[A-Z][A-Z_]{1,39}", text) is not None


def constants(values: Iterable[object]) -> list[str]:
    """Return the distinct constants; any other value becomes "another form"."""
    return sorted({str(value) if _is_word(value) else f"another form ({kind(value)})" for value in values})


def media_type(headers: Mapping[str, str]) -> str:
    found = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return found if re.fullmatch(r"[a-z]{1,20}/[a-z0-9.+-]{1,40}", found) else "no valid content type"


def listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


# --- What is read -----------------------------------------------------------------------------------------------------


def _once(read: Callable[[Platform], T]) -> Any:
    """Make a property that is read at most once, whether that succeeds or not."""

    @functools.wraps(read)
    def value(self: Platform) -> T:
        if read.__name__ not in self.known:
            try:
                self.known[read.__name__] = read(self)
            except (NotSeenError, CFPlatformError) as error:
                self.known[read.__name__] = error.with_traceback(None)
        found = self.known[read.__name__]
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    return property(value)


class Page(NamedTuple):
    """A page of a listing: its entries, its ``meta`` if it is an object, and the parsed body."""

    entries: list[dict[str, Any]]
    meta: dict[str, Any] | None
    body: Any

    @property
    def cursor(self) -> Any:
        """The next cursor, in either spelling."""
        meta = self.meta or {}
        return meta.get("cursorNext") or meta.get("cursor_next")


class Stored(NamedTuple):
    """A response of the storage: its status, its headers and the beginning of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Platform:
    """Reads the platform: at most ``MAX_REQUESTS``, one after another, each of them once.

    Args:
        client: Its session and transport send the requests, about its project and its space.
        refused: A client with a key that is not valid.
    """

    def __init__(self, client: Client, refused: Client) -> None:
        self._client = client
        self._refused = refused
        self._project_id = client.project_id
        self.given_space = client.space_id
        self._end = time.monotonic() + MAX_SECONDS
        self.known: dict[str, Any] = {}
        self.sent = 0
        #: Those of the API.
        self.responses: list[requests.Response] = []

    def _count(self) -> None:
        if self.sent >= MAX_REQUESTS or time.monotonic() > self._end:
            raise NotSeenError("the limit on requests or time was reached")
        self.sent += 1

    def get(self, path: str, *params: tuple[str, str], with_wrong_key: bool = False) -> requests.Response:
        """GET from the API, whatever the status."""
        self._count()
        client = self._refused if with_wrong_key else self._client
        response = client.request("GET", path, params=list(params), check=False)
        self.responses.append(response)
        return response

    def sign(self, *paths: str) -> requests.Response:
        """Request signed URLs for reading: a POST, which changes nothing."""
        self._count()
        response = self._client.request(
            "POST", http.path("spaces", self.space, "signedurls"), json={"paths": list(paths)}, check=False
        )
        self.responses.append(response)
        return response

    def stored(self, url: str, method: str = "GET", limit: int = 1024, **headers: str) -> Stored:
        """Read an object of the storage, whatever the status; underscores in names of headers become hyphens."""
        self._count()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return Stored(*self._client._calls.look(method, url, sent, limit=limit))

    def key_set(self) -> tuple[bytes, str]:
        """Return the key set of webhooks, and its ``Cache-Control``."""
        self._count()
        parts = urlsplit(self._client.base_url)
        url = f"{parts.scheme}://{parts.netloc}/api/.well-known/jwks.json"
        return http.get_public(http.public_url(url), limit=64 * 1024, seconds=10)

    def reach(self) -> None:
        """Send the first request, and raise what makes every check pointless: no response, or the key is rejected."""
        if self._project_id is None:
            if self.unknown_project.status_code == 401:
                # Again, for the error with the message of the server.
                self._client.request("GET", http.path("projects", str(uuid.uuid4()), "workItems"))
            return
        self._count()
        self.responses.append(self._client.request("GET", self.project_path("workItems"), params={"limit": 3}))

    # --- Listings

    def project_path(self, *parts: str) -> str:
        if self._project_id is None:
            raise NotSeenError("no project is set", SET_PROJECT)
        return http.path("projects", self._project_id, *parts)

    def items(self, *params: tuple[str, str]) -> Page:
        """Return a page of work items."""
        return read_page(self.get(self.project_path("workItems"), *params))

    @_once
    def first(self) -> Page:
        self.project_path()
        page = read_page(self.responses[0])
        if not page.entries:
            raise NotSeenError("the project has no work items", SET_PROJECT)
        return page

    @_once
    def following(self) -> requests.Response:
        cursor = self.first.cursor
        if not isinstance(cursor, str) or not cursor:
            raise NotSeenError("there is no next page", "Set CF_PROJECT_ID to a project with more than 3 work items.")
        path = self.project_path("workItems")
        return self.get(path, ("limit", "3"), ("cursor", cursor), ("page", "NEXT"))

    @_once
    def second(self) -> Page:
        return read_page(self.following)

    @_once
    def usual(self) -> Page:
        return self.items()

    @_once
    def many(self) -> Page:
        _ = self.first
        return self.items(("limit", "100"))

    @_once
    def finished(self) -> Page:
        _ = self.first
        return self.items(("limit", "100"), ("status", "COMPLETED"))

    @_once
    def item_id(self) -> str:
        found = self.first.entries[0].get("id")
        if not isinstance(found, str):
            raise NotSeenError("the id of a work item is not a string")
        return found

    @_once
    def only(self) -> Page:
        return self.items(("workItemIDs", self.item_id), ("limit", "3"))

    def require_id_filter(self) -> None:
        """Raise unless the filter by ID works, which other checks build on."""
        if ids_of(self.only) != [self.item_id]:
            raise NotSeenError("the filter workItemIDs, which this check needs, does not work")

    @_once
    def batches(self) -> Page:
        return read_page(self.get(self.project_path("batches"), ("limit", "2")))

    @_once
    def some_batches(self) -> list[dict[str, Any]]:
        if not self.batches.entries:
            raise NotSeenError("the project has no batches", SET_PROJECT)
        return self.batches.entries  # type: ignore[no-any-return]

    # --- Errors

    @_once
    def unknown_project(self) -> requests.Response:
        return self.get(http.path("projects", str(uuid.uuid4()), "workItems"), ("limit", "1"))

    @_once
    def wrong_key(self) -> requests.Response:
        path = http.path("projects", self._project_id or str(uuid.uuid4()), "workItems")
        return self.get(path, ("limit", "1"), with_wrong_key=True)

    @_once
    def wrong_cursor(self) -> requests.Response:
        path = self.project_path("workItems")
        return self.get(path, ("limit", "1"), ("cursor", "not-a-cursor"), ("page", "NEXT"))

    @_once
    def unknown_work_item(self) -> requests.Response:
        return self.get(self.project_path("workItems", str(uuid.uuid4()), "annotations"), ("format", "coco"))

    @_once
    def errors(self) -> dict[str, requests.Response]:
        found = {}
        for name in ("unknown project", "wrong key", "wrong cursor", "unknown work item"):
            try:
                response = getattr(self, name.replace(" ", "_"))
            except (NotSeenError, CFPlatformError):
                continue
            if response.status_code >= 400:
                found[name] = response
        if not found:
            raise NotSeenError("there was no error")
        return found

    # --- Annotations and the storage

    @_once
    def annotations(self) -> list[Any]:
        ids = [entry["id"] for entry in self.finished.entries if isinstance(entry.get("id"), str)]
        if not ids:
            raise NotSeenError("the project has no finished work items", SET_PROJECT)
        found = []
        # The first, the last and one between them.
        for item_id in dict.fromkeys((ids[0], ids[-1], ids[len(ids) // 2])):
            path = self.project_path("workItems", item_id, "annotations")
            response = self.get(path, ("format", "coco"))
            # One may have none.
            if response.status_code != 404:
                found.append(read_json(response))
        if not found:
            raise NotSeenError("no finished work item has an annotation", SET_PROJECT)
        return found

    @_once
    def storage_paths(self) -> list[str]:
        found = []
        for annotation in self.annotations:
            metadata = annotation.get("metadata") if isinstance(annotation, dict) else None
            url = metadata.get("coco_results_url") if isinstance(metadata, dict) else None
            if isinstance(url, str):
                found.append(url)
        if not found:
            raise NotSeenError("no annotation has a coco_results_url")
        return found

    @_once
    def located(self) -> list[tuple[str, str]]:
        """The space and the path in it of each storage path, in an order that is not sorted."""
        matches = [re.fullmatch(r"(?:s3|gs)://[^/]+/spaces/([^/]+)/(.+)", url) for url in self.storage_paths]
        found = sorted({(match[1], match[2]) for match in matches if match})
        if not found:
            raise NotSeenError("no storage path has the expected form")
        return [*found[1:2], *found[2:], *found[:1]]

    @_once
    def space(self) -> str:
        try:
            return self.located[0][0]  # type: ignore[no-any-return]
        except NotSeenError as error:
            if self.given_space is None:
                raise NotSeenError(f"no space is known: {error}", SET_SPACE) from None
            return self.given_space

    @_once
    def paths(self) -> list[str]:
        return [path for space, path in self.located if space == self.space]

    @_once
    def signing(self) -> requests.Response:
        return self.sign(*self.paths)

    @_once
    def url(self) -> str:
        signed = signed_urls(self.signing).get(self.paths[0])
        if signed is None:
            raise NotSeenError("no URL was signed")
        return signed

    @_once
    def document(self) -> Stored:
        found = self.stored(self.url, limit=MAX_DOCUMENT)
        if found.status != 200:
            raise NotSeenError(f"the storage responded with status {found.status}")
        return found

    @_once
    def etag(self) -> str:
        found = self.document.headers.get("ETag")
        if not found:
            raise NotSeenError("the storage sends no ETag")
        return found  # type: ignore[no-any-return]

    @_once
    def part(self) -> Stored:
        _ = self.document
        return self.stored(self.url, Range="bytes=0-9")

    # --- Exports

    @_once
    def export_page(self) -> Page:
        return read_page(self.get(http.path("spaces", self.space, "exports"), ("limit", "20")))

    @_once
    def exports(self) -> list[dict[str, Any]]:
        if not self.export_page.entries:
            raise NotSeenError("the space has no exports", _CREATE_EXPORT)
        return self.export_page.entries  # type: ignore[no-any-return]

    @_once
    def completed_export(self) -> dict[str, Any]:
        completed = [export for export in self.exports if export.get("status") == "COMPLETED"]
        if not completed:
            raise NotSeenError("the space has no completed export", _CREATE_EXPORT)
        for export in completed:
            if kind(export.get("downloadUrl")) == "http URL":
                return dict(export)
        path = http.path("spaces", self.space, "exports", str(completed[0].get("exportId")))
        found: dict[str, Any] = read_json(self.get(path))
        if kind(found.get("downloadUrl")) != "http URL":
            raise NotSeenError("the export has no downloadUrl", _CREATE_EXPORT)
        return found


def read_json(response: requests.Response) -> Any:
    if not 200 <= response.status_code < 300:
        raise NotSeenError(f"the platform responded with status {response.status_code}")
    try:
        return response.json()
    except (ValueError, RecursionError):
        raise NotSeenError("the response is not JSON") from None


def read_page(response: requests.Response) -> Page:
    body = read_json(response)
    entries = body.get("items") if isinstance(body, dict) else body
    meta = body.get("meta") if isinstance(body, dict) else None
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return Page(entries, meta if isinstance(meta, dict) else None, body)


def ids_of(page: Page) -> list[Any]:
    return [entry.get("id") for entry in page.entries]


def signed_entries(response: requests.Response) -> list[tuple[str, str]]:
    """Return path and signed URL of the entries of a response to a signing request."""
    found = [(entry.get("path"), entry.get("signedUrl")) for entry in read_page(response).entries]
    return [(path, url) for path, url in found if isinstance(path, str) and isinstance(url, str)]


def signed_urls(response: requests.Response) -> dict[str, str]:
    return dict(signed_entries(response))
