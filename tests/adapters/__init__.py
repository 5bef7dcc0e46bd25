"""Adapters with their libraries; ``python -m tests.adapters`` installs and runs all of them."""

from __future__ import annotations

import importlib.util

#: What each adapter needs.
LIBRARIES = {
    "torch": ("torch", "PIL"),
    "pandas": ("pandas",),
    "parquet": ("pyarrow",),
    "huggingface": ("datasets", "PIL"),
    "supervision": ("supervision", "PIL"),
}
#: What examples use beside them.
BESIDE = ("torchvision", "pycocotools")


def missing(text: str) -> str | None:
    """Tell what is not installed of what an adapter needs that a text imports; ``None`` if all is there."""
    needed = {library for name in LIBRARIES if f"cfplatform.adapters.{name}" in text for library in LIBRARIES[name]}
    needed.update(library for library in BESIDE if f"from {library}" in text)
    absent = [library for library in sorted(needed) if importlib.util.find_spec(library) is None]
    return f"needs {', '.join(absent)}: python -m tests.adapters installs it" if absent else None
