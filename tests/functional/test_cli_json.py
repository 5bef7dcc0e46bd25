"""The output of ``--json`` of every command, compared with the page that describes it."""

from __future__ import annotations

import contextlib
import json
import time
import warnings

import pytest

from cfplatform.cli import cli
from tests.cli_page import reference
from tests.deliveries import Signer, key_set
from tests.functional.shell import json_lines, started

#: Python's types of each JSON type.
TYPES = {
    "text": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
    "null": type(None),
    "anything": object,
}


@pytest.fixture(scope="module")
def world():
    from cfplatform.sandbox import Sandbox

    with Sandbox(items=6, batches=2, export_seconds=0) as sandbox:
        yield sandbox


@pytest.fixture
def printed(world, capsys, monkeypatch, tmp_path):
    """Run a command with ``--json`` in this process, and return the objects of its output."""
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.chdir(tmp_path)

    def command(*arguments, code=0):
        with pytest.raises(SystemExit) as ended:
            cli([*map(str, arguments), "--json"], prog_name="cfplatform")
        captured = capsys.readouterr()
        assert ended.value.code == code, captured.err
        return json_lines(captured.out)

    return command


def check(line, value):
    """Whether an object matches a line of the page."""
    names = [field.name for field in line.fields]
    if not line.from_platform:
        assert list(value) == names
    else:
        assert set(value) == set(names), "the sandbox sends what the page says, neither more nor less"
    for field in line.fields:
        kinds = tuple(TYPES[kind] for kind in field.kind.split(" or "))
        assert any(isinstance(value[field.name], kind) for kind in kinds), field.name
        assert isinstance(value[field.name], bool) == (field.kind == "boolean")


def first(world):
    return next(iter(world.work_item_ids()))


def new_export(world):
    with world.client() as client:
        return client.create_export("nightly").wait().id


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("batches create", lambda world: [f"Spring {time.time()}"]),
        ("batches list", lambda world: []),
        ("batches rename", lambda world: [1001, f"Summer {time.time()}"]),
        ("completion", lambda world: ["zsh"]),
        ("count", lambda world: ["--status", "any"]),
        ("doctor", lambda world: []),
        ("exports create", lambda world: ["nightly"]),
        ("exports delete", lambda world: [new_export(world), "--yes"]),
        ("exports download", lambda world: [new_export(world), "archives"]),
        ("exports get", lambda world: [new_export(world)]),
        ("exports list", lambda world: []),
        ("exports wait", lambda world: [new_export(world)]),
        ("sandbox outage", lambda world: [600, "--after", 600]),
        ("sandbox set-status", lambda world: [0, "COMPLETED"]),
        ("upload", lambda world: [__file__]),
        ("work-items annotation", lambda world: [first(world)]),
        ("work-items get", lambda world: [first(world)]),
        ("work-items list", lambda world: []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lines_are_as_described(world, printed, name, arguments):
    if name == "exports list":
        new_export(world)
    (line,) = reference.LINES[name]
    values = printed(*name.split(), *arguments(world))
    assert values
    for value in values:
        check(line, value)


def test_download_and_demo(printed):
    item, last, figures = reference.LINES["download"]
    *values, summary = printed("download", "labels", "--assets")
    assert values
    for value in values:
        check(item, value)
    check(last, summary)
    check(figures, summary["summary"])
    account, figures = reference.LINES["demo"]
    (value,) = printed("demo", "--items", 2)
    check(account, value)
    check(figures, value["summary"])


def test_a_failed_item_and_a_failed_file(world, printed):
    world.fail_next(404, path="*/annotations")
    *values, _ = printed("download", "others", code=1)
    assert sum(value["error"] is not None for value in values) == 1
    for value in values:
        check(reference.LINES["download"][0], value)
    values = printed("upload", "not-there.jpg", code=1)
    check(reference.LINES["upload"][0], values[0])


def test_work_items_create(printed):
    item, asset = reference.LINES["work-items create"]
    (value,) = printed("work-items", "create", "https://example.com/a.jpg", "--asset-type", "image")
    check(item, value)
    assets = [__file__, "https://example.com/a.jpg"]
    values = printed("work-items", "create", *assets, "not-there.jpg", code=1)
    assert [sum(value[key] is not None for value in values) for key in ("item", "uploaded", "error")] == [2, 1, 1]
    for value in [*values, *printed("work-items", "create", *assets)]:
        check(asset, value)
        if value["item"] and not value["existed"]:
            check(item, value["item"])
    assert value["existed"]


def test_request(world, printed):
    path = f"/projects/{world.project_id}/batches"
    (body,) = printed("request", "GET", path)
    assert body["meta"]["object"] == "batch"
    (value,) = printed("request", "GET", path, "--include")
    check(reference.LINES["request"][1], value)


def test_webhook_verify(printed, tmp_path):
    body, headers = Signer().deliver(at=time.time())
    (tmp_path / "body").write_bytes(body)
    (tmp_path / "headers").write_text(json.dumps(headers), encoding="utf-8")
    (tmp_path / "keys").write_text(json.dumps(key_set(Signer())), encoding="utf-8")
    assert printed("webhook", "verify", "--body", "body", "--headers", "headers", "--jwks", "keys") == [
        json.loads(body)
    ]


def test_sandbox_run():
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(started("sandbox", "run", "--json", "--items", 1))
        check(reference.LINES["sandbox run"][0], json.loads(process.stdout.readline()))
