"""Shell completion."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.functional.shell import environment, run

_BASH = shutil.which("bash")
#: The command that bash runs as cfplatform, and the words to complete; the last one is incomplete.
_SCRIPT = """
eval "$(cfplatform completion bash)"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
$(complete -p cfplatform | sed -E 's/.*-F ([^ ]+).*/\\1/') cfplatform
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(tmp_path):
    """Complete words in a real bash."""
    if _BASH is None:
        pytest.skip("there is no bash")
    program = tmp_path / "bin" / "cfplatform"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cfplatform "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    search = f"{program.parent}{os.pathsep}{os.environ['PATH']}"

    def words(*typed, sandbox=None, **changes):
        done = subprocess.run(
            [_BASH, "--norc", "-c", _SCRIPT, "bash", "cfplatform", *typed],
            capture_output=True,
            text=True,
            env=environment(sandbox, PATH=search, **changes),
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines() if sandbox else done.stdout.split()

    return words


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["do"], ["doctor", "download"]),
        (["batches", ""], ["create", "list", "rename"]),
        (["completion", "z"], ["zsh"]),
        (["count", "--st"], ["--status"]),
        (["exports", "create", "x", "--format", "C"], ["coco_json", "csv"]),
        # The options of the default command.
        (["work-items", "--al"], ["--all", "--allow-empty"]),
        (["work-items", "--all", "--js"], ["--json"]),
        (["count", "--status", ""], ["any", "client_review", "completed"]),
        (["download", "x", "--status", "COM"], ["completed"]),
    ],
    ids=" ".join,
)
def test_bash_completes(complete, typed, expected):
    # Some versions of click complete formats in lower case, which is fine.
    assert sorted(map(str.lower, complete(*typed))) == expected


def test_names_of_batches_come_from_the_platform(complete, make_sandbox):
    sandbox = make_sandbox(items=3, batch_names=["Street scenes", "Street, wet", "Night"])
    typed = ("count", "--project-id", sandbox.project_id, "--batch-name", "Str")
    # As bash inserts them.
    assert complete(*typed, sandbox=sandbox, CF_PROJECT_ID=None) == ["Street\\ scenes", "Street,\\ wet"]


@pytest.mark.parametrize(("latency", "changes"), [(0, {"CF_API_KEY": None}), (30, {})], ids=["no key", "slow"])
def test_names_that_cannot_be_had_soon_are_no_error(complete, make_sandbox, latency, changes):
    began = time.monotonic()
    assert complete("count", "--batch-name", "B", sandbox=make_sandbox(items=3, latency=latency), **changes) == [""]
    assert time.monotonic() - began < 20


def test_names_of_profiles(complete, tmp_path):
    file = tmp_path / "cfplatform" / "config.toml"
    file.parent.mkdir()
    file.write_text("[default]\n[profiles.staging]\n[profiles.uat]\n", encoding="utf-8")
    folder = str(tmp_path)
    assert complete("count", "--profile", "", XDG_CONFIG_HOME=folder) == ["default", "staging", "uat"]
    file.write_text("broken", encoding="utf-8")
    assert complete("count", "--profile", "", XDG_CONFIG_HOME=folder) == []


@pytest.mark.parametrize(("shell", "sign"), [("bash", "complete "), ("zsh", "compdef"), ("fish", "complete --")])
def test_a_script_for_each_shell(shell, sign):
    done = run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_CFPLATFORM_COMPLETE" in done.stdout
    assert sign in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)
    reported = json.loads(run("completion", shell, "--json").stdout)
    assert reported["shell"] == shell
    assert reported["script"].strip() == done.stdout.strip()


def test_names_of_files_are_left_to_the_shell():
    words = {"COMP_WORDS": "cfplatform upload str", "COMP_CWORD": "2", "_CFPLATFORM_COMPLETE": "bash_complete"}
    assert run(**words).stdout == "file,str\n"
    words["COMP_WORDS"] = "cfplatform download str"
    assert run(**words).stdout == "dir,str\n"
    assert run("completion", "tcsh").returncode == 2
