"""The `Sandbox` that users and tests hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from typing_extensions import Self

from .catalogue import Catalogue
from .faults import Fault, FaultKind, RateLimit, encode_body
from .platform import CursorStyle, Platform, non_negative
from .recorder import RecordedRequest
from .server import Server

if TYPE_CHECKING:
    from cfplatform.client import Client

_DEFAULT_BATCHES = 5

#: A work item given by its id or by its index, counted from 0 in the order of the listing.
ItemReference: TypeAlias = "str | int"


class Sandbox:
    """A CloudFactory AI Platform of its own, answering on a loopback address of this machine.

    Everything is derived from the seed: the same arguments give the same ids, pictures and labels, and a
    million items start as fast as ten. The port is taken when the object is made; it answers between
    ``start()`` and ``stop()``, or inside a ``with`` block. All methods may be called from any thread.

    Args:
        items: How many work items there are.
        batches: How many batches they are spread over, in order; 5, or as many as there are ``batch_names``.
        seed: Picks the world.
        port: The port to answer on; 0 picks a free one.
        in_review: The part of the items, 0 to 1, that is in ``CLIENT_REVIEW`` and has no annotation yet.
        batch_names: The names of the first batches; the others keep their usual ones.
        api_key: The key to ask for; derived from the seed if omitted.
        latency: Seconds by which every answer is delayed.
        url_lifetime: Seconds for which a signed URL works.
        page_size_default: The page size of a listing that does not give ``limit``.
        cursor_style: How the cursors of a page are spelled: ``camel`` (``cursorNext``) or ``snake``
            (``cursor_next``).
        with_total: Whether listings of work items tell the number of matches.
        overlap: How many entries of a page are repeated at the start of the next one.
        unbatched: How many of the last work items belong to no batch.
        host: The loopback address to answer on.

    Example:
        >>> with Sandbox(items=20) as sandbox, sandbox.client() as client:
        ...     sandbox.fail_next(503, path="*/annotations")
        ...     summary = client.download_project(destination="labels")
        ...     summary.successful, sandbox.counts["annotations"]
        (20, 21)
    """

    def __init__(
        self,
        items: int = 500,
        batches: int | None = None,
        *,
        seed: int = 0,
        port: int = 0,
        in_review: float = 0.0,
        batch_names: Sequence[str] | None = None,
        api_key: str | None = None,
        latency: float = 0.0,
        url_lifetime: float = 900,
        page_size_default: int = 20,
        cursor_style: CursorStyle = "camel",
        with_total: bool = True,
        overlap: int = 0,
        unbatched: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        names = batch_names or ()
        catalogue = Catalogue(
            seed=seed,
            items=items,
            batches=(len(names) or _DEFAULT_BATCHES) if batches is None else batches,
            batch_names=names,
            unbatched=unbatched,
            in_review=in_review,
        )
        self._platform = Platform(
            catalogue,
            api_key=api_key,
            latency=latency,
            url_lifetime=url_lifetime,
            page_size_default=page_size_default,
            cursor_style=cursor_style,
            with_total=with_total,
            overlap=overlap,
        )
        self._store = self._platform.store
        self._recorder = self._platform.recorder
        self._server = Server(self._platform, host, port)
        self._platform.origin = "http://{}:{}".format(*self._server.address)

    # -- life

    def start(self) -> Self:
        """Start answering; a stopped sandbox comes back on the same port, as it was."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop answering and free the port; open connections are closed, stopping twice does no harm."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self._server.running else "stopped"
        return f"<Sandbox {self.base_url} {state}, {self._store.catalogue.items} items>"

    # -- access

    @property
    def base_url(self) -> str:
        """The base URL for API clients."""
        return self._platform.base_url

    @property
    def api_key(self) -> str:
        """The key that the API asks for."""
        return self._platform.api_key

    @property
    def project_id(self) -> str:
        """The id of the only project."""
        return self._store.project_id

    @property
    def space_id(self) -> str:
        """The id of the only space."""
        return self._store.space_id

    def client(self, **options: Any) -> Client:
        """Return a client of this sandbox; ``options`` go to `cfplatform.Client`."""
        from cfplatform.client import Client

        options = {"project_id": self.project_id, "space_id": self.space_id, **options}
        return Client(self.api_key, base_url=self.base_url, **options)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point a client at this sandbox."""
        return self._platform.environment()

    # -- the world

    def work_item_ids(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """Yield the ids of the work items with these indexes, deleted ones included."""
        count = self._store.catalogue.items
        return map(self._store.item_id, range(start, count if stop is None else min(stop, count)))

    def work_item(self, item: ItemReference) -> dict[str, Any]:
        """Return a work item as the listing shows it."""
        return self._store.work_item(self._index(item))

    def document(self, item: ItemReference) -> bytes:
        """Return the COCO document of a work item, as the storage serves it."""
        return self._store.document(self._index(item))

    def asset(self, item: ItemReference) -> bytes:
        """Return the picture of a work item, a PNG, as the storage serves it."""
        return self._store.asset(self._index(item))

    def update_work_item(
        self,
        item: ItemReference,
        *,
        status: str | None = None,
        touch: bool = True,
        document: bytes | None = None,
    ) -> None:
        """Change a work item.

        Args:
            item: Its id or index.
            status: The new status.
            touch: Whether it gets a later ``updatedAt`` and a new revision of its document.
            document: Stored in place of its COCO document, whatever it contains.

        Raises:
            LookupError: If there is no such work item.
        """
        self._store.update(self._index(item), status=status, touch=touch, document=document)

    def delete_work_item(self, item: ItemReference) -> None:
        """Delete a work item with all that belongs to it."""
        self._store.delete(self._index(item))

    def patch_work_item_json(self, item: ItemReference, fields: Mapping[str, Any], remove: Sequence[str] = ()) -> None:
        """Make listings show a work item with other fields, or without some; filters do not notice."""
        self._store.patch(self._index(item), fields, remove)

    def set_annotation(self, item: ItemReference, metadata: Mapping[str, Any] | None) -> None:
        """Replace the metadata of the annotation of a work item, which usually names its COCO document."""
        self._store.set_annotation(self._index(item), metadata)

    def rename_batch(self, batch_id: int, name: str) -> None:
        """Rename a batch; any text will do, also one that the platform would refuse.

        Raises:
            LookupError: If there is no such batch.
        """
        self._store.rename_batch(batch_id, name)

    # -- faults

    def fail_next(
        self,
        status: int = 503,
        *,
        times: int | None = 1,
        path: str | None = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | Mapping[str, Any] | list[Any] | None = None,
    ) -> None:
        """Answer the next requests with an error.

        Args:
            status: The status of the answer.
            times: How many requests fail; ``None`` for all until ``clear_faults()``.
            path: A shell pattern for the request path, such as ``*/annotations`` or ``/storage/*``.
            method: The HTTP method that fails; every one if omitted.
            headers: Headers added to the answer.
            body: Text, bytes, or what is to be sent as JSON; the usual error if omitted.
        """
        content, content_type = encode_body(body)
        self._plan("fail", times, path, method, status, headers, content, content_type)

    def truncate_next(
        self, times: int | None = 1, *, path: str | None = None, method: str | None = None, keep: float = 0.5
    ) -> None:
        """Announce the next answers in full, send the part ``keep`` of the body and close the connection."""
        self._platform.faults.add(Fault("truncate", times, path, method, keep=keep))

    def drip_next(
        self, times: int | None = 1, *, path: str | None = None, method: str | None = None, keep: float = 0.5
    ) -> None:
        """Send the part ``keep`` of the body of the next answers, and the rest at 20 bytes a second."""
        self._platform.faults.add(Fault("drip", times, path, method, keep=keep))

    def reset_next(self, times: int | None = 1, *, path: str | None = None, method: str | None = None) -> None:
        """Close the connection instead of answering."""
        self._platform.faults.add(Fault("reset", times, path, method))

    def html_next(
        self,
        times: int | None = 1,
        *,
        path: str | None = None,
        method: str | None = None,
        status: int = 200,
        body: bytes | None = None,
    ) -> None:
        """Answer the next requests with a web page, as a proxy or a captive portal does."""
        self._plan("html", times, path, method, status, None, body)

    def replace_next(
        self,
        body: bytes,
        *,
        content_type: str = "application/json",
        status: int = 200,
        times: int | None = 1,
        path: str | None = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the next requests with other content."""
        self._plan("replace", times, path, method, status, headers, body, content_type)

    def rate_limit(self, per_second: float | None, *, retry_after: float = 1, http_date: bool = False) -> None:
        """Refuse API requests over a rate with 429, or with ``None`` lift the limit.

        Args:
            per_second: The rate; as many requests may come at once.
            retry_after: The wait in seconds that the answer asks for.
            http_date: Whether ``Retry-After`` is a date instead of a number.
        """
        limit = None if per_second is None else RateLimit(per_second, retry_after=retry_after, http_date=http_date)
        self._platform.rate_limit = limit

    @property
    def latency(self) -> float:
        """Seconds by which every answer is delayed."""
        return self._platform.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._platform.latency = non_negative("latency", seconds)

    @property
    def url_lifetime(self) -> float:
        """Seconds for which URLs signed from now on work."""
        return self._platform.signer.lifetime

    @url_lifetime.setter
    def url_lifetime(self, seconds: float) -> None:
        self._platform.signer.lifetime = non_negative("url_lifetime", seconds)

    def expire_after(self, seconds: float) -> None:
        """Set ``url_lifetime``."""
        self.url_lifetime = seconds

    def expire_urls(self) -> None:
        """Make every URL signed so far an expired one, without waiting."""
        self._platform.signer.expire_all()

    def clear_faults(self) -> None:
        """Drop the planned faults; latency, URL lifetime and rate limit stay."""
        self._platform.faults.clear()

    def reset(self) -> None:
        """Bring back the world, the settings, the faults and the empty log of the beginning."""
        self._platform.reset()

    # -- what happened

    @property
    def requests(self) -> list[RecordedRequest]:
        """The last requests (up to 200,000), oldest first."""
        return self._recorder.requests

    @property
    def counts(self) -> dict[str, int]:
        """How many requests there were of each kind."""
        return self._recorder.counts

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return self._recorder.in_flight

    @property
    def max_in_flight(self) -> int:
        """How many requests were being answered at once, at most."""
        return self._recorder.max_in_flight

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        return self._recorder.connections

    @property
    def leaks(self) -> int:
        """How many requests brought an API key or other credentials to the storage."""
        return self._recorder.leaks

    def clear_requests(self) -> None:
        """Empty the log and set the counters to zero."""
        self._recorder.clear()

    def _index(self, item: ItemReference) -> int:
        index = self._store.find_item(item)
        if index is None:
            raise LookupError(f"no work item {item!r} in this sandbox")
        return index

    def _plan(
        self,
        kind: FaultKind,
        times: int | None,
        path: str | None,
        method: str | None,
        status: int,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        content_type: str = "",
    ) -> None:
        self._platform.faults.add(Fault(kind, times, path, method, status, headers or {}, body, content_type))
