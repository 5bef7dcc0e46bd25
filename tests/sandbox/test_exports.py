"""Exports: their states, and the contents of their archives."""

from __future__ import annotations

import csv
import http.client
import io
import json
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .conftest import Wire, is_uuid
from .test_storage import error

UNKNOWN = "c2fe4a5d-ae6e-4005-8845-d10c59218302"


def path(wire, *parts):
    return "/".join((f"/spaces/{wire.sandbox.space_id}/exports", *parts))


def create(wire, **body):
    return wire.api("POST", path(wire), {"name": "labels"} | body)


def get(wire, export_id):
    answer = wire.api("GET", path(wire, export_id))
    assert answer.status == 200, answer
    return answer.json


def finish(wire, **body):
    """Create an export that takes no time, and return its id."""
    wire.sandbox.export_seconds = 0
    answer = create(wire, **body)
    assert answer.status == 201, answer
    return answer.json["exportId"]


def target(export):
    url = urlsplit(export["downloadUrl"])
    return f"{url.path}?{url.query}"


def unzip(wire, export_id):
    answer = wire.send("GET", target(get(wire, export_id)))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def listed(wire, **query):
    return wire.api("GET", path(wire), **query)


def test_life(make_wire):
    wire = make_wire(5, export_seconds=0.6)
    answer = create(wire, name="Émile")
    assert answer.status == 201
    export = answer.json
    assert is_uuid(export["exportId"])
    assert (export["status"], export["name"], export["format"]) == ("PENDING", "Émile", "COCO_JSON")
    assert (export["content"], export["downloadUrl"], export["error"]) == ("ANNOTATION", None, None)
    assert "@" in export["createdBy"]
    seen = []
    deadline = time.monotonic() + 10
    while seen[-1:] != ["COMPLETED"] and time.monotonic() < deadline:
        now = get(wire, export["exportId"])
        assert (now["downloadUrl"] is None) == (now["status"] != "COMPLETED")
        if seen[-1:] != [now["status"]]:
            seen.append(now["status"])
        time.sleep(0.01)
    # On a busy machine one may pass unseen.
    assert seen == [status for status in ("PENDING", "IN_PROGRESS", "COMPLETED") if status in seen]
    assert seen[-1] == "COMPLETED"
    assert now | {"downloadUrl": None, "status": "PENDING"} == export
    assert urlsplit(now["downloadUrl"]).path.endswith(
        f"/spaces/{wire.sandbox.space_id}/exports/{export['exportId']}.zip"
    )
    assert "X-Amz-Expires=604800" in now["downloadUrl"]
    assert wire.sandbox.counts["exports"] == len([entry for entry in wire.sandbox.requests if entry.route == "exports"])


def test_failure(wire):
    wire.sandbox.fail_next_export("out of ink")
    export_id = finish(wire)
    export = get(wire, export_id)
    assert (export["status"], export["error"], export["downloadUrl"]) == ("FAILED", "out of ink", None)
    zip_path = wire.sign(f"exports/{export_id}.zip")[0]
    assert wire.send("GET", zip_path).status == 404
    assert get(wire, finish(wire))["status"] == "COMPLETED"


def test_only_one_at_a_time(wire):
    wire.sandbox.export_seconds = 600
    first = create(wire).json["exportId"]
    answer = create(wire)
    assert (answer.status, answer.json["code"]) == (409, "conflict")
    assert first in answer.json["message"]
    assert wire.send("GET", wire.sign(f"exports/{first}.zip")[0]).status == 404
    assert wire.api("DELETE", path(wire, first)).status == 204
    second = create(wire).json["exportId"]
    assert second != first
    wire.sandbox.export_seconds = 0
    assert get(wire, second)["status"] == "COMPLETED"
    assert create(wire).status == 201


def test_delete(wire):
    export_id = finish(wire)
    url = target(get(wire, export_id))
    assert wire.send("GET", url).status == 200
    answer = wire.api("DELETE", path(wire, export_id))
    assert (answer.status, answer.body) == (204, b"")
    assert error(wire.send("GET", url))[0] == "NoSuchKey"
    for method in ("GET", "DELETE"):
        assert wire.api(method, path(wire, export_id)).status == 404
    assert listed(wire).json["items"] == []
    assert finish(wire) != export_id


@pytest.mark.parametrize("export_id", [UNKNOWN, "nonsense"])
def test_unknown_exports_and_spaces(wire, export_id):
    for method in ("GET", "DELETE"):
        answer = wire.api(method, path(wire, export_id))
        assert (answer.status, answer.json["message"]) == (404, "export not found")
        assert wire.api(method, f"/spaces/{UNKNOWN}/exports/{export_id}").json["message"] == "space not found"
    assert wire.send("GET", wire.sign(f"exports/{export_id}.zip")[0]).status == 404
    assert wire.api("POST", f"/spaces/{UNKNOWN}/exports", {"name": "x"}).status == 404
    assert wire.send("GET", wire.prefix + path(wire)).status == 401


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": 5}, "name"),
        ({"format": "XML"}, "format"),
        ({"format": "coco_json"}, "format"),
        ({"format": None}, "format"),
        ({"format": []}, "format"),
        ({"content": "PICTURES", "format": "CSV"}, "content"),
        ({"content": "INFERENCE"}, "content"),
        ({"content": "ASSET_METADATA", "format": "COCO_JSON"}, "content"),
        ({"projectIds": []}, "projectIds"),
        ({"projectIds": ["x"] * 51}, "projectIds"),
        ({"projectIds": "x"}, "projectIds"),
        ({"projectIds": [5]}, "projectIds"),
        ({"batchIds": [1001] * 101}, "batchIds"),
        ({"batchIds": ["1001"]}, "batchIds"),
        ({"batchIds": [True]}, "batchIds"),
        ({"createdAtFrom": "2025-03-03"}, "createdAtFrom"),
        ({"updatedAtTo": 5}, "updatedAtTo"),
    ],
)
def test_bad_exports(wire, body, message):
    answer = create(wire, **body)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert message in answer.json["message"]
    assert listed(wire).json["items"] == []


def test_bad_bodies(wire):
    for body in (None, b"{", []):
        assert wire.api("POST", path(wire), body).status == 400
    answer = create(wire, projectIds=[wire.sandbox.project_id, UNKNOWN])
    assert (answer.status, answer.json["message"]) == (404, f"project {UNKNOWN} not found")


def test_list(wire):
    ids = []
    for number in range(7):
        ids.insert(0, finish(wire, name=f"export {number}", format=["COCO_JSON", "CSV"][number % 2]))
    answer = listed(wire)
    assert [export["exportId"] for export in answer.json["items"]] == ids
    assert answer.json["meta"] == {
        "object": "export",
        "limit": 20,
        "page": None,
        "cursorNext": None,
        "cursorPrev": None,
    }
    assert answer.json["items"][0]["name"] == "export 6"
    pages = list(wire.pages(lambda **query: listed(wire, **query), limit=3))
    assert [[export["exportId"] for export in page["items"]] for page in pages] == [ids[:3], ids[3:6], ids[6:]]
    csvs = listed(wire, format="CSV").json["items"]
    assert [export["exportId"] for export in csvs] == ids[1::2]
    assert listed(wire, format="JSON").json["items"] == []
    for bad in ({"format": "XML"}, {"limit": 0}, {"limit": 101}, {"cursor": "x"}, {"page": "UP"}):
        assert listed(wire, **bad).status == 400


def test_coco_layout(make_wire):
    wire = make_wire(12, batches=3, batch_names=["a/b", "..", "Été"], in_review=0.25, unbatched=2)
    done = wire.ids(status="COMPLETED")
    assert len(done) == 9
    files = unzip(wire, finish(wire))
    assert {name.rpartition("/")[2] for name in files} == {f"{item_id}.json" for item_id in done}
    assert {name.rpartition("/")[0] for name in files} == {"a_b", "__", "Été", "Default"}
    for name, content in files.items():
        item = wire.sandbox.work_item(Path(name).stem)
        document = json.loads(content)
        assert document["info"].pop("asset_url") == item["assetUrl"]
        assert document == json.loads(wire.sandbox.document(item["id"]))


def test_filters(wire):
    items = wire.work_items(limit=100).json["items"]
    wire.sandbox.set_status(12, "CLIENT_REVIEW")
    batch = [item["id"] for item in items if item["batchId"] == 1002]
    late = [item["id"] for item in items[40:]]
    updated = sorted(item["updatedAt"] for item in items)[10]
    for body, wanted in (
        ({"batchIds": [1002]}, [item_id for item_id in batch if item_id != items[12]["id"]]),
        ({"batchIds": [], "createdAtFrom": items[40]["createdAt"]}, late),
        ({"createdAtTo": items[40]["createdAt"], "createdAtFrom": items[40]["createdAt"]}, late[:1]),
        ({"updatedAtTo": updated}, [i["id"] for i in items if i["updatedAt"] <= updated and i != items[12]]),
        ({"projectIds": [wire.sandbox.project_id], "batchIds": [9]}, []),
    ):
        names = unzip(wire, finish(wire, **body))
        assert sorted(Path(name).stem for name in names) == sorted(wanted)


@pytest.mark.parametrize(
    ("content", "field"), [("ANNOTATION", "x"), ("INFERENCE", "score"), ("ASSET_METADATA", "width")]
)
def test_tables(make_wire, content, field):
    wire = make_wire(8, batches=2, batch_names=['a "quoted", name', "b"])
    documents = [json.loads(wire.sandbox.document(index)) for index in range(8)]
    expected = [len(document["images" if field == "width" else "annotations"]) for document in documents]
    in_json = unzip(wire, finish(wire, format="JSON", content=content))
    in_csv = unzip(wire, finish(wire, format="CSV", content=content))
    assert (list(in_json), list(in_csv)) == (["annotations.json"], ["annotations.csv"])
    rows = json.loads(in_json["annotations.json"])
    table = list(csv.DictReader(io.StringIO(in_csv["annotations.csv"].decode(), newline="")))
    assert table == [{name: str(value) for name, value in row.items()} for row in rows]
    assert [row["work_item_id"] for row in rows] == [
        item_id for item_id, count in zip(wire.ids(), expected, strict=True) for _ in range(count)
    ]
    assert (rows[0]["batch_name"], rows[-1]["batch_name"]) == ('a "quoted", name', "b")
    assert all(row[field] is not None for row in rows)
    assert ("score" in rows[0]) == (content == "INFERENCE")
    if content == "ANNOTATION":
        annotation = documents[0]["annotations"][0]
        assert [rows[0][name] for name in ("x", "y", "width", "height")] == annotation["bbox"]
        assert rows[0]["category"] in {category["name"] for category in documents[0]["categories"]}


@pytest.mark.parametrize("document", [b"", b"not json", b"[]", b'{"annotations": [5, {}], "images": 5, "info": 5}'])
def test_documents_that_are_none(make_wire, document):
    wire = make_wire(2, batches=1)
    wire.sandbox.update_work_item(0, document=document)
    for form, content in (("COCO_JSON", None), ("JSON", "INFERENCE"), ("CSV", "ANNOTATION"), ("CSV", "ASSET_METADATA")):
        files = unzip(wire, finish(wire, format=form, content=content))
        if form == "COCO_JSON":
            name = next(name for name in files if wire.ids()[0] in name)
            assert (files[name] == document) == (not document.startswith(b"{"))


def test_the_same_world_gives_the_same_bytes(make_wire):
    zips = []
    for _ in range(2):
        wire = make_wire(20, seed=5)
        zips.append([wire.send("GET", target(get(wire, finish(wire, format=f)))).body for f in ("COCO_JSON", "CSV")])
        zips[-1].append(finish(wire))
    assert zips[0] == zips[1]


def test_zips_are_objects_like_others(wire):
    url = target(get(wire, finish(wire)))
    whole = wire.send("GET", url)
    part = wire.send("GET", url, Range="bytes=100-199", If_Range=whole.headers["etag"])
    assert (part.status, part.body) == (206, whole.body[100:200])
    head = wire.send("HEAD", url)
    assert (head.headers["etag"], head.headers["content-length"]) == (whole.headers["etag"], str(len(whole.body)))
    assert wire.send("GET", url, X_API_Key="x").status == 400
    assert wire.sandbox.leaks == 1
    assert wire.send("PUT", url, b"x", Content_Type="x/y").status == 403
    wire.sandbox.truncate_next(path="*.zip")
    with pytest.raises(http.client.IncompleteRead):
        wire.send("GET", url)
    wire.sandbox.fail_next(503, path="*.zip")
    assert error(wire.send("GET", url))[0] == "SlowDown"
    assert wire.send("GET", url).body == whole.body


def test_expiry(wire):
    export_id = finish(wire)
    url = target(get(wire, export_id))
    wire.sandbox.url_lifetime = 0
    assert wire.send("GET", target(get(wire, export_id))).status == 200
    wire.sandbox.expire_urls()
    assert error(wire.send("GET", url)) == ("AccessDenied", "Request has expired")
    assert wire.send("GET", target(get(wire, export_id))).status == 200
    wire.sandbox.expire_after(0)
    assert wire.sandbox.export_url_lifetime == wire.sandbox.url_lifetime == 0
    assert wire.send("GET", target(get(wire, export_id))).status == 403
    wire.sandbox.export_url_lifetime = 60
    assert wire.send("GET", target(get(wire, export_id))).status == 200


def test_faults(wire):
    wire.sandbox.fail_next(503, path="*/exports", method="POST")
    assert create(wire).status == 503
    wire.sandbox.html_next(path="*/exports")
    assert listed(wire).body.startswith(b"<!DOCTYPE")
    wire.sandbox.rate_limit(0.01)
    assert [listed(wire).status for _ in range(2)] == [200, 429]


def test_others_are_answered_while_a_zip_is_written(make_wire):
    wire = make_wire(2000)
    url = target(get(wire, finish(wire)))
    statuses = []

    def fetch():
        other = Wire(wire.sandbox)
        statuses.append(other.send("GET", url).status)
        other.connection.close()

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    answered = 0
    while any(thread.is_alive() for thread in threads):
        assert wire.batches().status == 200
        answered += 1
    assert statuses == [200, 200]
    assert answered > 3


def test_add_export(wire, tmp_path):
    file = tmp_path / "hostile.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../escape", b"x")
    export_id = wire.sandbox.add_export(file, name="hostile")
    export = get(wire, export_id)
    assert (export["status"], export["name"], export["format"]) == ("COMPLETED", "hostile", "COCO_JSON")
    answer = wire.send("GET", target(export), Range="bytes=0-3")
    assert (answer.status, answer.body) == (206, b"PK\x03\x04")
    assert wire.send("GET", target(export)).body == file.read_bytes()
    other = wire.sandbox.add_export(str(file), format="CSV", content="INFERENCE")
    assert get(wire, other)["name"] == "hostile.zip"
    assert [entry["exportId"] for entry in listed(wire).json["items"]] == [other, export_id]
    assert create(wire).status == 201
    assert wire.api("DELETE", path(wire, export_id)).status == 204
    wire.sandbox.reset()
    assert file.exists()
    with pytest.raises(FileNotFoundError):
        wire.sandbox.add_export(tmp_path / "nothing")
    with pytest.raises(ValueError, match="format"):
        wire.sandbox.add_export(file, format="XML")
    assert listed(wire).json["items"] == []


def test_a_large_export_is_served_in_parts(wire, tmp_path):
    file = tmp_path / "large.zip"
    with file.open("wb") as target_file:
        target_file.truncate(64 << 20)
        target_file.seek(0)
        target_file.write(b"PK")
    size = file.stat().st_size
    url = target(get(wire, wire.sandbox.add_export(file)))
    head = wire.send("HEAD", url)
    assert (head.status, head.headers["content-length"]) == (200, str(size))
    tail = wire.send("GET", url, Range=f"bytes={size - 5}-")
    assert (tail.status, tail.body) == (206, bytes(5))
    wire.connection.request("GET", url)
    response = wire.connection.getresponse()
    assert response.read(2) == b"PK"
    # Whoever leaves does not keep the sandbox busy.
    response.close()
    wire.connection.close()
    assert wire.batches().status == 200


def test_control(wire):
    assert wire.control("POST", "/settings", {"export_seconds": 0}).json["settings"]["export_seconds"] == 0
    assert wire.control("POST", "/exports/fail-next", {"reason": "planned"}).status == 204
    assert get(wire, create(wire).json["exportId"])["error"] == "planned"
    assert wire.control("POST", "/exports/fail-next", {}).status == 400
    wire.sandbox.fail_next_export("forgotten")
    wire.sandbox.reset()
    assert wire.sandbox.export_seconds == 0.2
    assert listed(wire).json["items"] == []
    assert get(wire, finish(wire))["status"] == "COMPLETED"


# In a process of its own, because that client leaves its event loop and sockets to the garbage collector.
SCRIPT = """
import json, sys
from cf_ai_platform_client import SyncCFUserClient
settings = json.loads(sys.argv[1])
client = SyncCFUserClient(settings["api_key"], base_url=settings["base_url"])
space = settings["space_id"]
export = client.create_export(space, "official", batch_ids=[1002])
print(export.status.value)
done = client.wait_for_export(space, str(export.export_id), poll_interval=0.02)
print(done.status.value, done.created_by)
print(len(client.list_exports(space).items))
print(client.download_export_file(space, str(export.export_id), settings["destination"], poll_interval=0.02))
client.delete_export(space, str(export.export_id))
print(len(client.list_exports(space).items))
"""


@pytest.mark.peer
def test_the_official_client_exports(wire, tmp_path):
    settings = {**wire.control("GET", "").json, "destination": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    status, final, count, file, left = done.stdout.splitlines()
    assert (status, count, left) == ("PENDING", "1", "0")
    assert final.startswith("COMPLETED ")
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    assert sorted(Path(name).stem for name in names) == sorted(wire.ids(batchIds=[1002]))
    assert is_uuid(Path(file).stem)
    requests = [(entry.method, entry.status) for entry in wire.sandbox.requests if entry.route == "exports"]
    assert requests[0] == ("POST", 201)
    assert ("DELETE", 204) in requests
    assert wire.sandbox.leaks == 0
