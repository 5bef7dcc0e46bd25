"""Destinations on real mounts with missing file system features. Skipped without root and some packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from cfplatform import DestinationError, iter_downloaded

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts as Linux does"),
]


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{command[0]}: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


def needs(*tools):
    for tool in tools:
        if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            pytest.skip(f"{tool} is not installed")


class Mount:
    """A mount in a folder; ``again`` remounts it to empty all caches."""

    def __init__(self, folder, kind, *, make, mount, needs_device):
        self.path = folder / kind
        self.path.mkdir()
        self._image = folder / f"{kind}.img"
        self._mount = mount
        self._needs_device = needs_device
        if make is not None:
            with open(self._image, "wb") as file:
                file.truncate(64 << 20)
            run(*make, self._image)
        self._on()

    def _on(self):
        self._device = run("losetup", "--find", "--show", self._image).strip() if self._needs_device else ""
        run(*(part.format(image=self._image, device=self._device, path=self.path) for part in self._mount))

    def off(self):
        run("umount", self.path)
        if self._device:
            run("losetup", "-d", self._device)

    def end(self):
        """Unmount it in any case."""
        for command in (("umount", self.path), ("losetup", "-d", self._device)):
            subprocess.run([str(part) for part in command], capture_output=True)

    def again(self):
        self.off()
        self._on()


#: The table of docs/destinations.rst lists the missing features of each.
KINDS = {
    "ext4 with inodes of 128 bytes": (
        ("mkfs.ext4",),
        ("mkfs.ext4", "-q", "-I", "128"),
        ("mount", "-o", "loop", "{image}", "{path}"),
    ),
    "exfat": (
        ("mkfs.exfat", "mount.exfat-fuse"),
        ("mkfs.exfat",),
        ("mount.exfat-fuse", "{device}", "{path}"),
    ),
    "ntfs": (
        ("mkfs.ntfs", "ntfs-3g"),
        ("mkfs.ntfs", "-F", "-Q"),
        ("ntfs-3g", "-o", "windows_names", "{image}", "{path}"),
    ),
    "a share without chmod and maps": (
        ("bindfs",),
        None,
        ("bindfs", "--chmod-deny", "-o", "direct_io", "{image}.source", "{path}"),
    ),
    "an encrypted folder": (
        ("gocryptfs",),
        None,
        ("gocryptfs", "-q", "-extpass", "echo", "-extpass", "secret", "{image}.source", "{path}"),
    ),
}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.replace(" ", "-"))
def mount(request, tmp_path):
    tools, make, command = KINDS[request.param]
    needs(*tools)
    name = request.param.split()[-1]
    source = tmp_path / f"{name}.img.source"
    source.mkdir()
    if "gocryptfs" in tools:
        run("gocryptfs", "-q", "-init", "-longnames=false", "-extpass", "echo", "-extpass", "secret", source)
    mounted = Mount(tmp_path, name, make=make, mount=command, needs_device="{device}" in command)
    yield mounted
    mounted.end()


def counts(summary):
    return summary.successful, summary.skipped, summary.failed


def test_a_mount_is_a_destination(make_sandbox, mount):
    sandbox = make_sandbox(items=60, batch_names=["a", "A", "x" * 300])
    labels = mount.path / "labels"
    with sandbox.client() as client:
        summary = client.download_project(destination=labels, assets=True)
        assert counts(summary) == (60, 0, 0), [str(each.error) for each in summary.failures][:2]
        assert len(list(summary.results)) == len(list(iter_downloaded(labels))) == 60
        assert len([path for path in labels.rglob("*.json") if ".cfplatform" not in path.parts]) == 60
        for remount in (False, True, False):
            if remount:
                mount.again()
            sandbox.clear_requests()
            assert counts(client.download_project(destination=labels, assets=True)) == (0, 60, 0)
            assert sandbox.counts["storage"] == 0
        assert counts(client.download_project(destination=labels, assets=True, overwrite=True)) == (60, 0, 0)


def test_a_name_that_changes_its_case_only_loses_nothing(make_sandbox, mount):
    sandbox = make_sandbox(items=20, batch_names=["train"])
    labels = mount.path / "labels"
    with sandbox.client() as client:
        client.download_project(destination=labels, assets=True)
        (batch,) = client.get_batches()
        sandbox.rename_batch(batch.id, "Train")
        assert counts(client.download_project(destination=labels, assets=True)) == (20, 0, 0)
        found = list(iter_downloaded(labels))
        assert len(found) == 20
        assert all(each.path.is_file() and each.asset_path.is_file() for each in found)
        assert counts(client.download_project(destination=labels, assets=True, prune=True)) == (0, 20, 0)
    assert len([path for path in labels.rglob("*.json") if ".cfplatform" not in path.parts]) == 20


def test_an_export_is_saved_and_unpacked_on_a_mount(sandbox, client, tmp_path, mount):
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for number in range(20):
            archive.writestr(f"batch/{number}.json", os.urandom(50_000))
    export_id = sandbox.add_export(tmp_path / "some.zip")
    path = client.download_export(export_id, mount.path / "exports")
    assert path.read_bytes() == (tmp_path / "some.zip").read_bytes()
    folder = client.download_export(export_id, mount.path / "exports", extract=True)
    assert len(list(folder.rglob("*.json"))) == 20


def test_a_mount_that_goes_away_ends_the_run(make_sandbox, mount):
    sandbox = make_sandbox(items=600, latency=0.005)

    def progress(done, total):
        if done == 60:
            subprocess.run(["umount", "--lazy", str(mount.path)], check=True)

    # Otherwise items would be saved where no one finds them.
    with sandbox.client(max_workers=8) as client, pytest.raises(DestinationError) as caught:
        client.download_project(destination=mount.path / "labels", progress=progress)
    assert isinstance(caught.value, OSError)
    assert sandbox.counts["storage"] < 400
