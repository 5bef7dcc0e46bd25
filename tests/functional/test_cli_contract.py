"""``cfplatform doctor --contract`` against the sandbox, and against servers that differ from it."""

from __future__ import annotations

import contextlib
import json
import re
import zipfile

import pytest

from tests.differing import DifferingServer
from tests.functional.shell import json_lines, on_terminal, run, shown, started
from tests.http.scripted import raw

CONFIRMED = {
    "listing": "work items: items (array) and meta (object); batches: items (array) and meta (object)",
    "meta": "object, limit, page",
    "cursors of work items": "cursorNext, cursorPrev",
    "cursors of batches": "cursorNext, cursorPrev",
    "next page": "3 items, different from the first page",
    "overlap": "0 of 3 items repeated",
    "end of a listing": "null",
    "largest page": "status 400",
    "default page": "20 items",
    "total": "follows the filters",
    "id filter": "that work item only",
    "unknown id": "an empty page",
    "batch filter": "two IDs select both, one selects the first",
    "date filters": "createdAt is inclusive; an offset is understood; older items are left out; updatedAt is inclusive",
    "status filter": "COMPLETED",
    "statuses": "CLIENT_REVIEW, COMPLETED",
    "work item fields": "id, projectId, batchId, status, assetType, assetUrl, resultUrl, createdAt, updatedAt, "
    "metadata",
    "asset URLs": "path",
    "batch fields": "id, projectId, name, createdBy, createdAt, metadata, priority, totalCount, completedCount",
    "unknown project": "status 404",
    "wrong key": "status 401",
    "wrong cursor": "status 400",
    "unknown work item": "status 404",
    "error bodies": "application/json with message, code",
    "request ids": "X-Request-ID",
    "annotation": "id, projectID, workItemID, metadata",
    "storage path": "s3://<bucket>/spaces/<uuid>/coco_output/<uuid>.json",
    "space of a path": "the configured space",
    "signing": "3 for 3 paths, with path, signedUrl",
    "signing order": "the order of the request",
    "signing duplicates": "2 URLs for a path that was sent twice",
    "unknown path": "signed; the storage responds with 404",
    "complete path": "signed; the storage responds with 404",
    "signed URL lifetime": "900 s, from X-Amz-Expires",
    "ETag": "strong",
    "length": "sent",
    "ranges": "status 206, Accept-Ranges sent",
    "If-Range": "status 206 for the ETag, 200 for another one",
    "If-None-Match": "status 304",
    "HEAD": "status 200",
    "content encoding": "none",
    "document": "info (object), images (array), annotations (array), categories (array), licenses (array)",
    "asset_url": "none",
    "exports": "items (array) and meta (object)",
    "export fields": "exportId, status, name, format, content, createdBy, createdAt, downloadUrl, error",
    "export order": "newest first",
    "export statuses": "COMPLETED",
    "downloadUrl lifetime": "604,800 s, from X-Amz-Expires",
    "archive layout": "COCO_JSON: <name>/<uuid>.json (several)",
    "webhook keys": "1 key: kty OKP crv Ed25519 use sig alg EdDSA; max-age 3600",
    "rate limits": "none in 27 responses",
    "clock": "within 40 s",
    "redirects": "none in 27 responses",
}


@pytest.fixture
def sandbox(make_sandbox):
    """With everything that can be checked: pages, batches, two statuses and two exports."""
    sandbox = make_sandbox(items=60, batches=3, in_review=0.2, export_seconds=0)
    with sandbox.client() as client:
        for name in ("Weekly of Jane Doe", "Nightly of Jane Doe"):
            client.create_export(name).wait()
    sandbox.clear_requests()
    return sandbox


def checked(sandbox, *differences, code=0, **changes):
    """Status and finding of each check; the lines of those that differ name what was expected."""
    with contextlib.ExitStack() as stack:
        if differences:
            server = stack.enter_context(DifferingServer(sandbox, *differences))
            changes = {"CF_PLATFORM_BASE_URL": server.base_url, **changes}
        done = run("doctor", "--contract", "--json", sandbox=sandbox, **changes)
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    lines = json_lines(done.stdout)
    for line in lines:
        assert line["status"] != "different" or line["advice"].startswith("Expected: ")
    return {line["check"]: (line["status"], line["found"]) for line in lines}


def unlike(found):
    """The checks that are not confirmed."""
    return {name: each for name, each in found.items() if each[0] != "confirmed"}


def test_the_sandbox_is_as_expected(sandbox):
    assert checked(sandbox) == {name: ("confirmed", words) for name, words in CONFIRMED.items()}


def test_it_only_reads(sandbox):
    with sandbox.client() as client:
        before = [each.as_dict() for each in (*client.get_work_items(), *client.get_batches(), *client.get_exports())]
        sandbox.clear_requests()
        checked(sandbox)
        sent = sandbox.requests
        after = [each.as_dict() for each in (*client.get_work_items(), *client.get_batches(), *client.get_exports())]
    assert {(request.method, request.route) for request in sent} == {
        ("GET", "work_items"),
        ("GET", "batches"),
        ("GET", "annotations"),
        ("POST", "signing"),
        ("GET", "storage"),
        ("HEAD", "storage"),
        ("GET", "exports"),
        ("GET", "jwks"),
    }
    assert len(sent) == 37
    assert sandbox.max_in_flight == 1
    assert sandbox.leaks == 0
    for line in (*before, *after):
        # Each listing signs it again.
        line.pop("downloadUrl", None)
    assert before == after


# --- Servers that differ ---------------------------------------------------------------------------------------------


def snake_case(exchange):
    yield
    for name in ("Next", "Prev"):
        exchange.answer = exchange.answer.replace(f'"cursor{name}"'.encode(), f'"cursor_{name.lower()}"'.encode())


def no_total(exchange):
    yield
    exchange.answer = re.sub(rb',"total":\d+', b"", exchange.answer)


def error_for_message(exchange):
    yield
    exchange.answer = exchange.answer.replace(b'"message":', b'"error":')


def other_statuses(exchange):
    yield
    exchange.answer = exchange.answer.replace(b'"CLIENT_REVIEW"', b'"IN_REVIEW"')


def signed_backwards(exchange):
    yield
    if exchange.path.endswith("/signedurls"):
        exchange.respond({"items": exchange.json["items"][::-1]})


def unknown_paths_left_out(exchange):
    yield
    if exchange.path.endswith("/signedurls"):
        known = {f"coco_output/{item}.json" for item in unknown_paths_left_out.ids}
        exchange.respond({"items": [each for each in exchange.json["items"] if each["path"] in known]})


def no_etag(exchange):
    yield
    exchange.answer_headers.pop("etag", None)


def no_ranges(exchange):
    exchange.headers.pop("range", None)
    yield
    exchange.answer_headers.pop("accept-ranges", None)


def default_of_50(exchange):
    if exchange.path.endswith("/workItems") and not exchange.query:
        exchange.query = [("limit", "50")]
    yield


def unknown_ids_refused(exchange):
    yield
    is_by_id = [name for name, _ in exchange.query] == ["workItemIDs", "limit"]
    if is_by_id and exchange.json["items"] == []:
        exchange.respond({"code": "bad_request", "message": "no such work item"}, 400)


def bare_arrays(exchange):
    yield
    if exchange.path.endswith(("/workItems", "/batches")) and exchange.status == 200:
        exchange.respond(exchange.json["items"])


def limit_cut(exchange):
    exchange.query = [(name, "100" if value == "101" else value) for name, value in exchange.query]
    yield


def only_the_last_key(exchange):
    batches = [pair for pair in exchange.query if pair[0] == "batchIds"]
    exchange.query = [pair for pair in exchange.query if pair[0] != "batchIds"] + batches[-1:]
    yield


def times_without_zone(exchange):
    yield
    exchange.answer = re.sub(rb'("(?:created|updated)At":"[^"]*)Z"', rb'\1"', exchange.answer)


def offsets_ignored(exchange):
    exchange.query = [(name, re.sub(r"[+]05:45$", "Z", value)) for name, value in exchange.query]
    yield


def other_fields(exchange):
    yield
    exchange.answer = exchange.answer.replace(b'"resultUrl":null', b'"outcome":7')
    exchange.answer = re.sub(rb'"batchId":(\d+)', rb'"batchId":"\1"', exchange.answer)


def forbidden(exchange):
    yield
    if exchange.status == 404 and exchange.path.startswith("/api"):
        exchange.status = 403


def text_errors(exchange):
    yield
    if exchange.status >= 400 and exchange.path.startswith("/api"):
        exchange.answer, exchange.answer_headers["content-type"] = b"Nothing for Jane Doe here", "text/plain"
        del exchange.answer_headers["x-request-id"]


def head_refused(exchange):
    if exchange.method == "HEAD":
        exchange.status = 403
    yield


def no_key_set(exchange):
    if exchange.path.endswith("/jwks.json"):
        exchange.respond({"message": "not found"}, 404)
    yield


def limited(exchange):
    yield
    exchange.answer_headers["x-ratelimit-remaining"] = "7"


def limited_by_name(exchange):
    yield
    exchange.answer_headers["x-ratelimit-acme-corporation"] = "7"


def no_date(exchange):
    yield
    exchange.answer_headers.pop("date", None)


def asset_in_document(exchange):
    yield
    if exchange.path.startswith("/storage") and exchange.path.endswith(".json") and exchange.status == 200:
        exchange.answer = exchange.answer.replace(b'"info":{', b'"info":{"asset_url":"assets/x",')


def broken_document(exchange):
    yield
    if exchange.path.startswith("/storage") and exchange.path.endswith(".json") and exchange.status == 200:
        exchange.answer = b"[" + exchange.answer


def signing_creates(exchange):
    yield
    if exchange.path.endswith("/signedurls"):
        exchange.status = 201


def exports_listed_without_url(exchange):
    yield
    if exchange.path.endswith("/exports"):
        exchange.answer = re.sub(rb',"downloadUrl":"[^"]*"', b"", exchange.answer)


def odd_types(exchange):
    exchange.query = []
    yield
    if exchange.path.endswith("/workItems") and exchange.status == 200:
        exchange.respond({"items": [{"id": {"a": 1}, "status": ["x"]}] * 3, "meta": {"cursorNext": "c", "limit": "x"}})


NO_META = ("not seen", "no page has a meta")
#: Each difference, and what is not confirmed because of it.
DIFFERENCES = {
    snake_case: {
        "cursors of work items": ("different", "cursor_next, cursor_prev"),
        "cursors of batches": ("different", "cursor_next, cursor_prev"),
    },
    no_total: {"total": ("different", "not sent")},
    error_for_message: {"error bodies": ("different", "application/json with error, code")},
    other_statuses: {"statuses": ("different", "COMPLETED, IN_REVIEW")},
    signed_backwards: {"signing order": ("different", "another order")},
    unknown_paths_left_out: {"unknown path": ("different", "left out")},
    no_etag: {
        "ETag": ("different", "none"),
        "If-Range": ("not seen", "the storage sends no ETag"),
        "If-None-Match": ("not seen", "the storage sends no ETag"),
    },
    no_ranges: {
        "ranges": ("different", "status 200, Accept-Ranges missing"),
        "If-Range": ("not seen", "the storage does not support ranges"),
    },
    default_of_50: {"default page": ("different", "50 items")},
    unknown_ids_refused: {"unknown id": ("different", "status 400")},
    bare_arrays: {
        "listing": ("different", "work items: array; batches: array"),
        "meta": NO_META,
        "cursors of work items": NO_META,
        "cursors of batches": NO_META,
        "next page": ("not seen", "there is no next page"),
        "overlap": ("not seen", "there is no next page"),
        "end of a listing": NO_META,
        "default page": ("not seen", "a page shows neither its limit nor whether there is a next one"),
        "total": ("not seen", "a page is an array"),
    },
    limit_cut: {"largest page": ("different", "status 200, no more than 100 items, meta.limit is 100")},
    only_the_last_key: {"batch filter": ("different", "two IDs select the second, one selects the first")},
    times_without_zone: {
        "date filters": ("not seen", "work items have no createdAt with a time zone"),
        "work item fields": (
            "different",
            "of another kind: createdAt (time without zone), updatedAt (time without zone)",
        ),
        "batch fields": ("different", "of another kind: createdAt (time without zone)"),
        "export fields": ("different", "of another kind: createdAt (time without zone)"),
        "export order": ("not seen", "fewer than two exports have different times"),
    },
    offsets_ignored: {"date filters": ("different", "wrong: an offset is understood")},
    other_fields: {
        "work item fields": (
            "different",
            "missing: resultUrl; new: outcome (integer); of another kind: batchId (digits)",
        ),
    },
    forbidden: {
        "unknown project": ("different", "status 403"),
        "unknown work item": ("different", "status 403"),
    },
    text_errors: {
        "error bodies": ("different", "text/plain, not JSON"),
        "request ids": ("different", "none"),
    },
    signing_creates: {"signing": ("different", "status 201")},
    exports_listed_without_url: {"export fields": ("different", "missing: downloadUrl")},
    head_refused: {"HEAD": ("different", "status 403")},
    no_key_set: {"webhook keys": ("different", "there is no key set")},
    limited: {"rate limits": ("different", "x-ratelimit-remaining in 27 responses")},
    limited_by_name: {"rate limits": ("different", "an unusual name in 27 responses")},
    no_date: {"clock": ("different", "missing, or not a date")},
    asset_in_document: {"asset_url": ("different", "path")},
    broken_document: {
        "document": ("different", "not a JSON object"),
        "asset_url": ("not seen", "the document has no info"),
    },
}


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each.__name__)
def test_a_difference_is_found_and_nothing_else(sandbox, difference):
    unknown_paths_left_out.ids = list(sandbox.work_item_ids())
    assert unlike(checked(sandbox, difference)) == DIFFERENCES[difference]


def test_a_server_that_differs_in_twelve_ways(sandbox, tmp_path):
    unknown_paths_left_out.ids = list(sandbox.work_item_ids())
    sandbox.url_lifetime = 60
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("Jane Doe/labels.txt", "")
        archive.writestr("annotations.json", "[]")
    sandbox.add_export(tmp_path / "export.zip", name="other layout")
    twelve = list(DIFFERENCES)[:10]
    expected = {}
    for difference in twelve:
        expected |= DIFFERENCES[difference]
    expected |= {
        "signed URL lifetime": ("different", "60 s, from X-Amz-Expires"),
        "archive layout": ("different", "COCO_JSON: <name>/<name>.txt (one), annotations.json (one)"),
        "If-Range": ("not seen", "the storage sends no ETag"),
    }
    assert unlike(checked(sandbox, *twelve)) == expected


def test_types_that_nobody_expects_end_no_report(sandbox):
    found = checked(sandbox, odd_types)
    assert len(found) == len(CONFIRMED)
    assert found["id filter"] == ("not seen", "the id of a work item is not a string")
    assert found["overlap"] == ("different", "a response in an unknown format (TypeError)")
    assert found["statuses"] == ("different", "another form (array)")


def test_large_batches(make_sandbox):
    # The first 100 items are all of the first batch.
    found = checked(make_sandbox(items=300, batches=2))
    assert found["batch filter"] == ("confirmed", CONFIRMED["batch filter"])


def test_an_item_without_annotation_is_passed_over(sandbox):
    # The first is the unknown one.
    sandbox.fail_next(404, times=2, path="*/annotations")
    found = checked(sandbox)
    assert unlike(found) == {}
    assert found["signing"][1] == "2 for 2 paths, with path, signedUrl"


# --- What is missing -------------------------------------------------------------------------------------------------


def test_an_empty_project_without_exports(make_sandbox):
    sandbox = make_sandbox(items=0, batches=0)
    found = checked(sandbox, CF_SPACE_ID=None)
    assert {name for name, (status, _) in found.items() if status == "confirmed"} == {
        "cursors of batches",
        "largest page",
        "unknown id",
        "unknown project",
        "wrong key",
        "wrong cursor",
        "unknown work item",
        "error bodies",
        "request ids",
        "webhook keys",
        "rate limits",
        "clock",
        "redirects",
    }
    assert "different" not in {status for status, _ in found.values()}
    assert found["total"][1] == "the project has no work items"
    assert found["batch fields"][1] == "the project has no batches"
    assert found["exports"][1] == "no space is known: the project has no work items"
    assert checked(sandbox)["exports"][0] == "confirmed"
    assert checked(sandbox)["export fields"] == ("not seen", "the space has no exports")


def test_without_a_project(sandbox):
    found = checked(sandbox, CF_PROJECT_ID=None)
    assert found["total"] == ("not seen", "no project is set")
    assert found["unknown project"] == ("confirmed", "status 404")
    assert found["export fields"][0] == "confirmed"


def test_another_space_in_the_settings(sandbox):
    found = checked(sandbox, CF_SPACE_ID="00000000-0000-4000-8000-000000000000")
    assert unlike(found) == {"space of a path": ("different", "another space")}


# --- Output ----------------------------------------------------------------------------------------------------------


def private(sandbox):
    """Every value of a run that must not be in a report."""
    with sandbox.client() as client:
        items, batches, exports = [*client.get_work_items()], [*client.get_batches()], [*client.get_exports()]
        annotation = client.get_annotation(next(item.id for item in items if item.status == "COMPLETED"))
        url = client.get_signed_urls([annotation.coco_results_url])[annotation.coco_results_url]
        document = json.loads(sandbox.document(0))
        page = next(client.iterate_pages(f"/projects/{sandbox.project_id}/workItems", {"limit": 3}))
    yield from (sandbox.api_key, sandbox.project_id, sandbox.space_id, sandbox.webhook_key_id, annotation.id)
    yield from sandbox.base_url.split("/")[2].split(":")
    yield from (item.id for item in items)
    for resource in (*items, *batches, *exports):
        for name in ("name", "assetUrl", "createdBy", "createdAt", "updatedAt", "exportId", "downloadUrl"):
            yield resource.as_dict().get(name)
    yield from (str(batch.id) for batch in batches)
    yield from ("patientName", "Jane Doe", "jane@example.com", "sandbox@example.com", page["meta"]["cursorNext"])
    yield from (image["file_name"] for image in document["images"])
    yield from (category["name"] for category in document["categories"])
    yield from re.findall(r"=([^&]{12,})", url)
    yield "cf-sandbox"


def test_the_record_names_nothing_of_the_user(sandbox, tmp_path):
    with sandbox.client() as client:
        metadata = {"patientName": "Jane Doe", "owner": "jane@example.com"}
        item = client.create_work_item("https://jane.example.com/scan.png", asset_type="image", metadata=metadata)
    sandbox.set_status(item.id, "CLIENT_REVIEW")
    report = tmp_path / "report.json"
    done = run("doctor", "--contract", "--record", report, sandbox=sandbox)
    assert done.returncode == 0
    written = report.read_text(encoding="utf-8")
    values = [value for value in private(sandbox) if value]
    assert len(values) > 250
    for text in (written, done.stdout, done.stderr.replace(str(report), "")):
        assert [value for value in values if value in text] == []
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}|https?://|@|Signature=|req-\d|127\.0\.0\.1", text)
    record = json.loads(written)
    assert set(record) == {"cfplatform", "date", "platform", "requests", "checks"}
    assert record["platform"] == "another base URL"
    by_name = {check.pop("check"): check for check in record["checks"]}
    assert by_name["statuses"] == {
        "result": "confirmed",
        "seen": "CLIENT_REVIEW, COMPLETED",
        "expected": "The statuses of work items are COMPLETED and CLIENT_REVIEW.",
        "details": {"statuses": ["CLIENT_REVIEW", "COMPLETED"]},
    }
    assert by_name["work item fields"]["details"]["fields"]["assetUrl"] == ["http URL", "path"]
    assert done.stderr.splitlines()[-2:] == [
        "53 confirmed, 0 different, 0 not seen; 37 requests.",
        f"Wrote '{report}'. Read it, then attach it to an issue: it has no IDs, names, keys or hosts.",
    ]


def test_a_message_of_the_server_is_not_repeated(sandbox, tmp_path):
    report = tmp_path / "report.json"
    with DifferingServer(sandbox, text_errors) as server:
        done = run("doctor", "--contract", "--record", report, sandbox=sandbox, CF_PLATFORM_BASE_URL=server.base_url)
    assert "text/plain, not JSON" in done.stdout
    assert "Jane" not in done.stdout + done.stderr + report.read_text(encoding="utf-8")


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_it_is_a_table(sandbox, columns):
    sandbox.set_status(0, "QA_2")
    code, screen = on_terminal("doctor", "--contract", sandbox=sandbox, columns=columns)
    assert code == 0
    assert "\x1b[32mconfirmed" in screen
    lines = [line.rstrip() for line in shown(screen).splitlines()]
    assert max(map(len, lines)) <= columns
    assert lines[0] == "Status     Check                  Found"
    assert "different  statuses               CLIENT_REVIEW, COMPLETED, another form (text)" in lines
    at = next(i for i, line in enumerate(lines) if line.startswith("different"))
    assert lines[at + 1].strip().startswith("Expected: The statuses of work items are")
    assert lines[-1] == "52 confirmed, 1 different, 0 not seen; 37 requests."


def test_on_a_terminal_the_same_advice_is_given_once(make_sandbox):
    code, screen = on_terminal("doctor", "--contract", sandbox=make_sandbox(items=0), columns=120)
    assert code == 0
    assert shown(screen).count("Set CF_PROJECT_ID to a project with finished work items.") == 1


def test_each_line_appears_as_soon_as_it_is_known(sandbox):
    sandbox.latency = 0.1
    with started("doctor", "--contract", sandbox=sandbox) as process:
        assert process.stdout.readline() == f"listing\tconfirmed\t{CONFIRMED['listing']}\t\n"
        assert len(sandbox.requests) < 10


# --- What ends it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"CF_API_KEY": "wrong-key-123"}, "API key rejected (status 401"),
        ({"CF_API_KEY": "wrong-key-123", "CF_PROJECT_ID": None}, "API key rejected (status 401"),
        ({"CF_PROJECT_ID": "none"}, "project not found"),
        ({"CF_PLATFORM_BASE_URL": "http://127.0.0.1:9/api/v1"}, "refused"),
    ],
)
def test_nothing_can_be_checked(sandbox, tmp_path, changes, words):
    done = run("doctor", "--contract", "--record", tmp_path / "report.json", sandbox=sandbox, **changes)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert "wrong-key-123" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_written(sandbox, tmp_path):
    there = tmp_path / "there.json"
    there.write_text("mine", encoding="utf-8")
    for path, words in {
        there: "exists. Choose a new file.",
        tmp_path: "exists. Choose a new file.",
        tmp_path / "none" / "report.json": "cannot be written: No such file or directory.",
    }.items():
        done = run("doctor", "--contract", "--record", path, sandbox=sandbox)
        assert done.returncode == 2
        assert words in done.stderr
    assert there.read_text(encoding="utf-8") == "mine"
    assert sandbox.requests == []


def test_options_that_do_not_fit(sandbox, tmp_path):
    done = run("doctor", "--record", tmp_path / "report.json", sandbox=sandbox)
    assert (done.returncode, "--record requires --contract." in done.stderr) == (2, True)
    done = run("doctor", "labels", "--contract", sandbox=sandbox)
    assert (done.returncode, "--contract takes no DESTINATION." in done.stderr) == (2, True)
    assert (sandbox.requests, list(tmp_path.iterdir())) == ([], [])


def test_a_failing_platform_ends_in_not_seen(serve):
    page = json.dumps({"items": [], "meta": {}}).encode()
    server = serve(raw(200, page, "Content-Type: application/json"), default=raw(503, b"", "Retry-After: 0"))
    done = run(
        "doctor",
        "--contract",
        "--json",
        CF_API_KEY="a-key",
        CF_PROJECT_ID="p",
        CF_PLATFORM_BASE_URL=server.base_url,
    )
    assert done.returncode == 0
    found = {line["check"]: line["found"] for line in json_lines(done.stdout)}
    assert found["largest page"] == "status 503"
    assert len(server.requests) < 60
