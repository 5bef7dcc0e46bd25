"""The plain loop: the requests of a download, their JSON parsed, the files written, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias
from urllib.parse import urlsplit

BASE, PROJECT, SPACE = (os.environ[name] for name in ("CF_PLATFORM_BASE_URL", "CF_PROJECT_ID", "CF_SPACE_ID"))
ADDRESS = urlsplit(BASE)
ROOT = ADDRESS.path
HEADERS = {"X-API-Key": os.environ["CF_API_KEY"], "Accept": "application/json"}
SIGN_GROUP = 100

#: Sends a request (method, path, headers, and for some a body); returns the body of the response.
Send: TypeAlias = Callable[..., bytes]


def download(send: Send, destination: str, max_workers: int) -> dict[str, Any]:
    """Download a project; each thread takes a hundred items through all steps, so no thread waits for another."""
    names = {batch["id"]: batch["name"] for batch in listed(send, "batches?limit=100")}
    for name in names.values():
        os.makedirs(f"{destination}/{name}")

    def fetch(group: list[dict[str, Any]]) -> int:
        paths = {}
        for item in group:
            path = f"{ROOT}/projects/{PROJECT}/workItems/{item['id']}/annotations?format=coco"
            annotation = json.loads(send("GET", path, HEADERS))
            url = annotation["metadata"]["coco_results_url"]
            paths[url.split(f"/spaces/{SPACE}/", 1)[1]] = item
        headers = {**HEADERS, "Content-Type": "application/json"}
        signed = send("POST", f"{ROOT}/spaces/{SPACE}/signedurls", headers, json.dumps({"paths": list(paths)}))
        for entry in json.loads(signed)["items"]:
            parts = urlsplit(entry["signedUrl"])
            content = send("GET", f"{parts.path}?{parts.query}", {})
            json.loads(content)
            item = paths[entry["path"]]
            member = b'"info":{"asset_url": ' + json.dumps(item["assetUrl"]).encode() + b", "
            with open(f"{destination}/{names[item['batchId']]}/{item['id']}.json", "wb") as file:
                file.write(content.replace(b'"info":{', member, 1))
        return len(group)

    items = list(listed(send, "workItems?status=COMPLETED&limit=100"))
    groups = [items[start : start + SIGN_GROUP] for start in range(0, len(items), SIGN_GROUP)]
    with ThreadPoolExecutor(max_workers) as threads:
        return {"items": sum(threads.map(fetch, groups))}


def listed(send: Send, what: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of all pages of a listing."""
    position = ""
    while True:
        page = json.loads(send("GET", f"{ROOT}/projects/{PROJECT}/{what}{position}", HEADERS))
        yield from page["items"]
        if page["meta"]["cursorNext"] is None:
            return
        position = f"&cursor={page['meta']['cursorNext']}&page=NEXT"
