"""Tests use only public names, so refactoring the package does not break them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import cfplatform

TESTS = Path(__file__).parents[1]
#: Modules that a user may import; those of ``adapters`` have names of their own. ``cli`` has the tree of commands.
PUBLIC = {
    "__main__",
    "adapters",
    "archives",
    "cli",
    "coco",
    "compat",
    "exceptions",
    "progress",
    "pytest_plugin",
    "report",
    "sandbox",
    "types",
    "viz",
    "webhooks",
}
#: Here modules are tested by themselves.
INSIDE = {"unit"}
FILES = [path for path in sorted(TESTS.rglob("*.py")) if path.relative_to(TESTS).parts[0] not in INSIDE]
#: Imports, those in the code of other processes too, and names that are patched.
IMPORT = re.compile(r"^ *(?:from (cfplatform[.\w]*) import (\([^)]*\)|.+)|import (cfplatform[.\w]*))", re.MULTILINE)
PATCHED = re.compile(r"(?:setattr|patch)\(\s*\"(cfplatform\.[\w.]+)")


def used(text):
    """The dotted names that a file uses of the package."""
    for module, names, whole in IMPORT.findall(text):
        if whole:
            yield whole
        for name in re.findall(r"(\w+)(?: as \w+)?,?", re.sub(r"#.*", "", names)):
            yield f"{module}.{name}"
    yield from PATCHED.findall(text)


def is_public(name):
    parts = name.split(".")[1:]
    if not parts or parts[0] in cfplatform.__all__:
        return True
    if parts[0] not in PUBLIC or any(part.startswith("_") for part in parts[1:]):
        return False
    if parts[0] == "adapters":
        return len(parts) <= 3
    return len(parts) == 1 or not _is_module(parts)


def _is_module(parts):
    inner = Path(cfplatform.__file__).parent.joinpath(*parts)
    return inner.is_dir() or inner.with_suffix(".py").is_file() or len(parts) > 2


def test_only_public_names_are_used():
    found = {str(path.relative_to(TESTS)): used(path.read_text(encoding="utf-8")) for path in FILES}
    inner = {path: [name for name in names if not is_public(name)] for path, names in found.items()}
    assert {path: names for path, names in inner.items() if names} == {}


#: Attributes with an underscore that other packages make public, or that tests must use of them.
FOREIGN = {
    "_exit": "os: ends a forked child",
    "_replace": "of named tuples",
    "_strip_protocol": "fsspec: what a file system overrides",
    "_registry": "fsspec: has no function that forgets a file system",
    "_fetch_manifest": "the official client: has no public call for it",
}


def private(text):
    """The attributes with an underscore that code uses, except for those of the object that it belongs to."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and re.match("_(?!_)", node.attr) and node.attr not in FOREIGN:
            owner = ast.unparse(node.value)
            if owner not in ("self", "cls", "super()"):
                yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "import cfplatform" in node.value:
            yield from re.findall(r"\b(?:cfplatform|client|sandbox)\._[a-z]\w*", node.value)


def test_no_private_attribute_is_used():
    found = {str(path.relative_to(TESTS)): list(private(path.read_text(encoding="utf-8"))) for path in FILES}
    assert {path: names for path, names in found.items() if names} == {}


def test_private_attributes_are_noticed():
    found = set(private("client._calls.fetch(self._a, os._exit)\nsandbox.client()._x"))
    assert found == {"client._calls", "sandbox.client()._x"}
    assert list(used("from cfplatform.http import call\nimport cfplatform.transfer")) == [
        "cfplatform.http.call",
        "cfplatform.transfer",
    ]
