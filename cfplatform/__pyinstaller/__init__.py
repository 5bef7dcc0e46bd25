"""What PyInstaller needs to freeze an application that uses this package; it finds this folder by an entry point."""

from __future__ import annotations

import os


def get_hook_dirs() -> list[str]:
    """Return the folder with the hook."""
    return [os.path.dirname(__file__)]
