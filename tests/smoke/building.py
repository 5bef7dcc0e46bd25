"""Builds the distributions as for a release."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: What a release is made of.
HANDED_OUT = (
    *("setup.cfg", "setup.py", "pyproject.toml", "README.rst", "CHANGELOG.md", "LICENSE", "MANIFEST.in"),
    *(".ci", ".pre-commit-config.yaml", "cfplatform", "conda.recipe", "docs", "tests"),
)


def run(*command, cwd=None, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder, **options):
    """Build sdist and wheel as a release does, from a copy of what git would hand out."""
    source, out = folder / "source", folder / "dist"
    for entry in HANDED_OUT:
        for path in [ROOT / entry] if (ROOT / entry).is_file() else sorted((ROOT / entry).rglob("*")):
            if path.is_file() and not {"__pycache__", "_build"} & set(path.parts):
                target = source / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    run(
        *(sys.executable, str(source / ".ci" / "build.py"), str(out), "--no-isolation"),
        cwd=folder,
        SOURCE_DATE_EPOCH="1700000000",
        **options,
    )
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return sdist, wheel
