"""The shell examples of the documentation, run in a shell, and the scripts that it includes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.functional.test_downloading import tree

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^\.\. code-block:: (bash|python|text)\n\n((?:(?:    .*)?\n)+)", re.MULTILINE)


def blocks(page, language):
    text = (DOCS / f"{page}.rst").read_text(encoding="utf-8")
    return [textwrap.dedent(block) for found, block in BLOCK.findall(text) if found == language]


NAMES = sorted(page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.rst"))
PAGES = ["../README"]
PAGES += [page for page in NAMES if page != "quickstart" and blocks(page, "bash")]
#: The blocks of the quickstart up to the one that is typed into the second terminal.
INSTALL, START, *TYPED = blocks("quickstart", "bash")


@pytest.fixture
def five_batches(make_sandbox):
    """A sandbox with as many batches as that of a reader."""
    return make_sandbox(items=20, batches=5)


@pytest.fixture
def commands(tmp_path):
    """A folder with the commands of an environment in which the package is installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, options in (("python", ""), ("cfplatform", "-m cfplatform")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {options} "$@"\n')
        script.chmod(0o755)
    return folder


@pytest.fixture
def folder(tmp_path):
    """The empty folder that a reader begins in."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def environment(commands, **variables):
    path = os.pathsep.join([str(commands), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **variables}


def typed(script, folder, variables):
    """Run a script line by line up to the first failure."""
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize("page", PAGES)
def test_shell_blocks_run(five_batches, commands, folder, page):
    done = typed("\n".join(blocks(page, "bash")), folder, environment(commands, **five_batches.environment()))
    assert done.stdout


# --- The quickstart ---------------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextmanager
def first_terminal(script, folder, variables):
    """Run the command of the first terminal, and yield its output for the second one."""
    with subprocess.Popen(
        ["bash", "-c", script], cwd=folder, env=variables, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield "".join(process.stdout.readline() for _ in range(4))
        finally:
            process.terminate()


def follow(folder, variables, activate="true"):
    """Follow the page in two terminals, with another port; return the output of the second one."""
    port = free_port()
    start, paste, *rest = [block.strip().replace("8765", port) for block in (START, *TYPED)]
    name = re.search(r"^Save this as ``(\w+\.py)``", (DOCS / "quickstart.rst").read_text("utf-8"), re.MULTILINE).group(
        1
    )
    (folder / name).write_text(*blocks("quickstart", "python"))
    with first_terminal(f"{activate}; exec {start}", folder, variables) as printed:
        assert printed.strip() == paste[paste.index("export") :]
        return typed("\n".join([paste, *rest]), folder, variables)


def check(folder, shown):
    (output,) = blocks("quickstart", "text")
    assert output.rstrip() in shown.stdout
    assert "0 downloaded, 500 unchanged" in output
    assert (folder / "annotated.png").read_bytes().startswith(b"\x89PNG")
    assert len(tree(folder / "labels")) == 500
    shown_files = re.findall(r"[\w-]+\.json", (DOCS / "quickstart.rst").read_text("utf-8"))
    assert shown_files == sorted(path.name for path in (folder / "labels" / "Street scenes").glob("*.json"))[:2]
    assert len(list((folder / "images").glob("*/assets/*"))) == 100


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_the_quickstart_works_as_it_is_written(commands, folder):
    # Without the installation: the environment that it makes is the one that runs this test.
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()
    check(folder, follow(folder, environment(commands)))


@pytest.mark.stress
def test_the_quickstart_works_from_an_empty_folder_with_the_installation(tmp_path, folder):
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "dist", "*.egg-info", "_build")
    shutil.copytree(ROOT, tmp_path / "cfplatform", ignore=ignored)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    began = time.monotonic()
    typed(INSTALL, folder, variables)
    check(folder, follow(folder, variables, activate=". .venv/bin/activate"))
    assert time.monotonic() - began < 300


# --- Migrating --------------------------------------------------------------------------------------------------------


@pytest.mark.peer
def test_the_script_after_migrating_does_what_the_one_before_did(sandbox, folder):
    sandbox.export_seconds = 0

    def script(name, *options):
        command = [sys.executable, *options, DOCS / "examples" / name]
        variables = {**os.environ, **sandbox.environment(), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        files = {name: json.loads(content) for name, content in tree(folder / "labels").items()}
        return done, files, len(list((folder / "archives").glob("*.zip")))

    before, old, archives = script("migrating_before.py")
    after, new, both = script("migrating_after.py", "-W", "error")
    assert before.stdout.splitlines()[0] == after.stdout.splitlines()[0] == "20 of 20"
    # In the same folder, as the page promises.
    assert new == old
    assert (archives, both, after.stderr) == (1, 2, "")
