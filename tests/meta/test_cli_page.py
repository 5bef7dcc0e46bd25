"""The page of the command line against the commands."""

from __future__ import annotations

import re

import click
import pytest

from tests.cli_page import reference

NAMES = [name for name, command in reference.commands() if not isinstance(command, click.Group)]


def test_the_page_is_what_the_commands_say():
    # Mend it with: python docs/cli_reference.py
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page()


def test_every_command_has_its_json_described():
    assert sorted(reference.LINES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_the_options_on_output(name):
    command = dict(reference.commands())[name]
    assert {"as_json", "quiet", "debug"} <= {parameter.name for parameter in command.params}


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_words(name):
    for parameter in dict(reference.commands())[name].params:
        assert not isinstance(parameter, click.Option) or parameter.help


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_documented(shell):
    page = reference.PAGE.read_text(encoding="utf-8")
    assert re.search(rf"^    \$ .*cfplatform completion {shell}\b", page, re.MULTILINE)
