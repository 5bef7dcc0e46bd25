"""Group X: the key and signatures do not leak during complete runs, whatever fails."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import pickle
import sqlite3
import traceback
from pathlib import Path

import pytest
import requests

from cfplatform import CFPlatformError, Client
from tests.faults.tools import ROOT, run, store_at
from tests.http.scripted import Answer, raw, said
from tests.http.test_secrets import ECHO, FAULTS, reachable
from tests.tools import KEY, SIGNATURE, outcome

QUERY = f"X-Amz-Credential={SIGNATURE}%2F20260101&X-Amz-Security-Token={SIGNATURE}&X-Amz-Signature={SIGNATURE}"
#: What S3 and a proxy say about a signature that does not match: they repeat it.
STORAGE_FAULTS = {
    **FAULTS,
    "signature": raw(
        403,
        f"<Error><Code>SignatureDoesNotMatch</Code><Message>No</Message><AWSAccessKeyId>{SIGNATURE}</AWSAccessKeyId>"
        f"<SignatureProvided>{SIGNATURE}</SignatureProvided><CanonicalRequest>GET\n/o\n{QUERY}\nhost:h"
        "</CanonicalRequest></Error>".encode(),
    ),
    "escaped": raw(404, f"no such thing: /o%3FX-Amz-Signature%3D{SIGNATURE}".encode()),
    "expired": raw(403, f"<Error><Message>Request has expired</Message><U>/o?{QUERY}</U></Error>".encode()),
    "checksum": raw(200, b'{"info": {}}', "Content-MD5: AAAAAAAAAAAAAAAAAAAAAA=="),
    "type": raw(200, b"x", f"Content-Encoding: {QUERY}"),
    "array": raw(200, b"[]"),
    "right": raw(200, b'{"info": {}}'),
}


def texts_of(error):
    """Every way in which somebody may look at an error, its traceback with the locals of all frames included."""
    with_locals = traceback.TracebackException.from_exception(error, capture_locals=True)
    parts = reachable(error)
    return [
        str(error),
        repr(error),
        repr(error.args),
        repr(vars(error)),
        "".join(with_locals.format()),
        pickle.dumps(error).decode("latin-1"),
        *(part for part in parts if isinstance(part, str)),
    ]


def check(errors, caplog, capfd, root):
    """Check errors, logs, output and files; the content of documents is not ours and holds no secret here."""
    texts = [text for error in errors for text in texts_of(error)]
    texts += [caplog.text, *(f"{record.msg} {record.args} {vars(record)}" for record in caplog.records)]
    texts += capfd.readouterr()
    texts += [str(path) for path in root.rglob("*")]
    texts += [path.read_bytes().decode("latin-1") for path in root.rglob("*") if path.is_file()]
    found = [text[:300] for text in texts if KEY in text or SIGNATURE in text]
    assert found == []


def whole_run(client, root):
    """Use every way to fetch; return the errors that came of it."""
    errors = []
    done = []
    for call in (
        lambda: client.download_project(destination=root, progress=lambda *numbers: done.append(numbers)),
        lambda: list(client.iter_annotations()),
        lambda: next(client.get_work_items()).load(),
        lambda: next(client.get_work_items()).download(root),
        lambda: next(client.get_work_items()).get_annotation(),
        lambda: client.get_work_items_count(),
    ):
        result, error = outcome(CFPlatformError, call)
        errors += [error] if error is not None else []
        if hasattr(result, "failures"):
            errors += [failure.error for failure in result.failures]
            errors += [error for _, error in [outcome(CFPlatformError, result.raise_for_failures)] if error]
    errors_seen = []
    with contextlib.suppress(CFPlatformError):
        list(client.iter_annotations(on_error=lambda item, error: errors_seen.append(error)))
    return [*errors, *errors_seen]


@pytest.mark.parametrize("fault", STORAGE_FAULTS.values(), ids=STORAGE_FAULTS)
def test_x01_no_fault_of_the_storage_shows_a_secret(serve, make_sandbox, tmp_path, loud, capfd, fault):
    sandbox = make_sandbox(items=3, batches=1, api_key=KEY)
    store_at(sandbox, serve(default=fault).origin, QUERY)
    with sandbox.client(retries=1, timeout=0.3, max_workers=3, patience=0.3) as client:
        errors = whole_run(client, tmp_path)
    assert bool(errors) == (fault is not STORAGE_FAULTS["right"])
    assert "/o" in loud.text or "GET" in loud.text
    check(errors, loud, capfd, tmp_path)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("where", ["*/workItems", "*/annotations", "*/signedurls", "*/batches"])
def test_x01_no_fault_of_the_api_shows_a_secret(serve, make_sandbox, tmp_path, loud, capfd, fault, where):
    answer = fault.data if isinstance(fault, Answer) else fault
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ")[1:2]
    sandbox = make_sandbox(items=3, batches=1, api_key=KEY)
    if status and status[0].isdigit() and int(status[0]) != 200:
        sandbox.fail_next(int(status[0]), times=None, path=where, body=body, headers={"X-Echo": ECHO})
    elif body:
        sandbox.replace_next(body, times=None, path=where)
    else:
        sandbox.reset_next(None, path=where)
    with sandbox.client(retries=1, timeout=0.5, max_workers=3, patience=0.3) as client:
        errors = whole_run(client, tmp_path)
    assert errors
    check(errors, loud, capfd, tmp_path)


def test_x01_odd_answers_to_a_signing_request_show_no_signature(make_sandbox, tmp_path, loud, capfd):
    for odd in (
        {"items": {"signedUrl": f"https://h/o?{QUERY}"}},
        {"items": [{"path": "x", "signedUrl": f"https://h/o?{QUERY}"}]},
        {"error": f"https://h/o?{QUERY}"},
        [f"https://h/o?{QUERY}"],
        f"https://h/o?{QUERY}",
    ):
        sandbox = make_sandbox(items=3, batches=1, api_key=KEY)
        sandbox.replace_next(said(odd).partition(b"\r\n\r\n")[2], times=None, path="*/signedurls")
        with sandbox.client(retries=1) as client:
            errors = whole_run(client, tmp_path)
        assert errors
        check(errors, loud, capfd, tmp_path)


@pytest.mark.parametrize("bad", ["http://storage.example", "https://u:SENTINELsignature0123@h", "https://10.0.0.1\\@h"])
def test_x01_an_address_that_is_refused_is_told_without_its_query(make_sandbox, tmp_path, loud, capfd, bad):
    sandbox = make_sandbox(items=3, batches=1, api_key=KEY)
    store_at(sandbox, bad, QUERY)
    with sandbox.client(retries=1) as client:
        errors = whole_run(client, tmp_path)
    assert errors
    check(errors, loud, capfd, tmp_path)


def test_x01_an_error_that_ends_the_run_holds_no_frame_with_a_signed_url(
    serve, make_sandbox, tmp_path, loud, capfd, monkeypatch
):
    sandbox = make_sandbox(items=3, batches=1, api_key=KEY)
    store_at(sandbox, serve(default=STORAGE_FAULTS["right"]).origin, QUERY)
    right = os.replace

    def full(source, target, **options):
        if str(target).endswith(".json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return right(source, target, **options)

    monkeypatch.setattr(os, "replace", full)
    with sandbox.client(max_workers=2) as client:
        _, error = outcome(CFPlatformError, lambda: client.download_project(destination=tmp_path))
    assert error is not None
    check([error], loud, capfd, tmp_path)


COMMAND = "import runpy; runpy.run_module('cfplatform', run_name='__main__')"


@pytest.mark.parametrize("fault", ["signature", "no json", "right"])
def test_x01_the_command_shows_no_secret(serve, make_sandbox, tmp_path, fault):
    sandbox = make_sandbox(items=3, batches=1, api_key=KEY)
    answer = STORAGE_FAULTS[fault]
    store_at(sandbox, serve(default=answer).origin, QUERY)
    code, out, err = run(sandbox, COMMAND, "download", tmp_path)
    assert (code == 0) == (fault == "right")
    assert err + out
    for text in (out, err):
        assert KEY not in text
        assert SIGNATURE not in text


def test_x01_a_key_that_is_refused_by_its_form_is_not_repeated():
    for bad in (f"{KEY}\n{KEY}", f"{KEY} {KEY}", f"{KEY}’", "\ufeff" + KEY + "\0"):
        _, error = outcome(CFPlatformError, Client, bad)
        assert error is not None
        assert KEY not in str(error) + repr(error) + repr(vars(error))


def test_x02_the_client_shows_and_gives_away_no_key(make_sandbox):
    sandbox = make_sandbox(items=1, batches=1, api_key=KEY)
    with sandbox.client() as client:
        shown = [repr(client), str(client), repr(vars(client)), repr(copy.copy(client))]
        assert all(KEY not in text for text in shown)
        for copied in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled"):
                copied(client)
        item = next(client.get_work_items())
        assert KEY.encode() not in pickle.dumps(item)


def test_x03_errors_hold_no_object_that_holds_the_key(serve, connect, fetch):
    for fault in STORAGE_FAULTS.values():
        server = serve(default=fault)
        for call in (
            lambda server=server: connect(server, retries=0, timeout=0.2).request("GET", "/x"),
            lambda server=server: fetch(server, f"/o?{QUERY}", retries=0, timeout=0.2),
        ):
            _, error = outcome(CFPlatformError, call)
            while error is not None:
                assert isinstance(error, CFPlatformError)
                assert not [
                    part for part in reachable(error) if isinstance(part, (requests.Request, requests.Response))
                ]
                assert not [part for part in reachable(error) if isinstance(part, requests.PreparedRequest)]
                error = error.__cause__ or error.__context__


def test_x04_what_no_library_can_mask_is_documented():
    text = (ROOT / "docs" / "reliability.rst").read_text(encoding="utf-8")
    promised, _, not_promised = text.partition("Limits\n------")
    for name in ("SSLKEYLOGFILE", "http.client"):
        assert name in not_promised
        assert name not in promised


def test_x04_the_library_never_turns_them_on():
    for path in Path(ROOT / "cfplatform").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "debuglevel" not in text
        assert "keylog" not in text.lower()


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_x05_state_files_hold_ids_and_paths_only(serve, make_sandbox, tmp_path, loud):
    sandbox = make_sandbox(items=20, batches=2, api_key=KEY)
    sandbox.set_annotation(0, None)
    sandbox.fail_next(404, times=None, path=f"/storage/*{list(sandbox.work_item_ids())[1]}*")
    with sandbox.client() as client:
        summary = client.download_project(destination=tmp_path)
    assert (summary.successful, summary.failed) == (18, 2)
    folder = tmp_path / ".cfplatform"
    found = [path for path in folder.rglob("*") if path.is_file()]
    (database,) = [path for path in found if path.read_bytes().startswith(b"SQLite format 3")]
    with contextlib.closing(sqlite3.connect(database)) as state:
        dump = "\n".join(state.iterdump())
    assert all(item in dump for item in sandbox.work_item_ids())
    for secret in (KEY, "X-Amz-", "?", "Signature", "images", sandbox.api_key):
        assert secret not in dump
    assert KEY not in loud.text
    assert "X-Amz-Signature" not in loud.text
