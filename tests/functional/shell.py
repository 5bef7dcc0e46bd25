"""The command as a shell runs it: in this process where only its output counts, else in one of its own.

A process of its own is needed for a terminal, for signals, for streams that are closed or encoded in another way, and
for what is loaded.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import re
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from unittest import mock

import pytest

import cfplatform
from cfplatform.__main__ import main

ROOT = Path(cfplatform.__file__).parents[1]
ESCAPE = "\x1b"
HOSTILE = "Ev\x1b[31mil\x07 \x1b]0;pwned\x07[red]markup[/red]\ttab\nline \u202ertl :boom:"


def command(*arguments):
    return [sys.executable, "-m", "cfplatform", *map(str, arguments)]


def environment(sandbox, **changes):
    """Environment variables of a process that uses a sandbox; a value of ``None`` removes one."""
    usual = {
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color",
        **dict.fromkeys(("NO_COLOR", "FORCE_COLOR", "COLUMNS", "CF_PROFILE")),
    }
    # The user's configuration file is not read.
    usual["XDG_CONFIG_HOME"] = str(ROOT / "tests" / "functional")
    variables = {**os.environ, **usual, **(sandbox.environment() if sandbox else {}), **changes}
    return {name: value for name, value in variables.items() if value is not None}


def run(*arguments, sandbox=None, cwd=None, stdin="", **changes):
    """Run a command in this process; its streams are not terminals."""
    argv = ["cfplatform", *map(str, arguments)]
    variables = mock.patch.dict(os.environ, environment(sandbox, **changes), clear=True)
    before = Path.cwd()
    with contextlib.ExitStack() as stack:
        source, out, err = [stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in range(3)]
        source.write(stdin)
        source.seek(0)
        with variables, mock.patch.multiple(sys, argv=argv, stdin=source, stdout=out, stderr=err), _same_process():
            os.chdir(cwd or before)
            try:
                main()
                code = 0
            except SystemExit as ended:
                code = ended.code or 0
            finally:
                os.chdir(before)
            if code == 2:
                # A rejected command's open files are closed when its process exits, without a warning.
                gc.collect()
        return subprocess.CompletedProcess(argv, code, *map(_written, (out, err)))


@contextlib.contextmanager
def _same_process():
    """Show warnings as in a new process, and undo changes that a command makes to its process."""
    loggers = [logging.getLogger(name) for name in ("cfplatform", "urllib3")]
    kept = [(logger.level, [*logger.handlers]) for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        try:
            yield
        finally:
            for logger, (level, handlers) in zip(loggers, kept, strict=True):
                logger.setLevel(level)
                logger.handlers[:] = handlers


def _written(stream):
    stream.seek(0)
    return stream.read()


def run_process(*arguments, sandbox=None, cwd=None, stdin="", **changes):
    """Run a command in a separate process, with its streams in pipes."""
    streams = {"input": stdin, "capture_output": True, "encoding": "utf-8"}
    variables = environment(sandbox, **changes)
    return subprocess.run(command(*arguments), **streams, env=variables, cwd=cwd, timeout=60, check=False)


@contextlib.contextmanager
def started(*arguments, sandbox=None):
    """Start a command that the test ends; it is killed if the test does not."""
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
    """The text that a terminal received, without colours and cursor movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)


def json_lines(text):
    """The output of --json."""
    return [json.loads(line) for line in text.splitlines()]
