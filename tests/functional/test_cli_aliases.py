"""Former names of options and parameters still work, and help in sections shows only the names of today."""

from __future__ import annotations

import re
import time

import click
import pytest

import cfplatform
from cfplatform.cli import cli
from cfplatform.exceptions import InvalidParameterError
from tests.functional.shell import ESCAPE, json_lines, on_terminal, run, shown, started

TIME = "2025-03-03T00:00:00Z"
LATE = "2100-01-01T00:00:00Z"
URL = "https://example.com/a.png"


@pytest.fixture
def world(make_sandbox):
    return make_sandbox(items=6, batch_names=["Day", "Night"])


def sent(sandbox, *arguments, cwd):
    """What a command printed, and the requests that it sent."""
    sandbox.clear_requests()
    done = run(*arguments, sandbox=sandbox, cwd=cwd)
    assert done.returncode in (0, 1)
    requests = sorted((each.method, each.path, each.query_string, each.body) for each in sandbox.requests)
    return done.stdout, requests


CALLS = {
    "--created-from": (["count"], TIME, "--created-at-from", "createdAtFrom="),
    "--created-to": (["work-items", "-q"], LATE, "--created-at-to", "createdAtTo="),
    "--updated-from": (["count"], TIME, "--updated-at-from", "updatedAtFrom="),
    "--updated-to": (["count"], LATE, "--updated-at-to", "updatedAtTo="),
    "--max-items": (["exports"], "1", "--limit", "limit=1"),
    "--workers": (["download", "labels", "-q"], "1", "--max-workers", "/annotations"),
    "--project": (["exports", "create", "x"], "{project}", "--project-id", "{project}"),
    "--batch": (["exports", "create", "x"], "1002", "--batch-id", "1002"),
    "--type": (["work-items", "create", URL], "video", "--asset-type", "video"),
}


@pytest.mark.parametrize("former", CALLS)
def test_an_option_has_its_former_name_too(make_sandbox, tmp_path, former):
    command, value, name, part = CALLS[former]
    found = []
    for option in (former, name):
        world = make_sandbox(items=6, batch_names=["Day", "Night"])
        value, part = value.format(project=world.project_id), part.format(project=world.project_id)
        (tmp_path / option).mkdir()
        found.append(sent(world, *command, option, value, cwd=tmp_path / option))
    (_, old), (_, new) = found
    assert [each[:2] for each in old] == [each[:2] for each in new]
    assert all(any(part in f"{path}?{query}{body}" for _, path, query, body in requests) for requests in (old, new))


@pytest.mark.parametrize(("given", "expected"), [("1002", "1002"), ("Night", "1002")])
def test_a_batch_of_new_items_may_be_given_by_its_name_or_id(world, tmp_path, given, expected):
    assert run("work-items", "create", URL, "--batch", given, sandbox=world).stdout.split("\t")[1] == expected


def test_a_part_has_its_batches_under_the_former_name(world, tmp_path):
    assert run("download", "labels", "-q", sandbox=world, cwd=tmp_path).returncode == 0
    for option in ("--batch", "--batch-name"):
        done = run("split", "labels", option.strip("-"), option, "a=Day", option, "b=Night", "--json", cwd=tmp_path)
        assert [part["images"] for part in json_lines(done.stdout)[-1]["summary"]["parts"].values()] == [3, 3]


@pytest.mark.parametrize(("option", "value"), [("--latency", "250"), ("--latency-seconds", "0.25")])
def test_a_latency_in_milliseconds_is_still_one(option, value):
    with started("sandbox", "run", "--items", "2", option, value, "--json") as process:
        variables = json_lines(process.stdout.readline())[0]
        path = f"/projects/{variables['project_id']}/batches"
        with cfplatform.Client(variables["api_key"], base_url=variables["base_url"], timeout=5, retries=0) as client:
            began = time.monotonic()
            client.request("GET", path)
            seconds = time.monotonic() - began
        process.terminate()
        process.communicate(timeout=30)
    assert 0.25 <= seconds < 5


def test_two_spellings_of_the_latency_exclude_each_other():
    done = run("sandbox", "--latency", "1", "--latency-seconds", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("Error: --latency and --latency-seconds exclude each other.\n")


def test_max_items_is_the_former_name_of_limit(world, tmp_path):
    with world.client() as client:
        assert len(list(client.get_work_items(max_items=2))) == 2
        assert len(list(client.get_batches(max_items=1))) == 1
        for name in ("a", "b"):
            client.create_export(name, wait_for_running=True)
        assert len(list(client.get_exports(max_items=1))) == 1
        assert len(list(next(client.get_batches()).get_work_items(max_items=2))) == 2
        assert client.download_project(destination=tmp_path, max_items=3).total_items == 3
        with pytest.raises(InvalidParameterError, match="limit and max_items are the same option: pass only limit"):
            client.get_work_items(limit=1, max_items=1)


# --- Help -------------------------------------------------------------------------------------------------------------


def options(group=cli):
    """Each option of each command."""
    for found in group.commands.values():
        yield from options(found) if isinstance(found, click.Group) else found.params


def test_former_names_are_shown_nowhere():
    former = {alias for option in options() for alias in getattr(option, "aliases", ())}
    assert former == set(CALLS)
    for command in (["download"], ["exports", "create"], ["exports", "list"], ["split"], ["work-items", "create"]):
        words = set(run(*command, "--help").stdout.replace(",", " ").split())
        assert not words & {*former, "--latency"}, command


def test_former_names_are_not_suggested():
    error = run("count", "--created-fro", "2d").stderr.splitlines()[-1]
    assert "--created-at-from" in error
    assert "--created-from" not in error


def test_batches_have_a_limit(world):
    (line,) = run("batches", "--limit", 1, sandbox=world).stdout.splitlines()
    assert line.split("\t")[1] == "Day"


def test_shared_options_may_stand_before_the_command(world):
    settings = ["--api-key", world.api_key, "--base-url", world.base_url, "--project-id", world.project_id]
    done = run(*settings, "--json", "count", CF_API_KEY="another")
    assert (done.returncode, done.stdout) == (0, '{"count": 6}\n')
    # The one behind the command counts.
    assert run("--project-id", "x", "count", sandbox=world).returncode == 1
    assert run("--project-id", "x", "count", "--project-id", world.project_id, sandbox=world).returncode == 0


@pytest.mark.parametrize(
    "options",
    [["--json"], ["-q", "--json"], ["--json", "--project-id", "{project}"], ["--project-id={project}", "--json"]],
)
def test_shared_options_may_stand_between_a_group_and_its_command(world, options):
    given = [each.format(project=world.project_id) for each in options]
    listed = run("batches", "list", *given, sandbox=world)
    for command in (["batches", *given, "list"], ["batches", *given]):
        done = run(*command, sandbox=world)
        assert (done.returncode, done.stdout, done.stderr) == (0, listed.stdout, "")
    assert "Missing option '--body'" in run("webhook", "--json", "verify").stderr
    # The value of an option is no command.
    assert "no profile 'list'" in run("batches", "--profile", "list", sandbox=world).stderr


def test_shared_options_are_described_once():
    whole = run("--help").stdout
    for option in ("--api-key KEY", "--base-url URL", "--project-id ID", "--space-id ID", "--profile NAME"):
        assert whole.count(f"\n  {option}  ") == 1
    for option in ("--json", "-q, --quiet", "--debug", "-h, --help", "--version"):
        assert whole.count(f"\n  {option}  ") == 1
    said = " ".join(run("download", "--help").stdout.split())
    assert said.endswith(
        "It also takes --api-key, --base-url, --project-id, --space-id, --profile, --json, -q and --debug: "
        "see 'cfplatform --help'."
    )
    assert " --api-key" not in run("merge", "--help").stdout


def test_help_has_sections():
    headings = re.findall(r"^([A-Z].*):$", run("split", "--help").stdout, re.MULTILINE)
    assert headings == ["Selection", "Parts", "Options", "Examples"]
    headings = re.findall(r"^([A-Z].*):$", run("--help").stdout, re.MULTILINE)
    assert headings == [
        *("Get annotations", "Work items and assets", "Work with datasets", "Tools"),
        *("Connection options", "Global options", "Examples"),
    ]


@pytest.mark.parametrize("columns", [80, 120])
def test_help_has_colours_on_a_terminal(columns):
    code, screen = on_terminal("download", "--help", columns=columns)
    assert code == 0
    assert "\x1b[1mSelection\x1b[0m:\n" in screen
    assert "\n  \x1b[36m--batch-id ID\x1b[0m  " in screen
    assert max(map(len, shown(screen).splitlines())) <= 80
    assert shown(screen) == run("download", "--help").stdout


@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_help_has_no_colours_where_they_are_off(changes):
    assert ESCAPE not in on_terminal("download", "--help", **changes)[1]
    assert ESCAPE not in run("download", "--help", **changes).stdout
