"""The pages of the command line against the commands."""

from __future__ import annotations

import contextlib
import re
import shlex

import click
import pytest

from tests.cli_page import reference

NAMES = [name for name, command in reference.commands() if not isinstance(command, click.Group)]


@pytest.mark.parametrize(("path", "content"), [pytest.param(*each, id=each[0].stem) for each in reference.pages()])
def test_a_page_is_what_the_commands_say(path, content):
    # Update them with: python docs/cli_reference.py
    assert path.read_text(encoding="utf-8") == content


def test_every_command_is_on_one_page():
    text = "".join(content for _, content in reference.pages())
    for name, _ in reference.commands():
        assert len(re.findall(rf"^cfplatform {name}\n[-~]", text, re.MULTILINE)) == 1, name
    folder = reference.HERE / "cli"
    assert {path for path, _ in reference.pages()} == {reference.HERE / "cli.rst", *folder.glob("*.rst")}


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
    page = reference.INTRODUCTION.read_text(encoding="utf-8")
    assert re.search(rf"^    \$ .*cfplatform completion {shell}\b", page, re.MULTILINE)


#: One call of the command in an example, up to what belongs to the shell.
_CALL = re.compile(r"\bcfplatform ((?:\"[^\"]*\"|'[^']*'|[^|>;<)\"'])*)")


def examples():
    """Each call that the help of a command shows."""
    for name, command in [("cfplatform", reference.cli), *reference.commands()]:
        shown = re.sub(r"\\\n +", "", (command.help or "").partition("Examples:\n")[2])
        for line in filter(str.strip, shown.splitlines()):
            # Remarks stand behind three blanks.
            call = re.split(r"(?<=\S) {3,}", line.strip())[0].replace('"$(cfplatform upload a.jpg | cut -f 1)"', "x")
            yield pytest.param(name, call, id=call)


@pytest.mark.parametrize(("name", "line"), list(examples()))
def test_every_example_is_a_call_that_the_command_takes(name, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("body.json", "headers.txt", "headers.json", "old.json", "old.txt", "keys.json", "ids.txt"):
        (tmp_path / file).touch()
    (tmp_path / "paths.json").write_text("{}", encoding="utf-8")
    calls = [shlex.split(found) for found in _CALL.findall(line)]
    assert calls
    for arguments in calls:
        command, words = reference.cli, ["cfplatform"]
        while isinstance(command, click.Group) and arguments and arguments != ["--help"]:
            named = arguments[0] in command.commands
            words.append(arguments.pop(0) if named else command.default)
            command = command.commands[words[-1]]
        # With the settings of the command line: click keeps the help option that it makes for the first context.
        settings = reference.cli.context_settings
        # What is wrong raises; help is no error.
        with contextlib.suppress(click.exceptions.Exit), command.make_context(" ".join(words), arguments, **settings):
            pass
        assert name == "cfplatform" or name.split()[0] in words
