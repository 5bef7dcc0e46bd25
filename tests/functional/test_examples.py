"""Every example that a reader may copy is run: the blocks of README.rst and docs, and the docstrings."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import cfplatform
from tests.adapters import missing

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))]
#: What wants a process of its own: the start of others, and the set-up of logs and tracers, which would stay.
PROCESS = re.compile(r"__main__|basicConfig|\.instrument\(")
MOCKS = re.compile(r"^import (responses|requests_mock)$", re.MULTILINE)
BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:(?:    .*)?\n)+)", re.MULTILINE)


def blocks():
    for page in PAGES:
        for number, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")), start=1):
            if "def test_" in match.group(1):
                continue  # Run by pytest, in test_pytest_plugin.py.
            block = textwrap.dedent(match.group(1))
            yield pytest.param(block, id=f"{page.name}-{number}", marks=needed(block))


def needed(text):
    """Skip what needs an adapter whose library is not installed."""
    reason = missing(text)
    return pytest.mark.skip(reason=reason) if reason else ()


@pytest.mark.parametrize("block", list(blocks()))
def test_code_blocks_run(sandbox, tmp_path, monkeypatch, capfd, block):
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    if PROCESS.search(block):
        run_as_a_script(block)
    else:
        exec(compile(block, "block", "exec"), {"__name__": "__main__"})  # noqa: S102 - from our own pages
    assert capfd.readouterr().err == ""
    # An example that starts a sandbox of its own, or mocks the platform, does not need this one.
    assert bool(sandbox.requests) == ("Client(" in block and "Sandbox(" not in block and not MOCKS.search(block))


def run_as_a_script(block):
    """Run code from a file, which the processes that it starts can import."""
    Path("script.py").write_text(block, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "error", "script.py"], env=environment, timeout=60, check=True)


def test_the_readme_has_a_block_for_each_promised_task():
    assert len(BLOCK.findall(PAGES[0].read_text(encoding="utf-8"))) == 10


def docstrings():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for info in pkgutil.walk_packages(cfplatform.__path__, "cfplatform."):
        if info.name.endswith("__main__") or missing(info.name):
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
