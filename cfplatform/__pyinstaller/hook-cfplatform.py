"""PyInstaller hook: adds modules, data files and metadata that the import analysis does not find."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util

from packaging.requirements import Requirement
from PyInstaller.utils.hooks import collect_data_files, copy_metadata  # pyright: ignore[reportMissingModuleSource]

import cfplatform

#: Extras that commands use. The libraries of adapters are bundled only if the application imports an adapter.
EXTRAS = ("cli", "fsspec", "progress", "sandbox")

#: Modules imported by name, on first use.
hiddenimports = [f"cfplatform.{module}" for module in sorted({*cfplatform._LAZY.values()})]

# Report templates, and the style sheets of charts.
datas = collect_data_files("cfplatform")
if importlib.util.find_spec("pygal"):
    datas += collect_data_files("pygal")

# ``cfplatform doctor`` shows versions.
datas += copy_metadata("cfplatform")
for line in importlib.metadata.requires("cfplatform") or ():
    requirement = Requirement(line)
    if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in EXTRAS):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            datas += copy_metadata(requirement.name)
