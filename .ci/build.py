"""Build sdist and wheel into a folder, byte for byte the same for the same sources.

    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) python .ci/build.py dist

Times, owners and modes are set, and the wheel is built from the finished sdist. The environment needs ``build``, and
with ``--no-isolation`` the packages that pyproject.toml names for building.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(destination: str, *options: str) -> None:
    """Build both archives."""
    try:
        epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    except (KeyError, ValueError):
        sys.exit("Set SOURCE_DATE_EPOCH to the time of the release, such as $(git log -1 --format=%ct).")
    # Files that the build writes get their mode from it.
    os.umask(0o022)
    out = Path(destination).absolute()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        _build("--sdist", *options, "--outdir", folder, str(ROOT))
        (sdist,) = Path(folder).glob("*.tar.gz")
        _settle(sdist, out / sdist.name, epoch)
        shutil.unpack_archive(out / sdist.name, folder, filter="data")
        (source,) = (path for path in Path(folder).iterdir() if path.is_dir())
        _build("--wheel", *options, "--outdir", str(out), str(source))


def _build(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "build", *arguments], check=True)


def _settle(archive: Path, target: Path, epoch: int) -> None:
    """Write a tar again with nothing in it that tells when, where and by whom it was made."""
    with (
        tarfile.open(archive) as old,
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", mtime=epoch, fileobj=raw) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old, key=lambda member: member.name):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = epoch
            member.pax_headers = {}
            member.mode = 0o755 if member.isdir() else 0o644
            new.addfile(member, old.extractfile(member) if member.isfile() else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
