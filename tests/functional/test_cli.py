"""The command line in real processes against a sandbox: output, exit codes and files."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import cfplatform
from cfplatform.cli import cli
from tests.functional.shell import ESCAPE, HOSTILE, environment, json_lines, on_terminal, run, shown, started

#: Exit codes if the reader of a pipe exits: 0, or the code of a shell for SIGPIPE.
PIPE_CODES = {0, 141}


@pytest.fixture
def world(make_sandbox):
    """25 work items in 2 batches, 5 of them in review."""
    return make_sandbox(items=25, batch_names=["Street scenes", "Night drive"], in_review=0.2)


def documents(folder):
    """Finished files by item id."""
    return {path.stem: path for path in folder.glob("*/*.json") if not path.parent.name.startswith(".")}


def completed(sandbox):
    return {item for item in sandbox.work_item_ids() if sandbox.work_item(item)["status"] == "COMPLETED"}


# --- download ----------------------------------------------------------------------------------------------


def test_download_says_what_it_did(world, tmp_path):
    done = run("download", tmp_path / "labels", sandbox=world)
    assert done.returncode == 0
    figures = dict(line.split("\t") for line in done.stdout.splitlines())
    size = sum(path.stat().st_size for path in documents(tmp_path / "labels").values())
    assert figures.pop("seconds")
    assert figures == {"fetched": "20", "unchanged": "0", "failed": "0", "removed": "0", "bytes": str(size)}
    first, counted, last = done.stderr.splitlines()
    assert first == "Downloading 20 items"
    assert counted.startswith("20 of 20 items, ")
    path = re.escape(str(tmp_path / "labels"))
    assert re.fullmatch(
        rf"Downloaded 20 work items to {path}, [\d.]+ kB in \d+\.\d s; next: cfplatform validate {path}", last
    )
    again = run("download", tmp_path / "labels", sandbox=world)
    assert "unchanged\t20\n" in again.stdout
    assert again.stderr.splitlines()[-1] == f"All 20 work items in {tmp_path / 'labels'} are up to date."
    assert ESCAPE not in done.stdout + done.stderr
    assert set(documents(tmp_path / "labels")) == completed(world)


def test_download_in_json_is_a_line_for_each_item_and_a_summary(world, tmp_path):
    done = run("download", tmp_path, "--json", sandbox=world)
    assert done.returncode == 0
    *results, last = json_lines(done.stdout)
    assert {result["item_id"] for result in results} == completed(world)
    for result in results:
        assert list(result)[:6] == ["item_id", "batch_id", "path", "outcome", "size", "error"]
        assert (result["asset_path"], result["asset_size"]) == (None, 0)
        assert (result["outcome"], result["error"]) == ("downloaded", None)
        assert Path(result["path"]).stat().st_size == result["size"]
    summary = last["summary"]
    assert (summary["total_items"], summary["successful"], summary["failed"]) == (20, 20, 0)
    assert summary["bytes"] == sum(result["size"] for result in results)


def test_quiet_download_says_nothing_and_a_second_one_fetches_nothing(world, tmp_path):
    for _ in range(2):
        done = run("download", tmp_path, "--quiet", sandbox=world)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert world.counts["storage"] == 20


def test_filters_and_raw_documents(world, tmp_path):
    done = run("download", tmp_path, "-q", "--raw", "--batch-name", "Night drive", "--max-workers", 2, sandbox=world)
    assert done.returncode == 0
    found = documents(tmp_path)
    assert {path.parent.name for path in found.values()} == {"Night drive"}
    assert set(found) == {item for item in completed(world) if world.work_item(item)["batchId"] == 1002}
    assert all(path.read_bytes() == world.document(item) for item, path in found.items())
    one = next(iter(found))
    world.clear_requests()
    run("download", tmp_path, "-q", "--raw", "--overwrite", "--work-item-id", one, sandbox=world)
    assert [request.path.rpartition("/")[2] for request in world.requests if request.route == "storage"] == [
        f"{one}.json"
    ]


@pytest.mark.parametrize("form", [[], ["--json"], ["--quiet"]], ids=["plain", "json", "quiet"])
def test_failed_items_are_named_and_the_next_run_mends_them(world, tmp_path, form):
    world.fail_next(404, times=12, path="*/annotations", body={"message": f"no {HOSTILE}"})
    done = run("download", tmp_path, *form, sandbox=world)
    assert done.returncode == 1
    assert "Error: 12 of 20 work items failed. Run the same command again" in done.stderr
    assert ESCAPE not in done.stdout + done.stderr
    if form == ["--json"]:
        *results, last = json_lines(done.stdout)
        assert last["summary"]["failed"] == 12
        assert sum("status 404" in (result["error"] or "") for result in results) == 12
        assert "status 404" not in done.stderr
    else:
        # Equal errors are one line, whatever the IDs of their requests.
        line = done.stderr.splitlines()[-1]
        assert re.match(r"  12 work items: 404 Not Found: no Ev.* \(first: [0-9a-f-]{36}\)$", line)
        assert done.stderr.count("404") == 1
        assert "request id" not in done.stderr
        assert (done.stdout == "") == (form == ["--quiet"])
    world.clear_requests()
    assert run("download", tmp_path, "-q", sandbox=world).returncode == 0
    assert world.counts["storage"] == 12
    assert set(documents(tmp_path)) == completed(world)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_keep_what_is_finished_and_count_it(make_sandbox, tmp_path, number, code):
    sandbox = make_sandbox(items=300, latency=0.1)
    sandbox.fail_next(404, times=30, path="*/annotations")
    with started("download", tmp_path, "--max-workers", 16, sandbox=sandbox) as process:
        deadline = time.monotonic() + 30
        while len(documents(tmp_path)) < 60 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (code, "")
    assert "Stopped. Finished work is kept; run the same command again to resume." in stderr
    said = re.search(r"Finished so far: (\d+) of 300 items \(30 failed\)\.\n", stderr)
    assert "Traceback" not in stderr
    finished = documents(tmp_path)
    # Failed items are not finished; an item may be written while the process stops.
    assert 0 <= len(finished) - int(said.group(1)) <= 16
    assert 5 <= len(finished) < 300
    assert all(json.loads(path.read_bytes()) for path in finished.values())
    sandbox.latency = 0
    sandbox.clear_requests()
    assert run("download", tmp_path, "-q", sandbox=sandbox).returncode == 0
    fetched = {request.path.rpartition("/")[2][:-5] for request in sandbox.requests if request.route == "storage"}
    assert fetched == set(sandbox.work_item_ids()) - set(finished)
    assert len(documents(tmp_path)) == 300


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_ctrl_c_while_ids_are_read_has_the_same_exit_code(world, tmp_path):
    os.mkfifo(tmp_path / "ids")
    # Opening the pipe waits until the command opens it.
    with (
        started("download", tmp_path, "--work-item-ids", tmp_path / "ids", sandbox=world) as process,
        (tmp_path / "ids").open("w"),
    ):
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (130, "", "Stopped.\n")


# --- Listings ----------------------------------------------------------------------------------------------


def test_work_items_into_a_pipe_are_tab_separated(world):
    done = run("work-items", "--status", "any", sandbox=world)
    assert done.returncode == 0
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == list(world.work_item_ids())
    first = world.work_item(0)
    assert rows[0][1:4] == [str(first["batchId"]), first["status"], first["assetType"]]
    assert rows[0][4].endswith("Z")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--all", "--status", "ANY"], 25),
        (["--all"], 20),
        (["--quiet", "--limit", "3"], 3),
    ],
)
def test_how_many_work_items_are_listed(world, arguments, expected):
    done = run("work-items", *arguments, sandbox=world)
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, expected, "")


def test_work_items_in_json_are_the_objects_of_the_platform_and_not_cut(world):
    done = run("work-items", "--json", "--status", "any", sandbox=world)
    assert json_lines(done.stdout) == [world.work_item(item) for item in world.work_item_ids()]
    assert (done.returncode, done.stderr) == (0, "")
    done = run("work-items", "--json", "--limit", 2, sandbox=world)
    assert len(json_lines(done.stdout)) == 2


def test_batches(world):
    expected = [["1001", "Street scenes", "9/12"], ["1002", "Night drive", "11/13"]]
    for form in ([], ["--quiet"]):
        done = run("batches", *form, sandbox=world)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.split("\t")[:3] for line in done.stdout.splitlines()] == expected
    done = run("batches", "--json", sandbox=world)
    assert [batch["name"] for batch in json_lines(done.stdout)] == ["Street scenes", "Night drive"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "20\n"),
        (["--quiet"], "20\n"),
        (["--json"], '{"count": 20}\n'),
        (["--status", "any", "--batch-name", "Street scenes"], "12\n"),
    ],
)
def test_count(world, arguments, expected):
    done = run("count", *arguments, sandbox=world)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_a_reader_that_goes_away_is_no_error(make_sandbox):
    sandbox = make_sandbox(items=3000)
    with started("work-items", "--json", sandbox=sandbox) as process:
        assert json.loads(process.stdout.readline())["id"] == next(sandbox.work_item_ids())
        process.stdout.close()
        stderr = process.stderr.read()
        process.wait(timeout=30)
    assert process.returncode in PIPE_CODES
    assert stderr == ""
    # It stopped before it had listed everything.
    assert sandbox.counts["work_items"] < 30


# --- A terminal --------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_bar(world, tmp_path):
    code, screen = on_terminal("download", tmp_path, sandbox=world)
    assert code == 0
    assert "━" in screen
    assert "20/20" in screen
    assert "\x1b[?25l" in screen
    # The cursor is shown again.
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l")
    assert f"Downloaded 20 work items to {tmp_path}, " in screen


def test_no_color_is_respected_and_a_dumb_terminal_gets_lines(world, tmp_path):
    _, screen = on_terminal("download", tmp_path, sandbox=world, NO_COLOR="1")
    assert "20/20" in screen
    assert not re.search(r"\x1b\[(3\d|9\d|38;)", screen)
    _, screen = on_terminal("download", tmp_path, sandbox=world, TERM="dumb")
    assert "Downloading 20 items\n" in screen
    assert ESCAPE not in screen


def test_a_hostile_batch_name_cannot_drive_the_terminal(world, tmp_path):
    world.rename_batch(1001, HOSTILE)
    done = run("batches", sandbox=world)
    cleaned = "Ev\ufffd[31mil\ufffd \ufffd]0;pwned\ufffd[red]markup[/red] tab line \ufffdrtl :boom:"
    assert done.stdout.splitlines()[0].split("\t")[1] == cleaned
    code, screen = on_terminal("batches", sandbox=world, columns=120)
    assert code == 0
    header, first, *_ = screen.splitlines()
    assert "Completed" in header
    assert cleaned in first
    assert re.sub(r"\x1b\[[01]m|\n", "", screen).isprintable()
    code, screen = on_terminal("download", tmp_path, "--batch-id", 1001, sandbox=world)
    assert code == 0
    assert "pwned" not in screen


def test_a_table_fits_a_narrow_terminal(world):
    world.rename_batch(1001, "long name " * 20)
    _, screen = on_terminal("batches", sandbox=world, columns=70)
    lines = re.sub(r"\x1b\[[01]m", "", screen).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 70
    assert "…" in lines[1]


@pytest.mark.parametrize("columns", [25, 50])
def test_a_narrow_terminal_gets_fewer_columns_and_complete_ids(world, columns):
    _, screen = on_terminal("batches", sandbox=world, columns=columns)
    lines = shown(screen).splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].split()[:3] == ["ID", "Name", "Completed"]
    assert [re.findall(r"\b1\d{3}\b|\d+/\d+", line) for line in lines[1:]] == [["1001", "9/12"], ["1002", "11/13"]]


def test_a_table_of_several_pages_has_one_header_and_the_same_columns(make_sandbox):
    sandbox = make_sandbox(items=230)
    _, screen = on_terminal("work-items", "--all", sandbox=sandbox, columns=60)
    header, *lines = shown(screen).splitlines()
    assert header.split() == ["ID", "Batch", "Status"]
    assert [line.split()[0] for line in lines] == list(sandbox.work_item_ids())
    assert {line.split()[-1] for line in lines} == {"COMPLETED"}


# --- Errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "sentence"),
    [
        (["count"], {"CF_API_KEY": None}, 2, "Error: No API key. Pass --api-key or set CF_API_KEY."),
        (["count"], {"CF_API_KEY": " "}, 2, "Error: CF_API_KEY is blank."),
        (["count"], {"CF_PROJECT_ID": ""}, 2, "Error: No project. Pass --project-id or set CF_PROJECT_ID."),
        (["count", "--base-url", "ftp://x"], {}, 2, "Error: --base-url must start with https:// and a host name."),
        (["count", "--created-at-from", "now"], {}, 2, "Invalid value for '--created-at-from': 'now' is not a time."),
        (
            ["count", "--status", ""],
            {},
            2,
            "Error: --status must be a string such as 'COMPLETED'. Pass \"any\" for every status.",
        ),
        (["count", "--nonsense"], {}, 2, "No such option"),
        (["download"], {}, 2, "Missing argument 'DESTINATION'."),
        (["download", __file__], {}, 2, "is a file. Pass the path of a folder."),
        (
            ["download", "s3://bucket/labels"],
            {},
            2,
            "needs a local state folder. Pass --state FOLDER",
        ),
        (["download", " "], {}, 2, "Error: DESTINATION must be the path of a folder"),
        (["count", "--created-at-from", "2d", "--created-at-to", "3d"], {}, 2, "is after the end of the range"),
        (["count", "--base-url", "http://example.com"], {}, 2, "the API key unencrypted. Use https.\n"),
        (["merge", "project_id", "out.json"], {}, 2, "Error: SOURCE 'project_id' is neither a folder nor a file."),
        (["report", str(Path(__file__).parent), "page.txt"], {}, 2, "Error: OUTPUT 'page.txt' must end with .html"),
        (["download", "x", "--limit", "x"], {}, 2, "'--limit': 'x' is not a valid integer.\n"),
        (["work-items", "get", ".."], {}, 2, "Error: ITEM_ID: '..' is not a valid ID"),
        (["work-items", "--all", "--limit", "3"], {}, 2, "Error: --all and --limit exclude each other."),
        (["count", "--batch-name", "x"], {}, 1, "has no batch named 'x'."),
        (["count", "--project-id", "x"], {}, 1, "failed with status 404: project not found"),
    ],
)
def test_errors_are_one_sentence(world, arguments, changes, code, sentence):
    done = run(*arguments, sandbox=world, **changes)
    assert (done.returncode, done.stdout) == (code, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("form", [[], ["--json"], ["--quiet"], ["--debug"]], ids=lambda form: "".join(form) or "plain")
def test_a_wrong_key_is_explained_and_never_shown(world, tmp_path, form):
    key = "wrong-key-1234567890"
    done = run("download", tmp_path, "--api-key", key, *form, sandbox=world)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: API key rejected (status 401, " in done.stderr
    assert "Check --api-key or CF_API_KEY" in done.stderr
    assert key not in done.stderr
    assert ("Traceback" in done.stderr) == (form == ["--debug"])
    assert ("DEBUG urllib3" in done.stderr) == (form == ["--debug"])


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (403, "Error: Permission denied (status 403, "),
        (501, "Error: The platform failed (status 501, "),
        (400, "failed with status 400: "),
    ],
)
def test_answers_of_the_platform_are_explained(world, status, sentence):
    world.fail_next(status, body={"message": f"because {HOSTILE}"})
    done = run("count", sandbox=world)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert "because Ev" in done.stderr
    assert ESCAPE not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_key_with_white_space_is_one_line_of_warning(world):
    done = run("count", sandbox=world, CF_API_KEY=f"{world.api_key}\n")
    assert (done.returncode, done.stdout) == (0, "20\n")
    assert done.stderr == "Warning: CF_API_KEY had leading or trailing whitespace, which was removed.\n"


@pytest.mark.parametrize(
    ("module", "arguments", "extra"), [("rich", ["count"], "cli"), ("uvicorn", ["demo"], "sandbox")]
)
def test_a_missing_extra_is_one_line_that_says_what_to_install(module, arguments, extra):
    script = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = {arguments!r}; "
        "from cfplatform.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment(None), check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert module in line
    assert line.endswith(f"pip install 'cfplatform[{extra}]'")


# --- The local platform ------------------------------------------------------------------------------------


def test_demo_twice(tmp_path):
    first = run("demo", cwd=tmp_path)
    assert first.returncode == 0
    assert first.stdout.startswith("Downloaded 200 work items to cfplatform-demo, ")
    assert len(documents(tmp_path / "cfplatform-demo")) == 200
    lines = first.stdout.splitlines()
    for path in (tmp_path / "cfplatform-demo").iterdir():
        assert (f"  {path.name}/" in lines) == (path.is_dir() and path.name != ".cfplatform")
    assert re.search(r"documents and images\t400\n", first.stdout)
    page = tmp_path / "cfplatform-demo" / "report.html"
    assert lines[-1] == f"  {page}"
    # Six at the top, the others in the gallery.
    assert len(re.findall(r' id="p\d+"', page.read_text(encoding="utf-8"))) == 200
    second = run("demo", cwd=tmp_path)
    assert second.returncode == 0
    assert second.stdout.startswith("All 200 work items in cfplatform-demo are up to date.\n")
    assert re.search(r"documents and images\t0\n", second.stdout)
    assert second.stdout.splitlines()[-1] == f"  {page}"


def test_demo_in_json_and_quiet(tmp_path):
    options = ("--items", 12, "--batches", 3, "--seed", 7)
    done = run("demo", tmp_path, *options, "--json")
    (line,) = json_lines(done.stdout)
    assert (done.returncode, line["summary"]["successful"], line["requests"]["storage"]) == (0, 12, 24)
    assert Path(line["report"]) == tmp_path / "report.html"
    done = run("demo", tmp_path, *options, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("form", "end"), [([], signal.SIGINT), (["--quiet"], signal.SIGTERM), (["--json"], signal.SIGTERM)]
)
def test_the_sandbox_command_serves_until_it_is_stopped(form, end):
    with started("sandbox", "--items", 30, "--in-review", 0.1, *form) as process:
        if form == ["--json"]:
            reported = json.loads(process.stdout.readline())
            variables = {
                "CF_API_KEY": reported["api_key"],
                "CF_PLATFORM_BASE_URL": reported["base_url"],
                "CF_PROJECT_ID": reported["project_id"],
                "CF_SPACE_ID": reported["space_id"],
            }
        else:
            words = [shlex.split(process.stdout.readline()) for _ in range(4)]
            assert [word[0] for word in words] == ["export"] * 4
            variables = dict(word[1].split("=", 1) for word in words)
        assert run("count", **variables).stdout == "27\n"
        process.send_signal(end)
        stdout, stderr = process.communicate(timeout=30)
        assert (process.returncode, stdout) == (0, "")
        assert stderr == ("" if form == ["--quiet"] else "Ctrl-C stops the platform.\n")


def test_a_port_in_use_is_explained(world):
    port = world.base_url.split(":")[2].split("/")[0]
    done = run("sandbox", "--port", port)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"Error: Could not start the platform: Address already in use. Pass another --port than {port}.\n"
    )


# --- Help --------------------------------------------------------------------------------------------------


#: Commands that need no key.
KEYLESS = {
    *(("compare",), ("completion",), ("convert",), ("demo",), ("merge",), ("split",), ("stats",), ("validate",)),
    *(("sandbox", "run"), ("webhook", "listen"), ("webhook", "verify")),
}


def all_commands(group=cli, names=()):
    for name, found in sorted(group.commands.items()):
        yield pytest.param((*names, name), isinstance(found, click.Group), id="-".join((*names, name)))
        if isinstance(found, click.Group):
            yield from all_commands(found, (*names, name))


@pytest.mark.parametrize(("names", "is_group"), list(all_commands()))
def test_help_of_each_command_has_examples(names, is_group):
    done = run(*names, "-h", CF_API_KEY="the-secret-key")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nExamples:\n  cfplatform " in done.stdout
    if not is_group:
        assert (" --api-key," in done.stdout) == (names not in KEYLESS)
    assert "the-secret-key" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


#: Modules that help texts do not need: tables, the sandbox, stores, signatures, the state, and the commands.
HEAVY = {"rich", "starlette", "uvicorn", "PIL", "fsspec", "distributed", "tqdm", "cryptography", "sqlite3"}
COMMAND_MODULES = {f"cfplatform.{name}" for name in ("client", "http", "sandbox", "transfer", "destination")} | {
    f"cfplatform.cli.{path.stem}"
    for path in Path(cfplatform.__file__).parent.glob("cli/*.py")
    if path.stem not in ("__init__", "groups", "options", "text")
}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_is_quick_because_it_loads_no_command(option):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cfplatform", option],
        capture_output=True,
        text=True,
        env=environment(None),
        check=False,
    )
    assert done.returncode == 0
    assert option == "--version" or all(name in done.stdout for name in cli.commands)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in loaded
    assert not {name.split(".")[0] for name in loaded} & HEAVY
    assert not loaded & COMMAND_MODULES


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_list_of_commands_has_the_first_sentence_of_each_and_does_not_cut_it(name):
    command = cli.commands[name]
    (short,) = (names[name] for names in cli.sections.values() if name in names)
    assert short == (command.help or "").splitlines()[0]
    said = click.Context(cli, info_name="cfplatform", terminal_width=80).command.get_help(click.Context(cli))
    assert re.search(rf"^  {name} +{re.escape(short)}$", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dwnload"], "No such command 'dwnload'. Did you mean 'download' or 'upload'?"),
        (["Work_Items"], "No such command 'Work_Items'. Did you mean 'work-items'?"),
        (["batches", "creat"], "No such command 'creat'. Did you mean 'create'?"),
        (["webhook", "verfy"], "No such command 'verfy'. Did you mean 'verify'?"),
        (["xyzzy"], "No such command 'xyzzy'. 'cfplatform --help' lists them."),
        (["exports", "xyzzy"], "No such command 'xyzzy'. 'cfplatform exports --help' lists them."),
    ],
)
def test_what_was_mistyped_is_suggested(arguments, sentence):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"Error: {sentence}"


def test_a_mistyped_option_is_suggested():
    done = run("count", "--statsu", "any")
    assert done.returncode == 2
    assert re.search(r"No such option:? '?--statsu'?\.? \(?Did you mean '?--status'?\?", done.stderr)


def test_version():
    assert run("--version").stdout == f"cfplatform, version {cfplatform.__version__}\n"
