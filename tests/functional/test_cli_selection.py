"""Messages for a selection that matches nothing, and for objects that are not found."""

from __future__ import annotations

import re
import time

import pytest

from tests.functional.shell import json_lines, on_terminal, run, shown, started
from tests.http.scripted import ScriptedServer, raw

UNKNOWN = "00000000-0000-4000-8000-000000000000"
ALLOW = "Pass --allow-empty if this is expected."


@pytest.fixture
def world(make_sandbox):
    """25 work items in 2 batches, 5 of them in review."""
    return make_sandbox(items=25, batch_names=["Street scenes", "Night drive"], in_review=0.2)


@pytest.fixture
def in_review(world):
    return next(item for item in world.work_item_ids() if world.work_item(item)["status"] == "CLIENT_REVIEW")


@pytest.fixture
def finished(world):
    return next(item for item in world.work_item_ids() if world.work_item(item)["status"] == "COMPLETED")


# --- Nothing matches ---------------------------------------------------------------------------------------

SELECTIONS = {
    "status": (
        ["--status", "completed"],
        ["--status completed"],
        ["No work item has the status completed. Did you mean COMPLETED? Statuses: COMPLETED (20), CLIENT_REVIEW (5)."],
    ),
    "batch": (
        ["--batch-id", "9999"],
        ["--batch-id 9999", "--status COMPLETED"],
        ["There is no batch 9999.", "Batches: 1001 (Street scenes), 1002 (Night drive)."],
    ),
    "id": (
        ["--work-item-id", UNKNOWN],
        [f"--work-item-id {UNKNOWN}", "--status COMPLETED"],
        [f"Not found: {UNKNOWN}"],
    ),
    "time": (
        ["--updated-at-from", "2100-01-01T00:00:00Z"],
        ["--status COMPLETED", "--updated-at-from 2100-01-01T00:00:00Z"],
        [],
    ),
    "metadata": (["--metadata", '{"none": 1}'], ["--status COMPLETED", '--metadata {"none": 1}'], []),
    "other filters": (["--status", "CLOSED", "--updated-at-from", "2100-01-01T00:00:00Z"], None, []),
}


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("command", ["download", "work-items", "count"])
def test_a_selection_that_matches_nothing_is_an_error_that_says_why(world, tmp_path, command, name):
    options, named, lines = SELECTIONS[name]
    arguments = [command, *([tmp_path / "labels"] if command == "download" else []), *options]
    done = run(*arguments, sandbox=world)
    assert done.returncode == 1
    error, *details = done.stderr[done.stderr.index("Error: ") :].splitlines()
    if named is not None:
        assert error == f"Error: No work items match {', '.join(named)}. {ALLOW}"
    assert details == [f"  {line}" for line in lines]
    assert done.stdout == {"count": "0\n", "work-items": ""}.get(command, done.stdout)
    assert "up to date" not in done.stderr
    allowed = run(*arguments, "--allow-empty", sandbox=world)
    assert (allowed.returncode, "Error" in allowed.stderr) == (0, False)
    quiet = run(*arguments, "--allow-empty", "--quiet", sandbox=world)
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_a_name_of_a_batch_that_is_not_there_gets_near_names(world, tmp_path):
    done = run("download", tmp_path, "--batch-name", "street scene", sandbox=world)
    assert done.returncode == 1
    assert "has no batch named 'street scene'. Did you mean 'Street scenes'?" in done.stderr


@pytest.mark.parametrize("form", [[], ["--json"], ["--dry-run"]], ids=["plain", "json", "dry"])
def test_ids_that_are_not_found_or_not_finished_are_listed(world, tmp_path, in_review, finished, form):
    ids = [f"--work-item-id={each}" for each in (finished, UNKNOWN, in_review)]
    done = run("download", tmp_path, *ids, *form, sandbox=world)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-3:] == [
        f"Error: 2 of 3 work items were not found, or do not match. {ALLOW}",
        f"  Not found: {UNKNOWN}",
        f"  Not COMPLETED: {in_review} is CLIENT_REVIEW",
    ]
    assert len(list(tmp_path.glob("[!.]*/*.json"))) == (0 if form == ["--dry-run"] else 1)
    if form == ["--json"]:
        assert json_lines(done.stdout)[-1]["summary"]["total_items"] == 1
    assert run("download", tmp_path, *ids, *form, "--allow-empty", sandbox=world).returncode == 0


def test_an_id_may_be_written_in_either_case_and_twice(world, finished):
    done = run("count", "--work-item-id", finished, "--work-item-id", finished.upper(), sandbox=world)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_many_ids_that_are_not_found_are_named_up_to_a_limit(world, finished):
    ids = [f"--work-item-id=00000000-0000-4000-8000-{number:012}" for number in range(150)]
    done = run("work-items", *ids, f"--work-item-id={finished}", sandbox=world)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    lines = done.stderr.splitlines()
    assert lines[0].startswith("Error: 150 of 151 work items were not found")
    assert (len(lines), lines[-1]) == (12, "  and 140 more")


def test_a_listing_that_is_cut_is_not_blamed(world):
    ids = [f"--work-item-id={each}" for each in world.work_item_ids()]
    done = run("work-items", *ids, "--status", "any", "--limit", 3, sandbox=world)
    assert (done.returncode, done.stderr) == (0, "Showing the first 3; --all lists all.\n")


def test_without_filters_nothing_is_only_a_note(make_sandbox, tmp_path):
    fresh = make_sandbox(items=3, in_review=1)
    words = "No work item has the status COMPLETED. Statuses: CLIENT_REVIEW (3).\n"
    for arguments in (["download", tmp_path, "-q"], ["count", "-q"], ["work-items", "-q"]):
        done = run(*arguments, sandbox=fresh)
        assert (done.returncode, done.stderr) == (0, "")
        assert run(*arguments[:-1], sandbox=fresh).stderr.endswith(words)
    # Named, it is a selection.
    assert run("count", "--status", "COMPLETED", sandbox=fresh).returncode == 1
    empty = make_sandbox(items=0)
    assert run("work-items", "--status", "any", sandbox=empty).returncode == 1
    assert run("work-items", sandbox=empty).stderr == "The project has no work items.\n"


def test_a_count_on_a_terminal_names_the_status_that_was_assumed(world):
    code, screen = on_terminal("count", sandbox=world)
    assert (code, shown(screen)) == (0, "20\nOnly COMPLETED items; --status any counts all.\n")
    assert shown(on_terminal("count", "--status", "any", sandbox=world)[1]) == "25\n"


# --- Not found ---------------------------------------------------------------------------------------------


def test_an_item_in_review_has_no_annotation_yet(world, tmp_path, in_review):
    done = run("work-items", "annotation", in_review, sandbox=world)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: Work item {in_review} is CLIENT_REVIEW, and only completed items have annotations.\n"
    )
    done = run("work-items", "annotation", UNKNOWN, sandbox=world)
    assert (done.returncode, done.stderr) == (1, f"Error: Work item {UNKNOWN} is not in this project.\n")
    done = run("download", tmp_path, "--status", "any", sandbox=world)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2].startswith("Error: 5 of 25 work items failed. Run the same command again")
    line = re.fullmatch(
        r"  5 work items: No annotation yet: the status is CLIENT_REVIEW\. \(first: (.+)\)",
        done.stderr.splitlines()[-1],
    )
    assert world.work_item(line[1])["status"] == "CLIENT_REVIEW"
    assert "key" not in done.stderr


def test_a_wrong_project_a_wrong_space_and_a_wrong_url_have_their_own_advice(world, tmp_path):
    project = (
        "Check --project-id or CF_PROJECT_ID, which is 'wrong', and that the API key belongs to the account of this"
    )
    for arguments in (["batches"], ["count"], ["download", tmp_path]):
        done = run(*arguments, "--project-id", "wrong", sandbox=world)
        assert done.returncode == 1
        assert "failed with status 404: project not found" in done.stderr
        assert done.stderr.endswith(f"{project} project.\n")
    (tmp_path / "a.png").write_bytes(b"content")
    for arguments in (["exports"], ["exports", "create", "x"], ["upload", tmp_path / "a.png"]):
        done = run(*arguments, "--space-id", "wrong", sandbox=world)
        assert done.returncode == 1
        assert "Check --space-id or CF_SPACE_ID, which is 'wrong', and that the API key" in done.stderr
        assert "CF_PROJECT_ID" not in done.stderr
    root = world.base_url.removesuffix("/api/v1")
    for arguments in (["batches"], ["exports"], ["download", tmp_path]):
        done = run(*arguments, sandbox=world, CF_PLATFORM_BASE_URL=f"{root}/")
        assert done.returncode == 1
        assert f"The base URL has no /api/v1: set CF_PLATFORM_BASE_URL or --base-url to {root}/api/v1, " in done.stderr
        assert "CF_PROJECT_ID" not in done.stderr
    for path in ("/api", "/api/", "/api/v2"):
        done = run("count", "--base-url", f"{root}{path}", sandbox=world)
        assert f"The base URL has no /api/v1: set CF_PLATFORM_BASE_URL or --base-url to {root}/api/v1, " in done.stderr
    done = run("exports", "get", UNKNOWN, sandbox=world)
    assert "export not found" in done.stderr
    assert "'cfplatform exports' lists the exports of the space." in done.stderr


@pytest.mark.parametrize("status", [200, 404])
def test_a_web_page_in_place_of_the_api_is_a_wrong_url(world, status):
    server = ScriptedServer(default=raw(status, b"<!doctype html><title>Hi</title>", "Content-Type: text/html"))
    try:
        root = re.match(r"http://[^/]+", server.base_url)[0]
        for path, advice in (("/app", f"to {root}/app/api/v1, "), ("/api/v1", "heck")):
            done = run("batches", sandbox=world, CF_PLATFORM_BASE_URL=f"{root}{path}")
            assert done.returncode == 1
            assert advice in done.stderr
            assert "CF_PROJECT_ID" not in done.stderr
    finally:
        server.stop()


def test_failures_of_several_kinds_have_a_line_each(world, tmp_path):
    world.fail_next(400, times=3, path="*/annotations", body={"message": "Too odd."})
    world.fail_next(409, times=1, path="*/annotations", body={"message": "Busy."})
    done = run("download", tmp_path, "--max-workers", 1, sandbox=world)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()[-2:]
    assert re.fullmatch(
        r"  3 work items: 400 Bad Request: Too odd\. Check the arguments\. \(first: [0-9a-f-]{36}\)", first
    )
    assert re.match(r"  [0-9a-f-]{36}: 409 Conflict: Busy\. ", second)


# --- Time passes -------------------------------------------------------------------------------------------


def test_a_long_listing_is_not_silent(make_sandbox):
    # Each page arrives before the wait for it would be reported.
    sandbox = make_sandbox(items=700, latency=0.8)
    began = time.monotonic()
    with started("count", "--metadata", '{"none": 1}', sandbox=sandbox) as process:
        line = process.stderr.readline()
        assert time.monotonic() - began < 3 + 1.5
    assert re.fullmatch(r"Waiting for the platform, 0:00:0[2-4]\n", line)


def test_a_batch_that_is_not_there_is_no_wrong_project(world):
    done = run("work-items", "create", "https://example.com/a.png", "--batch-id", 7, sandbox=world)
    assert done.returncode == 1
    assert "batch 7 not found" in done.stderr
    assert "CF_PROJECT_ID" not in done.stderr


def test_a_result_is_the_same_if_it_cannot_be_explained(world, tmp_path):
    # The first listing succeeds; the second, which would explain it, fails.
    world.fail_next(400, times=None, path="*/batches")
    done = run("download", tmp_path, "--batch-id", "9999", sandbox=world)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: No work items match --batch-id 9999, --status COMPLETED.")
