"""Everything public is documented, and no link within the documentation is dead."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import posixpath
import re
from functools import reduce
from pathlib import Path

import click
import pytest

import cfplatform
from cfplatform import Client
from cfplatform.cli import cli
from tests.adapters import missing

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    page.relative_to(DOCS).with_suffix("").as_posix(): page.read_text(encoding="utf-8")
    for page in sorted(DOCS.rglob("*.rst"))
}
#: Directives of the API pages: what each is about, and its options.
DOCUMENTED = {
    name: set(re.findall(r"^   :([\w-]+):", options, re.MULTILINE))
    for page, text in PAGES.items()
    if page.startswith("api/")
    for name, options in re.findall(r"^\.\. auto\w+:: (\S+)\n((?:   :.*\n)*)", text, re.MULTILINE)
}
#: Names in the tables of the overview, which are relative to the module above them.
OVERVIEW = {
    f"{module}.{name}"
    for module, table in re.findall(
        r"^\.\. currentmodule:: (\S+)\n\n\.\. autosummary::\n   :nosignatures:\n\n((?:   \w+\n)+)",
        PAGES["api"],
        re.MULTILINE,
    )
    for name in table.split()
}
EXPORTS = sorted(set(cfplatform.__all__) - {"__version__"})


def resolved(name):
    """What a dotted name stands for; raises where there is no such thing."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[cut:], module)
    raise LookupError(name)


# --- The package ------------------------------------------------------------------------------------------------------


def test_the_api_pages_and_all_name_the_same():
    of_the_package = {name.removeprefix("cfplatform.") for name in DOCUMENTED if name.count(".") == 1}
    assert of_the_package - {"archives", "types"} == set(EXPORTS)


def test_the_overview_of_the_api_has_every_name():
    # Modules are named in the text. The class of a work item has one entry in the index, that of the package.
    assert set(DOCUMENTED) - {"cfplatform.archives", "cfplatform.types", "cfplatform.compat.WorkItem"} == OVERVIEW


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_what_the_api_pages_name_exists_and_shows_its_methods(name):
    if reason := missing(name):
        pytest.skip(reason)
    value = resolved(name)
    if not inspect.isclass(value) or issubclass(value, Exception):
        return
    methods = {method for method, _ in inspect.getmembers(value, inspect.isfunction) if not method.startswith("_")}
    inherited = methods - set(vars(value))
    assert "members" in DOCUMENTED[name] or not methods
    assert "inherited-members" in DOCUMENTED[name] or not inherited


@pytest.mark.parametrize("name", EXPORTS)
def test_every_export_has_a_docstring_and_so_have_its_methods_and_attributes(name):
    value = getattr(cfplatform, name)
    assert value.__doc__
    if not inspect.isclass(value):
        return
    public = inspect.getmembers(value, lambda member: inspect.isfunction(member) or isinstance(member, property))
    assert [method for method, member in public if not method.startswith("_") and not member.__doc__] == []


def test_the_configuration_page_has_every_argument_and_every_variable():
    for argument in set(inspect.signature(Client).parameters):
        assert f"\n   * - ``{argument}``\n" in PAGES["configuration"], argument
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "cfplatform").rglob("*.py"))
    for variable in set(re.findall(r"\bCF_[A-Z_]+\b", sources)):
        assert f"``{variable}``" in PAGES["configuration"], variable


def test_the_listing_page_has_every_filter_and_argument():
    arguments = {*inspect.signature(Client.get_work_items).parameters, *cfplatform.WorkItemFilters.__annotations__}
    for argument in arguments:
        assert argument in ("self", "project_id", "filters") or f"``{argument}``" in PAGES["listing"], argument


@pytest.mark.peer
def test_the_page_on_migrating_has_every_call_of_the_official_client():
    official = pytest.importorskip("cf_ai_platform_client")
    assert official.SyncCFUserClient.__module__ == "cf_ai_platform_client.client"
    for name, member in inspect.getmembers(official.SyncCFUserClient, callable):
        if not name.startswith("_"):
            assert f"``{name}(" in PAGES["migrating/official"], name
            assert member.__doc__


# --- The command ------------------------------------------------------------------------------------------------------


def commands(group=cli, names=("cfplatform",)):
    """Every command and every group, by the words that call it."""
    yield " ".join(names), group
    if isinstance(group, click.Group):
        for name, found in group.commands.items():
            yield from commands(found, (*names, name))


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=[name for name, _ in commands()])
def test_every_command_and_every_option_explains_itself(name, command):
    assert command.get_short_help_str(limit=200)
    # The command that a group means by itself is called without its name, too.
    typed = name.removesuffix(" list").removesuffix(" run")
    assert f"  {typed}" in command.help.partition("Examples:")[2]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    # The former name of an option with another unit.
    assert [option.name for option in options if option.hidden] == ["milliseconds"] * (name == "cfplatform sandbox run")
    assert [option.name for option in options if not (option.help or "").strip()] == []


# --- Links ------------------------------------------------------------------------------------------------------------


def absolute(target, page):
    """The path from the top of the docs to what a page links to."""
    return posixpath.normpath(posixpath.join("/", posixpath.dirname(page), target))[1:]


def test_every_page_is_in_the_table_of_contents_once():
    listed = [
        found
        for page, text in PAGES.items()
        for table in re.findall(r"^\.\. toctree::\n(?:   :.*\n)*\n((?:   .+\n?)+)", text, re.MULTILINE)
        for entry in table.split()
        for found in fnmatch.filter(PAGES, absolute(entry, page))
    ]
    assert sorted(listed) == sorted(set(PAGES) - {"index"})


@pytest.mark.parametrize("page", sorted(PAGES))
def test_no_link_is_dead(page):
    text = PAGES[page]
    for target in re.findall(r":doc:`(?:[^`<]*<)?([^`<>]+)>?`", text):
        assert absolute(target, page) in PAGES, target
    for target in re.findall(r"^\.\. (?:literalinclude|include|image|figure):: (\S+)", text, re.MULTILINE):
        assert (DOCS / page).parent.joinpath(target).is_file(), target
    for target in re.findall(r":(?:class|meth|func|attr|exc|mod|data):`(?:[^`<]*<)?~?(cfplatform[^`<>]*)>?`", text):
        if not missing(target):
            resolved(target)
    labels = set(re.findall(r"^\.\. _([^:]+):", "".join(PAGES.values()), re.MULTILINE))
    assert set(re.findall(r":ref:`(?:[^`<]*<)?([^`<>]+)>?`", text)) <= labels


def test_links_of_the_readme_lead_to_files():
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")
    named = re.findall(r"`[^`<]+\s<([^`>]+)>`__|^\.\. image:: (\S+)", readme, re.MULTILINE)
    assert len(named) > 10
    assert [link or image for link, image in named if not (ROOT / (link or image)).is_file()] == []
