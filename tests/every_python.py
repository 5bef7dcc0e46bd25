"""Run the tests on every installed, supported Python, with the oldest or the newest allowed dependencies.

    python -m tests.every_python                                 # complete suite, every Python, newest dependencies
    python -m tests.every_python tests/unit tests/http           # a part of it; everything else goes to pytest too
    python -m tests.every_python --dependencies oldest
    python -m tests.every_python --python 3.10 --python 3.13

Each run has a new environment. Interpreters are searched in the PATH and in pyenv.
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: Modules that can be imported without any extra.
MODULES = ", ".join(f"cfplatform.{name}" for name in ("client", "downloads", "exports", "uploads", "webhooks"))


def main() -> int:
    """Run, and print a line for each environment; the exit code is 1 if any of them failed or none was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", metavar="X.Y", help="only this version; repeatable")
    parser.add_argument("--dependencies", choices=["newest", "oldest", "both"], default="newest")
    options, arguments = parser.parse_known_args()
    ends = ("newest", "oldest") if options.dependencies == "both" else (options.dependencies,)
    lines, failed = [], False
    for version in options.python or supported():
        interpreter = find(version)
        if interpreter is None:
            lines.append(f"{version:6} not found")
            failed = failed or bool(options.python)
            continue
        for end in ends:
            began = time.monotonic()
            passed, words = run(interpreter, end, arguments)
            failed = failed or not passed
            lines.append(f"{version:6} {end:8} {words}, {time.monotonic() - began:.0f} s")
    print("\n".join(["", *lines]))
    return int(failed or all(line.endswith("not found") for line in lines))


def supported() -> list[str]:
    """Return the versions that the classifiers name."""
    return re.findall(r"Python :: (3\.\d+)$", _setup()["metadata"]["classifiers"], re.MULTILINE)


def find(version: str) -> str | None:
    """Return a working interpreter of a version: pyenv may have a shim for an inactive one."""
    for candidate in _candidates(version):
        command = [candidate, "-c", "import ssl, sqlite3, sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    return None


def oldest() -> list[str]:
    """Return the dependencies as requirements of the oldest versions that setup.cfg allows."""
    lines = _setup()["options"]["install_requires"].split("\n")
    return [re.sub(r"^([\w-]+)>=([\d.]+).*", r"\1==\2", line) for line in lines if line]


def run(interpreter: str, end: str, arguments: list[str]) -> tuple[bool, str]:
    """Create an environment and run pytest in it; return whether it passed and its last line."""
    with tempfile.TemporaryDirectory(prefix="cfplatform-python-") as folder:
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        python = str(Path(folder) / ("Scripts" if os.name == "nt" else "bin") / "python")
        install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        if end == "oldest":
            subprocess.run([*install, "-e", ".", *oldest()], cwd=ROOT, check=True)
            subprocess.run([python, "-W", "error", "-c", f"import {MODULES}"], check=True)
        subprocess.run([*install, "-e", ".[test]"], cwd=ROOT, check=True)
        if end == "oldest":
            # Packages for tests need a newer typing-extensions; ours uses only names from it, at import.
            http = [each for each in oldest() if not each.startswith("typing")]
            subprocess.run([*install, "--no-deps", *http], check=True)
        print(f"\n== {interpreter}, {end} dependencies", flush=True)
        command = [python, "-m", "pytest", "-q", "-n", "3", "-p", "no:cacheprovider", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        last = ""
        for last in process.stdout or ():
            print(last, end="", flush=True)
        return process.wait() == 0, last.strip()


def _candidates(version: str) -> Iterator[str]:
    found = shutil.which(f"python{version}")
    if found:
        yield found
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        yield sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from sorted((str(path) for path in pyenv.glob(f"{version}.*/bin/python")), reverse=True)


def _setup() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


if __name__ == "__main__":
    sys.exit(main())
