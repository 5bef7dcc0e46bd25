"""The table of docs/endpoints.rst, compared with the client, the commands, and the sandbox page."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click
import pytest

from cfplatform import Client
from cfplatform.cli import cli

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "endpoints.rst").read_text(encoding="utf-8")
ROW = re.compile(r"^   \* - (.+)\n     - ((?:.+\n)+?)     - ((?:.+\n)+?)     - (.+)$", re.MULTILINE)
#: Endpoint, methods, commands and evidence of each row below the header.
ROWS = [
    (
        endpoint.strip("`"),
        re.findall(r":meth:`~cfplatform\.Client\.(\w+)`", methods),
        re.findall(r"``([a-z -]+)``", commands),
        evidence,
    )
    for endpoint, methods, commands, evidence in ROW.findall(PAGE)[1:]
]
#: Routes that the sandbox's page spells in another way.
SPELLINGS = {
    "GET /storage/...": "GET <signed URL>",
    "PUT /storage/...": "PUT <signed URL>",
}
#: Commands that call nothing of the platform, and methods that call nothing.
LOCAL_COMMANDS = {"compare", "completion", "convert", "demo", "merge", "split", "stats", "validate"}
LOCAL_COMMANDS |= {"sandbox outage", "sandbox run", "sandbox set-status"}
LOCAL_METHODS = {"close"}


def leaves(group=cli, names=()):
    """The names of all commands that are no groups."""
    for name, found in group.commands.items():
        if isinstance(found, click.Group):
            yield from leaves(found, (*names, name))
        else:
            yield " ".join((*names, name))


@pytest.mark.parametrize(("endpoint", "methods", "commands", "evidence"), ROWS, ids=[row[0] for row in ROWS])
def test_what_a_row_names_exists(endpoint, methods, commands, evidence):
    assert methods or "jwks" in endpoint
    assert all(callable(getattr(Client, name)) for name in methods)
    assert set(commands) <= set(leaves())
    assert commands
    assert evidence in {"confirmed", "documented", "provisional"} or endpoint == "any other"


def test_every_method_and_every_command_has_its_row():
    public = {name for name, _ in inspect.getmembers(Client, callable) if not name.startswith("_")}
    assert {name for _, methods, _, _ in ROWS for name in methods} == public - LOCAL_METHODS
    assert {name for _, _, commands, _ in ROWS for name in commands} == set(leaves()) - LOCAL_COMMANDS


def test_the_grid_and_the_sandbox_agree_on_every_route():
    page = (DOCS / "sandbox.rst").read_text(encoding="utf-8")
    routes = re.findall(r"^``([A-Z]+ /\S+?)``.*?\s(confirmed|documented|provisional)\s", page, re.MULTILINE)
    listed = {SPELLINGS.get(route, route.replace("/api/v1", "")): evidence for route, evidence in routes}
    # A server of the user's own is no part of the platform.
    del listed["GET /public/assets/{name}"]
    assert listed == {endpoint: evidence for endpoint, _, _, evidence in ROWS if endpoint != "any other"}


def test_each_word_of_evidence_is_explained():
    for _, _, _, evidence in ROWS[:-1]:
        assert re.search(rf"^{evidence}\n   \w", PAGE, re.MULTILINE)
