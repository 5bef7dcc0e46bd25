"""The official client against the sandbox: an independent check of how we read the protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timezone
from types import SimpleNamespace

import pytest

from .test_downloading import tree

pytestmark = pytest.mark.peer

# In a separate process, because that client leaves its event loop and sockets to the garbage collector.
SCRIPT = """
import json, sys
from cf_ai_platform_client import SyncCFUserClient
settings = json.loads(sys.argv[1])
client = SyncCFUserClient(settings["api_key"], base_url=settings["base_url"])
summary = client.download_project(
    settings["project_id"], settings["space_id"], settings["destination"], **settings["filters"]
)
print(json.dumps({name: getattr(summary, name) for name in ("total_items", "successful", "failed")}))
"""


def official(sandbox, destination, **filters):
    """Download a sandbox's project with the official client."""
    settings = {
        "api_key": sandbox.api_key,
        "base_url": sandbox.base_url,
        "project_id": sandbox.project_id,
        "space_id": sandbox.space_id,
        "destination": str(destination),
        "filters": filters,
    }
    command = [sys.executable, "-c", SCRIPT, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return SimpleNamespace(**json.loads(done.stdout))


def data(files):
    return {path: json.loads(content) for path, content in files.items()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cursor_style": "snake"},
        {"overlap": 2, "with_total": False},
        {"in_review": 0.3, "batch_names": ["With/Special:Chars*?", "Ünïcode 北京", " spaced "]},
    ],
)
def test_both_clients_make_the_same_tree(make_sandbox, tmp_path, options):
    sandbox = make_sandbox(items=150, batches=3, **options)
    theirs = official(sandbox, tmp_path / "official")
    with sandbox.client() as client:
        ours = client.download_project(destination=tmp_path / "ours")
    assert theirs.failed == ours.failed == 0
    assert theirs.successful == ours.successful > 100
    assert data(tree(tmp_path / "ours")) == data(tree(tmp_path / "official"))


def test_both_clients_select_the_same_items(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=150, batches=3, in_review=0.2)
    with sandbox.client() as client:
        items = list(client.get_work_items())
        moments = sorted(item.updated_at.astimezone(timezone.utc).isoformat() for item in items)
        for number, filters in enumerate(
            [
                {"batch_ids": [1001, 1003]},
                {"work_item_ids": [item.id for item in items[10:60]]},
                {"created_at_from": items[40].created_at.isoformat(), "created_at_to": "2100-01-01T00:00:00+05:45"},
                {"updated_at_from": moments[30], "updated_at_to": moments[120], "batch_ids": [1002]},
            ]
        ):
            theirs = official(sandbox, tmp_path / f"official {number}", **filters)
            ours = client.download_project(destination=tmp_path / f"ours {number}", **filters)
            assert theirs.failed == ours.failed == 0
            assert 0 < ours.total_items == theirs.total_items < 150
            assert data(tree(tmp_path / f"ours {number}")) == data(tree(tmp_path / f"official {number}"))


def test_both_clients_send_the_same_listing(make_sandbox, tmp_path):
    """The requests of the two clients differ only in the page size."""
    sandbox = make_sandbox(items=5, batches=1)
    filters = {"batch_ids": [1001, 7], "created_at_from": "2020-01-01T00:00:00+05:45"}

    def listing():
        (request,) = [request for request in sandbox.requests if request.path.endswith("/workItems")]
        sandbox.clear_requests()
        return sorted(pair for pair in map(tuple, request.query) if pair[0] != "limit")

    official(sandbox, tmp_path / "official", **filters)
    theirs = listing()
    with sandbox.client() as client:
        client.download_project(destination=tmp_path / "ours", **filters)
    assert listing() == theirs
