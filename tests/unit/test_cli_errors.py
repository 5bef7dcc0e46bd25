from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

import cfplatform
from cfplatform.cli import cli, errors
from tests.cli_page import reference

PACKAGE = Path(cfplatform.__file__).parent


def of(command, error):
    """The sentence for an error while a command runs, and its exit code."""
    with click.Context(cli.commands[command]):
        return errors.explain(error)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (
            cfplatform.APITimeoutError("x", hint="Increase timeout=(connect, read)"),
            1,
            "The platform did not respond in",
        ),
        (cfplatform.RateLimitError("x", status_code=429), 1, "Too many requests"),
        (
            cfplatform.APIConnectionError("No connection.", parameter="proxies", hint="Check proxies=."),
            1,
            "No connection. Check the proxy variables.",
        ),
        (cfplatform.DestinationBusyError("process 7 is busy"), 1, "process 7 is busy"),
        (
            cfplatform.InvalidParameterError("max_workers must be 1", parameter="max_workers"),
            2,
            "--max-workers must be 1",
        ),
        (cfplatform.InvalidParameterError("created_at_to: x", parameter="created_at_to"), 2, "--created-at-to: x"),
        (cfplatform.InvalidParameterError("x", parameter="destination", hint="Remove it."), 2, "x Remove it."),
        (cfplatform.InvalidParameterError("page_size: x", parameter="page_size"), 2, "page_size: x"),
        (OSError(28, "No space left on device"), 1, "No space left on device."),
        (OSError(2, "No such file", "x"), 1, "No such file: 'x'."),
        (KeyError("x"), 1, "Unexpected KeyError: 'x'. Run the command with --debug"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_every_error_has_a_sentence_and_an_exit_code(error, code, sentence):
    said, found = of("download", error)
    assert found == code
    assert said.startswith(sentence)
    assert "proxies=" not in said
    assert "timeout=" not in said


@pytest.mark.parametrize(
    ("command", "parameter", "option"),
    [
        ("merge", "source", "SOURCE"),
        ("merge", "output", "OUTPUT"),
        ("split", "output_folder", "OUTPUT"),
        ("split", "parts", "--part"),
        ("report", "output", "OUTPUT"),
        ("upload", "files", "FILE"),
        ("request", "json", "--json-body"),
        ("download", "batch_ids", "--batch-id"),
        ("count", "patience", "patience"),
    ],
)
def test_a_parameter_is_named_as_the_command_names_it(command, parameter, option):
    with click.Context(cli.commands[command]):
        assert errors.option(parameter) == option
    assert errors.option(parameter) == parameter


def test_a_value_that_is_called_like_a_parameter_keeps_its_name():
    error = cfplatform.InvalidParameterError("source 'project_id' is missing", parameter="source")
    assert of("merge", error) == ("SOURCE 'project_id' is missing", 2)


def advice():
    """Each hint in the package, with the parameter that it is about."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            given = {each.arg: each.value for each in node.keywords} if isinstance(node, ast.Call) else {}
            if "hint" in given and "parameter" in given and not isinstance(given["hint"], (ast.Name, ast.Attribute)):
                parameter = ast.literal_eval(given["parameter"])
                yield pytest.param(parameter, ast.unparse(given["hint"]), id=f"{path.stem}-{parameter}")
            # Where it is added to an existing error.
            is_added = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith(".parameter")
            if is_added and isinstance(node.value, ast.Constant):
                yield pytest.param(node.value.value, "any()", id=f"{path.stem}-{node.value.value}")


@pytest.mark.parametrize(("parameter", "hint"), list(advice()))
def test_advice_for_python_has_a_counterpart_for_the_shell(parameter, hint):
    assert parameter in errors.HINTS or not re.search(r"\w=|\(\)", hint)


def test_every_option_in_the_advice_exists():
    known = {name for _, command in reference.commands() for each in command.params for name in each.opts}
    sentences = [*errors.HINTS.values(), *(sentence for _, sentence, _ in errors.EXPLANATIONS)]
    assert {option for each in sentences for option in re.findall(r"--[a-z-]+", each)} <= known
