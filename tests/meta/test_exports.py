"""What the package exports, and that importing it stays cheap."""

from __future__ import annotations

import subprocess
import sys

import cfplatform
from cfplatform import exceptions


def test_all_is_complete_and_sorted():
    assert cfplatform.__all__ == sorted(cfplatform.__all__)
    public = {
        name
        for name, value in vars(cfplatform).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("cfplatform")
    }
    assert public | {"__version__"} == set(cfplatform.__all__)


def test_every_error_is_exported():
    errors = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, exceptions.CFPlatformError)
    }
    assert errors <= set(cfplatform.__all__)


def modules_after(statement):
    """Top level modules, outside the standard library, that are loaded after a statement."""
    script = (
        f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}} - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split() if not name.startswith("__editable__")}


def test_import_brings_only_the_three_dependencies():
    allowed = modules_after("import requests, urllib3, typing_extensions")
    assert modules_after("import cfplatform") - allowed == {"cfplatform"}
