"""A complete session in a shell: from an image on disk to its annotations.

``pytest -s`` prints it as it went.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.functional.shell import ROOT, environment

#: Saves what it receives for later verification.
RECEIVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        with open("body.json", "wb") as file:
            file.write(self.rfile.read(int(self.headers["Content-Length"])))
        with open("headers.part", "w") as file:
            file.write(str(self.headers))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
"""


class Shell:
    """An interactive shell; prints its input and output."""

    def __init__(self, process):
        self._process = process

    def __call__(self, line, *, code=0, seen=True):
        """Run a line, and return its output."""
        self._process.stdin.write(f"{line}\nprintf '\\n<%s>\\n' $?\n")
        self._process.stdin.flush()
        text = ""
        while (ended := re.search(r"\n<(\d+)>\n\Z", text)) is None:
            written = self._process.stdout.readline()
            assert written, f"the shell has ended: {text}"
            text += written
        said = text[: ended.start()].strip("\n")
        if seen:
            print(f"\n$ {line}", *([said] if said else []), sep="\n")
        assert int(ended.group(1)) == code, said
        return said

    def until(self, line):
        """Run a line silently until it succeeds."""
        self(f"for i in $(seq 300); do {line} && break; sleep 0.1; done; {line}", seen=False)


@contextmanager
def shell(folder):
    """Start a shell in a folder, with ``cfplatform`` and ``python`` of the test."""
    tools = folder / "bin"
    tools.mkdir()
    for name, command in (("python", ""), ("cfplatform", "-m cfplatform ")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command}"$@"\n', encoding="utf-8")
        (tools / name).chmod(0o755)
    variables = environment(None, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}", PYTHONPATH=str(ROOT))
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(["sh"], cwd=folder, env=variables, start_new_session=True, **streams) as process:
        try:
            yield Shell(process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.skipif(not (shutil.which("sh") and shutil.which("seq")), reason="needs a POSIX shell")
def test_from_a_picture_to_its_labels(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (640, 480), "steelblue").save(tmp_path / "street.jpg")
    (tmp_path / "receiver.py").write_text(RECEIVER, encoding="utf-8")
    port = free_port()
    with shell(tmp_path) as type_in:
        # The platform and a receiver, in separate processes.
        type_in("cfplatform sandbox --items 30 --batches 2 --export-seconds 1.5 --quiet > platform.sh &")
        type_in.until("test $(wc -l < platform.sh) = 4")
        type_in(". ./platform.sh")
        type_in(f"python receiver.py {port} &")
        type_in.until(f"python -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}))' 2> /dev/null")

        type_in('asset=$(cfplatform upload street.jpg --quiet | cut -f 1); echo "$asset"')
        type_in("cfplatform batches create Spring")
        type_in(
            'item=$(cfplatform work-items create "$asset" --batch-id 1003 \\\n'
            f'    --callback-url http://127.0.0.1:{port}/hook | cut -f 1); echo "$item"'
        )
        item = type_in('echo "$item"', seen=False)
        assert type_in('cfplatform work-items get "$item"').split("\t")[:4] == [item, "1003", "NEW", "image"]

        changed = type_in('cfplatform sandbox set-status "$item" COMPLETED')
        assert changed.split("\t")[2] == "COMPLETED"
        type_in.until("test -s headers.part")
        type_in("mv headers.part headers.txt", seen=False)
        event = type_in("cfplatform webhook verify --body body.json --headers headers.txt")
        assert event.split("\t")[:2] == [item, "COMPLETED"]
        type_in("sed s/COMPLETED/REJECTED/ body.json > forged.json")
        refused = type_in("cfplatform webhook verify --body forged.json --headers headers.txt", code=1)
        assert refused.endswith("[signature]")

        type_in('export=$(cfplatform exports create session | cut -f 1); echo "$export"')
        waited = type_in('cfplatform exports wait "$export"')
        assert waited.splitlines()[-1].split("\t")[1:3] == ["session", "COMPLETED"]
        folder = type_in('cfplatform exports download "$export" archives --extract --quiet')
        found = type_in("find archives/session* -name '*.json' | wc -l")
        assert int(found) == 31
        document = json.loads((Path(folder) / "Spring" / f"{item}.json").read_bytes())
        assert document["info"]["asset_url"] == type_in('echo "$asset"', seen=False)

        type_in("cfplatform download labels --batch-name Spring --assets")
        assert [path.read_bytes() for path in (tmp_path / "labels" / "Spring" / "assets").iterdir()] == [
            (tmp_path / "street.jpg").read_bytes()
        ]
        left = type_in('cfplatform request GET "/projects/$CF_PROJECT_ID/workItems" --param "workItemIDs=$item" --json')
        assert json.loads(left)["items"][0]["status"] == "COMPLETED"
        type_in('cfplatform exports delete "$export" --yes')
        assert type_in("cfplatform exports") == ""
