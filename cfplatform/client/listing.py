"""Reading what is on the platform: work items, batches and annotations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from .. import http, pagination, params
from ..exceptions import InvalidParameterError, NotFoundError
from ..params import DatetimeLike, Query, WorkItemFilters
from ..resources import Annotation, Batch, Resource, WorkItem
from .base import Base, Id

if TYPE_CHECKING:
    from typing_extensions import Unpack

R = TypeVar("R", bound=Resource)


class Listing(Base):
    """Calls that read."""

    def get_work_items(
        self,
        project_id: Id | None = None,
        *,
        batch_ids: Iterable[int] | None = None,
        work_item_ids: Iterable[Id] | None = None,
        status: str | None = None,
        created_at_from: DatetimeLike | None = None,
        created_at_to: DatetimeLike | None = None,
        updated_at_from: DatetimeLike | None = None,
        updated_at_to: DatetimeLike | None = None,
        page_size: int = params.MAX_PAGE_SIZE,
        max_items: int | None = None,
        cursor: str | None = None,
        prefetch: bool = True,
    ) -> Iterator[WorkItem]:
        """Iterate over the work items of a project.

        Pages are requested as the iterator is read, so the first item is there after one request and memory does
        not grow with the project. A reader who goes on for long, or past the first hundred ids, does not wait for each
        page: see ``prefetch``. The arguments are checked by the call itself, before any request.

        Args:
            project_id: The project; else the client's.
            batch_ids: Only items of these batches. More than 100 are split into several requests; an empty list
                selects nothing.
            work_item_ids: Only these items; split and empty as above.
            status: Only items with this status, such as ``"COMPLETED"``; every status if omitted.
            created_at_from: Only items created at this time or later: an aware ``datetime``, or an ISO 8601 text
                with its time zone.
            created_at_to: Only items created at this time or before.
            updated_at_from: Only items changed at this time or later.
            updated_at_to: Only items changed at this time or before.
            page_size: Items per request, 1 to 100 (the platform's limit).
            max_items: Stop after so many.
            cursor: Go on where an earlier listing with the same filters stopped: the ``cursor`` of the error that
                ended it, or of a page's ``meta``.
            prefetch: Ask for pages while others are read: from the tenth page on the next one, and where more than
                100 ids need several listings, from the second on four at a time. ``False`` asks for each page when it
                is needed. Neither order nor errors differ, nor the number of requests of a listing that is read to
                its end.

        Yields:
            Each work item once, in the platform's order. What pages repeat is dropped, as long as it was among the
            last 10 000. If the platform refuses a cursor within the first 10 000 items, the listing begins anew
            once and goes on with what is new.

        Raises:
            InvalidParameterError: If an argument is wrong.
            InvalidResponseError: While iterating: if a page cannot be one, or its cursor goes round.

        Example:
            >>> for item in client.get_work_items(status="COMPLETED", max_items=3):
            ...     print(item.batch_id, item.asset_type)
            1001 image
            1001 image
            1001 image
        """
        queries = params.work_item_queries(
            {
                "batch_ids": batch_ids,
                "work_item_ids": work_item_ids,
                "status": status,
                "created_at_from": created_at_from,
                "created_at_to": created_at_to,
                "updated_at_from": updated_at_from,
                "updated_at_to": updated_at_to,
            }
        )
        project = self._project(project_id)
        limit = params.max_items(max_items)
        pages = self._pages(
            self._work_items_path(project),
            queries,
            _page_size(page_size, limit),
            params.cursor(cursor),
            prefetch=params.flag("prefetch", prefetch),
            limit=limit,
        )
        return self._resources(WorkItem, pages, project, limit=limit)

    def get_work_items_count(self, project_id: Id | None = None, **filters: Unpack[WorkItemFilters]) -> int:
        """Count the work items that the filters select; they are those of :meth:`get_work_items`.

        Where the platform tells the total, which it does not promise, that is one request; else all are listed.

        Example:
            >>> client.get_work_items_count()
            20
        """
        params.check_names("get_work_items_count", filters, params.FILTER_NAMES)
        path = self._work_items_path(self._project(project_id))
        return sum(self._count(path, query) for query in params.work_item_queries(filters))

    def _count(self, path: str, query: Query) -> int:
        total = pagination.total(next(self._pages(path, [query], 1)))
        if total is not None:
            return total
        return sum(1 for _ in pagination.items(self._pages(path, [query], params.MAX_PAGE_SIZE)))

    def get_work_item(self, work_item_id: Id, project_id: Id | None = None) -> WorkItem:
        """Fetch one work item.

        Raises:
            NotFoundError: If the project has no such item.

        Example:
            >>> first = next(client.get_work_items())
            >>> client.get_work_item(first.id) == first
            True
        """
        wanted = params.object_id("work_item_id", work_item_id)
        for item in self.get_work_items(project_id, work_item_ids=[wanted]):
            # The platform may spell a UUID in another case than the caller.
            if item.id.lower() == wanted.lower():
                return item
        raise NotFoundError(f"Project {self._project(project_id)} has no work item {wanted}.")

    def get_batches(
        self,
        project_id: Id | None = None,
        *,
        page_size: int = params.MAX_PAGE_SIZE,
        max_items: int | None = None,
        prefetch: bool = True,
    ) -> Iterator[Batch]:
        """Iterate over the batches of a project, with their counts; lazily, like :meth:`get_work_items`.

        Args:
            project_id: The project; else the client's.
            page_size: Batches per request, 1 to 100 (the platform's limit).
            max_items: Stop after so many.
            prefetch: As for :meth:`get_work_items`.

        Example:
            >>> for batch in client.get_batches(max_items=2):
            ...     print(batch.id, batch.total_count)
            1001 10
            1002 10
        """
        project = self._project(project_id)
        limit = params.max_items(max_items)
        path = http.path("projects", project, "batches")
        size = _page_size(page_size, limit)
        pages = self._pages(path, [[]], size, prefetch=params.flag("prefetch", prefetch), limit=limit)
        return self._resources(Batch, pages, project, limit=limit)

    def get_batch(self, batch_id: int | None = None, project_id: Id | None = None, *, name: str | None = None) -> Batch:
        """Fetch one batch by its id or its name, which is unique in the project.

        The platform has no call for one batch, so batches are listed until it is found.

        Raises:
            NotFoundError: If the project has no such batch.

        Example:
            >>> client.get_batch(1002).total_count
            10
        """
        if (batch_id is None) == (name is None):
            raise InvalidParameterError("Pass either a batch id or name=..., and not both.")
        wanted = None if batch_id is None else params.batch_id("batch_id", batch_id)
        for batch in self.get_batches(project_id):
            if (str(batch.id) == wanted) if wanted is not None else (batch.name == name):
                return batch
        shown = f"with id {wanted}" if wanted is not None else f"named {name!r}"
        raise NotFoundError(f"Project {self._project(project_id)} has no batch {shown}.")

    def get_annotation(self, work_item_id: Id, project_id: Id | None = None) -> Annotation:
        """Fetch the annotation of a work item, which says where its COCO document is stored.

        Raises:
            NotFoundError: If there is none, for example because the item is not completed.

        Example:
            >>> item = next(client.get_work_items())
            >>> client.get_annotation(item.id).work_item_id == item.id
            True
        """
        from ..annotation import fetch_annotation

        wanted = params.object_id("work_item_id", work_item_id)
        annotation = fetch_annotation(self._calls, self._project(project_id), wanted)
        return Annotation(annotation.as_dict(), self._itself, wanted)

    def _resources(
        self, kind: type[R], pages: Iterable[dict[str, Any]], project_id: str, *, limit: int | None = None
    ) -> Iterator[R]:
        """Yield what pages list as objects of a class."""
        client = self._itself
        # A page at a time: half the price of a generator that makes one after the other.
        for found in pagination.fresh(pages, limit=limit):
            yield from [kind(data, client, project_id) for data in found]

    def _resource_pages(self, kind: type[R], pages: Iterable[dict[str, Any]], project_id: str) -> Iterator[list[R]]:
        client = self._itself
        return ([kind(data, client, project_id) for data in found] for found in pagination.fresh(pages))

    def _work_items_path(self, project_id: str) -> str:
        return http.path("projects", project_id, "workItems")


def _page_size(page_size: int, limit: int | None) -> int:
    """Return the page size to ask for: not more than will be used."""
    size = params.page_size(page_size)
    return min(size, limit) if limit else size
