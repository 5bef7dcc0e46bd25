"""The `Sandbox` that users and tests hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from .catalogue import Catalogue
from .observer import Observer
from .planner import Planner
from .platform import CursorStyle, Platform
from .server import Server
from .services import Services
from .world import World

if TYPE_CHECKING:
    from cfplatform.client import Client

_DEFAULT_BATCHES = 5


class Sandbox(World, Services, Planner, Observer):
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
        absolute_assets: Whether ``assetUrl`` is an absolute URL that everybody can read, rather than a path in
            the space.
        export_seconds: Seconds that an export takes.
        export_url_lifetime: Seconds for which the ``downloadUrl`` of an export works; 7 days if omitted.
        webhook_url: Where webhooks go if a work item has no ``metadata.callbackUrl``; nowhere if omitted.
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
        absolute_assets: bool = False,
        export_seconds: float = 0.2,
        export_url_lifetime: float = 7 * 24 * 3600,
        webhook_url: str | None = None,
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
            absolute_assets=absolute_assets,
            export_seconds=export_seconds,
            export_url_lifetime=export_url_lifetime,
            webhook_url=webhook_url,
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
        self._platform.webhooks.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self._server.running else "stopped"
        return f"<Sandbox {self.base_url} {state}, {self._store.item_count} items>"

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

    def reset(self) -> None:
        """Bring back the world, the settings, the faults and the empty log of the beginning."""
        self._platform.reset()
