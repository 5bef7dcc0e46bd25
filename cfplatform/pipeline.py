"""The concurrent pipeline: annotation, signing, storage, without a barrier between them.

Worker threads take the next thing to do: a signed object first, else an annotation. A thread of its own signs what
has been annotated, about a hundred paths in a request, while the workers go on; the thread of the caller reads the
listing and hands out results. Each item costs a worker two round trips, so with W workers and latency L the steady
rate is W / (2 L) items a second.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import heapq
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Generic, TypeVar

from . import files, params, signing, transport
from .exceptions import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    CFPlatformError,
    DestinationError,
    DownloadError,
    InvalidResponseError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from .resources import Annotation, WorkItem
from .room import NoRoom, Room
from .state import StateError
from .transport import Interrupted, ObjectStream, Transport

#: Annotated items that are signed together. Large enough that signing hardly counts, small enough that
#: the URLs are used soon: they may live for minutes only.
SIGN_GROUP = 100
#: Seconds that a smaller group waits for company while the listing has nothing to give.
LINGER = 0.05
#: Seconds, and results, that the caller's thread waits for where results come faster than that.
GATHER = 0.01
GATHERED = 16
#: Seconds before a group that could not be signed is asked for again, beyond the repeats of each request. Signing is
#: one endpoint for all items, so an outage of minutes is sat out rather than paid for with a hundred items a group. A
#: success starts the pauses anew; once they are used up, further groups fail without one.
SIGN_PAUSES = (5.0, 15.0, 40.0, 60.0, 120.0)
#: Seconds that the end of a run waits for threads that are still in a request. They are daemons and end by
#: themselves.
JOIN_TIMEOUT = 1.0

_OUTAGE = (APIConnectionError, APITimeoutError, RateLimitError, ServerError)
_OUT_OF_FILES = os.strerror(errno.EMFILE)

R = TypeVar("R")


class Job(Generic[R]):
    """One item on its way; ``result`` or ``error`` is set when it is done."""

    __slots__ = (
        "asset",
        "asset_error",
        "asset_path",
        "asset_url",
        "error",
        "headers",
        "held",
        "index",
        "item",
        "path",
        "renewals",
        "result",
        "room",
        "size",
        "space_id",
        "target",
        "url",
        "wants_document",
    )

    def __init__(self, item: WorkItem, target: Any = None, result: R | None = None) -> None:
        self.item = item
        self.wants_document = True
        #: Where the asset is, as the platform says; ``None`` if it is not wanted.
        self.asset: str | None = None
        self.asset_path = ""
        self.asset_url = ""
        #: Why there is no asset; raised after the document is saved.
        self.asset_error: DownloadError | None = None
        #: What the receiver needs to know; the pipeline does not look at it.
        self.target = target
        self.result = result
        self.error: CFPlatformError | None = None
        self.headers: dict[str, str] | None = None
        self.held = False
        #: Bytes that the document is known to need, and those that are set aside for it.
        self.size: int | None = None
        self.room = 0
        self.index = -1
        self.space_id = ""
        self.path = ""
        self.url = ""
        self.renewals = 0

    def __lt__(self, other: Job[R]) -> bool:
        return self.index < other.index

    def take(self) -> R | None:
        """Return the result and hold it no longer."""
        result, self.result = self.result, None
        return result


class Pipeline(Generic[R]):
    """Runs jobs.

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
    """

    def __init__(
        self,
        calls: Transport,
        receive: Callable[[Job[R], ObjectStream], R],
        *,
        workers: int,
        space_id: str | None,
        ordered: bool = False,
        held: int | None = None,
        room: int | None = None,
        receive_asset: Callable[[Job[R], Callable[[], str] | None, threading.Event], R] | None = None,
    ) -> None:
        self._calls = calls
        self._receive_asset = receive_asset
        self._receive = receive
        self._space_id = space_id
        self._ordered = ordered
        self._held_limit = held
        # Far from as many as would keep the workers waiting.
        self._enough = GATHERED if held is None else min(GATHERED, held // 2)
        self._room = None if room is None else Room(room)
        # Enough that one group is fetched while the next is annotated.
        self._window = 2 * SIGN_GROUP + 4 * workers
        self._workers = workers
        self._stop = threading.Event()
        lock = threading.Lock()
        self._lock = lock
        self._work = threading.Condition(lock)
        self._more_workers = threading.Condition(lock)
        self._sign = threading.Condition(lock)
        self._done = threading.Condition(lock)
        self._pid = os.getpid()
        self._threads: list[threading.Thread] = []
        self._to_annotate: deque[Job[R]] = deque()
        self._to_sign: list[Job[R]] = []
        self._to_fetch: list[Job[R]] = []
        self._finished: deque[Job[R]] = deque()
        self._finished_early: dict[int, Job[R]] = {}
        # Workers that are not sent to wait until more of them help.
        self._present = 0
        self._annotating = self._idle = self._held = 0
        self._admitted = self._handed_out = 0
        self._listed = False
        self._renewing = False
        # Pauses taken since signing worked last; used by the signer only.
        self._pauses = 0
        self._fatal: BaseException | None = None
        # Whether results came fast lately, and whether the caller waits for more than one.
        self._is_brisk = self._is_gathering = False

    def run(self, jobs: Iterable[Job[R]]) -> Generator[Job[R], None, None]:
        """Yield the jobs when they are done. Closing the generator cancels what is under way.

        Jobs are taken from the iterable in the caller's thread and only as far ahead as there is use for. If it
        raises, what was taken is finished first.

        Raises:
            CFPlatformError: What stops the whole run: the key is refused, or the disk is full.
        """
        self._level = self._calls.level_for(self._workers)
        # The first group is small, so that the first results come soon.
        self._group = min(self._level.limit, SIGN_GROUP)
        # While the interpreter shuts down a worker may be frozen with the lock in its hands, so a generator that
        # was left open is ended before that.
        atexit.register(self._shut_down)
        source = iter(jobs)
        listing_error: Exception | None = None
        try:
            while True:
                for turn in itertools.count():
                    # Two a turn keep the window filled; more of them only while there is nothing to hand out.
                    if self._listed or self._is_full() or (turn >= 2 and self._has_output()):
                        break
                    try:
                        self._admit(next(source))
                    except StopIteration:
                        self._end_of_listing()
                    except Exception as error:
                        listing_error = error
                        self._end_of_listing()
                job = self._next_finished()
                if job is None:
                    break
                yield job
            if listing_error is not None:
                raise listing_error
        finally:
            atexit.unregister(self._shut_down)
            self._shut_down()

    # --- The caller's thread -------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return self._admitted - self._handed_out >= self._window

    def _has_output(self) -> bool:
        return bool(self._finished) or self._handed_out in self._finished_early or self._fatal is not None

    def _ready(self) -> int:
        return len(self._finished) + len(self._finished_early)

    def _admit(self, job: Job[R]) -> None:
        with self._lock:
            job.index = self._admitted
            self._admitted += 1
            if job.result is not None or job.error is not None:
                self._finish(job)
                return
            self._to_annotate.append(job)
            if self._idle:
                self._work.notify()
            if len(self._to_annotate) > self._idle and len(self._threads) <= self._level.limit:
                # The first thread is the signer.
                if not self._threads:
                    self._start(self._sign_groups)
                self._start(self._take_turns)

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"cfplatform-{len(self._threads)}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _end_of_listing(self) -> None:
        with self._lock:
            self._listed = True
            self._sign.notify()

    def _next_finished(self) -> Job[R] | None:
        """Return the next job to hand out, or ``None`` when all are."""
        with self._lock:
            if not self._has_output():
                waited_since = time.monotonic()
                while not self._has_output():
                    if self._listed and self._admitted == self._handed_out:
                        return None
                    # In slices, because an untimed wait cannot be interrupted by Ctrl-C on Windows.
                    self._done.wait(0.5)
                if self._is_brisk and self._ready() < self._enough and self._fatal is None:
                    self._gather()
                self._is_brisk = time.monotonic() - waited_since < 2 * GATHER
            if self._fatal is not None:
                raise self._fatal
            job = self._finished_early.pop(self._handed_out) if self._ordered else self._finished.popleft()
            self._handed_out += 1
            self._release(job)
            if self._held_limit is not None:
                self._work.notify()
            self._room_was_given_back()
            return job

    def _gather(self) -> None:
        """Wait a moment for more results.

        They are handed out together then: a caller who is woken for each one takes the interpreter from the workers a
        thousand times a second.
        """
        self._is_gathering = True
        self._done.wait(GATHER)
        self._is_gathering = False

    def _shut_down(self) -> None:
        if self._pid != os.getpid():
            # A forked child has copies of this and of its lock, but not the threads that would give it back.
            return
        with self._lock:
            self._stop.set()
            self._to_annotate.clear()
            self._to_fetch.clear()
            self._to_sign.clear()
            self._wake_all()
            self._level.is_in_use = False
        for thread in list(self._threads):
            thread.join(JOIN_TIMEOUT / len(self._threads))

    def _wake_all(self) -> None:
        for condition in (self._work, self._more_workers, self._sign):
            condition.notify_all()

    # --- Workers -------------------------------------------------------------------------------------------

    def _take_turns(self) -> None:
        with self._lock:
            self._present += 1
        while (turn := self._next_turn()) is not None:
            step, job = turn
            began = time.thread_time()
            try:
                step(job)
            except Interrupted:
                return
            except CFPlatformError as error:
                if _concerns_all(error):
                    self._abort(error)
                else:
                    self._fail(job, error)
            except OSError as error:
                problem = files.destination_error(error)
                if files.stops_everything(error):
                    self._abort(problem)
                else:
                    self._fail(job, problem)
            except BaseException as error:
                # A fault of our own: it must reach the caller, not die with the thread.
                self._abort(error)
            with self._lock:
                limit = self._level.limit
                self._level.turn(time.thread_time() - began, self._calls.overloads)
                if self._level.limit > limit:
                    self._add_workers(self._level.limit - limit)

    def _add_workers(self, more: int) -> None:
        """Let those go on that wait, and start what is missing."""
        self._more_workers.notify(more)
        under_way = self._admitted - self._handed_out
        # None can be started any more while the interpreter ends.
        with contextlib.suppress(RuntimeError):
            while not self._stop.is_set() and len(self._threads) <= min(self._level.limit, under_way):
                self._start(self._take_turns)

    def _next_turn(self) -> tuple[Callable[[Job[R]], None], Job[R]] | None:
        with self._lock:
            while not self._stop.is_set():
                if self._present > self._level.limit:
                    self._leave()
                    continue
                if self._to_fetch and self._may_fetch() and self._has_room(self._to_fetch[0]):
                    job = heapq.heappop(self._to_fetch)
                    job.held = True
                    self._held += 1
                    return self._fetch, job
                if self._to_annotate:
                    self._annotating += 1
                    return self._annotate, self._to_annotate.popleft()
                self._idle += 1
                since = time.monotonic()
                self._work.wait()
                self._level.lacked_work(time.monotonic() - since)
                self._idle -= 1
            return None

    def _leave(self) -> None:
        """Wait until more workers help."""
        # What this one may have been woken for is there for another.
        self._work.notify()
        self._present -= 1
        self._more_workers.wait()
        self._present += 1

    def _may_fetch(self) -> bool:
        if self._held_limit is None:
            return True
        if self._ordered:
            # By position, so that the job that is waited for can always go on.
            return self._to_fetch[0].index < self._handed_out + self._held_limit
        return self._held < self._held_limit

    def _has_room(self, job: Job[R]) -> bool:
        """Set aside what the next document needs, as far as that is known."""
        if self._room is None:
            return True
        size = self._room.expected if job.size is None else job.size
        if not self._room.take(0, size, anyway=self._is_awaited(job)):
            return False
        job.room = size
        return True

    def make_room(self, job: Job[R], size: int, *, is_all: bool = True) -> None:
        """Set aside the bytes of a document that is about to be received.

        Args:
            job: Its job.
            size: The bytes that it has.
            is_all: Whether there are no more to come; else, where there is no room, it comes again alone.

        Raises:
            NoRoom: If others have to go first; the pipeline takes care of the rest.
        """
        if self._room is None:
            return
        with self._lock:
            if not self._room.take(job.room, size, anyway=self._is_awaited(job)):
                job.size = size if is_all else self._room.limit
                raise NoRoom
            given_back, job.room = job.room > size, size
            if is_all:
                self._room.remember(size)
            if given_back:
                self._room_was_given_back()

    def _is_awaited(self, job: Job[R]) -> bool:
        # Nobody gives anything back before this one is there.
        return self._ordered and job.index == self._handed_out

    def _room_was_given_back(self) -> None:
        if self._room is not None and self._room.is_wanted:
            self._room.is_wanted = False
            self._work.notify_all()

    def _release(self, job: Job[R]) -> None:
        if job.held:
            job.held = False
            self._held -= 1
        if self._room is not None:
            self._room.take(job.room, 0)
            job.room = 0

    def _annotate(self, job: Job[R]) -> None:
        try:
            self._find(job)
        except (AuthenticationError, PermissionDeniedError) as error:
            # The key is refused: every other item would be refused too.
            self._abort(error)
        else:
            with self._lock:
                self._to_sign.append(job)
        finally:
            with self._lock:
                self._annotating -= 1
                # With the first of a group the signer begins to wait for the others.
                if len(self._to_sign) == 1 or self._should_sign():
                    self._sign.notify()

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
        annotation = fetch_annotation(self._calls, item.project_id or "", item.id, stop=self._stop)
        place = annotation.coco_results_url
        if place is None:
            raise DownloadError(f"The annotation of work item {item.id} names no COCO document: no coco_results_url.")
        return signing.locate(place, self._space_id)

    def _fetch(self, job: Job[R]) -> None:
        try:
            if job.path:
                job.result = self._calls.fetch(
                    job.url, lambda stream: self._receive(job, stream), headers=job.headers, stop=self._stop
                )
        except NoRoom:
            with self._lock:
                self._release(job)
                heapq.heappush(self._to_fetch, job)
            return
        except APIError as error:
            if not signing.should_renew(error, job.renewals):
                raise
            job.renewals += 1
            with self._lock:
                self._release(job)
                self._to_sign.append(job)
                self._renewing = True
                self._sign.notify()
            return
        if job.asset is not None and self._receive_asset is not None:
            if job.asset_error is not None:
                raise job.asset_error
            renew = functools.partial(self._sign_asset, job) if job.asset_path else None
            job.result = self._receive_asset(job, renew, self._stop)
        with self._lock:
            self._finish(job)

    def _sign_asset(self, job: Job[R]) -> str:
        url = signing.Signer(self._calls, self._stop).sign(job.space_id, [job.asset_path])[job.asset_path]
        if isinstance(url, str):
            return url
        raise url

    def _fail(self, job: Job[R], error: CFPlatformError) -> None:
        # Without its traceback, whose frames hold the job, its document and the client.
        job.error = error.with_traceback(None)
        job.result = None
        with self._lock:
            self._finish(job)

    def _finish(self, job: Job[R]) -> None:
        if self._ordered:
            self._finished_early[job.index] = job
        else:
            self._finished.append(job)
        if self._is_gathering:
            is_enough = self._ready() in (self._enough, self._admitted - self._handed_out)
        else:
            is_enough = self._has_output()
        if is_enough:
            self._done.notify()

    def _abort(self, error: BaseException) -> None:
        if isinstance(error, CFPlatformError):
            # As above; the frames hold signed URLs too. The traceback of a fault of our own is kept: it is needed.
            error = error.with_traceback(None)
        with self._lock:
            self._fatal = self._fatal or error
            self._stop.set()
            self._done.notify()
            self._wake_all()

    # --- The signer ----------------------------------------------------------------------------------------

    def _should_sign(self) -> bool:
        if not self._to_sign:
            return False
        if len(self._to_sign) >= self._group or self._renewing:
            return True
        # Nothing more will join the group.
        return self._is_drained() and (self._listed or self._is_full())

    def _is_drained(self) -> bool:
        return not (self._to_annotate or self._annotating)

    def _wait_for_group(self) -> None:
        """Wait until there is a group to sign; a partial one while the listing keeps everybody waiting."""
        while not self._should_sign() and not self._stop.is_set():
            waiting = len(self._to_sign)
            woken = self._sign.wait(LINGER if waiting else None)
            if not woken and waiting == len(self._to_sign) and self._is_drained() and not self._to_fetch:
                return

    def _sign_groups(self) -> None:
        signer = signing.Signer(self._calls, self._stop)
        while True:
            with self._lock:
                self._wait_for_group()
                if self._stop.is_set():
                    return
                group = self._to_sign[: signing.MAX_PATHS]
                del self._to_sign[: signing.MAX_PATHS]
                self._group = SIGN_GROUP
                self._renewing = False
            try:
                for space_id in dict.fromkeys(job.space_id for job in group):
                    self._sign_group(signer, space_id, [job for job in group if job.space_id == space_id])
            except Interrupted:
                return
            except BaseException as error:
                self._abort(error)
                return

    def _sign_group(self, signer: signing.Signer, space_id: str, group: list[Job[R]]) -> None:
        try:
            places = [path for job in group for path in (job.path, job.asset_path) if path]
            signed = self._sign_patiently(signer, space_id, places)
        except (AuthenticationError, PermissionDeniedError):
            raise
        except CFPlatformError as error:
            if _concerns_all(error):
                raise
            for job in group:
                self._fail(job, error)
            return
        for job in group:
            asset = signed[job.asset_path] if job.asset_path else job.asset_url
            if isinstance(asset, str):
                job.asset_url = asset
            else:
                job.asset_error = asset
            url = signed[job.path] if job.path else ""
            if isinstance(url, str):
                job.url = url
                with self._lock:
                    heapq.heappush(self._to_fetch, job)
            else:
                self._fail(job, url)
        with self._lock:
            self._work.notify(len(group))

    def _sign_patiently(
        self, signer: signing.Signer, space_id: str, paths: list[str]
    ) -> dict[str, str | DownloadError]:
        while True:
            try:
                signed = signer.sign(space_id, paths)
            except _OUTAGE as error:
                if _concerns_all(error) or self._pauses >= len(SIGN_PAUSES):
                    raise
            else:
                self._pauses = 0
                return signed
            self._pauses += 1
            if self._stop.wait(SIGN_PAUSES[self._pauses - 1]):
                raise Interrupted


def fetch_annotation(
    calls: Transport, project_id: str, work_item_id: str, *, stop: threading.Event | None = None
) -> Annotation:
    """Fetch one annotation, with the COCO document's place in its metadata."""
    path = transport.path(
        "projects",
        params.object_id("project_id", project_id),
        "workItems",
        params.object_id("work_item_id", work_item_id),
        "annotations",
    )
    data = calls.get_json(path, [("format", "coco")], stop=stop)
    if not isinstance(data, dict):
        raise InvalidResponseError(f"The annotation of work item {work_item_id} is not an object.", method="GET")
    return Annotation({"id": work_item_id, **data}, None, work_item_id)


def _concerns_all(error: CFPlatformError) -> bool:
    """Tell whether every other item would meet the same: state or store cannot be used, or no socket be opened."""
    return isinstance(error, (StateError, DestinationError)) or (
        isinstance(error, APIConnectionError) and _OUT_OF_FILES in error.message
    )
