"""Daily work on the command line: formats of times, IDs from a file, limits, watching, profiles."""

from __future__ import annotations

import signal
import subprocess
import threading
from datetime import datetime, timezone

import pytest

from tests.functional.shell import command, environment, json_lines, on_terminal, run, shown, started


@pytest.fixture
def world(make_sandbox):
    """25 work items in 2 batches, 5 of them in review."""
    return make_sandbox(items=25, batch_names=["Street scenes", "Night drive"], in_review=0.2)


def sent(sandbox, name):
    """The values of a parameter in the listings of work items."""
    queries = [request.query for request in sandbox.requests if request.route == "work_items"]
    return [value for query in queries for key, value in query if key == name]


def ids(sandbox):
    return list(sandbox.work_item_ids())


def documents(folder):
    """The ids of the downloaded items."""
    return {path.stem for path in folder.glob("*/*.json") if not path.parent.name.startswith(".")}


# --- Times ------------------------------------------------------------------------------------------------------------


def test_a_day_is_that_of_this_machine_and_the_note_says_so(world):
    done = run("count", "--created-at-from", "2025-03-03", "--created-at-to", "2025-03-03", sandbox=world, TZ="UTC")
    assert (done.returncode, done.stdout) == (0, "20\n")
    assert done.stderr.splitlines() == [
        f"--created-at-from 2025-03-03 means {sent(world, 'createdAtFrom')[0]} (local time).",
        f"--created-at-to 2025-03-03 means {sent(world, 'createdAtTo')[0]} (local time).",
    ]
    assert sent(world, "createdAtTo")[0].startswith("2025-03-03T23:59:59.999999")
    done = run("count", "--created-at-from", "2025-03-03", "--quiet", sandbox=world)
    assert (done.returncode, done.stderr) == (0, "")


def test_times_with_a_zone_are_sent_in_rfc_3339_without_a_note(world):
    times = ["--updated-at-from", "2025-01-01 00:00:00+0000", "--updated-at-to", "2030-01-01 00:00Z"]
    done = run("count", *times, sandbox=world)
    assert (done.returncode, done.stdout, done.stderr) == (0, "20\n", "")
    assert (sent(world, "updatedAtFrom"), sent(world, "updatedAtTo")) == (
        ["2025-01-01T00:00:00+00:00"],
        ["2030-01-01T00:00:00Z"],
    )


@pytest.mark.parametrize(("ago", "seconds"), [("30m", 1800), ("3h", 10_800), ("2d", 172_800), ("1w", 604_800)])
def test_a_time_ago_is_sent_as_a_moment(world, ago, seconds):
    done = run("count", "--updated-at-from", ago, sandbox=world)
    # No item is that new.
    assert (done.returncode, done.stdout) == (1, "0\n")
    since, *_ = sent(world, "updatedAtFrom")
    age = datetime.now(timezone.utc) - datetime.fromisoformat(since.replace("Z", "+00:00"))
    assert since.endswith("Z")
    assert seconds <= age.total_seconds() < seconds + 60


# --- Which items ------------------------------------------------------------------------------------------------------


def test_a_listing_is_cut_only_on_a_terminal(world):
    assert len(run("work-items", "--status", "any", sandbox=world).stdout.splitlines()) == 25
    code, screen = on_terminal("work-items", "--status", "any", sandbox=world)
    header, *rows, note = shown(screen).splitlines()
    assert (code, header.split()[0], len(rows)) == (0, "ID", 20)
    assert note == "Showing the first 20; --all lists all."


def test_ids_from_a_file_that_a_person_wrote(world, tmp_path):
    first, second, *_ = ids(world)
    (tmp_path / "ids.txt").write_text(f"\ufeff# mine\n\n {first} \r\n#{second}\n", encoding="utf-8")
    options = ["--status", "any", "--work-item-ids", "ids.txt"]
    done = run("work-items", *options, sandbox=world, cwd=tmp_path)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [first]
    # Together with ids that are options.
    done = run("count", *options, "--work-item-id", second, sandbox=world, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["lines", "json"])
def test_a_listing_can_be_piped_into_a_download(world, tmp_path, form):
    listed = run("work-items", "--batch-name", "Night drive", *form, sandbox=world).stdout
    done = run("download", tmp_path, "-q", "--work-item-ids", "-", sandbox=world, stdin=listed)
    assert (done.returncode, done.stderr) == (0, "")
    night = {item for item in ids(world) if world.work_item(item)["batchId"] == 1002}
    assert documents(tmp_path) == night & {i for i in ids(world) if world.work_item(i)["status"] == "COMPLETED"}


def test_an_empty_file_selects_nothing_rather_than_everything(world, tmp_path):
    world.clear_requests()
    assert run("count", "--work-item-ids", "-", sandbox=world, stdin="# none\n").stdout == "0\n"
    for arguments in (["count"], ["work-items"], ["download", tmp_path / "none"]):
        done = run(*arguments, "--work-item-ids", "-", sandbox=world, stdin="# none\n")
        assert done.returncode == 1
        assert done.stderr.endswith(
            "Error: No work items match --work-item-ids, --status COMPLETED. Pass --allow-empty if this is expected.\n"
            "  --work-item-ids has no IDs.\n"
        )
        assert run(*arguments, "--work-item-ids", "-", "--allow-empty", sandbox=world, stdin="").returncode == 0
    assert sent(world, "limit") == []


@pytest.mark.parametrize(
    ("stdin", "sentence"),
    [
        ('{"item_id": "x"}', 'line 1 is not a JSON object with an "id".'),
        ("x\n{broken", 'line 2 is not a JSON object with an "id".'),
        ('{"id": 7}', 'line 1 is not a JSON object with an "id".'),
    ],
)
def test_lines_that_are_no_ids(world, stdin, sentence):
    done = run("count", "--work-item-ids", "-", sandbox=world, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"Error: Invalid value for '--work-item-ids': {sentence}"


def test_files_of_ids_that_cannot_be_read(world, tmp_path):
    (tmp_path / "latin").write_bytes("\xe9".encode("latin-1"))
    for name, reason in (("missing", "No such file or directory"), ("latin", "it is not UTF-8")):
        done = run("count", "--work-item-ids", name, sandbox=world, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.endswith(f"{name!r} cannot be read: {reason}.\n")


@pytest.mark.parametrize("filters", [[], ["--batch-name", "Night drive", "--batch-name", "Street scenes"]])
def test_a_download_with_a_limit(world, tmp_path, filters):
    wanted = [item for item in ids(world) if world.work_item(item)["status"] == "COMPLETED"][:7]
    world.clear_requests()
    done = run("download", tmp_path, "--limit", 7, *filters, sandbox=world)
    assert done.returncode == 0
    assert documents(tmp_path) == set(wanted)
    assert sent(world, "limit") == ["7"]
    # An item that was not listed is not deleted.
    done = run("download", tmp_path, "--limit", 2, *filters, sandbox=world)
    assert "no longer listed" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[0] == "Downloading 2 items"
    done = run("download", tmp_path, "--limit", 2, "--prune", sandbox=world)
    assert (done.returncode, "--prune cannot be used with filters or a limit" in done.stderr) == (2, True)
    assert documents(tmp_path) == set(wanted)


def test_into_a_pipe_a_download_prints_only_figures(world, tmp_path):
    assert run("download", tmp_path, "-q", sandbox=world).returncode == 0
    world.update_work_item(ids(world).index(sorted(documents(tmp_path))[0]), status="CLIENT_REVIEW")
    done = run("download", tmp_path, sandbox=world)
    figures = dict(line.split("\t") for line in done.stdout.splitlines())
    assert (figures["fetched"], figures["unchanged"], figures["failed"]) == ("0", "19", "0")
    assert done.stderr.splitlines()[-1] == "1 item with local files is no longer listed; --prune removes the files."


@pytest.mark.parametrize(
    ("encoding", "printed"), [("cp1252", "Nacht \\U0001f98a Caf\xe9"), ("ascii", "Nacht \\U0001f98a Caf\\xe9")]
)
def test_what_an_encoding_lacks_is_escaped_with_a_notice(make_sandbox, encoding, printed):
    sandbox = make_sandbox(items=3, batch_names=["Nacht \U0001f98a Caf\xe9"])
    variables = environment(sandbox, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    done = subprocess.run(command("batches"), env=variables, capture_output=True, timeout=60, check=True)
    assert done.stdout.decode(encoding).split("\t")[1] == printed
    assert done.stderr.decode(encoding).splitlines() == [
        f"stdout is {encoding}: other characters were escaped. Set PYTHONIOENCODING=utf-8 to keep them."
    ]


def test_a_dry_run_says_what_a_download_would_do(world, tmp_path):
    done = run("download", tmp_path, "--dry-run", sandbox=world)
    first, *_, last = done.stderr.splitlines()
    assert (done.returncode, first) == (0, "Checking 20 items")
    assert last == f"Would download 20 work items to {tmp_path}; run the command without --dry-run to do it."
    assert run("download", tmp_path, "-q", sandbox=world).returncode == 0
    done = run("download", tmp_path, "--dry-run", sandbox=world)
    assert done.stderr.splitlines()[-1] == f"All 20 work items in {tmp_path} are up to date."


# --- Watching ---------------------------------------------------------------------------------------------------------


def test_a_watch_brings_what_is_new_and_ends_with_ctrl_c(world, tmp_path):
    review = [item for item in ids(world) if world.work_item(item)["status"] == "CLIENT_REVIEW"]
    with started("download", tmp_path, "--watch", "0.2", "--prune", sandbox=world) as process:
        assert process.stdout.readline().split("\t")[1:] == ["20", "0", "0", "0\n"]
        world.update_work_item(ids(world).index(review[0]), status="COMPLETED")
        runs = (line.split("\t")[1:] for line in iter(process.stdout.readline, ""))
        assert next(figures for figures in runs if figures[0] != "0") == ["1", "20", "0", "0\n"]
        world.rename_batch(1002, "Day drive")
        # Renamed files count as fetched.
        assert next(figures for figures in runs if figures[0] != "0")[1:] == ["10", "0", "0\n"]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    # The first run shows its progress, and no other.
    assert said.count("Downloading") == 1
    assert said.splitlines()[-1] == "Stopped."
    assert review[0] in documents(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir() and path.name != ".cfplatform"} == {
        "Street scenes",
        "Day drive",
    }


def test_the_pause_of_a_watch_is_no_wait_for_the_platform(world, tmp_path):
    with started("download", tmp_path, "--watch", "3.5", sandbox=world) as process:
        for _ in range(2):
            assert process.stdout.readline().split("\t")[2] in ("0", "20")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert "Waiting" not in said
    assert said.splitlines()[-1] == "Stopped."


def test_a_watch_survives_an_outage(world, tmp_path):
    options = ["--watch", "0.2", "--patience", "0", "--json"]
    with started("download", tmp_path, *options, sandbox=world) as process:
        lines = (json_lines(line)[0] for line in iter(process.stdout.readline, ""))
        figures = (line["summary"] for line in lines if "summary" in line)
        assert next(figures)["successful"] == 20
        world.fail_next(503, times=6, path="*/workItems", headers={"Retry-After": "0"})
        said = next(line for line in process.stderr if line.startswith("Error: "))
        assert said.rstrip().endswith("The next run is in 0.2 s.")
        # The rest is not read.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        assert next(figures)["skipped"] == 20
        # Items that are unchanged have no line.
        assert "summary" in next(lines)


# --- Uploads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["lines", "json"])
def test_uploads_are_printed_in_the_order_given(world, tmp_path, form):
    names = ["large.png", "missing.png", "b.png", "a.png", "b.png"]
    (tmp_path / "large.png").write_bytes(b"x" * 3_000_000)
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    done = run("upload", *names, *form, sandbox=world, cwd=tmp_path)
    assert done.returncode == 1
    if form:
        assert [line["file"] for line in json_lines(done.stdout)] == names
    else:
        assert [line.split("\t")[1] for line in done.stdout.splitlines()] == [n for n in names if n != "missing.png"]
