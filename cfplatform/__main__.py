"""``python -m cfplatform`` and the ``cfplatform`` command, which need the ``cli`` extra."""

from __future__ import annotations

import importlib.util
import os
import sys


def main() -> None:
    """Run the command line and exit with its exit code."""
    missing = [name for name in ("click", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(missing)
        print(f"The cfplatform command needs {names}: pip install 'cfplatform[cli]'", file=sys.stderr)
        sys.exit(2)
    try:
        from .cli import cli

        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            # None if the shell has closed the stream.
            if getattr(sys, name) is None:
                setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives
        cli(prog_name="cfplatform")
    except KeyboardInterrupt:
        # Before a command started, or while the process was exiting.
        sys.exit(130)


if __name__ == "__main__":
    main()
