"""Documents streamed from the platform, split among independent processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from ..exceptions import CFPlatformError, ConfigurationError, InvalidParameterError
from ..params import FILTER_NAMES, check_names
from ..resources import WorkItem

if TYPE_CHECKING:
    from ..client import Client
    from ..types import CocoDocument

#: ``Client`` itself, or a function that returns a client and can be pickled.
MakeClient = Callable[[], "Client"]
#: Work items to stream: a list, or a function of the client that lists them.
Items = Collection[WorkItem] | Callable[["Client"], Iterable[WorkItem]]


# No repr: a functools.partial in it may contain the API key.
class Live:
    """Streams one share of the documents; can be pickled if its arguments can be.

    Args:
        client: Returns a client; called in the process that uses it.
        items: The work items, or a function that lists them. Defaults to the items that match the filters.
        skip: IDs of work items to skip.
        options: Options of :meth:`~cfplatform.Client.iter_annotations`.
        filters: Filters of :meth:`~cfplatform.Client.get_work_items`; ``status`` defaults to "COMPLETED".
    """

    def __init__(
        self,
        client: MakeClient,
        *,
        items: Items | None = None,
        skip: Collection[str] = (),
        on_error: Callable[[WorkItem, CFPlatformError], Any] | None = None,
        options: dict[str, Any],
        filters: dict[str, Any],
    ) -> None:
        if not callable(client):
            raise ConfigurationError(
                "client must be a function that returns a client, such as Client itself, not a client: each worker is "
                "a process and needs its own. Pass arguments with functools.partial.",
                parameter="client",
            )
        check_names("the stream", filters, ("project_id", *FILTER_NAMES))
        if items is not None and filters:
            raise InvalidParameterError("Pass either items, or a project and filters, not both.")
        if not (items is None or callable(items) or isinstance(items, Collection)):
            raise InvalidParameterError(
                "items must be a list of work items, or a function of the client that lists them, "
                f"not {type(items).__name__}: every worker reads them in each epoch.",
                parameter="items",
            )
        self._client = client
        self._items = items
        self._skip = frozenset(skip)
        self._on_error = on_error
        self._options = options
        self._filters = {"status": "COMPLETED", **filters}

    def share(self, *parts: tuple[int, int]) -> Generator[tuple[WorkItem, CocoDocument]]:
        """Yield one share of the documents.

        Args:
            parts: Pairs of (index, count); each splits the share of the previous one.
        """
        with self._client() as client:
            wanted = (item for item in self._listed(client) if item.id not in self._skip and _belongs(item.id, parts))
            yield from client.iter_annotations(items=wanted, on_error=self._failed, **self._options)

    def _listed(self, client: Client) -> Iterable[WorkItem]:
        if self._items is None:
            return client.get_work_items(**self._filters)
        return self._items(client) if callable(self._items) else self._items

    def _failed(self, item: WorkItem, error: CFPlatformError) -> None:
        if self._on_error is not None:
            self._on_error(item, error)
            return
        # Loaders only pass on the class and the text of an error.
        error.message = f"Work item {item.id}: {error.message}"
        error.args = (error.message,)
        raise error


def _belongs(item_id: str, parts: Iterable[tuple[int, int]]) -> bool:
    """Return whether an item is in a share, by its ID only.

    The position in the listing is not used: each process lists for itself, and the project may change.
    """
    rest = int.from_bytes(blake2b(item_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    for own, count in parts:
        rest, share = divmod(rest, count)
        if share != own:
            return False
    return True
