"""The public names of the package with their parameters, one line each.

Run as a program it prints the list, which ``public_names.txt`` keeps: no public name may be removed.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from typing import Any

#: Modules whose names are public; each has ``__all__``, or all its names without an underscore are.
MODULES = (
    "",
    ".exceptions",
    ".progress",
    ".archives",
    ".coco",
    ".compat",
    ".webhooks",
    ".viz",
    ".report",
    ".sandbox",
    ".adapters.huggingface",
    ".adapters.pandas",
    ".adapters.parquet",
    ".adapters.supervision",
    ".adapters.torch",
)


def names() -> Iterator[str]:
    """Yield each name, such as ``cfplatform.Client.get_batch``, with its parameters; of extras only those installed."""
    for module in MODULES:
        try:
            found = importlib.import_module(f"cfplatform{module}")
        except Exception as error:
            print(f"not listed: {error}", file=sys.stderr)
            continue
        for name in sorted(getattr(found, "__all__", None) or vars(found)):
            value = getattr(found, name)
            origin = getattr(value, "__module__", "cfplatform") or ""
            if not name.startswith("_") and not inspect.ismodule(value) and origin.startswith("cfplatform"):
                yield from _described(f"cfplatform{module}.{name}", value)


def _described(path: str, value: Any) -> Iterator[str]:
    yield f"{path}{_parameters(value)}"
    if isinstance(value, type):
        for name in sorted(dir(value)):
            member = inspect.getattr_static(value, name, None)
            if not name.startswith("_") and not _is_foreign(value, name):
                yield f"{path}.{name}{_parameters(getattr(member, '__func__', member))}"


def _is_foreign(kind: type, name: str) -> bool:
    owner = next((base for base in kind.__mro__ if name in vars(base)), kind)
    return not owner.__module__.startswith("cfplatform")


def _parameters(value: Any) -> str:
    if not callable(value) or inspect.isclass(value) and issubclass(value, BaseException):
        return ""
    try:
        return f"({', '.join(inspect.signature(value).parameters)})"
    except (TypeError, ValueError):
        return ""


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}\n" for name in names())
