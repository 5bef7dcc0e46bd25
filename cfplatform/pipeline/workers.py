"""What a worker does with a job: annotate it, then, once it is signed, fetch it."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from .. import files, signing
from ..annotation import fetch_annotation
from ..exceptions import APIError, AuthenticationError, CFPlatformError, DownloadError, PermissionDeniedError
from ..resources import WorkItem
from ..transport import Interrupted, ObjectStream, Transport
from .board import Board
from .faults import concerns_all
from .job import Job
from .room import NoRoom

R = TypeVar("R")

#: What receives a document, and what receives an asset; see :class:`Pipeline`.
Receive = Callable[[Job[R], ObjectStream], R]
ReceiveAsset = Callable[[Job[R], Callable[[], str] | None, threading.Event], R]


class Worker(Generic[R]):
    """Works on the jobs of a board, in any number of threads. The arguments are those of :class:`Pipeline`."""

    def __init__(
        self,
        calls: Transport,
        board: Board[R],
        *,
        space_id: str | None,
        receive: Receive[R],
        receive_asset: ReceiveAsset[R] | None,
        around: AbstractContextManager[Any],
    ) -> None:
        self._calls = calls
        self._board = board
        self._space_id = space_id
        self._receive = receive
        self._receive_asset = receive_asset
        self._around = around

    def take_turns(self) -> None:
        """Do the next thing until the run has ended."""
        self._board.join()
        while (turn := self._board.next_turn()) is not None:
            is_signed, job = turn
            began = time.thread_time()
            try:
                if is_signed:
                    self._fetch(job)
                else:
                    self._annotate(job)
            except Interrupted:
                return
            except CFPlatformError as error:
                if concerns_all(error):
                    self._board.abort(error)
                else:
                    self._board.fail(job, error)
            except OSError as error:
                problem = files.destination_error(error)
                if files.stops_everything(error):
                    self._board.abort(problem)
                else:
                    self._board.fail(job, problem)
            except BaseException as error:
                # A fault of our own: it must reach the caller, not die with the thread.
                self._board.abort(error)
            self._board.end_turn(time.thread_time() - began, self._calls.overloads)

    def _annotate(self, job: Job[R]) -> None:
        found = None
        try:
            self._find(job)
            found = job
        except (AuthenticationError, PermissionDeniedError) as error:
            # The key is refused: every other item would be refused too.
            self._board.abort(error)
        finally:
            self._board.annotated(found)

    def _find(self, job: Job[R]) -> None:
        """Find out where the document and the asset of a job are stored."""
        on_the_web = job.asset is not None and job.asset.lower().startswith(("http://", "https://"))
        if job.wants_document:
            job.space_id, job.path = self._locate(job.item)
        elif not on_the_web:
            job.space_id = self._space_id or self._locate(job.item)[0]
        if on_the_web:
            job.asset_url = job.asset or ""
        elif job.asset is not None:
            try:
                _, job.asset_path = signing.locate(job.asset, job.space_id, "asset")
            except DownloadError as error:
                job.asset_error = error.with_traceback(None)

    def _locate(self, item: WorkItem) -> tuple[str, str]:
        annotation = fetch_annotation(self._calls, item.project_id or "", item.id, stop=self._board.stop)
        place = annotation.coco_results_url
        if place is None:
            raise DownloadError(f"The annotation of work item {item.id} names no COCO document: no coco_results_url.")
        return signing.locate(place, self._space_id)

    def _fetch(self, job: Job[R]) -> None:
        try:
            if job.path:
                with self._around:
                    job.result = self._calls.fetch(
                        job.url, lambda stream: self._receive(job, stream), headers=job.headers, stop=self._board.stop
                    )
        except NoRoom:
            self._board.fetch_later(job)
            return
        except APIError as error:
            if not signing.should_renew(error, job.renewals):
                raise
            job.renewals += 1
            self._board.sign_again(job)
            return
        if job.asset is not None and self._receive_asset is not None:
            if job.asset_error is not None:
                raise job.asset_error
            renew = functools.partial(self._sign_asset, job) if job.asset_path else None
            job.result = self._receive_asset(job, renew, self._board.stop)
        self._board.finish(job)

    def _sign_asset(self, job: Job[R]) -> str:
        url = signing.Signer(self._calls, self._board.stop).sign(job.space_id, [job.asset_path])[job.asset_path]
        if isinstance(url, str):
            return url
        raise url
