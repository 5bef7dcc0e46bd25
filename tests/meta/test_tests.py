"""What tests may use: public names, so that rebuilding the package breaks none of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import cfplatform

TESTS = Path(__file__).parents[1]
#: Modules that a user may import; those of ``adapters`` have names of their own. ``cli`` has the tree of commands.
PUBLIC = {
    "__main__",
    "adapters",
    "archives",
    "cli",
    "coco",
    "exceptions",
    "progress",
    "pytest_plugin",
    "report",
    "sandbox",
    "viz",
    "webhooks",
}
#: Here rooms are taken apart: those of the package, those of the sandbox, and what is measured of them.
INSIDE = {"unit", "sandbox", "benchmarks"}
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_only_public_names_are_used(path):
    assert [name for name in used(path.read_text(encoding="utf-8")) if not is_public(name)] == []
