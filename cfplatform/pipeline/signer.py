"""The thread that signs in groups what was annotated."""

from __future__ import annotations

from typing import Generic, TypeVar

from .. import signing
from ..exceptions import AuthenticationError, CFPlatformError, DownloadError, PermissionDeniedError
from ..transport import Interrupted, Transport
from .board import Board
from .faults import OUTAGE, concerns_all
from .job import Job

#: Seconds before a group that could not be signed is asked for again, beyond the repeats of each request. Signing is
#: one endpoint for all items, so an outage of minutes is sat out rather than paid for with a hundred items a group. A
#: success starts the pauses anew; once they are used up, further groups fail without one.
SIGN_PAUSES = (5.0, 15.0, 40.0, 60.0, 120.0)

R = TypeVar("R")


class GroupSigner(Generic[R]):
    """Signs groups of jobs for as long as the run goes on.

    Args:
        calls: The transport.
        board: Where the jobs are.
    """

    def __init__(self, calls: Transport, board: Board[R]) -> None:
        self._board = board
        self._signer = signing.Signer(calls, board.stop)
        # Pauses taken since signing worked last.
        self._pauses = 0

    def sign_groups(self) -> None:
        """Sign until the run has ended."""
        while (group := self._board.next_group()) is not None:
            try:
                for space_id in dict.fromkeys(job.space_id for job in group):
                    self._sign_group(space_id, [job for job in group if job.space_id == space_id])
            except Interrupted:
                return
            except BaseException as error:
                self._board.abort(error)
                return

    def _sign_group(self, space_id: str, group: list[Job[R]]) -> None:
        try:
            places = [path for job in group for path in (job.path, job.asset_path) if path]
            signed = self._sign_patiently(space_id, places)
        except (AuthenticationError, PermissionDeniedError):
            raise
        except CFPlatformError as error:
            if concerns_all(error):
                raise
            for job in group:
                self._board.fail(job, error)
            return
        ready = []
        for job in group:
            asset = signed[job.asset_path] if job.asset_path else job.asset_url
            if isinstance(asset, str):
                job.asset_url = asset
            else:
                job.asset_error = asset
            url = signed[job.path] if job.path else ""
            if isinstance(url, str):
                job.url = url
                ready.append(job)
            else:
                self._board.fail(job, url)
        self._board.signed(ready)

    def _sign_patiently(self, space_id: str, paths: list[str]) -> dict[str, str | DownloadError]:
        while True:
            try:
                signed = self._signer.sign(space_id, paths)
            except OUTAGE as error:
                if concerns_all(error) or self._pauses >= len(SIGN_PAUSES):
                    raise
            else:
                self._pauses = 0
                return signed
            self._pauses += 1
            if self._board.stop.wait(SIGN_PAUSES[self._pauses - 1]):
                raise Interrupted
