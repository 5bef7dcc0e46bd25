"""Run the tests of the adapters with the newest version of every library, in a new environment.

    python -m tests.adapters                        # everything, in a temporary environment
    python -m tests.adapters --environment FOLDER   # in one that is kept and updated
    python -m tests.adapters -k test_torch          # everything else goes to pytest

It needs about 7 GB: PyTorch for Linux includes its CUDA libraries.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from . import BESIDE, LIBRARIES

ROOT = Path(__file__).parents[2]
#: The tests themselves, and of those of the documentation what names an adapter.
TESTS = [
    "tests/adapters",
    "tests/unit/test_adapters.py",
    "tests/functional/test_examples.py",
    "tests/meta/test_documented.py",
    "-k",
    "adapters",
]


def main() -> int:
    """Install, test, print the versions; return the exit code of pytest."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.adapters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--environment", metavar="FOLDER", help="keep the environment, for the next time")
    options, arguments = parser.parse_known_args()
    if options.environment:
        return _run(options.environment, arguments)
    with tempfile.TemporaryDirectory(prefix="cfplatform-adapters-") as folder:
        return _run(folder, arguments)


def _run(folder: str, arguments: list[str]) -> int:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(Path(folder).absolute() / ("Scripts" if os.name == "nt" else "bin") / "python")
    extras = ",".join(["test", *LIBRARIES])
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--upgrade"]
    subprocess.run([*install, "-e", f".[{extras}]", *BESIDE], cwd=ROOT, check=True)
    # Caches of the libraries go with the environment.
    environment = {**os.environ, "HF_HOME": str(Path(folder, "huggingface").absolute())}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, *arguments]
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    names = sorted({name for libraries in LIBRARIES.values() for name in libraries} - {"PIL"}) + ["pillow", *BESIDE]
    script = (
        f"import importlib.metadata as m; print(*(f'{{name}} {{m.version(name)}}' for name in {names!r}), sep='\\n')"
    )
    print()
    subprocess.run([python, "-c", script], check=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
