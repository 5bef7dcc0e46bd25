"""The documentation, compared with the code."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

import cfplatform
from cfplatform.cli import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.rst").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_continuous_integration_runs_the_test_command_of_the_readme():
    commands = re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("cfplatform demo")
    assert commands[1].endswith("-m pytest -n 4")
    # The script takes the command out of the README, so that it cannot run another one.
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.rst" in script
    # What that command leaves out and takes little time has a step of its own.
    assert "-m pytest -m smoke" in script


def test_dependencies_are_the_three_that_were_agreed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    names = {re.split(r"[<>=]", line)[0] for line in config["options"]["install_requires"].split()}
    assert names == {"requests", "urllib3", "typing-extensions"}


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_is_documented_and_has_examples(name):
    help_text = cli.commands[name].help or ""
    assert "Examples" in help_text
    assert f"`{name}`" in CHANGELOG


def test_the_exception_tree_in_the_docstring_is_the_real_one():
    doc = cfplatform.exceptions.__doc__
    for name in cfplatform.__all__:
        value = getattr(cfplatform, name)
        if isinstance(value, type) and issubclass(value, cfplatform.CFPlatformError):
            assert re.search(rf"\b{name}\b", doc), name
