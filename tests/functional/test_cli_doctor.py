"""``cfplatform doctor`` as a real process, with one misconfiguration at a time."""

from __future__ import annotations

import email.utils
import functools
import importlib.metadata
import json
import os
import sys
import time

import pytest

from tests.functional.shell import ESCAPE, HOSTILE, ROOT, json_lines, on_terminal, run, run_process, shown
from tests.http.scripted import ScriptedServer, raw

PAGE = json.dumps({"items": [], "meta": {"object": "batch"}}).encode()
KEY = "the-secret-key-1234567890"


def examined(*arguments, sandbox=None, run=run, **changes):
    """The checks of a run by name, and the exit code; checks that the key is not in the output."""
    changes = {"REQUESTS_CA_BUNDLE": None, "CURL_CA_BUNDLE": None, **changes}
    done = run("doctor", *arguments, "--json", sandbox=sandbox, **changes)
    assert "Traceback" not in done.stderr
    key = changes.get("CF_API_KEY") or (sandbox.api_key if sandbox else KEY)
    assert key not in done.stdout + done.stderr
    found = {line["check"]: line for line in json_lines(done.stdout)}
    failed = [name for name, line in found.items() if line["status"] == "failed"]
    assert done.returncode == (1 if failed else 0)
    assert all((line["advice"] is None) == (line["status"] == "ok") for line in found.values())
    for name in failed:
        assert name in done.stderr
    return found


@pytest.fixture
def server():
    """Responds with an empty page by default."""
    made = []

    def serve(answer):
        made.append(ScriptedServer(default=answer))
        return {"CF_API_KEY": KEY, "CF_PROJECT_ID": "p", "CF_PLATFORM_BASE_URL": made[-1].base_url}

    yield serve
    for each in made:
        each.stop()


def test_all_is_well(sandbox, tmp_path):
    found = examined(tmp_path, sandbox=sandbox)
    assert {line["status"] for line in found.values()} == {"ok"}
    names = (
        "python cfplatform requests urllib3 typing-extensions extras key",
        "project space proxy CA platform clock destination",
    )
    assert set(found) == {*names[0].split(), *names[1].split(), "base URL"}
    assert found["base URL"]["found"] == f"{sandbox.base_url}, from CF_PLATFORM_BASE_URL"
    assert found["platform"]["found"].endswith("the key is valid")
    assert list(tmp_path.iterdir()) == []
    for name in ("project", "space"):
        assert found[name]["found"].endswith(f"from CF_{name.upper()}_ID; the key has access")
    # Two cheap requests, which are not repeated.
    assert [(each.method, each.path.rpartition("/")[2], each.query) for each in sandbox.requests] == [
        ("GET", "batches", [("limit", "1")]),
        ("GET", "exports", [("limit", "1")]),
    ]


def test_nothing_is_set():
    found = examined(CF_API_KEY=None)
    assert (found["key"]["status"], found["project"]["status"]) == ("failed", "warning")
    assert "CF_API_KEY" in found["key"]["advice"]
    assert (found["platform"]["status"], "clock" in found) == ("failed", False)


@pytest.mark.parametrize(
    ("changes", "check", "status", "words"),
    [
        ({"CF_API_KEY": "wrong-key-123"}, "platform", "failed", "status 401"),
        ({"CF_API_KEY": "in side"}, "key", "failed", "whitespace"),
        ({"CF_PROJECT_ID": "none"}, "project", "failed", "none, from CF_PROJECT_ID: status 404: project not found"),
        ({"CF_SPACE_ID": "none"}, "space", "failed", "none, from CF_SPACE_ID: status 404: space not found"),
        ({"CF_SPACE_ID": "none", "CF_PROJECT_ID": None}, "space", "failed", "status 404: space not found"),
        ({"CF_API_KEY": "wrong-key-123"}, "space", "warning", "; not checked"),
        ({"CF_PROJECT_ID": ".."}, "project", "failed", "'..' is not a valid ID"),
        ({"CF_PROJECT_ID": None}, "platform", "ok", "the key is valid"),
        ({"CF_PROJECT_ID": None, "CF_SPACE_ID": None}, "platform", "warning", "the key was not checked"),
        ({"CF_PLATFORM_BASE_URL": "http://127.0.0.1:9/api/v1"}, "platform", "failed", "refused"),
        ({"CF_PLATFORM_BASE_URL": "ftp://x"}, "base URL", "failed", "https://"),
        ({"CF_PLATFORM_BASE_URL": "https://api.invalid", "HTTPS_PROXY": "http://me:pa55@[::1"}, "proxy", "failed", ""),
        (
            {"CF_PLATFORM_BASE_URL": "https://api.invalid", "HTTPS_PROXY": "http://me:pa55@127.0.0.1:9"},
            "proxy",
            "ok",
            "http://127.0.0.1:9, from",
        ),
        (
            {"CF_PLATFORM_BASE_URL": "https://api.invalid", "HTTPS_PROXY": "http://x:9", "NO_PROXY": "api.invalid"},
            "proxy",
            "ok",
            "not used for api.invalid",
        ),
        ({"CF_PLATFORM_BASE_URL": "https://x.invalid", "REQUESTS_CA_BUNDLE": "/none"}, "CA", "failed", "No such file"),
        ({"CF_PLATFORM_BASE_URL": "https://x.invalid", "REQUESTS_CA_BUNDLE": __file__}, "CA", "failed", __file__),
    ],
)
def test_what_is_wrong_is_found(sandbox, changes, check, status, words):
    found = examined(sandbox=sandbox, **changes)
    assert found[check]["status"] == status
    assert words in found[check]["found"]
    assert "pa55" not in json.dumps(found)


def test_a_base_url_without_its_end_is_found(sandbox, server):
    root = sandbox.base_url.removesuffix("/api/v1")
    found = examined(sandbox=sandbox, CF_PLATFORM_BASE_URL=f"{root}/")
    assert found["platform"]["status"] == "failed"
    assert found["platform"]["found"].endswith(f"; the API is at {root}/api/v1")
    assert found["platform"]["advice"] == f"Set CF_PLATFORM_BASE_URL to {root}/api/v1."
    # The API of a gateway may be anywhere.
    elsewhere = examined(**server(raw(404, b"<html>", "Content-Type: text/html")))
    assert elsewhere["platform"]["found"].endswith("but the response is not JSON")


def test_a_proxy_that_is_away_is_named(sandbox):
    variables = {"CF_PLATFORM_BASE_URL": "https://api.invalid", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    found = examined(sandbox=sandbox, **variables)
    assert found["platform"]["status"] == "failed"
    assert "proxy" in found["platform"]["found"].lower()
    assert found["project"]["advice"] == "Fix the platform check first."


def test_a_disk_without_space_is_a_warning(sandbox, tmp_path):
    # Depends on the machine.
    (tmp_path / "sitecustomize.py").write_text(
        "import collections, shutil\n"
        "shutil.disk_usage = lambda path: collections.namedtuple('usage', 'total used free')(9, 9, 5_000_000)\n",
        encoding="utf-8",
    )
    found = examined(run=run_process, sandbox=sandbox, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert found["destination"]["status"] == "warning"
    assert found["destination"]["found"].endswith("can be written, 5.0 MB free")
    assert found["destination"]["advice"] == "Free some space, or choose another folder."


def test_a_socks_proxy_needs_pysocks(tmp_path):
    # Depends on the environment.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['socks'] = None\n", encoding="utf-8")
    found = examined(
        run=run_process,
        CF_API_KEY=KEY,
        CF_PROJECT_ID="p",
        CF_PLATFORM_BASE_URL="https://api.invalid",
        HTTPS_PROXY="socks5h://me:pa55@127.0.0.1",
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]),
    )
    assert found["proxy"]["status"] == "failed"
    assert found["proxy"]["found"] == "socks5h://127.0.0.1:1080, from the environment: a SOCKS proxy needs PySocks"
    assert "pip install 'requests[socks]'" in found["proxy"]["advice"]
    assert found["platform"]["found"] == "not checked, because of proxy"
    assert "pa55" not in json.dumps(found)


def test_a_proxy_with_an_unknown_scheme():
    settings = {"CF_API_KEY": KEY, "CF_PROJECT_ID": "p", "CF_PLATFORM_BASE_URL": "https://api.invalid"}
    found = examined(**settings, HTTPS_PROXY="socks://me:pa55@127.0.0.1:1080")
    assert found["proxy"]["status"] == "failed"
    assert found["proxy"]["found"] == "socks://127.0.0.1:1080, from the environment: the scheme is unknown"
    assert "socks5h" in found["proxy"]["advice"]
    assert "pa55" not in json.dumps(found)


METADATA = """\
Metadata-Version: 2.1
Name: cfplatform
Version: 0.1.0
Requires-Dist: requests>=2.4
Requires-Dist: urllib3[socks]<1,>=0.9
Requires-Dist: not-there-at-all
Provides-Extra: cli
Requires-Dist: click>=8.1; extra == "cli"
Requires-Dist: rich>=999.1; extra == 'cli'
Requires-Dist: pillow (>=9.0) ; extra == "viz"
Requires-Dist: pillow>=9; (python_version > "3") and extra == "report"
Requires-Dist: not-there-at-all; extra == "report"
Requires-Dist: not-there-at-all; extra == "dev"
Requires-Dist: removed; extra == "left"
Requires-Dist: kept; extra == "right"
"""


def test_requirements_come_from_the_metadata_of_the_package(sandbox, tmp_path):
    (tmp_path / "cfplatform-0.1.0.dist-info").mkdir()
    (tmp_path / "cfplatform-0.1.0.dist-info" / "METADATA").write_text(METADATA, encoding="utf-8")
    # The files of one are missing, those of the other are not.
    for name in ("removed", "kept"):
        metadata = tmp_path / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        (metadata / "RECORD").write_text(f"{name}-1.0.dist-info/METADATA,,\n{name}/__init__.py,,\n", encoding="utf-8")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    # Not in the checkout, which has metadata of its own once it is installed.
    found = examined(run=functools.partial(run_process, cwd=tmp_path), sandbox=sandbox, PYTHONPATH=path)
    assert found["requests"]["status"] == "ok"
    urllib3, missing, extras = found["urllib3"], found["not-there-at-all"], found["extras"]
    assert urllib3["status"] == missing["status"] == "failed"
    assert urllib3["found"] == f"urllib3 {importlib.metadata.version('urllib3')}, not <1"
    assert urllib3["advice"] == "Reinstall it: pip install -U 'urllib3<1,>=0.9'"
    assert missing["found"] == "not-there-at-all is not installed"
    assert extras["status"] == "warning"
    rich = importlib.metadata.version("rich")
    assert extras["found"] == f"right, viz; too old: cli (rich {rich}, not >=999.1); not installed: left, report"
    assert extras["advice"] == "Run: pip install -U 'cfplatform[cli]'"


def test_a_source_checkout_has_no_metadata(sandbox, tmp_path):
    # Depends on the installed packages.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as metadata\n"
        "def requires(name):\n"
        "    raise metadata.PackageNotFoundError(name)\n"
        "metadata.requires = requires\n",
        encoding="utf-8",
    )
    found = examined(run=run_process, sandbox=sandbox, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert found["extras"]["status"] == "warning"
    assert found["extras"]["found"].startswith("not checked: cfplatform runs from a folder")
    assert found["extras"]["advice"] == "Install it: pip install cfplatform"
    assert found["platform"]["status"] == "ok"
    assert "requests" not in found


def test_a_key_with_white_space_is_a_warning_and_works(sandbox):
    found = examined(sandbox=sandbox, CF_API_KEY=f" {sandbox.api_key}\n")
    assert (found["key"]["status"], found["platform"]["status"]) == ("warning", "ok")


@pytest.mark.parametrize(("seconds", "status"), [(0, "ok"), (-120, "warning"), (120, "warning"), (4000, "failed")])
def test_the_clock_is_compared(server, seconds, status):
    date = email.utils.formatdate(time.time() + seconds, usegmt=True)
    found = examined(**server(raw(200, PAGE, "Content-Type: application/json", f"Date: {date}")))
    assert found["clock"]["status"] == status
    assert status == "ok" or ("behind" if seconds > 0 else "ahead of") in found["clock"]["found"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (raw(200, b"<html>", "Content-Type: text/html", "Date: nonsense"), "not JSON"),
        (raw(403, b"{}", "Content-Type: application/json"), "status 403"),
        (raw(503, b"{}", "Content-Type: application/json"), "status 503"),
        (raw(418, json.dumps({"message": f"{KEY} {HOSTILE}"}).encode(), "Content-Type: application/json"), "***"),
    ],
)
def test_other_answers_are_failures(server, answer, words):
    found = examined(**server(answer))
    assert found["platform"]["status"] == "failed"
    assert words in found["platform"]["found"]
    assert found["clock"]["status"] == "warning"


def test_destinations(sandbox, tmp_path):
    (tmp_path / "file").touch()
    found = examined(tmp_path / "new" / "labels", sandbox=sandbox)["destination"]
    assert (found["status"], os.listdir(tmp_path)) == ("ok", ["file"])
    assert f"can be created in '{tmp_path}'" in found["found"]
    assert examined(tmp_path / "file" / "labels", sandbox=sandbox)["destination"]["status"] == "failed"
    assert examined("s3://bucket/labels", sandbox=sandbox)["destination"]["status"] == "warning"
    assert examined("s3://me:pa55@bucket/labels", sandbox=sandbox)["destination"]["status"] == "failed"
    # Not even root may write there.
    if sys.platform == "linux":
        assert examined("/proc/labels", sandbox=sandbox)["destination"]["status"] == "failed"


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_it_is_a_table_in_colours(sandbox, columns):
    code, screen = on_terminal("doctor", sandbox=sandbox, columns=columns, CF_PROJECT_ID="none")
    assert code == 1
    assert "\x1b[32mok" in screen
    lines = [line.rstrip() for line in shown(screen).splitlines()]
    assert lines[0].split() == ["Status", "Check", "Found"]
    assert max(map(len, lines)) <= columns
    (failed,) = (i for i, line in enumerate(lines) if line.split()[:2] == ["failed", "project"])
    assert any("Set CF_PROJECT_ID to a project" in line for line in lines[failed + 1 : failed + 3])
    assert lines[-1] == "Error: 1 of 15 checks failed: project."
    _, screen = on_terminal("doctor", sandbox=sandbox, columns=columns, NO_COLOR="1")
    assert "\x1b[3" not in screen


def test_in_a_pipe_it_is_tab_separated(sandbox):
    done = run("doctor", sandbox=sandbox)
    assert all(len(line.split("\t")) == 4 for line in done.stdout.splitlines())
    assert (done.stderr, ESCAPE in done.stdout) == ("No checks failed.\n", False)
    assert run("doctor", "--quiet", sandbox=sandbox).stderr == ""
