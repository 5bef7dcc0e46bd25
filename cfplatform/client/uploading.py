"""Uploading: assets to the storage of a space."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Sized
from typing import TYPE_CHECKING

from .base import Base, Id

if TYPE_CHECKING:
    from .. import progress as _progress
    from .. import uploads
    from ..uploads import File, UploadedFile, UploadResult


class Uploading(Base):
    """Calls that upload."""

    def upload_file(
        self,
        file: File,
        space_id: Id | None = None,
        *,
        content_type: str | None = None,
        progress: _progress.Progress = None,
    ) -> UploadedFile:
        """Upload one file to the storage of a space.

        The file is sent in steps of 16 KiB, so memory does not grow with it. After a transient error it is sent again
        from its start; an address that has expired or is refused is replaced, up to 3 times. A file that changes while
        it is sent never becomes an object. The key does not go to the storage.

        Evidence: documented. The published reference describes the call for upload addresses and that a content type is
        mandatory; its method and path, and that the bytes are sent with PUT, are assumed.

        Args:
            file: A path, or a binary file object that can seek, which is sent from where it stands and left there. An
                empty file is refused: there is nothing to label in it.
            space_id: The space; else the client's.
            content_type: The media type, such as "image/png"; else told from the extension of the name, and
                "application/octet-stream" where that tells none.
            progress: ``True`` for a bar (extra ``progress``), a function of (done, total), or a
                :class:`~cfplatform.ProgressReporter`; files are counted, not bytes.

        Returns:
            The file in the storage. Its ``path``, chosen by the platform, is the ``asset_url`` of a work item.

        Raises:
            ConfigurationError: If no space is known.
            InvalidParameterError: If the file object is in text mode or cannot seek, or the content type is none.
            UploadError: If the file is not there, cannot be read, is empty, or changes while it is sent.

        Example:
            >>> import io
            >>> uploaded = client.upload_file(io.BytesIO(b"..."), content_type="image/png")
            >>> uploaded.size, uploaded.content_type
            (3, 'image/png')
        """
        from .. import progress as _progress

        uploader = self._uploader(space_id, content_type, 1, 0.0, _progress.reporter(progress))
        run = uploader.run([file], 1)
        with contextlib.closing(run):
            result = next(run)
        if result.uploaded is None:
            raise result.error or AssertionError
        return result.uploaded

    def upload_files(
        self,
        files: Iterable[File],
        space_id: Id | None = None,
        *,
        content_type: str | None = None,
        max_workers: int | None = None,
        patience: float | None = None,
        progress: _progress.Progress = None,
    ) -> Generator[UploadResult, None, None]:
        """Upload many files concurrently, and yield each result as soon as the file is finished.

        Each is sent as by :meth:`upload_file`. The files are read lazily, a bounded number ahead (twice the workers and
        10), and addresses are asked for 10 at a time (the platform's limit), never more than there are files. One
        that fails does not stop the others. While the platform or the storage is away, the run waits for up to
        ``patience``. Closing the generator, or leaving the loop, cancels what is under way.

        Evidence: documented, as :meth:`upload_file`.

        Args:
            files: Paths and binary file objects, in any iterable. The same may be given several times; each time
                makes an object of its own. A file object must stay open until its result is there.
            space_id: The space; else the client's.
            content_type: The media type of all files; else told from each name.
            max_workers: Files sent at the same time; the client's number if omitted, and not more than it.
            patience: Seconds that the run waits for an outage to end; the client's number if omitted.
            progress: As for :meth:`upload_file`.

        Yields:
            For each file a result, with either ``uploaded`` or ``error`` set.

        Raises:
            InvalidParameterError: If an argument is wrong; raised by the call itself.
            AuthenticationError: While iterating: if the key is refused. What was uploaded before is yielded first.
            OutageError: While iterating: if an outage lasts longer than ``patience``.

        Example:
            >>> import io
            >>> files = [io.BytesIO(b"first"), io.BytesIO(b"second"), "missing.png"]
            >>> sorted(result.uploaded.size if result.ok else 0 for result in client.upload_files(files))
            [0, 5, 6]
        """
        from .. import progress as _progress
        from .. import uploads

        checked = uploads.check_files(files)
        workers = self._workers(max_workers)
        uploader = self._uploader(
            space_id, content_type, workers, self._run_patience(patience), _progress.reporter(progress)
        )
        return uploader.run(checked, len(files) if isinstance(files, Sized) else None)

    def _uploader(
        self,
        space_id: Id | None,
        content_type: str | None,
        workers: int,
        patience: float,
        reporter: _progress.ProgressReporter,
    ) -> uploads.Uploader:
        from .. import uploads

        self._calls.ensure_open()
        space = self._required_space(space_id)
        checked = uploads.check_content_type(content_type)
        return uploads.Uploader(
            self._calls, space, content_type=checked, workers=workers, patience=patience, reporter=reporter
        )
