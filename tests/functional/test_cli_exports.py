"""``cfplatform exports`` as real processes against a sandbox."""

from __future__ import annotations

import json
import re
import signal
import time
import zipfile
from pathlib import Path

import pytest

from tests.functional.shell import ESCAPE, HOSTILE, json_lines, on_terminal, run, shown, started

UNKNOWN = "2f1c5c0e-0a51-4d6e-9a0e-3b1f8f6f7a11"


@pytest.fixture
def world(make_sandbox):
    """20 work items in 2 batches, and exports that are ready at once."""
    return make_sandbox(items=20, batches=2, export_seconds=0)


def create(sandbox, name="nightly", *options):
    """Create an export and return its id."""
    done = run("exports", "create", name, *options, sandbox=sandbox)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\t")[0]


def sent(sandbox):
    """The body of the last request for an export."""
    return json.loads([each for each in sandbox.requests if each.method == "POST"][-1].body)


def test_create_list_and_get_print_the_same_line(world):
    first = create(world, "first", "--format", "csv", "--content", "inference")
    second = create(world, "second")
    done = run("exports", sandbox=world)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[:5] for row in rows] == [
        [second, "second", "COMPLETED", "COCO_JSON", "ANNOTATION"],
        [first, "first", "COMPLETED", "CSV", "INFERENCE"],
    ]
    assert all(row[5].endswith("Z") for row in rows)
    assert run("exports", "list", sandbox=world).stdout == done.stdout
    assert run("exports", "list", "--format", "CSV", sandbox=world).stdout.split("\t")[0] == first
    assert run("exports", "--limit", 1, "-q", sandbox=world).stdout.split("\t")[0] == second
    assert run("exports", "get", first, sandbox=world).stdout == done.stdout.splitlines(keepends=True)[1]


def test_json_is_the_object_of_the_platform(world):
    (made,) = json_lines(run("exports", "create", "nightly", "--json", sandbox=world).stdout)
    (got,) = json_lines(run("exports", "get", made["exportId"], "--json", sandbox=world).stdout)
    assert got["status"] == "COMPLETED"
    assert got["downloadUrl"].startswith("http")
    assert [each["exportId"] for each in json_lines(run("exports", "--json", sandbox=world).stdout)] == [
        made["exportId"]
    ]


def test_what_is_asked_for_reaches_the_platform(world):
    times = ["--created-at-from", "2025-01-01T00:00:00Z", "--updated-at-to", "2030-01-01T00:00:00+05:45"]
    create(world, "all of it", "--project-id", world.project_id, "--batch-id", 1001, "--batch-id", 1002, *times)
    assert sent(world) == {
        "name": "all of it",
        "format": "COCO_JSON",
        "projectIds": [world.project_id],
        "batchIds": [1001, 1002],
        "createdAtFrom": "2025-01-01T00:00:00Z",
        "updatedAtTo": "2030-01-01T00:00:00+05:45",
    }
    create(world, "nothing special")
    # All projects of the space, though CF_PROJECT_ID names one.
    assert sent(world) == {"name": "nothing special", "format": "COCO_JSON"}


def test_create_waits_if_it_is_told_to(make_sandbox):
    sandbox = make_sandbox(items=5, export_seconds=0.6)
    done = run("exports", "create", "nightly", "--wait", "--poll-interval", "0.1", sandbox=sandbox)
    assert done.returncode == 0
    export, _, status, *_ = done.stdout.split("\t")
    assert status == "COMPLETED"
    lines = done.stderr.splitlines()
    assert lines[0] == f"Created export {export}."
    assert lines[-1] == "The export is COMPLETED."
    assert len(set(lines)) == len(lines) >= 3
    done = run("exports", "create", "again", "--wait", "--poll-interval", "0.1", "--quiet", sandbox=sandbox)
    assert (done.returncode, done.stderr) == (0, "")


def test_one_export_at_a_time(make_sandbox):
    sandbox = make_sandbox(items=5, export_seconds=1.5)
    first = create(sandbox)
    done = run("exports", "create", "second", sandbox=sandbox)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Export {first} ('nightly') is" in done.stderr
    assert "Wait for it with --wait-for-running." in done.stderr
    assert create(sandbox, "second", "--wait-for-running") != first
    assert run("exports", "get", first, sandbox=sandbox).stdout.split("\t")[2] == "COMPLETED"


def test_waiting(make_sandbox):
    sandbox = make_sandbox(items=5, export_seconds=60)
    export = create(sandbox)
    done = run("exports", "wait", export, "--timeout", 0, sandbox=sandbox)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Error: Export {export} is PENDING after 0 s." in done.stderr
    assert f"Run 'cfplatform exports wait {export}' again, or pass a longer --timeout." in done.stderr
    sandbox.export_seconds = 0
    done = run("exports", "wait", export, sandbox=sandbox)
    assert (done.returncode, done.stdout.split("\t")[2]) == (0, "COMPLETED")


def test_who_stops_waiting_is_told_that_the_platform_goes_on(make_sandbox):
    sandbox = make_sandbox(items=5, export_seconds=60)
    export = create(sandbox)
    with started("exports", "wait", export, sandbox=sandbox) as process:
        assert process.stderr.readline() == "The export is PENDING.\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr == "Stopped. The export continues on the platform; run the same command again to wait for it.\n"


def test_an_export_that_failed_says_why(world):
    world.fail_next_export(f"no room {HOSTILE}")
    export = create(world)
    for command in (["wait", export], ["download", export, "archives"], ["download", export, "archives", "--no-wait"]):
        done = run("exports", *command, sandbox=world)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"Error: Export {export} ('nightly') failed: no room Ev" in done.stderr
        assert ESCAPE not in done.stderr
    code, screen = on_terminal("exports", "get", export, sandbox=world)
    assert code == 0
    assert re.search(r"^Error +no room Ev\ufffd\[31mil", screen, re.MULTILINE)
    assert ESCAPE not in screen


def test_download_and_unpack(world, tmp_path):
    export = create(world)
    done = run("exports", "download", export, "archives", sandbox=world, cwd=tmp_path)
    assert done.returncode == 0
    archive = tmp_path / "archives" / f"nightly {export}.zip"
    assert done.stdout == f"{archive}\n"
    assert len(zipfile.ZipFile(archive).namelist()) == 20
    size = archive.stat().st_size
    assert f"Downloading {size / 1000:.1f} kB" in done.stderr.splitlines()
    *_, progress, last = done.stderr.splitlines()
    assert progress.startswith(f"{size / 1000:.1f} kB of {size / 1000:.1f} kB, ")
    assert last == f"Downloaded export {export} to '{archive}'; add --extract to unpack it"
    world.clear_requests()
    again = run("exports", "download", export, "archives", "--json", "-q", sandbox=world, cwd=tmp_path)
    assert (again.returncode, json.loads(again.stdout), again.stderr) == (0, {"path": str(archive)}, "")
    assert world.counts["storage"] == 0
    assert run("exports", "download", export, "archives", "--overwrite", sandbox=world, cwd=tmp_path).returncode == 0
    assert world.counts["storage"] == 1
    done = run("exports", "download", export, "labels", "--extract", sandbox=world, cwd=tmp_path)
    folder = done.stdout
    assert folder == f"{tmp_path / 'labels' / f'nightly {export}'}\n"
    next_step = f"next: cfplatform validate '{folder.rstrip()}'"
    assert done.stderr.splitlines()[-1] == f"Downloaded export {export} to '{folder.rstrip()}'; {next_step}"
    assert len(list(Path(folder.rstrip()).glob("*/*.json"))) == 20


def test_download_that_does_not_wait(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=5, export_seconds=60)
    export = create(sandbox)
    done = run("exports", "download", export, tmp_path, "--no-wait", sandbox=sandbox)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Error: Export {export} is PENDING and has no archive yet. Omit --no-wait" in done.stderr


@pytest.mark.parametrize(("typed", "code", "left"), [("y\n", 0, 0), ("n\n", 1, 1), ("\n", 1, 1), ("\x04", 130, 1)])
def test_deleting_asks_first(world, typed, code, left):
    export = create(world, f"old {HOSTILE}".replace("\n", " ").replace("\t", " "))
    found, screen = on_terminal("exports", "delete", export, sandbox=world, typed=typed)
    assert found == code
    assert f"Delete export {export} (old Ev" in screen
    assert code < 130 or screen.endswith("[y/N]: \nStopped.\n")
    assert ESCAPE not in screen
    assert len(run("exports", sandbox=world).stdout.splitlines()) == left


def test_deleting_where_nobody_can_be_asked(world):
    export = create(world)
    done = run("exports", "delete", export, sandbox=world)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "Error: Not a terminal; pass --yes to delete the export."
    done = run("exports", "delete", export, "--yes", sandbox=world)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"Deleted export {export}.\n")
    export = create(world)
    done = run("exports", "delete", export, "--yes", "--json", "-q", sandbox=world)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, {"deleted": export}, "")
    assert run("exports", "delete", export, "--yes", sandbox=world).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["get", UNKNOWN], 1, "failed with status 404: export not found"),
        (["create", " "], 2, "Error: NAME must be a non-empty string"),
        (["create", "x", "--content", "INFERENCE"], 2, "Error: --content INFERENCE cannot be exported as COCO_JSON"),
        (["create", "x", "--created-at-from", "now"], 2, "Invalid value for '--created-at-from': 'now' is not a time."),
        (["create", "x", "--project-id", ".."], 2, "Error: --project-id: '..' is not a valid ID"),
        (["create", "x", "--batch-id", "y"], 2, "Invalid value for '--batch-id'"),
        (["list", "--format", "XML"], 2, "Invalid value for '--format'"),
        (["wait", ".."], 2, "Error: EXPORT_ID: '..' is not a valid ID"),
        (["download", UNKNOWN, __file__], 2, "is a file."),
        (["frobnicate"], 2, "No such command 'frobnicate'"),
        (["list", "--space-id", ""], 2, "Error: --space-id"),
    ],
)
def test_errors_are_one_sentence(world, arguments, code, sentence):
    done = run("exports", *arguments, sandbox=world)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_space_it_says_which_option_is_missing(world):
    done = run("exports", sandbox=world, CF_SPACE_ID=None)
    assert (done.returncode, done.stderr) == (2, "Error: No space. Pass --space-id or set CF_SPACE_ID.\n")


def test_a_narrow_terminal_leaves_out_what_matters_least(world):
    create(world, "labels of the whole project, every night")
    _, screen = on_terminal("exports", sandbox=world, columns=80)
    lines = shown(screen).splitlines()
    assert lines[0].split() == ["ID", "Name", "Status", "Created", "(UTC)"]
    assert "labels of" in lines[1]
    assert max(map(len, lines)) <= 80
    _, screen = on_terminal("exports", sandbox=world, columns=120)
    assert shown(screen).splitlines()[0].split() == ["ID", "Name", "Status", "Format", "Content", "Created", "(UTC)"]


def test_a_terminal_shows_that_it_waits_and_then_the_bytes(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=20, export_seconds=2.5)
    export = create(sandbox)
    code, screen = on_terminal("exports", "download", export, tmp_path, sandbox=sandbox, NO_COLOR="1")
    assert code == 0
    assert "The export is IN_PROGRESS" in shown(screen)
    assert re.search(r"━ [\d.]+/[\d.]+ kB", shown(screen))
    # The progress line is erased, and the cursor is visible again.
    assert "\x1b[2K" in screen
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l")
    assert not re.search(r"\x1b\[(3\d|9\d|38;)", screen)
    assert shown(screen).splitlines()[-1] == (
        f"Downloaded export {export} to '{tmp_path / f'nightly {export}.zip'}'; add --extract to unpack it"
    )


def test_a_terminal_is_told_that_there_are_none(world):
    assert on_terminal("exports", sandbox=world) == (0, "Nothing to list.\n")
    assert run("exports", sandbox=world).stderr == ""


def test_a_dumb_terminal_gets_lines(world, tmp_path):
    export = create(world)
    _, screen = on_terminal("exports", "download", export, tmp_path, sandbox=world, TERM="dumb")
    assert "The export is COMPLETED.\n" in screen
    assert ESCAPE not in screen


def test_a_download_that_is_stopped_goes_on(world, tmp_path):
    big = tmp_path / "big.zip"
    with zipfile.ZipFile(big, "w") as archive:
        archive.writestr("labels.bin", bytes(8_000_000))
    export = world.add_export(big)
    world.drip_next(path="/storage/*")
    with started("exports", "download", export, tmp_path / "out", sandbox=world) as process:
        partial = tmp_path / "out" / ".cfplatform"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not any(
            each.is_file() and each.stat().st_size > 1_000_000 for each in partial.rglob("*")
        ):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.search(r"Stopped\. Finished work is kept; .* Finished so far: [\d.]+ MB of 8\.0 MB\.", stderr)
    world.clear_faults()
    world.clear_requests()
    assert run("exports", "download", export, tmp_path / "out", "-q", sandbox=world).returncode == 0
    (request,) = (each for each in world.requests if each.route == "storage")
    assert "range" in {name.lower() for name in request.headers}
