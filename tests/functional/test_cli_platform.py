"""Commands that change the platform: uploads, batches, work items, assets, and the sandbox command."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess

import pytest
import requests

from tests.functional.shell import ESCAPE, HOSTILE, command, environment, json_lines, on_terminal, run, shown, started


@pytest.fixture
def pictures(tmp_path):
    """Three small files, one of them with a space in its name."""
    names = ["a.png", "street scene.jpg", "scan.raw"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * 100)
    return names


def stored(sandbox, path):
    """Size and media type of an uploaded file in the storage."""
    (request,) = (each for each in sandbox.requests if each.route == "uploads" and each.path.endswith(path))
    return request.body_size, request.headers["content-type"]


# --- upload ------------------------------------------------------------------------------------------------


def test_upload_prints_the_paths(sandbox, tmp_path, pictures):
    done = run("upload", *pictures, sandbox=sandbox, cwd=tmp_path)
    assert done.returncode == 0
    found = {file: (path, int(size)) for path, file, size in (line.split("\t") for line in done.stdout.splitlines())}
    assert set(found) == set(pictures)
    types = ["image/png", "image/jpeg", "application/octet-stream"]
    for name, media_type in zip(pictures, types, strict=True):
        path, size = found[name]
        assert (size, media_type) == stored(sandbox, path)
    assert done.stderr.splitlines()[0] == "Uploading 3 files"
    assert done.stderr.splitlines()[-2].startswith("3 of 3 files, ")
    assert re.fullmatch(
        r"Uploaded 3 files, [\d.]+ k?B; next: cfplatform work-items create PATH", done.stderr.splitlines()[-1]
    )
    one = run("upload", pictures[0], sandbox=sandbox, cwd=tmp_path)
    path = one.stdout.split("\t")[0]
    assert one.stderr.splitlines()[-1].endswith(f"; next: cfplatform work-items create {path}")
    assert sandbox.leaks == 0


def test_upload_of_one_file_in_json_and_quiet(sandbox, tmp_path, pictures):
    done = run("upload", "a.png", "--content-type", "image/x-own", "--json", "-q", sandbox=sandbox, cwd=tmp_path)
    (line,) = json_lines(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(line) == ["file", "path", "size", "content_type", "error"]
    assert (line["file"], line["content_type"], line["error"]) == ("a.png", "image/x-own", None)
    assert stored(sandbox, line["path"]) == (line["size"], "image/x-own") == (500, "image/x-own")


@pytest.mark.parametrize("form", [[], ["--json"], ["--quiet"]], ids=["plain", "json", "quiet"])
def test_one_file_that_fails_does_not_stop_the_others(sandbox, tmp_path, pictures, form):
    done = run("upload", "missing.png", *pictures, *form, sandbox=sandbox, cwd=tmp_path)
    assert done.returncode == 1
    assert "Error: 1 of 4 files could not be uploaded." in done.stderr
    if form == ["--json"]:
        lines = json_lines(done.stdout)
        assert [line["file"] for line in lines if line["error"]] == ["missing.png"]
        assert sum(line["path"] is not None for line in lines) == 3
        assert "Could not read" not in done.stderr
    else:
        assert len(done.stdout.splitlines()) == 3
        assert done.stderr.splitlines()[-1] == "  Could not read 'missing.png': No such file or directory."


def test_an_error_of_the_platform_is_told_with_the_file(sandbox, tmp_path, pictures):
    sandbox.fail_next(400, path="/storage/*", body={"message": f"not {HOSTILE}"})
    done = run("upload", "a.png", sandbox=sandbox, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"^  a\.png: .*status 400: not Ev", done.stderr, re.MULTILINE)
    assert ESCAPE not in done.stderr
    assert "Signature" not in done.stderr


def test_upload_on_a_terminal_is_a_table_in_the_order_of_the_files(sandbox, tmp_path, pictures):
    evil = "ev\x1b[31mil.png"
    (tmp_path / evil).write_bytes(b"x")
    files = [tmp_path / name for name in (*pictures, evil)]
    code, screen = on_terminal("upload", *files, sandbox=sandbox, columns=120, NO_COLOR="1")
    assert code == 0
    assert "━" in screen
    assert "4/4" in screen
    header, *rows = shown(screen).splitlines()[-6:-1]
    assert header.split() == ["Path", "File", "Size"]
    assert [name in row for name, row in zip(pictures, rows, strict=False)] == [True] * 3
    assert "ev\ufffd[31mil.png" in rows[3]
    assert "\x1b[31m" not in screen


def test_upload_needs_a_space_and_a_file(sandbox, tmp_path, pictures):
    done = run("upload", "a.png", sandbox=sandbox, cwd=tmp_path, CF_SPACE_ID=None)
    assert (done.returncode, done.stderr) == (2, "Error: No space. Pass --space-id or set CF_SPACE_ID.\n")
    done = run("upload", sandbox=sandbox)
    assert (done.returncode, "Missing argument 'FILE...'" in done.stderr) == (2, True)
    done = run("upload", "a.png", "--content-type", "png", sandbox=sandbox, cwd=tmp_path)
    assert done.returncode == 2
    assert "Error: --content-type" in done.stderr


# --- batches -----------------------------------------------------------------------------------------------


def test_create_and_rename_a_batch(sandbox):
    done = run("batches", "create", "Spring", sandbox=sandbox)
    assert (done.returncode, done.stderr) == (0, "")
    batch = done.stdout.split("\t")[0]
    assert sandbox.requests[-1].body == b'{"name": "Spring"}'
    (renamed,) = json_lines(run("batches", "rename", batch, "Spring, checked", "--json", sandbox=sandbox).stdout)
    assert (renamed["id"], renamed["name"]) == (int(batch), "Spring, checked")
    listed = run("batches", "list", sandbox=sandbox).stdout
    assert listed.splitlines()[-1].split("\t")[:2] == [batch, "Spring, checked"]
    assert listed == run("batches", sandbox=sandbox).stdout


def test_a_name_that_is_taken(sandbox):
    assert run("batches", "create", "Spring", sandbox=sandbox).returncode == 0
    done = run("batches", "create", "Spring", sandbox=sandbox)
    assert (done.returncode, done.stdout) == (1, "")
    assert "failed with status 409" in done.stderr
    assert done.stderr.endswith("The name 'Spring' is taken. 'cfplatform batches' lists the existing batches.\n")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["create", " "], 2, "Error: NAME must be a non-empty string"),
        (["rename", "x", "y"], 2, "Invalid value for 'BATCH_ID': 'x' is not a valid integer.\n"),
        (["rename", "9999", "y"], 1, "'cfplatform batches' lists the batches of the project."),
        (["crate", "y"], 2, "No such command 'crate'"),
        (["--limit", "3", "create", "y"], 2, "unexpected extra arguments (create y)"),
    ],
)
def test_errors_about_batches(sandbox, arguments, code, sentence):
    done = run("batches", *arguments, sandbox=sandbox)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr


def test_a_batch_on_a_terminal_is_a_field_a_line(sandbox):
    name = "Ev[red]il :boom: \u202ertl"
    code, screen = on_terminal("batches", "create", name, sandbox=sandbox)
    assert code == 0
    assert [line.split()[0] for line in screen.splitlines()] == ["ID", "Name", "Created"]
    assert "Name           Ev[red]il :boom: \ufffdrtl" in screen


# --- work items --------------------------------------------------------------------------------------------


def test_create_and_get_a_work_item(sandbox):
    options = [
        "--asset-type",
        "image",
        "--batch-id",
        "1002",
        "--metadata",
        '{"camera": 7}',
        "--callback-url",
        "http://x/",
    ]
    done = run("work-items", "create", "assets/abc", *options, sandbox=sandbox)
    assert (done.returncode, done.stderr) == (0, "")
    item, batch, status, kind, _ = done.stdout.split("\t")
    assert (batch, status, kind) == ("1002", "NEW", "image")
    assert json.loads(sandbox.requests[-1].body) == {
        "assetUrl": "assets/abc",
        "assetType": "image",
        "batchId": 1002,
        "metadata": {"camera": 7, "callbackUrl": "http://x/"},
    }
    assert run("work-items", "get", item, sandbox=sandbox).stdout == done.stdout
    (got,) = json_lines(run("work-items", "get", item, "--json", sandbox=sandbox).stdout)
    assert got == sandbox.work_item(item)
    run("work-items", "create", "assets/abc", sandbox=sandbox)
    assert json.loads(sandbox.requests[-1].body) == {"assetUrl": "assets/abc"}


def test_a_work_item_on_a_terminal_is_a_field_a_line(sandbox):
    item = next(iter(sandbox.work_item_ids()))
    sandbox.patch_work_item_json(item, {"assetUrl": f"http://x/{HOSTILE}", "metadata": {"k": HOSTILE}})
    code, screen = on_terminal("work-items", "get", item, sandbox=sandbox)
    assert code == 0
    assert re.search(r"^Asset +http://x/Ev\ufffd\[31mil", screen, re.MULTILINE)
    assert ESCAPE not in screen


def test_the_bare_form_is_the_listing(sandbox):
    for options in (["--limit", "3"], ["--json", "--limit", "2"], ["-q", "--status", "any"]):
        listed = run("work-items", "list", *options, sandbox=sandbox).stdout
        assert run("work-items", *options, sandbox=sandbox).stdout == listed != ""


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["get", "c2fe4a5d-ae6e-4005-8845-d10c59218302"], 1, "has no work item c2fe4a5d"),
        (["get", ".."], 2, "Error: ITEM_ID: '..' is not a valid ID"),
        (["create", " "], 2, "Error: ASSET must be a non-empty string"),
        (["create", "a", "--asset-type", " "], 2, "Error: --asset-type must be a non-empty string"),
        (["create", "a", "--batch", "-1"], 2, "Error: --batch-id: -1 is not a valid batch ID"),
        (["create", "a", "--batch-id", "9"], 1, "batch 9 not found"),
        (["create", "a", "--metadata", "[1]"], 2, "must be a JSON object such as"),
        (["create", "a", "--metadata", "{"], 2, "must be a JSON object such as"),
        (["create", "a", "--metadata", '{"callbackUrl": "b"}', "--callback-url", "c"], 2, "exclude each other."),
        (["create"], 2, "Missing argument 'ASSET...'."),
    ],
)
def test_errors_about_work_items(sandbox, arguments, code, sentence):
    done = run("work-items", *arguments, sandbox=sandbox)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_that_the_platform_may_have_no_such_call_is_said(sandbox):
    sandbox.fail_next(405, path="*/workItems", method="POST")
    done = run("work-items", "create", "a", sandbox=sandbox)
    assert done.returncode == 1
    assert "provisional" in done.stderr


# --- download --assets -------------------------------------------------------------------------------------


def test_download_with_assets(sandbox, tmp_path):
    done = run("download", tmp_path, "--assets", "--json", sandbox=sandbox)
    assert done.returncode == 0
    *results, last = json_lines(done.stdout)
    assert last["summary"]["successful"] == 20
    for result in results:
        assert result["asset_path"].endswith(f"/assets/{result['item_id']}.png")
    assert len(list(tmp_path.glob("*/assets/*.png"))) == 20
    assert "assets" not in {path.name for path in tmp_path.glob("*/*.json")}


# --- The sandbox -------------------------------------------------------------------------------------------


def test_set_status_by_number_and_by_id(sandbox):
    first, second, *_ = sandbox.work_item_ids()
    done = run("sandbox", "set-status", 0, "CLIENT_REVIEW", sandbox=sandbox)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\t")[0:3:2] == [first, "CLIENT_REVIEW"]
    (item,) = json_lines(run("sandbox", "set-status", second, "MINE", "--json", sandbox=sandbox).stdout)
    assert item == sandbox.work_item(second)
    assert item["status"] == "MINE"


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "sentence"),
    [
        (["99", "X"], {}, 1, "ITEM is an ID or an index: 'cfplatform work-items --status any' lists the items"),
        (["a/../0", "X"], {}, 1, "failed with status 404"),
        (["..", "X"], {}, 2, "Error: ITEM: '..' is not a valid ID"),
        (["0", " "], {}, 1, "status must be a non-empty string"),
        (["0", "X"], {"CF_PLATFORM_BASE_URL": "https://api.invalid/v1"}, 2, "api.invalid is not a sandbox on this"),
        (["0", "X"], {"CF_API_KEY": None}, 2, "Error: No API key"),
        (["0"], {}, 2, "Missing argument 'STATUS'."),
    ],
)
def test_errors_about_set_status(sandbox, arguments, changes, code, sentence):
    done = run("sandbox", "set-status", *arguments, sandbox=sandbox, **changes)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert not [each for each in sandbox.requests if each.method == "GET"]


@pytest.mark.parametrize(
    ("arguments", "sentence", "statuses"),
    [
        ([600], "status 500 for 600 s at all endpoints, starting now.", (500, 500)),
        ([600, "--status", 503, "--at", "batches"], "status 503 for 600 s at batches, starting now.", (200, 503)),
        (
            [0.5, "--status", "reset", "--at", "batches", "--at", "storage", "--after", 600],
            "connections reset for 0.5 s at batches, storage, starting in 600 s.",
            (200, 200),
        ),
        (
            [600, "--status", "close", "--after", 600],
            "connections closed for 600 s at all endpoints, starting in 600 s.",
            (200, 200),
        ),
    ],
)
def test_outages(sandbox, arguments, sentence, statuses):
    done = run("sandbox", "outage", *arguments, sandbox=sandbox)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"Outage planned: {sentence}\n", "")
    headers = {"X-API-Key": sandbox.api_key}
    project = f"{sandbox.base_url}/projects/{sandbox.project_id}"
    asked = [requests.get(f"{project}/{name}", headers=headers, timeout=30) for name in ("workItems", "batches")]
    assert tuple(answer.status_code for answer in asked) == statuses


def test_an_outage_with_a_header_in_json(sandbox):
    options = ["--status", "429", "--retry-after", "7", "--json", "-q"]
    (plan,) = json_lines(run("sandbox", "outage", "600", *options, sandbox=sandbox).stdout)
    assert plan == {"seconds": 600, "status": 429, "at": [], "after": 0, "headers": {"Retry-After": 7}}
    answer = requests.get(f"{sandbox.base_url}/x", timeout=30)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")


def test_an_outage_that_refuses_connections(sandbox):
    done = run("sandbox", "outage", 600, "--status", "refused", sandbox=sandbox)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Outage planned: connections refused for 600 s at all endpoints, starting now.\n"
    with pytest.raises(requests.ConnectionError):
        requests.get(sandbox.base_url, timeout=30)
    sandbox.clear_faults()
    assert requests.get(sandbox.base_url, timeout=30).status_code == 401


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "sentence"),
    [
        ([], {}, 2, "Missing argument 'SECONDS'."),
        (["0"], {}, 2, "Invalid value for 'SECONDS'"),
        (["nan"], {}, 2, "'nan' is not a number of seconds."),
        (["inf"], {}, 2, "'inf' is not a number of seconds."),
        (["soon"], {}, 2, "Invalid value for 'SECONDS'"),
        (["5", "--after", "nan"], {}, 2, "'nan' is not a number of seconds."),
        (["5", "--after", "-1"], {}, 2, "Invalid value for '--after'"),
        (["5", "--retry-after", "-1"], {}, 2, "Invalid value for '--retry-after'"),
        (["5", "--status", "200"], {}, 1, "status must be an HTTP status from 400 to 599"),
        (["5", "--status", "5" * 5000], {}, 1, "status must be an HTTP status from 400 to 599"),
        (["5", "--status", "down"], {}, 1, "one of reset, close, refused, not 'down'"),
        (["5", "--at", "labels"], {}, 1, "at must be among the endpoints (work_items, annotations, "),
        (["5", "--at", "batches", "--status", "refused"], {}, 1, "at must be empty"),
        (["5", "--retry-after", "1", "--status", "reset"], {}, 1, "headers and body need an HTTP status"),
        (["5"], {"CF_PLATFORM_BASE_URL": "https://api.invalid/v1"}, 2, "api.invalid is not a sandbox on this"),
        (["5"], {"CF_API_KEY": None}, 2, "Error: No API key"),
    ],
)
def test_errors_about_outages(sandbox, arguments, changes, code, sentence):
    done = run("sandbox", "outage", *arguments, sandbox=sandbox, **changes)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert requests.get(sandbox.base_url, timeout=30).status_code == 401


def test_the_options_of_the_sandbox_reach_it():
    options = ["--items", 5, "--webhook-url", "http://127.0.0.1:9/hook", "--export-seconds", 60, "--json"]
    with started("sandbox", *options) as process:
        reported = json.loads(process.stdout.readline())
        names = {"api_key": "CF_API_KEY", "base_url": "CF_PLATFORM_BASE_URL", "space_id": "CF_SPACE_ID"}
        variables = {variable: reported[name] for name, variable in names.items()}
        assert run("exports", "create", "x", **variables).stdout.split("\t")[2] == "PENDING"
        done = run("exports", "wait", run("exports", **variables).stdout.split("\t")[0], "--timeout", 0, **variables)
        assert (done.returncode, "PENDING" in done.stderr) == (1, True)
        root = {**variables, "CF_PLATFORM_BASE_URL": reported["base_url"].removesuffix("/api/v1")}
        settings = run("request", "GET", "/_sandbox", **root)
        assert json.loads(settings.stdout)["settings"]["webhook_url"] == "http://127.0.0.1:9/hook"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_a_closed_stdin_is_an_empty_one(sandbox):
    for arguments, words in (
        (["count", "--work-item-ids", "-"], "--work-item-ids has no IDs."),
        (["request", "POST", "/x", "--json-body", "@-"], "not valid JSON"),
        (["exports", "delete", "x"], "pass --yes"),
    ):
        line = f"{shlex.join(command(*arguments))} <&-"
        done = subprocess.run(["sh", "-c", line], env=environment(sandbox), capture_output=True, timeout=60, text=True)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
