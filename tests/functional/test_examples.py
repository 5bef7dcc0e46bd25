"""Runs every example: the code blocks of README.rst and docs, and the docstrings."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
import textwrap
from datetime import datetime, timezone
from pathlib import Path

import pytest

import cfplatform
from tests.adapters import missing

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst"))]
#: Examples that need a separate process: they start others, or set up logs or tracers, which would stay.
PROCESS = re.compile(r"__main__|basicConfig|\.instrument\(")
MOCKS = re.compile(r"^import (responses|requests_mock)$", re.MULTILINE)
#: Code, and the output that is shown directly below some of it.
BLOCK = re.compile(
    r"^\.\. code-block:: python\n\n((?:(?:    .*)?\n)+)(?:\.\. code-block:: text\n\n((?:(?:    .*)?\n)+))?",
    re.MULTILINE,
)
TABLE = re.compile(r"^\.\. list-table::\n((?:(?:   .*)?\n)+)", re.MULTILINE)


def blocks():
    for page in PAGES:
        for number, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")), start=1):
            if "def test_" in match.group(1):
                continue  # Run by pytest, in test_pytest_plugin.py.
            block, output = (textwrap.dedent(found or "") for found in match.groups())
            yield pytest.param(block, output, id=f"{page.relative_to(ROOT)}-{number}", marks=needed(block))


def needed(text):
    """Skip examples that need a library that is not installed."""
    reason = missing(text)
    return pytest.mark.skip(reason=reason) if reason else ()


@pytest.fixture
def five_batches(make_sandbox):
    """A sandbox with as many batches as that of a reader."""
    return make_sandbox(items=20, batches=5)


@pytest.mark.parametrize(("block", "output"), list(blocks()))
def test_code_blocks_run(five_batches, tmp_path, monkeypatch, capfd, block, output):
    for name, value in five_batches.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    if PROCESS.search(block):
        run_as_a_script(block)
    else:
        exec(compile(block, "block", "exec"), {"__name__": "__main__"})  # noqa: S102 - from our own pages
    printed = capfd.readouterr()
    assert printed.err == ""
    assert not output or printed.out.rstrip() == output.rstrip()
    # An example that starts its own sandbox, or mocks the platform, does not need this one.
    assert bool(five_batches.requests) == ("Client(" in block and "Sandbox(" not in block and not MOCKS.search(block))


def run_as_a_script(block):
    """Run code from a file, which the processes that it starts can import."""
    Path("script.py").write_text(block, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "error", "script.py"], env=environment, timeout=60, check=True)


def test_the_readme_shows_at_most_ten_lines_of_python():
    ((block, _),) = BLOCK.findall(PAGES[0].read_text(encoding="utf-8"))
    assert len(block.strip().splitlines()) <= 10


# --- Tables that show calls ------------------------------------------------------------------------------------------


def tables():
    for page in PAGES:
        for number, match in enumerate(TABLE.finditer(page.read_text(encoding="utf-8")), start=1):
            if code := "\n".join(re.findall(r">>> .*", match[1])):
                yield pytest.param(match[1], id=f"{page.relative_to(ROOT)}-{number}", marks=needed(code))


@pytest.mark.parametrize("table", list(tables()))
def test_rows_of_tables_run(make_sandbox, tmp_path, monkeypatch, table):
    sandbox = make_sandbox(items=20, batches=2, batch_names=["Street", "Harbour"])
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    Path("street.png").write_bytes(sandbox.asset(0))
    names = {name: getattr(cfplatform, name) for name in cfplatform.__all__}
    names.update({name: getattr(sandbox, name) for name in ("api_key", "base_url", "project_id", "space_id")})
    names["body"] = json.dumps(
        {"workItemID": "1", "status": "COMPLETED", "deliveredAt": datetime.now(timezone.utc).isoformat()}
    ).encode()
    names["headers"] = sandbox.sign_webhook(names["body"])
    examples = []
    for row in re.split(r"^   \* - ", table, flags=re.MULTILINE)[2:]:
        found = doctest.DocTestParser().get_examples(re.sub(r"^( +)- >>>", r"\1  >>>", row, flags=re.MULTILINE))
        # Each row shows a result, or that there is no equivalent.
        assert any(example.want for example in found) != ("No equivalent" in row), row
        examples += found
    output = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    test = doctest.DocTest(examples, names, "table", None, 0, None)
    runner.run(test, out=output.append, clear_globs=False)
    test.globs["client"].close()
    assert runner.failures == 0, "".join(output)


def docstrings():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for info in pkgutil.walk_packages(cfplatform.__path__, "cfplatform."):
        if info.name.endswith("__main__") or "__pyinstaller" in info.name or missing(info.name):
            continue
        module = importlib.import_module(info.name)
        for example in finder.find(module, info.name):
            if example.examples:
                yield pytest.param(example, id=example.name)


@pytest.mark.parametrize("example", list(docstrings()))
def test_docstring_examples_run(sandbox, client, tmp_path, monkeypatch, example):
    monkeypatch.chdir(tmp_path)
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    names = {name: getattr(cfplatform, name) for name in cfplatform.__all__}
    example.globs.update(names, client=client, sandbox=sandbox)
    output = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=output.append)
    assert runner.failures == 0, "".join(output)


def test_every_public_method_has_an_example():
    without = [
        f"{cls.__name__}.{name}"
        for cls in (
            cfplatform.Client,
            cfplatform.WorkItem,
            cfplatform.Batch,
            cfplatform.Export,
            cfplatform.DownloadSummary,
        )
        for name, member in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") and name not in ("close", "refresh") and ">>>" not in (inspect.getdoc(member) or "")
    ]
    assert without == []
