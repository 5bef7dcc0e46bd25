"""``cfplatform.compat`` compared with the official client: the same scripts with another import."""

from __future__ import annotations

import ast
import asyncio
import importlib.metadata
import inspect
import json
import logging
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from pathlib import Path

import pytest

import cfplatform
from cfplatform import compat
from cfplatform.compat import CFUserClient, SyncCFUserClient

from .test_downloading import tree

DOCS = Path(__file__).parents[2] / "docs"
THEIRS, OURS = "cf_ai_platform_client", "cfplatform.compat"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
#: Seconds within which a cancelled call returns.
SOON = 0.5

# All scripts run in one process per client, each in a separate folder. Their output is compared.
RUNNER = """
import contextlib, io, json, os, pathlib, sys
printed = []
for number, script in enumerate(json.load(sys.stdin)):
    folder = pathlib.Path(sys.argv[1], str(number))
    folder.mkdir(parents=True)
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        names = {"__name__": "__main__"}
        exec(compile(script, f"script {number}", "exec"), names)
        if "summary" in names:
            print(json.dumps(names["summary"].model_dump(mode="json")))
    printed.append(output.getvalue())
print(json.dumps(printed))
"""


def run(folder, scripts):
    """The output of scripts, and the documents that each one saves."""
    command = [sys.executable, "-c", RUNNER, str(folder)]
    done = subprocess.run(command, input=json.dumps(scripts), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    saved = [
        {path: json.loads(content) for path, content in tree(folder / str(number)).items() if path.endswith(".json")}
        for number in range(len(scripts))
    ]
    return json.loads(done.stdout.splitlines()[-1]), saved


def both(tmp_path, scripts):
    """Run scripts with either client: only the name of the package differs."""
    theirs = run(tmp_path / "official", scripts)
    return theirs, run(tmp_path / "ours", [script.replace(THEIRS, OURS) for script in scripts])


def call(sandbox, *arguments):
    """A script that downloads, with these arguments after the three ids."""
    given = ", ".join(["*ids", *arguments])
    return (
        f"from {THEIRS} import SyncCFUserClient\n"
        f"ids = {sandbox.project_id!r}, {sandbox.space_id!r}, './downloads'\n"
        f"with SyncCFUserClient.create_with_api_key({sandbox.api_key!r}, {sandbox.base_url!r}) as client:\n"
        f"    summary = client.download_project({given})\n"
    )


# --- Compared with the official client --------------------------------------------------------------------------------


@pytest.mark.peer
def test_the_examples_of_the_official_readme_run_with_another_import_line(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=60, batches=4, batch_names=["Default", "Training_Batch_001"])
    # The file itself: what other packages install in place of importlib.metadata takes the text out of the message.
    readme = importlib.metadata.distribution(THEIRS).read_text("METADATA")
    ids = list(sandbox.work_item_ids())
    dates = sorted(sandbox.work_item(index)["updatedAt"] for index in range(60))
    values = {
        '"YOUR_API_KEY"': f'"{sandbox.api_key}", "{sandbox.base_url}"',
        '"MY_API_KEY"': f'"{sandbox.api_key}", "{sandbox.base_url}"',
        f'api_key="{sandbox.api_key}", "{sandbox.base_url}"': f'api_key="{sandbox.api_key}"',
        "https://api.staging.ai.cloudfactory.app/api/v1": sandbox.base_url,
        "YOUR_PROJECT_ID": sandbox.project_id,
        "proj_abc123": sandbox.project_id,
        "YOUR_SPACE_ID": sandbox.space_id,
        "space_456": sandbox.space_id,
        "[1, 2, 3]": "[1001, 1002, 1004]",
        "[1, 2]": "[1001, 1002]",
        "550e8400-e29b-41d4-a716-446655440000": ids[3],
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8": ids[40],
        "2026-01-01T00:00:00Z": sandbox.work_item(5)["createdAt"],
        "2026-01-31T23:59:59Z": sandbox.work_item(20)["createdAt"],
        "2026-02-11T00:00:00Z": dates[10],
        "2026-02-18T23:59:59Z": dates[50],
    }
    scripts = [script for script in BLOCK.findall(readme) if f"from {THEIRS} import" in script]
    for before, after in values.items():
        scripts = [script.replace(before, after) for script in scripts]
    assert len(scripts) == 12
    theirs, ours = both(tmp_path, scripts)
    assert ours == theirs
    assert {len(saved) for saved in ours[1]} > {60, 2}


def test_the_script_before_migrating_runs_with_another_import_line(sandbox, tmp_path, monkeypatch):
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    script = (DOCS / "examples" / "migrating_before.py").read_text(encoding="utf-8")
    (printed,), (saved,) = run(tmp_path, [script.replace(THEIRS, OURS)])
    assert printed.startswith("20 of 20\n")
    assert len(saved) == 20


@pytest.mark.peer
def test_filters_and_positional_arguments_mean_the_same(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=150, batches=3, in_review=0.2, overlap=2)
    ids = list(sandbox.work_item_ids())
    first, last = (sandbox.work_item(index)["createdAt"] for index in (40, 120))
    moments = sorted(sandbox.work_item(index)["updatedAt"] for index in range(150))
    scripts = [
        call(sandbox, *arguments)
        for arguments in [
            ("[1001, 1003]",),
            ("[]", "[]", "''"),
            ("None", repr(ids[10:60])),
            ("None", "None", repr(first), repr(last)),
            ("None", "None", "None", "None", repr(moments[30]), repr(moments[100])),
            ("[1002]", repr(ids[60:90]), repr(first), repr(last), repr(moments[5]), repr(moments[140]), "3", "7"),
            ("batch_ids=[9999]",),
            ("max_workers=100", "limit=100"),
        ]
    ]
    theirs, ours = both(tmp_path, scripts)
    assert ours == theirs
    counts = [json.loads(text)["total_items"] for text in ours[0]]
    assert counts[6] == 0 < counts[5] < counts[0] < counts[1] == counts[7]


@pytest.mark.peer
def test_an_item_that_fails_is_in_the_summary(sandbox, tmp_path):
    broken = list(sandbox.work_item_ids())[7]
    sandbox.fail_next(404, times=None, path=f"*/{broken}/annotations")
    (theirs, their_tree), (ours, our_tree) = both(tmp_path, [call(sandbox)])
    assert our_tree == their_tree
    assert len(our_tree[0]) == 19
    old, new = json.loads(theirs[0]), json.loads(ours[0])
    for each in (old, new):
        (failed,) = [result for result in each["results"] if not result["success"]]
        assert failed["item_id"] == broken
        assert "404" in failed.pop("error")
    assert new == old


EXPORTS = """
from cf_ai_platform_client import ExportContent, ExportFormat, ExportStatus, SyncCFUserClient
import hashlib, json, uuid, zipfile
def plain(export):
    found = export.model_dump(mode="json")
    assert str(export.export_id) == found.pop("export_id") and isinstance(export.export_id, uuid.UUID)
    found["created_at"], found["download_url"] = bool(found["created_at"]), bool(found["download_url"])
    return found, export.status.value, export.format.value
with SyncCFUserClient.create_with_api_key(KEY, URL) as client:
    for form in (ExportFormat.COCO_JSON, "JSON", ExportFormat.CSV):
        made = client.create_export(SPACE, "of three", form, [PROJECT], [1001], None, None, None, None, None)
        done = client.wait_for_export(SPACE, str(made.export_id), 0.1)
        assert done.status is ExportStatus.COMPLETED
        print(plain(done), plain(client.get_export(SPACE, str(made.export_id))))
        path = client.download_export_file(SPACE, str(made.export_id), "./exports", 0.1, 60)
        with zipfile.ZipFile(path) as archive:
            print([(name, hashlib.sha256(archive.read(name)).hexdigest()) for name in sorted(archive.namelist())])
    named = client.create_export(space_id=SPACE, name="old name", format="JSON", content=ExportContent.INFERENCE,
                                 project_ids=[], batch_ids=[])
    print(plain(client.wait_for_export(SPACE, str(named.export_id), poll_interval=0.1, timeout=60)))
    page = client.list_exports(SPACE, "JSON", 1)
    print([plain(each) for each in page.items], page.meta.object, page.meta.limit, bool(page.meta.cursor_next))
    print(sorted(each.name for each in client.list_exports(SPACE).items))
    print(len(client.list_exports(SPACE, format="CSV").model_dump()["items"]))
    for each in client.list_exports(SPACE).items:
        assert client.delete_export(SPACE, str(each.export_id)) is None
    print(client.list_exports(SPACE).items)
"""


@pytest.mark.peer
def test_exports_of_the_three_formats_are_the_same(sandbox, tmp_path):
    values = {"KEY": "api_key", "URL": "base_url", "PROJECT": "project_id", "SPACE": "space_id"}
    settings = "".join(f"{name} = {getattr(sandbox, value)!r}\n" for name, value in values.items())
    (theirs, _), (ours, _) = both(tmp_path, [settings + EXPORTS])
    assert ours == theirs
    assert "'COMPLETED', 'CSV'" in ours[0]


@pytest.mark.peer
@pytest.mark.parametrize("name", ["SyncCFUserClient", "CFUserClient"])
def test_every_call_takes_the_same_arguments(name):
    official = pytest.importorskip(THEIRS)
    theirs, ours = getattr(official, name), getattr(compat, name)
    public = [each for each, _ in inspect.getmembers(theirs, callable) if not each.startswith("_")]
    for each in [*public, "__init__"]:
        old, new = (inspect.signature(getattr(client, each)).parameters for client in (theirs, ours))
        # Values of an enum are texts in both.
        expected = [(parameter.name, parameter.kind, parameter.default) for parameter in old.values()]
        assert [(parameter.name, parameter.kind, parameter.default) for parameter in new.values()] == expected, each
        assert inspect.iscoroutinefunction(getattr(ours, each)) == inspect.iscoroutinefunction(getattr(theirs, each))


@pytest.mark.peer
def test_models_have_the_same_names_and_fields():
    official = pytest.importorskip(THEIRS)
    for name in official.__all__:
        theirs, ours = getattr(official, name), getattr(compat, name)
        if hasattr(theirs, "model_fields"):
            assert list(ours.__dataclass_fields__) == list(theirs.model_fields), name
        elif name.startswith("Export"):
            assert {member.value for member in ours} == {member.value for member in theirs}


@pytest.mark.peer
def test_every_public_name_is_in_the_call_table():
    official = pytest.importorskip(THEIRS)
    page = (DOCS / "migrating" / "official.rst").read_text(encoding="utf-8")
    _, _, rest = page.partition("Call by call\n---")
    rows = re.findall(r"^   \* - (.*)\n     - >>> ", rest.partition("Arguments\n---")[0], re.MULTILINE)
    shown = set(re.findall(r"``(\w+)", " ".join(rows)))
    clients = official.SyncCFUserClient, official.CFUserClient
    calls = {name for client in clients for name, _ in inspect.getmembers(client, callable) if name[0] != "_"}
    assert len(calls) == 9
    assert {*official.__all__, *calls} <= shown


# --- Ours -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def old(sandbox):
    """The synchronous client of the sandbox."""
    with SyncCFUserClient.create_with_api_key(sandbox.api_key, sandbox.base_url) as old:
        yield old


def ids(sandbox):
    return sandbox.project_id, sandbox.space_id


def test_a_second_run_fetches_only_what_changed_and_counts_all_as_successful(sandbox, old, tmp_path):
    assert old.download_project(*ids(sandbox), str(tmp_path)).successful == 20
    sandbox.update_work_item(3)
    stored = sandbox.counts["storage"]
    summary = old.download_project(*ids(sandbox), str(tmp_path))
    assert (summary.total_items, summary.successful, summary.failed) == (20, 20, 0)
    assert sandbox.counts["storage"] == stored + 1


def test_results_are_a_list_in_the_order_of_the_listing(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=120, batches=2, overlap=3, unbatched=5)
    with SyncCFUserClient(sandbox.api_key, sandbox.base_url) as old:
        summary = old.download_project(*ids(sandbox), tmp_path, limit=10, max_workers=20)
    assert [result.item_id for result in summary.results] == list(sandbox.work_item_ids())
    assert isinstance(summary.results, list)
    assert json.loads(json.dumps(summary.model_dump())) == summary.model_dump(mode="json")
    # The official client fails them.
    assert [result.batch_id for result in summary.results[-5:]] == [None] * 5
    assert all("Default" in result.file_path and result.success for result in summary.results[-5:])


@pytest.mark.parametrize(
    "wrong", [{"max_workers": 0}, {"max_workers": 101}, {"limit": 0}, {"limit": 101}, {"created_at_from": "yesterday"}]
)
def test_arguments_are_refused_by_a_value_error_before_any_request(sandbox, old, tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        old.download_project(*ids(sandbox), tmp_path / "labels", **wrong)
    assert sandbox.requests == []


@pytest.mark.parametrize("key", ["", "  ", None])
def test_a_blank_key_is_refused_by_a_value_error(monkeypatch, key):
    monkeypatch.setenv("CF_API_KEY", "of the environment")
    for kind in (SyncCFUserClient, CFUserClient):
        with pytest.raises(ValueError, match="api_key"):
            kind.create_with_api_key(key)


def test_http_is_refused_except_for_this_machine():
    with pytest.raises(cfplatform.ConfigurationError, match="uses http:"):
        SyncCFUserClient("key", "http://example.com/api/v1")


def test_no_representation_shows_the_key(sandbox, old):
    assert sandbox.api_key not in f"{old!r} {CFUserClient(sandbox.api_key, sandbox.base_url)!r} {vars(old)!r}"


def test_errors_are_ours(sandbox, old, tmp_path):
    with pytest.raises(cfplatform.NotFoundError) as caught:
        old.get_export(sandbox.space_id, str(uuid.uuid4()))
    assert caught.value.status_code == caught.value.response.status_code == 404
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        old.create_export(sandbox.space_id, "odd", colour="red")
    sandbox.export_seconds = 60
    running = old.create_export(sandbox.space_id, "slow")
    with pytest.raises(cfplatform.ConflictError):
        old.create_export(sandbox.space_id, "another")
    with pytest.raises(TimeoutError):
        old.wait_for_export(sandbox.space_id, running.export_id, 0.01, 0.2)
    with pytest.raises(TimeoutError):
        old.download_export_file(sandbox.space_id, str(running.export_id), tmp_path, timeout=0.2)


def test_a_failed_export_is_returned_and_its_download_is_a_value_error(sandbox, old, tmp_path):
    sandbox.fail_next_export("the disk was full")
    made = old.create_export(sandbox.space_id, "bad")
    found = old.wait_for_export(sandbox.space_id, str(made.export_id))
    assert (found.status.value, found.error) == ("FAILED", "the disk was full")
    with pytest.raises(ValueError, match="the disk was full") as caught:
        old.download_export_file(sandbox.space_id, str(made.export_id), tmp_path)
    assert isinstance(caught.value, cfplatform.ExportFailedError)
    assert caught.value.export.id == str(made.export_id)


def test_an_answer_that_is_no_export_is_refused(sandbox, old):
    sandbox.replace_next(b'{"exportId": "7", "status": "COMPLETED"}', path="*/exports/*")
    with pytest.raises(cfplatform.InvalidResponseError):
        old.get_export(sandbox.space_id, "7")


def test_a_download_is_logged(sandbox, old, tmp_path, caplog):
    caplog.set_level(logging.INFO, "cfplatform.compat")
    broken = list(sandbox.work_item_ids())[7]
    sandbox.fail_next(404, times=None, path=f"*/{broken}/annotations")
    old.download_project(*ids(sandbox), tmp_path)
    old.download_project(*ids(sandbox), tmp_path, batch_ids=[9999])
    lines = [(name, level) for name, level, _ in caplog.record_tuples if name == "cfplatform.compat"]
    levels = [level for _, level in lines]
    assert levels.count(logging.ERROR) == levels.count(logging.WARNING) == 1
    for words in ("Starting", "20 work items to download", broken, "19 successful, 1 failed of 20", "no work items"):
        assert words in caplog.text
    sandbox.fail_next(401)
    with pytest.raises(cfplatform.AuthenticationError):
        old.download_project(*ids(sandbox), tmp_path)
    assert caplog.records[-1].levelno == logging.ERROR


def test_a_bar_is_shown_where_tqdm_is_installed(sandbox, old, tmp_path, monkeypatch, capsys):
    old.download_project(*ids(sandbox), tmp_path)
    shown = capsys.readouterr()
    assert "Downloading items: 100%" in shown.err
    assert "20/20" in shown.err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    old.download_project(*ids(sandbox), tmp_path)
    assert capsys.readouterr() == ("", "")


def test_a_client_can_be_used_again_after_it_was_closed(sandbox, tmp_path):
    async def main():
        client = CFUserClient(sandbox.api_key, sandbox.base_url)
        for folder in ("first", "second"):
            async with client:
                assert (await client.download_project(*ids(sandbox), tmp_path / folder)).successful == 20
        await client.close()

    asyncio.run(main())
    assert tree(tmp_path / "first") == tree(tmp_path / "second") != {}


def test_tasks_share_a_client_and_the_loop_stays_free(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=40, batches=2, latency=0.02)

    async def main():
        turns = 0
        async with CFUserClient.create_with_api_key(sandbox.api_key, sandbox.base_url) as client:
            calls = [client.download_project(*ids(sandbox), tmp_path / name) for name in "abc"]
            together = asyncio.gather(*calls, client.create_export(sandbox.space_id, "beside"))
            while not together.done():
                turns += 1
                await asyncio.sleep(0.01)
            *summaries, export = await together
            path = await client.download_export_file(sandbox.space_id, export.export_id, tmp_path)
            found = await client.list_exports(sandbox.space_id)
            assert found.items[0].export_id == export.export_id
            assert (await client.get_export(sandbox.space_id, str(export.export_id))).name == "beside"
            assert (await client.wait_for_export(sandbox.space_id, str(export.export_id))).status == "COMPLETED"
            await client.delete_export(sandbox.space_id, str(export.export_id))
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
        assert [summary.successful for summary in summaries] == [40] * 3
        assert turns > 3

    asyncio.run(main())


def test_the_synchronous_client_works_where_a_loop_runs(sandbox, old, tmp_path):
    async def cell():
        return old.download_project(*ids(sandbox), tmp_path)

    assert asyncio.run(cell()).successful == 20


# --- Cancelling -------------------------------------------------------------------------------------------------------


async def some(sandbox, count, kind="annotations"):
    while sandbox.counts[kind] < count:
        await asyncio.sleep(0.01)


def sent(sandbox):
    """Requests that were sent so far, those under way included."""
    return len(sandbox.requests) + sandbox.in_flight


@pytest.mark.parametrize("latency", [0.02, pytest.param(0.4, marks=pytest.mark.stress)])
def test_a_cancelled_download_returns_at_once_and_sends_no_more(make_sandbox, tmp_path, latency):
    sandbox = make_sandbox(items=2000, batches=2, latency=latency)

    async def main():
        async with CFUserClient.create_with_api_key(sandbox.api_key, sandbox.base_url) as client:
            task = asyncio.create_task(client.download_project(*ids(sandbox), tmp_path, limit=20))
            await some(sandbox, 30)
            task.cancel()
            began = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < SOON
            at_return = sent(sandbox)
            await asyncio.sleep(1)
            assert len(sandbox.requests) <= at_return
            assert sandbox.in_flight == 0
            # What is finished is kept, and the destination is free.
            sandbox.latency = 0
            assert (await client.download_project(*ids(sandbox), tmp_path)).successful == 2000

    asyncio.run(main())
    assert len(tree(tmp_path)) == 2000


def test_cancelling_is_noticed_while_the_listing_is_read(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=2000, batches=2, latency=0.1)

    async def main():
        async with CFUserClient(sandbox.api_key, sandbox.base_url) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.download_project(*ids(sandbox), tmp_path, limit=1), 0.5)
            at_return = sent(sandbox)
            await asyncio.sleep(0.5)
            assert len(sandbox.requests) <= at_return

    asyncio.run(main())


def test_cancelling_ends_an_outage_that_is_waited_for(sandbox, tmp_path):
    sandbox.outage(60, 503, at="annotations")

    async def main():
        async with CFUserClient(sandbox.api_key, sandbox.base_url) as client:
            task = asyncio.create_task(client.download_project(*ids(sandbox), tmp_path))
            await some(sandbox, 10)
            task.cancel()
            began = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < SOON
            at_return = sent(sandbox)
            await asyncio.sleep(1.5)
            assert len(sandbox.requests) <= at_return

    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name != "cfplatform-sandbox" and thread.name.startswith("cfplatform"):
            thread.join(2)
            assert not thread.is_alive(), thread.name


def test_cancelling_ends_the_wait_for_an_export(sandbox):
    sandbox.export_seconds = 60

    async def main():
        async with CFUserClient(sandbox.api_key, sandbox.base_url) as client:
            export = await client.create_export(sandbox.space_id, "slow")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.wait_for_export(sandbox.space_id, str(export.export_id), 0.1), 0.3)
            at_return = sent(sandbox)
            await asyncio.sleep(0.5)
            assert len(sandbox.requests) <= at_return

    asyncio.run(main())


def test_one_task_is_cancelled_and_the_others_go_on(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=100, batches=2, latency=0.02)

    async def main():
        async with CFUserClient(sandbox.api_key, sandbox.base_url) as client:
            first, second = (
                asyncio.create_task(client.download_project(*ids(sandbox), tmp_path / name)) for name in "ab"
            )
            await some(sandbox, 10)
            first.cancel()
            assert (await second).successful == 100
            assert first.cancelled()

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_ctrl_c_ends_a_program_within_a_second(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=2000, batches=2, latency=0.3)
    script = (
        "import asyncio\n"
        "from cfplatform.compat import CFUserClient\n"
        "async def main():\n"
        f"    async with CFUserClient({sandbox.api_key!r}, {sandbox.base_url!r}) as client:\n"
        f"        await client.download_project(*{ids(sandbox)!r}, {str(tmp_path / 'labels')!r})\n"
        "try:\n"
        "    asyncio.run(main())\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while sandbox.counts["annotations"] < 10:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.stdout.readline().strip() == b"interrupted"
        assert time.monotonic() - began < SOON
        assert process.wait(5) == 0
    count = len(sandbox.requests)
    time.sleep(0.5)
    assert len(sandbox.requests) == count


def test_no_pydantic_and_no_httpx_is_loaded():
    script = "import sys, cfplatform.compat; print({'pydantic', 'httpx', 'tqdm'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout.replace("set()", "None")) is None
