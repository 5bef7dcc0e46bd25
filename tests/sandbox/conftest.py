"""Requests of the sandbox tests: plain http.client, so the SDK cannot hide a mistake."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import pytest

from cfplatform.sandbox import Sandbox

#: For calls without a body.
NOTHING = object()


def is_uuid(text: str) -> bool:
    return str(UUID(text)) == text


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One keep-alive connection to a sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        location = urlsplit(sandbox.base_url)
        self.prefix = location.path
        self.connection = http.client.HTTPConnection(str(location.hostname), location.port, timeout=10)

    def send(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request as it is; underscores in header names stand for hyphens."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self.connection.request(method, target, body, names)
            response = self.connection.getresponse()
            content = response.read()
        except Exception:
            self.connection.close()
            raise
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)

    def api(self, method: str, path: str, content: Any = None, **query: Any) -> Answer:
        """Send a request with the key; lists in the query are sent as repeated names."""
        body = content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
        target = f"{self.prefix}{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
        return self.send(method, target, body, X_API_Key=self.sandbox.api_key)

    def work_items(self, **query: Any) -> Answer:
        return self.api("GET", f"/projects/{self.sandbox.project_id}/workItems", **query)

    def batches(self, **query: Any) -> Answer:
        return self.api("GET", f"/projects/{self.sandbox.project_id}/batches", **query)

    def annotation(self, item_id: str, **query: Any) -> Answer:
        path = f"/projects/{self.sandbox.project_id}/workItems/{item_id}/annotations"
        return self.api("GET", path, **({"format": "coco"} | query))

    def sign(self, *paths: str) -> list[str]:
        """Sign paths and return the URLs without scheme and host."""
        answer = self.api("POST", f"/spaces/{self.sandbox.space_id}/signedurls", {"paths": list(paths)})
        assert answer.status == 200, answer
        urls = [urlsplit(item["signedUrl"]) for item in answer.json["items"]]
        return [f"{url.path}?{url.query}" for url in urls]

    def sign_document(self, index: int = 0) -> str:
        return self.sign(f"coco_output/{next(self.sandbox.work_item_ids(index))}.json")[0]

    def control(self, method: str, path: str, content: Any = NOTHING, **changes: str) -> Answer:
        """Call the control API with the key, as JSON; ``changes`` are other headers."""
        body = content if isinstance(content, bytes) else None if content is NOTHING else json.dumps(content).encode()
        headers = {"X_API_Key": self.sandbox.api_key, "Content_Type": "application/json", **changes}
        return self.send(method, f"/_sandbox{path}", body, **headers)

    def pages(self, listing: Callable[..., Answer], **query: Any) -> Iterator[Any]:
        """Follow the cursors of a listing to its end."""
        page = listing(**query).json
        yield page
        while cursor := page["meta"].get("cursorNext", page["meta"].get("cursor_next")):
            page = listing(**query, cursor=cursor, page="NEXT").json
            yield page

    def ids(self, **query: Any) -> list[str]:
        """List the ids of all work items that match."""
        pages = self.pages(self.work_items, **({"limit": 100} | query))
        return [item["id"] for page in pages for item in page["items"]]


@pytest.fixture
def make_wire() -> Iterator[Callable[..., Wire]]:
    """Start sandboxes that are stopped when the test ends."""
    with ExitStack() as stack:

        def make(items: int = 50, **options: Any) -> Wire:
            wire = Wire(stack.enter_context(Sandbox(items, **options)))
            stack.callback(wire.connection.close)
            return wire

        yield make


@pytest.fixture(scope="module")
def _shared() -> Iterator[Wire]:
    with Sandbox(items=50) as sandbox:
        wire = Wire(sandbox)
        yield wire
        wire.connection.close()


@pytest.fixture
def wire(_shared: Wire) -> Wire:
    """A connection to a sandbox of 50 items in 5 batches, as new."""
    _shared.sandbox.reset()
    _shared.connection.close()
    return _shared
