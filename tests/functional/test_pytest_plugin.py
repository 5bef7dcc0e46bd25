"""The pytest plugin in users' test runs: each test here runs pytest in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .test_examples import BLOCK

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_pytest(tmp_path):
    """Write a test module and run it; returns exit code and output."""

    def run(module, *arguments, **environment):
        (tmp_path / "test_mine.py").write_text(module, encoding="utf-8")
        # Without other installed plugins; -p names the module of the entry point.
        variables = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT), **environment}
        command = (sys.executable, "-m", "pytest", "-q", "-p", "cfplatform.pytest_plugin", "-p", "no:cacheprovider")
        done = subprocess.run(
            [*command, "--strict-markers", *arguments],
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_tests_get_a_sandbox_and_the_variables_that_point_to_it(run_pytest):
    module = """
import os
import pytest
from cfplatform import Client
from cfplatform.sandbox import Sandbox

pytestmark = pytest.mark.cfplatform_sandbox(items=30, batches=3)
NAMES = ("CF_API_KEY", "CF_PLATFORM_BASE_URL", "CF_PROJECT_ID", "CF_SPACE_ID")

def test_client(cfplatform_sandbox):
    assert isinstance(cfplatform_sandbox, Sandbox)
    assert {name: os.environ[name] for name in NAMES} == cfplatform_sandbox.environment()
    with Client() as client:
        assert client.get_work_items_count() == 30
        assert list(client.get_exports()) == []
    cfplatform_sandbox.set_status(0, "CLIENT_REVIEW")

@pytest.mark.cfplatform_sandbox(items=5)
class TestClosest:
    def test_of_the_class(self, cfplatform_sandbox):
        with Client() as client:
            assert client.get_work_items_count() == 5
            assert len(list(client.get_batches())) == 3

    @pytest.mark.cfplatform_sandbox(items=7)
    def test_of_the_function(self, cfplatform_sandbox):
        with Client() as client:
            assert client.get_work_items_count() == 7

def test_each_has_its_own(cfplatform_sandbox):
    with Client() as client:
        assert client.get_work_items_count(status="COMPLETED") == 30

def test_variables_are_as_before():
    assert os.environ["CF_API_KEY"] == "mine"
    assert not set(NAMES[1:]) & set(os.environ)
"""
    code, output = run_pytest(module, CF_API_KEY="mine")
    assert (code, "5 passed" in output) == (0, True), output


def test_the_example_of_the_documentation(run_pytest):
    page = (ROOT / "docs" / "sandbox.rst").read_text(encoding="utf-8")
    (example,) = (block for block, _ in BLOCK.findall(page) if "def test_" in block)
    code, output = run_pytest(textwrap.dedent(example))
    assert (code, "1 passed" in output) == (0, True), output


def test_the_fixture_and_the_mark_explain_themselves(run_pytest):
    assert "A running CloudFactory sandbox" in run_pytest("", "--fixtures")[1]
    assert "@pytest.mark.cfplatform_sandbox(items=500, ...)" in run_pytest("", "--markers")[1]


def test_it_costs_nothing_when_it_is_not_used(run_pytest):
    module = """
import sys

def test_modules():
    assert "cfplatform.pytest_plugin" in sys.modules
    heavy = {"requests", "urllib3", "starlette", "uvicorn", "PIL", "cryptography", "sqlite3", "ssl"}
    assert not heavy & set(sys.modules)
    assert not {name for name in sys.modules if name.startswith(("cfplatform.sandbox", "cfplatform.client"))}
"""
    code, output = run_pytest(module)
    assert code == 0, output


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "PIL"])
def test_without_the_extra_it_says_what_to_install(run_pytest, missing):
    module = f"""
import sys
sys.modules[{missing!r}] = None

def test_mine(cfplatform_sandbox):
    pass
"""
    code, output = run_pytest(module)
    assert code == 1
    assert f"needs {missing}, which the extra sandbox brings: pip install 'cfplatform[sandbox]'" in output
    assert "Traceback" not in output
    assert "pytest_plugin.py" not in output


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("50", "@pytest.mark.cfplatform_sandbox takes keywords only, such as items=50."),
        ("itmes=50", "@pytest.mark.cfplatform_sandbox: "),
        ("host='192.0.2.1'", "@pytest.mark.cfplatform_sandbox: host must be a loopback address"),
    ],
)
def test_a_wrong_mark_is_told_in_one_line(run_pytest, mark, message):
    code, output = run_pytest(
        f"import pytest\n@pytest.mark.cfplatform_sandbox({mark})\ndef test_mine(cfplatform_sandbox): pass\n"
    )
    assert code == 1
    assert message in output
    assert "pytest_plugin.py" not in output
