"""The command as a shell runs it: real processes, with their streams in pipes or on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import cfplatform

ROOT = Path(cfplatform.__file__).parents[1]
ESCAPE = "\x1b"
HOSTILE = "Ev\x1b[31mil\x07 \x1b]0;pwned\x07[red]markup[/red]\ttab\nline \u202ertl :boom:"


def command(*arguments):
    return [sys.executable, "-m", "cfplatform", *map(str, arguments)]


def environment(sandbox, **changes):
    """The variables of a process that is to use a sandbox; a change to ``None`` takes one away."""
    usual = {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **dict.fromkeys(("NO_COLOR", "FORCE_COLOR", "COLUMNS"))}
    variables = {**os.environ, **usual, **(sandbox.environment() if sandbox else {}), **changes}
    return {name: value for name, value in variables.items() if value is not None}


def run(*arguments, sandbox=None, cwd=None, stdin="", **changes):
    """Run a command to its end, with its streams going into pipes."""
    streams = {"input": stdin, "capture_output": True, "encoding": "utf-8"}
    variables = environment(sandbox, **changes)
    return subprocess.run(command(*arguments), **streams, env=variables, cwd=cwd, timeout=60, check=False)


@contextlib.contextmanager
def started(*arguments, sandbox=None):
    """Start a command that the test will end; nothing is left behind if it does not."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen(command(*arguments), env=environment(sandbox), **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def on_terminal(*arguments, sandbox=None, columns=80, typed="", **changes):
    """Run a command with all streams on a terminal; return the exit code and what the terminal received.

    ``typed`` lies ready as if somebody had typed ahead.
    """
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    os.write(ours, typed.encode())
    variables = environment(sandbox, **changes)
    with subprocess.Popen(command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        guard = threading.Timer(60, process.kill)
        guard.start()
        received = b""
        # The end of a terminal is an error on Linux and an empty read elsewhere.
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 65536):
                received += chunk
        guard.cancel()
    os.close(ours)
    return process.returncode, received.decode("utf-8", "replace").replace("\r\n", "\n")


def shown(screen):
    """What a terminal received, without colours and movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)


def json_lines(text):
    """What --json wrote."""
    return [json.loads(line) for line in text.splitlines()]
