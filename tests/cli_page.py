"""The script that generates docs/cli.rst, imported as a module."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_PATH = Path(__file__).parents[1] / "docs" / "cli_reference.py"
_spec = importlib.util.spec_from_file_location("cli_reference", _PATH)
reference = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = reference
_spec.loader.exec_module(reference)
