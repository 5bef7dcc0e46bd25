"""The ``Sandbox`` class."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from typing_extensions import Self

from .catalogue import WorkItemFilter
from .exports import ANNOTATION, COCO_JSON
from .faults import Fault, OutageStatus, encode_body, plan_outage
from .platform import API_PREFIX, PUBLIC_PREFIX, WELL_KNOWN_PREFIX, Platform
from .recorder import RecordedRequest
from .server import Server
from .settings import CursorStyle, RateLimit, Settings
from .webhooks import Delivery

if TYPE_CHECKING:
    from cfplatform.client import Client

_DEFAULT_BATCHES = 5

#: A work item by ID, or by index from 0 in the order of the listing.
ItemReference: TypeAlias = "str | int"


def _shown(path: str, doc: str) -> Any:
    return property(attrgetter(path), doc=doc)


def _setting(name: str, doc: str) -> Any:
    return property(
        lambda sandbox: getattr(sandbox._settings, name),
        lambda sandbox, value: sandbox._platform.change_settings({name: value}),
        doc=doc,
    )


class Sandbox:
    """A local CloudFactory AI Platform on a loopback address of this machine.

    Everything is derived from the seed: the same arguments give the same IDs, images and annotations, and a million
    items start as fast as ten. The port is bound by the constructor; requests are served between ``start()`` and
    ``stop()``, or inside a ``with`` block. All methods are thread-safe; methods about a work item raise ``LookupError``
    if it does not exist.

    Args:
        items: Number of work items.
        batches: Number of batches to distribute the items over, in order. Defaults to the number of ``batch_names``,
            else 5.
        seed: Seed for the generated data.
        port: The port to listen on; 0 for a free port.
        in_review: Fraction of the items, 0 to 1, that are in ``CLIENT_REVIEW`` and have no annotation yet.
        batch_names: Names of the first batches; the others get default names.
        api_key: The API key. By default, it is derived from the seed.
        latency: Delay of each response in seconds.
        url_lifetime: Seconds until a signed URL expires.
        page_size_default: Page size of a listing without ``limit``.
        cursor_style: Spelling of cursors in a page: ``camel`` (``cursorNext``) or ``snake`` (``cursor_next``).
        with_total: Whether listings of work items include the number of matches.
        overlap: Number of entries of a page to repeat at the start of the next page.
        unbatched: Number of work items at the end that belong to no batch.
        absolute_assets: Whether ``assetUrl`` is a public absolute URL instead of a path in the space.
        export_seconds: Seconds that an export takes.
        export_url_lifetime: Seconds until the ``downloadUrl`` of an export expires. Defaults to 7 days.
        webhook_url: Loopback URL for webhooks of work items without ``metadata.callbackUrl``. Defaults to none.
        host: The loopback address to listen on.

    Example:
        >>> with Sandbox(items=20) as sandbox, sandbox.client() as client:
        ...     sandbox.fail_next(503, path="*/annotations")
        ...     summary = client.download_project(destination="labels")
        ...     summary.successful, sandbox.counts["annotations"]
        (20, 21)
    """

    api_key: str = _shown("_platform.api_key", "The API key.")
    project_id: str = _shown("_store.project_id", "The ID of the only project.")
    space_id: str = _shown("_store.space_id", "The ID of the only space.")
    webhook_key_id: str = _shown("_platform.keys.key_id", "The ID of the current key for signing webhooks.")
    deliveries: list[Delivery] = _shown(
        "_platform.webhooks.deliveries", "The last 10,000 webhooks with their outcome, oldest first."
    )
    requests: list[RecordedRequest] = _shown("_recorder.requests", "The last 200,000 requests, oldest first.")
    counts: dict[str, int] = _shown("_recorder.counts", "Number of requests of each kind.")
    in_flight: int = _shown("_recorder.in_flight", "Number of requests in progress.")
    max_in_flight: int = _shown("_recorder.max_in_flight", "Maximum number of concurrent requests so far.")
    connections: int = _shown("_recorder.connections", "Number of opened connections.")
    leaks: int = _shown("_recorder.leaks", "Number of storage requests with an API key or other credentials.")

    latency: float = _setting("latency", "Delay of each response in seconds.")
    url_lifetime: float = _setting("url_lifetime", "Seconds until newly signed URLs expire.")
    export_seconds: float = _setting(
        "export_seconds", "Seconds that an export takes; a new value also applies to the running export."
    )
    export_url_lifetime: float = _setting("export_url_lifetime", "Seconds until new ``downloadUrl`` values expire.")
    webhook_url: str | None = _setting(
        "webhook_url", "Loopback URL for webhooks of work items without ``metadata.callbackUrl``; empty to send none."
    )

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
        absolute_assets: bool = False,
        export_seconds: float = 0.2,
        export_url_lifetime: float = 7 * 24 * 3600,
        webhook_url: str | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        batch_names = batch_names or ()
        if batches is None:
            batches = len(batch_names) or _DEFAULT_BATCHES
        given = {name: value for name, value in locals().items() if name not in ("self", "host", "port")}
        self._settings = Settings(**given)
        self._platform = Platform(self._settings)
        self._store = self._platform.store
        self._recorder = self._platform.recorder
        self._server = Server(self._platform, host, port)
        address, number = self._server.address
        self._platform.origin = f"http://[{address}]:{number}" if ":" in address else f"http://{address}:{number}"
        if absolute_assets:
            self._store.asset_prefix = f"{self._platform.origin}{PUBLIC_PREFIX}/assets/"

    def start(self) -> Self:
        """Start serving; a stopped sandbox restarts on the same port, with its state."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop serving, close all connections and free the port. Can be called twice."""
        self._server.stop()
        self._platform.webhooks.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self._server.running else "stopped"
        return f"<Sandbox {self.base_url} {state}, {self._store.item_count} items>"

    @property
    def base_url(self) -> str:
        """The base URL for API clients."""
        return self._platform.origin + API_PREFIX

    def client(self, **options: Any) -> Client:
        """Return a client for this sandbox; ``options`` are passed to :class:`cfplatform.Client`."""
        from cfplatform.client import Client

        options = {"project_id": self.project_id, "space_id": self.space_id, **options}
        return Client(self.api_key, base_url=self.base_url, **options)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that configure a client for this sandbox."""
        return {
            "CF_API_KEY": self.api_key,
            "CF_PLATFORM_BASE_URL": self.base_url,
            "CF_PROJECT_ID": self.project_id,
            "CF_SPACE_ID": self.space_id,
        }

    def reset(self) -> None:
        """Restore the initial project and settings, drop all faults, exports and webhooks, and clear the log."""
        self._platform.reset()

    # -- work items and batches

    def work_item_ids(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """Yield the IDs of the work items with these indexes, including deleted ones."""
        count = self._store.item_count
        return map(self._store.item_id, range(start, count if stop is None else min(stop, count)))

    def work_item(self, item: ItemReference) -> dict[str, Any]:
        """Return a work item as the listing shows it."""
        return self._store.work_item(self._platform.index(item))

    def document(self, item: ItemReference) -> bytes:
        """Return the COCO document of a work item, as served by the storage."""
        return self._store.document(self._platform.index(item))

    def asset(self, item: ItemReference) -> bytes:
        """Return the asset of a work item, as served by the storage: a PNG, or the uploaded file.

        Raises:
            LookupError: If the work item does not exist, or nothing was uploaded to its ``assetUrl``.
        """
        found = self._store.asset(self._platform.index(item))
        if found is None:
            raise LookupError(f"the asset of work item {item!r} is not in the storage of this sandbox")
        return found

    def update_work_item(
        self, item: ItemReference, *, status: str | None = None, touch: bool = True, document: bytes | None = None
    ) -> None:
        """Change a work item; a webhook is sent if the status changes.

        Args:
            item: Its ID or index.
            status: The new status.
            touch: Whether to set a later ``updatedAt`` and make a new revision of its document.
            document: New content of its COCO document; need not be valid.
        """
        self._platform.update_work_item(self._platform.index(item), status=status, touch=touch, document=document)

    def set_status(self, item: ItemReference, status: str) -> None:
        """Set the status of a work item and a later ``updatedAt``, and send a webhook.

        The webhook is sent to the item's ``metadata.callbackUrl``, else to ``webhook_url``, even if the status is
        unchanged.

        Example:
            >>> sandbox.set_status(0, "CLIENT_REVIEW")
            >>> sandbox.work_item(0)["status"]
            'CLIENT_REVIEW'
        """
        self._platform.update_work_item(self._platform.index(item), status=status, always_announce=True)

    def delete_work_item(self, item: ItemReference) -> None:
        """Delete a work item and its annotation."""
        self._store.update(self._platform.index(item), deleted=True)

    def patch_work_item_json(self, item: ItemReference, fields: Mapping[str, Any], remove: Sequence[str] = ()) -> None:
        """Change or remove fields of a work item in listings; filters ignore the changes."""
        self._store.patch(self._platform.index(item), fields, remove)

    def set_annotation(self, item: ItemReference, metadata: Mapping[str, Any] | None) -> None:
        """Replace the metadata of the annotation of a work item, which usually contains the path of its document."""
        self._store.update(self._platform.index(item), annotation=json.dumps(metadata))

    def rename_batch(self, batch_id: int, name: str) -> None:
        """Rename a batch; any name is allowed, even one that the platform would refuse.

        Raises:
            LookupError: If the batch does not exist.
        """
        position = self._store.batch_position(batch_id)
        if position is None:
            raise LookupError(f"no batch {batch_id} in this sandbox")
        self._store.rename_batch(position, name)

    # -- faults and delays

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
        """Make the next requests fail with an error.

        Args:
            status: The status of the response.
            times: Number of requests that fail; ``None`` for all until ``clear_faults()``.
            path: A shell pattern for the request path, such as ``*/annotations`` or ``/storage/*``.
            method: The HTTP method. Defaults to all methods.
            headers: Headers added to the response.
            body: Text, bytes, or a value to send as JSON. Defaults to the usual error.
        """
        content, content_type = encode_body(body)
        self._platform.faults.add(Fault("fail", times, path, method, status, headers or {}, content, content_type))

    def truncate_next(
        self, times: int | None = 1, *, path: str | None = None, method: str | None = None, keep: float = 0.5
    ) -> None:
        """Truncate the next responses: send the fraction ``keep`` of the body, then close the connection."""
        self._platform.faults.add(Fault("truncate", times, path, method, keep=keep))

    def drip_next(
        self, times: int | None = 1, *, path: str | None = None, method: str | None = None, keep: float = 0.5
    ) -> None:
        """Slow down the next responses: send the fraction ``keep`` of the body, then 20 bytes a second."""
        self._platform.faults.add(Fault("drip", times, path, method, keep=keep))

    def reset_next(self, times: int | None = 1, *, path: str | None = None, method: str | None = None) -> None:
        """Close the connection instead of responding."""
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
        """Respond to the next requests with a web page, as a proxy or captive portal does."""
        self._platform.faults.add(Fault("html", times, path, method, status, body=body))

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
        """Respond to the next requests with other content."""
        self._platform.faults.add(Fault("replace", times, path, method, status, headers or {}, body, content_type))

    def outage(
        self,
        seconds: float,
        status: int | OutageStatus = 500,
        at: str | Iterable[str] = (),
        *,
        after: float = 0.0,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | Mapping[str, Any] | list[Any] | None = None,
    ) -> None:
        """Make all matching requests fail for some seconds.

        Several outages can be planned. An outage has priority over other faults. ``clear_faults()`` ends all outages.

        Args:
            seconds: Duration in seconds.
            status: An HTTP status from 400 to 599; ``"reset"`` or ``"close"`` to reset or close connections without a
                response; or ``"refused"`` to cut open connections and refuse new ones, including those to the control
                API.
            at: The endpoints that fail, one or several: ``work_items``, ``batches``, ``annotations``, ``signedurls``,
                ``storage``, ``exports``, or any name in ``counts``. Defaults to all except the control API. Must be
                empty with ``"refused"``.
            after: Delay in seconds before it begins.
            headers: Headers added to the response, such as ``{"Retry-After": "5"}``.
            body: Text, bytes, or a value to send as JSON. Defaults to the usual error.

        Raises:
            ValueError: If an argument is not valid, or two of them exclude each other.

        Example:
            >>> sandbox.outage(20, 503, at="annotations", headers={"Retry-After": "5"})
            >>> sandbox.outage(5, "refused", after=60)
            >>> sandbox.clear_faults()
        """
        self._platform.faults.add(plan_outage(seconds, status, at, after=after, headers=headers, body=body))

    def rate_limit(self, per_second: float | None, *, retry_after: float = 1, http_date: bool = False) -> None:
        """Refuse API requests above a rate with status 429; ``None`` removes the limit.

        Args:
            per_second: Requests per second; also the maximum burst.
            retry_after: The value of ``Retry-After`` in seconds.
            http_date: Whether ``Retry-After`` is a date instead of a number.
        """
        limit = None if per_second is None else RateLimit(per_second, retry_after=retry_after, http_date=http_date)
        self._platform.change_settings({"rate_limit": limit})

    def expire_after(self, seconds: float) -> None:
        """Set the lifetime in seconds of URLs signed from now on, including those of exports."""
        self._platform.change_settings({"url_lifetime": seconds, "export_url_lifetime": seconds})

    def expire_urls(self) -> None:
        """Expire all URLs signed so far."""
        self._platform.signer.expire_all()

    def clear_faults(self) -> None:
        """Drop planned faults and end all outages; latency, URL lifetime and rate limit are kept."""
        self._platform.faults.clear()

    # -- exports and webhooks

    def fail_next_export(self, reason: str) -> None:
        """Make the next export end as ``FAILED`` with this ``error``."""
        self._platform.exports.reasons.append(reason)

    def add_export(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        format: str = COCO_JSON,
        content: str = ANNOTATION,
    ) -> str:
        """Register a file as the zip of a new export that is ``COMPLETED``.

        The file can have any size and need not be a zip. It is served from its location and must not be changed;
        deleting the export does not delete it. ``name`` defaults to the file name.

        Returns:
            The ID of the export.

        Raises:
            OSError: If the file cannot be read.

        Example:
            >>> from pathlib import Path
            >>> _ = Path("any.zip").write_bytes(b"not a zip")
            >>> export_id = sandbox.add_export("any.zip", name="broken")
        """
        file = Path(path).resolve(strict=True)
        return self._platform.exports.create(name or file.name, format, content, WorkItemFilter(), file).id

    @property
    def jwks_url(self) -> str:
        """The URL of the public webhook keys."""
        return f"{self._platform.origin}{WELL_KNOWN_PREFIX}/jwks.json"

    def rotate_webhook_key(self, keep_old: bool = True) -> str:
        """Sign webhooks with a new key from now on, and return its ID; ``keep_old`` keeps publishing the others."""
        self._platform.keys.rotate(keep_old=keep_old)
        return self._platform.keys.key_id

    def sign_webhook(self, body: bytes) -> dict[str, str]:
        """Return the headers of a webhook with this body, signed now.

        Example:
            >>> headers = sandbox.sign_webhook(b'{"status": "COMPLETED"}')
            >>> sorted(headers)
            ['Content-Type', 'X-Payload-Key-Id', 'X-Payload-Signature', 'X-Payload-Timestamp']
        """
        return self._platform.keys.sign(body)

    def wait_for_deliveries(self, timeout: float = 10.0) -> bool:
        """Wait until no webhook is pending; return ``False`` after ``timeout`` seconds."""
        return self._platform.webhooks.wait(timeout)

    # -- the log

    def clear_requests(self) -> None:
        """Clear the log and set the counters to zero."""
        self._recorder.clear()
