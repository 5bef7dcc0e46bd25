"""Exports: archives of labels that the platform makes of a whole space, of projects or of batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .. import params
from ..params import DatetimeLike
from ..resources import Export, ExportFormat
from .base import Base, Id, PathLike

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Unpack

    from .. import exports
    from ..archives import ArchiveMember


class Exporting(Base):
    """Calls about exports."""

    def get_exports(
        self, space_id: Id | None = None, *, format: str | None = None, max_items: int | None = None
    ) -> Iterator[Export]:
        """Iterate over the exports of a space, the newest first; lazily, like :meth:`get_work_items`.

        Args:
            space_id: The space; else the client's.
            format: Only exports in this format: "COCO_JSON", "JSON" or "CSV".
            max_items: Stop after so many.

        Example:
            >>> [export.name for export in client.get_exports(sandbox.space_id, max_items=3)]
            []
        """
        from .. import exports

        return self._exports(space_id).listed(exports.checked_format(format), params.max_items(max_items))

    def get_export(self, export_id: Id, space_id: Id | None = None) -> Export:
        """Fetch one export, with its status.

        Raises:
            NotFoundError: If the space has no such export.

        Example:
            >>> export = client.create_export("looked at", sandbox.space_id)
            >>> client.get_export(export.id, sandbox.space_id).name
            'looked at'
        """
        return self._exports(space_id).get(params.object_id("export_id", export_id))

    def create_export(
        self,
        name: str,
        space_id: Id | None = None,
        *,
        format: str = ExportFormat.COCO_JSON,
        content: str | None = None,
        project_ids: Iterable[Id] | None = None,
        batch_ids: Iterable[int] | None = None,
        created_at_from: DatetimeLike | None = None,
        created_at_to: DatetimeLike | None = None,
        updated_at_from: DatetimeLike | None = None,
        updated_at_to: DatetimeLike | None = None,
        wait_for_running: bool = False,
        timeout: float = params.WAIT_TIMEOUT,
    ) -> Export:
        """Ask the platform to make an export; it makes one at a time in a space.

        The exports that are there are listed first. If the answer is lost (the connection broke, or it is a 5xx), they
        are listed again, and the request is repeated, once, only if no export of this name has come up: so it is not
        made twice.

        Args:
            name: A name to recognise it by; it need not be unique.
            space_id: The space; else the client's.
            format: "COCO_JSON", "JSON" or "CSV".
            content: "ANNOTATION" (also if omitted), "INFERENCE" or "ASSET_METADATA"; the latter two not as COCO_JSON.
            project_ids: Only these projects, 1 to 50 (the platform's limit); all projects of the space if omitted.
            batch_ids: Only these batches, 1 to 100 (the platform's limit).
            created_at_from: Only work items created at this time or later; as for :meth:`get_work_items`.
            created_at_to: Only work items created at this time or before.
            updated_at_from: Only work items changed at this time or later.
            updated_at_to: Only work items changed at this time or before.
            wait_for_running: If another export is being made, wait for it first.
            timeout: Seconds to wait for that, at the most.

        Raises:
            InvalidParameterError: Before any request, if the platform would refuse the arguments, or would take an
                empty list for everything.
            ConflictError: If another export is being made; the message names it.

        Example:
            >>> export = client.create_export("of one batch", sandbox.space_id, batch_ids=[1001])
            >>> client.wait_for_export(export.id, sandbox.space_id).status
            'COMPLETED'
        """
        from .. import exports

        body = exports.request_body(
            name,
            format=format,
            content=content,
            project_ids=project_ids,
            batch_ids=batch_ids,
            dates={
                "created_at_from": created_at_from,
                "created_at_to": created_at_to,
                "updated_at_from": updated_at_from,
                "updated_at_to": updated_at_to,
            },
        )
        params.flag("wait_for_running", wait_for_running)
        return self._exports(space_id).create(body, wait_for_running=wait_for_running, timeout=timeout)

    def wait_for_export(
        self, export_id: Id, space_id: Id | None = None, **options: Unpack[exports.WaitOptions]
    ) -> Export:
        """Wait until an export is completed and return it.

        Its status is read at least once; between two looks there is a second at first, and then more and more. Faults
        that pass do not end the wait.

        Args:
            export_id: The export.
            space_id: Its space; else the client's.
            options: ``timeout``: seconds at the most, 3600 if omitted. ``poll_interval``: seconds between two looks
                in the end, 5 if omitted. ``progress``: told the status at each look.

        Raises:
            ExportFailedError: If the platform could not make it, with its reason.
            ExportTimeoutError: If it took too long; its ``export`` says how far it is. It can be waited for again.

        Example:
            >>> export = client.create_export("waited for", sandbox.space_id)
            >>> client.wait_for_export(export.id, sandbox.space_id, timeout=600).status
            'COMPLETED'
        """
        from .. import exports

        params.check_names("wait_for_export", options, tuple(exports.WaitOptions.__annotations__))
        return self._exports(space_id).wait(params.object_id("export_id", export_id), options)

    def download_export(
        self,
        export_id: Id,
        destination: PathLike,
        space_id: Id | None = None,
        **options: Unpack[exports.ExportDownloadOptions],
    ) -> Path:
        """Download the archive of an export, or unpack it.

        The archive becomes ``<destination>/<name> <export id>.zip``, which no other export has, and appears only when
        every member has its right checksum. A download that was cut goes on where it stopped, in this run or in a
        later one, as long as the storage proves that it is the same object; a link that has expired is renewed. What
        is there already is not fetched again. Memory does not grow with the archive.

        Args:
            export_id: The export.
            destination: The folder; made if it does not exist. Its hidden folder ``.cfplatform`` holds what is not
                complete.
            space_id: Its space; else the client's.
            options: ``wait``: ``False`` raises if it is not completed yet. ``timeout`` and ``poll_interval``: as for
                :meth:`wait_for_export`. ``extract``: unpack into the folder ``<name> <export id>``, which appears
                only when it is complete, and keep no archive. ``overwrite``: fetch an archive anew though it is
                there; a folder is never replaced. ``progress``: as for :meth:`download_project`, in bytes.

        Returns:
            The archive or the folder, absolute.

        Raises:
            UnsafePathError: If a name in the archive leads elsewhere; nothing is unpacked.
            IncompleteDownloadError: If the archive is damaged.
            DownloadError: If it cannot be saved.

        Example:
            >>> export = client.create_export("to unpack", sandbox.space_id)
            >>> folder = client.download_export(export.id, "archives", sandbox.space_id, extract=True)
            >>> len(list(folder.glob("*/*.json")))
            20
        """
        from .. import exports

        params.check_names("download_export", options, tuple(exports.ExportDownloadOptions.__annotations__))
        for name in ("wait", "extract", "overwrite"):
            params.flag(name, options.get(name, False))
        return self._exports(space_id).download(params.object_id("export_id", export_id), destination, options)

    def delete_export(self, export_id: Id, space_id: Id | None = None) -> None:
        """Delete an export and its archive, whatever its status.

        Raises:
            NotFoundError: If the space has no such export.

        Example:
            >>> export = client.create_export("done with", sandbox.space_id)
            >>> client.delete_export(export.id, sandbox.space_id)
        """
        self._exports(space_id).delete(params.object_id("export_id", export_id))

    def _iter_members(
        self, export: Export, pattern: str, destination: str | os.PathLike[str] | None
    ) -> Iterator[ArchiveMember]:
        return self._exports(export.space_id).iter_members(export.id, pattern, destination)

    def _exports(self, space_id: Id | None) -> exports.Exports:
        from .. import exports

        space = self._required_space(space_id)

        def make(data: dict[str, Any]) -> Export:
            return Export(data, self._itself, space)

        return exports.Exports(self._calls, space, make, self._patience)
