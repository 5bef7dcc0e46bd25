"""The archives as a user gets them: what is inside, and that each installs and runs on its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.smoke


def run(*command, cwd=None, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The sdist, and the wheel that is built out of it, from a copy of what git would hand out."""
    out = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.rst", "CHANGELOG.md", "LICENSE", "MANIFEST.in"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    suffixes = {".py", ".typed", ".rst", ".json", ".ipynb", ".css", ".toml"}
    for folder in ("cfplatform", "tests", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in suffixes and "_build" not in path.parts:
                target = source / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source))
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return sdist, wheel


def test_the_wheel_holds_the_package_and_nothing_else(archives):
    _, wheel = archives
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith("METADATA")]
        text = archive.read(metadata).decode()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cfplatform").rglob("*.py")}
    assert modules | {"cfplatform/py.typed"} == {name for name in names if ".dist-info/" not in name}
    required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra)", text, re.MULTILINE)
    assert sorted(required) == ["requests", "typing-extensions", "urllib3"]
    assert "License-Expression: MIT" in text or "License: MIT" in text


def test_the_sdist_holds_sources_tests_and_docs(archives):
    sdist, _ = archives
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    expected = {"setup.cfg", "setup.py", "README.rst", "CHANGELOG.md", "LICENSE", "cfplatform/py.typed"}
    assert expected <= names
    assert {"tests/conftest.py", "docs/conf.py", "docs/architecture.rst"} <= names
    assert {"docs/examples/notebook.ipynb", "docs/examples/ruff.toml", "docs/_static/notebook.css"} <= names


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_a_clean_environment_can_use_it(archives, tmp_path, kind):
    archive = archives[0 if kind == "sdist" else 1]
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python")
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", str(archive))
    script = "import cfplatform, pathlib; print(cfplatform.__version__, pathlib.Path(cfplatform.__file__).parent)"
    version, place = run(python, "-W", "error", "-c", script, cwd=tmp_path).split(maxsplit=1)
    assert version in archive.name
    assert str(tmp_path) in place
    installed = run(python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check")
    names = {line.split("==")[0].lower().replace("_", "-") for line in installed.splitlines()}
    of_requests = {"certifi", "charset-normalizer", "idna"}
    assert names - of_requests - {"pip", "setuptools"} == {
        "cfplatform",
        "requests",
        "typing-extensions",
        "urllib3",
    }
    done = subprocess.run([python, "-m", "cfplatform"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "pip install 'cfplatform[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
