"""The exports of the package, and the cost of importing it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import cfplatform
from cfplatform import exceptions


def test_all_is_complete_and_sorted():
    assert cfplatform.__all__ == sorted(cfplatform.__all__)
    public = {
        name
        for name in dir(cfplatform)
        if not name.startswith("_") and getattr(getattr(cfplatform, name), "__module__", "").startswith("cfplatform")
    }
    assert public | {"__version__"} == set(cfplatform.__all__)


def test_every_error_is_exported():
    errors = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, exceptions.CFPlatformError)
    }
    assert errors <= set(cfplatform.__all__)


def fresh(script, **options):
    """What a script prints in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, **options).stdout


def modules_after(statement):
    """Modules that are loaded after a statement, without those that an installation in development mode brings."""
    loaded = fresh(f"{statement}; import sys; print(*sys.modules)").split()
    return {name for name in loaded if not name.startswith("__editable__")}


#: What needs an extra.
EXTRAS = {"__main__", "__pyinstaller", "adapters", "cli", "pytest_plugin", "report", "sandbox", "viz"}


def modules():
    """The names of all modules of the package but the one that opens images."""
    root = Path(cfplatform.__file__).parent
    files = (path.relative_to(root.parent).with_suffix("") for path in sorted(root.rglob("*.py")))
    return [".".join(path.parts) for path in files if path.name not in ("__init__", "images")]


def test_import_brings_only_the_three_dependencies():
    everything = ", ".join(name for name in modules() if name.split(".")[1] not in EXTRAS)
    statements = ("import requests, urllib3, typing_extensions", f"import {everything}")
    allowed, brought = ({name.split(".")[0] for name in modules_after(each)} for each in statements)
    assert brought - allowed - sys.stdlib_module_names == {"cfplatform"}


# --- What is imported when ------------------------------------------------------------------------------------------

AT_IMPORT = {"_version", "exceptions", "resources", "timestamps"}
#: What listing needs. Everything else of the package is imported by the call that is the first to use it.
WITH_CLIENT = AT_IMPORT | {"client", "config", "http", "params", "transfer", "transfer.pagination"}


def test_import_of_the_package_loads_no_requests():
    loaded = modules_after("import cfplatform")
    assert {name.split(".")[1] for name in loaded if name.startswith("cfplatform.")} == AT_IMPORT
    assert not {name.split(".")[0] for name in loaded} & {
        "requests",
        "urllib3",
        "http",
        "ssl",
        "email",
        "typing_extensions",
    }


@pytest.mark.parametrize("statement", ["from cfplatform import Client", "import cfplatform; cfplatform.Client"])
def test_the_client_loads_what_a_listing_needs_and_nothing_else(statement):
    loaded = modules_after(statement)
    ours = {name.partition(".")[2] for name in loaded if name.startswith("cfplatform.")}
    assert {name if name.startswith("transfer.") else name.split(".")[0] for name in ours} == WITH_CLIENT
    # No sqlite3, platform, typing_extensions, dataclasses, mmap, uuid or others that requests itself does without.
    beyond = loaded - modules_after("import requests")
    # The context of the caller is built into the interpreter, and workers run in it so that tracers see one trace.
    allowed = {"secrets", "contextvars", "_contextvars"}
    assert {name for name in beyond if not name.startswith("cfplatform")} <= allowed


def test_the_first_page_loads_nothing_more(sandbox):
    script = (
        "import sys; from cfplatform import Client; before = {*sys.modules}\n"
        f"with Client({sandbox.api_key!r}, base_url={sandbox.base_url!r}) as client:\n"
        f"    item = next(client.get_work_items({sandbox.project_id!r}, status='COMPLETED'))\n"
        "print(*(name for name in {*sys.modules} - before if name.startswith('cfplatform')), item.id)"
    )
    assert len(fresh(script).split()) == 1


def test_every_name_can_be_imported():
    script = "from cfplatform import *; import cfplatform; print(*(set(cfplatform.__all__) - set(globals())), 'none')"
    assert fresh(script).split() == ["none"]


def test_each_name_is_there_in_every_way_as_the_first_one():
    script = (
        "import sys\n"
        "def again():\n"
        "    for name in [each for each in sys.modules if each.partition('.')[0] == 'cfplatform']:\n"
        "        del sys.modules[name]\n"
        "    import cfplatform\n"
        "    return cfplatform\n"
        "for name in again().__all__:\n"
        "    again()\n"
        "    exec(f'from cfplatform import {name}')\n"
        "    package = again()\n"
        "    assert name in dir(package), name\n"
        "    assert getattr(package, name) is getattr(package, name), name\n"
        "print('done')"
    )
    assert fresh(script).split() == ["done"]


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'cfplatform' has no attribute 'DownloadSumary'"):
        _ = cfplatform.DownloadSumary


def test_pickles_load_where_nothing_is_imported_yet():
    result = cfplatform.DownloadResult("item-1", 1001, None, "failed", error=cfplatform.ServerError("no"))
    script = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()))"
    streams = {"input": pickle.dumps(result), "capture_output": True, "check": True}
    done = subprocess.run([sys.executable, "-c", script], **streams)
    assert done.stdout.decode().strip() == repr(result)


def test_names_asked_for_by_many_threads_at_once():
    script = (
        "import concurrent.futures, threading, cfplatform\n"
        "names = cfplatform.__all__ * 2\n"
        "together = threading.Barrier(len(names))\n"
        "def ask(name):\n"
        "    together.wait()\n"
        "    return id(getattr(cfplatform, name))\n"
        "with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:\n"
        "    asked = list(pool.map(ask, names))\n"
        "print([id(getattr(cfplatform, name)) for name in names] == asked)"
    )
    assert fresh(script, timeout=60).split() == ["True"]


def test_no_thread_of_ours_imports_any_module_of_ours(sandbox, tmp_path):
    # An import in a worker thread could wait for one that its caller is in, or fail while the interpreter ends.
    sandbox.export_seconds = 0
    script = (
        "import io, sys, threading\n"
        "found = set()\n"
        "def look(event, args):\n"
        "    if event == 'import' and threading.current_thread() is not threading.main_thread():\n"
        "        found.add(args[0])\n"
        "sys.addaudithook(look)\n"
        "from cfplatform import Client\n"
        f"settings = dict(base_url={sandbox.base_url!r}, project_id={sandbox.project_id!r})\n"
        f"with Client({sandbox.api_key!r}, space_id={sandbox.space_id!r}, **settings) as client:\n"
        "    for call in sys.argv[1:]:\n"
        "        exec(call)\n"
        "print(*(name for name in found if name.startswith('cfplatform')), 'none')"
    )
    calls = (
        "list(client.iter_annotations())",
        "list(client.upload_files([io.BytesIO(b'x')] * 5))",
        "client.download_project(destination='labels', assets=True).raise_for_failures()",
        "client.download_export(client.create_export('x').id, 'archives', extract=True)",
    )
    for call in calls:
        done = subprocess.run(
            [sys.executable, "-c", script, call], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.split() == ["none"], call
