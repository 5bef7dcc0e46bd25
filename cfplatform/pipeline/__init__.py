"""The concurrent pipeline: annotation, signing, storage, without a barrier between them.

Worker threads take the next thing to do: a signed object first, else an annotation. A thread of its own signs what
has been annotated, about a hundred paths in a request, while the workers go on; the thread of the caller reads the
listing and hands out results. Each item costs a worker two round trips, so with W workers and latency L the steady
rate is W / (2 L) items a second.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from ..threads import Threads
from ..transport import Transport
from .board import SIGN_GROUP, Board
from .job import Job
from .signer import GroupSigner
from .workers import Receive, ReceiveAsset, Worker

__all__ = ["SIGN_GROUP", "Job", "Pipeline"]

R = TypeVar("R")


class Pipeline(Generic[R]):
    """Runs jobs, once.

    Args:
        calls: The transport.
        receive: Called in a worker with a job and the stream of its object; returns the result.
        workers: Items worked on at the same time, at the most.
        space_id: The space, or ``None`` to take it from each annotation.
        ordered: Hand out jobs in the order in which they came, not as they finish.
        held: Results, at the most, that wait to be taken. ``None`` where a result is small.
        room: Bytes that all documents under way and waiting may have together, for which ``receive`` calls
            :meth:`make_room`; one that has more goes alone. ``None`` for no limit.
        receive_asset: Called in a worker with a job whose asset is wanted, what renews its signed URL (``None`` where
            it has none), and the event that ends the run; returns the result.
        around: Entered by a worker for as long as it fetches a document; several workers are in it at the same time.
    """

    def __init__(
        self,
        calls: Transport,
        receive: Receive[R],
        *,
        workers: int,
        space_id: str | None,
        ordered: bool = False,
        held: int | None = None,
        room: int | None = None,
        receive_asset: ReceiveAsset[R] | None = None,
        around: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._calls = calls
        self._workers = workers
        self._board: Board[R] = Board(workers=workers, ordered=ordered, held=held, room=room)
        self._threads = Threads("cfplatform", self._board.end)
        self._worker = Worker(
            calls,
            self._board,
            space_id=space_id,
            receive=receive,
            receive_asset=receive_asset,
            around=around or contextlib.nullcontext(),
        )
        self._signer = GroupSigner(calls, self._board)

    def run(self, jobs: Iterable[Job[R]]) -> Generator[Job[R], None, None]:
        """Yield the jobs when they are done. Closing the generator cancels what is under way.

        Jobs are taken from the iterable in the caller's thread and only as far ahead as there is use for. If it
        raises, what was taken is finished first.

        Raises:
            CFPlatformError: What stops the whole run: the key is refused, or the disk is full.
        """
        board = self._board
        level = self._calls.level_for(self._workers)
        board.begin(level, self._threads, work=self._worker.take_turns, sign=self._signer.sign_groups)
        source = iter(jobs)
        listing_error: Exception | None = None
        with self._threads:
            while True:
                for turn in itertools.count():
                    if not board.wants_more(turn):
                        break
                    try:
                        board.admit(next(source))
                    except StopIteration:
                        board.end_listing()
                    except Exception as error:
                        listing_error = error
                        board.end_listing()
                job = board.next_finished()
                if job is None:
                    break
                yield job
            if listing_error is not None:
                raise listing_error

    def make_room(self, job: Job[R], size: int, *, is_all: bool = True) -> None:
        """Set aside the bytes of a document that is about to be received.

        Args:
            job: Its job.
            size: The bytes that it has.
            is_all: Whether there are no more to come; else, where there is no room, it comes again alone.

        Raises:
            NoRoom: If others have to go first; the pipeline takes care of the rest.
        """
        self._board.make_room(job, size, is_all)
