"""What every call of the client shares: settings, connections, and the calls of the lowest level."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, Union, cast

from .. import config, http, pagination, params
from ..background import Background
from ..exceptions import ConfigurationError, InvalidParameterError
from ..http import SINGLE, Run, Transport
from ..params import Query

if TYPE_CHECKING:
    import uuid

    import requests
    import urllib3
    from typing_extensions import Self

    from . import Client

#: The id of a project, space or work item.
Id: TypeAlias = Union[str, "uuid.UUID"]  # noqa: UP007 - with "|" it would need the module, which few scripts use
#: A path on this machine.
PathLike = str | os.PathLike[str]


class Base:
    """Settings and connections."""

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        project_id: Id | None = None,
        space_id: Id | None = None,
        timeout: config.Timeout = config.DEFAULT_TIMEOUT,
        retries: int | urllib3.Retry | None = None,
        patience: float = http.DEFAULT_PATIENCE,
        max_workers: int = config.DEFAULT_MAX_WORKERS,
        session: requests.Session | None = None,
        headers: Mapping[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        user_agent: str | None = None,
        allow_insecure_http: bool = False,
        allow_private_storage: bool | None = None,
    ) -> None:
        # Over the argument, so that no frame of an error shows it.
        api_key = config.api_key(api_key)
        self._project_id = _default_id("project_id", project_id, "CF_PROJECT_ID")
        self._space_id = _default_id("space_id", space_id, "CF_SPACE_ID")
        self._max_workers = config.max_workers(max_workers)
        self._patience = config.patience(patience)
        self._batch_names: dict[str, dict[str, str]] = {}
        self._calls = Transport(
            api_key=api_key,
            base_url=config.base_url(base_url, allow_insecure_http=allow_insecure_http),
            timeout=config.timeout(timeout),
            retries=None if retries is None else http.checked_retries(retries),
            pool_size=self._max_workers,
            session=session,
            headers=headers,
            proxies=proxies,
            verify=verify,
            cert=cert,
            user_agent=user_agent,
            allow_private_storage=config.flag(allow_private_storage, "CF_ALLOW_PRIVATE_STORAGE"),
        )

    def __repr__(self) -> str:
        return f"<Client base_url={self._calls.base_url!r} project_id={self._project_id!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def session(self) -> requests.Session:
        """The ``requests.Session`` that sends the API's requests: your own, else the client's.

        What is hooked into it (``session.hooks``, ``session.headers``, an adapter that is mounted) applies to every
        call from then on. The storage has a session of its own, which never gets the key.

        Example:
            >>> client.session.hooks["response"].append(lambda response, **_: print(response.status_code))
            >>> client.get_work_items_count()
            200
            20
        """
        return self._calls.session

    def close(self) -> None:
        """Close all connections; closing again does nothing.

        Any other call afterwards raises :class:`~cfplatform.ConfigurationError`.
        """
        self._calls.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Query | Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: config.Timeout | None = None,
        check: bool = True,
    ) -> requests.Response:
        """Send any request to the API, with the key, retries and error mapping of every other call.

        GET and HEAD are repeated after transient errors; other methods are not, because the server may have acted.

        Args:
            method: Such as "GET".
            path: Relative to the base URL, such as ``"/projects/<id>/batches"``. Redirects are not followed.
            params: Query parameters; a list of pairs repeats a key.
            json: A body to send as JSON.
            headers: Further headers.
            timeout: As for the client, for this call only.
            check: ``False`` returns an answer with an error status instead of raising.

        Example:
            >>> client.request("GET", f"/projects/{sandbox.project_id}/batches").json()["meta"]["object"]
            'batch'
        """
        return self._calls.request(
            method, path, params=params, json=json, headers=headers, timeout=timeout, check=check
        )

    def iterate_pages(self, path: str, params: Query | Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the pages of any listing as the server sent them, following the cursor in either spelling.

        Args:
            path: Relative to the base URL.
            params: Query parameters, sent with every page; a list of pairs, or a value that is a list, repeats a key.

        Example:
            >>> pages = client.iterate_pages(f"/projects/{sandbox.project_id}/workItems", {"limit": 10})
            >>> [len(page["items"]) for page in pages]
            [10, 10]
        """
        query = _pairs(params)
        return pagination.iterate_pages(functools.partial(self._calls.get_json, path), query)

    # --- Helpers -------------------------------------------------------------------------------------------

    @property
    def _itself(self) -> Client:
        # What is listed keeps the whole client, of which this is a part.
        return cast("Client", self)

    def _pages(
        self,
        path: str,
        queries: list[Query],
        page_size: int,
        cursor: str | None = None,
        *,
        prefetch: bool = True,
        limit: int | None = None,
        run: Run = SINGLE,
    ) -> Iterator[dict[str, Any]]:
        if cursor is not None and len(queries) > 1:
            raise InvalidParameterError("cursor cannot be used with more than 100 ids: they need several listings.")

        fetch = functools.partial(self._calls.get_json, path, run=run, is_essential=True)

        def begin(query: Query) -> Background[Any]:
            # Once: the page is asked for again when it is needed, if this fails.
            page = _Prefetch.start(
                lambda stop: self._calls.get_json(path, query, run=Run(stop=stop), repeats=False), "prefetch"
            )
            page.check = self._calls.ensure_open
            return page

        return pagination.iterate_queries(
            fetch,
            [[*query, ("limit", str(page_size))] for query in queries],
            cursor=cursor,
            begin=begin if prefetch else None,
            limit=limit,
        )

    def _project(self, project_id: Id | None) -> str:
        if project_id is not None:
            return params.object_id("project_id", project_id)
        if self._project_id is None:
            raise ConfigurationError("No project: pass project_id=... to the call or to Client, or set CF_PROJECT_ID.")
        return self._project_id

    def _space(self, space_id: Id | None) -> str | None:
        return self._space_id if space_id is None else params.object_id("space_id", space_id)

    def _required_space(self, space_id: Id | None) -> str:
        space = self._space(space_id)
        if space is None:
            raise ConfigurationError("No space: pass space_id=... to the call or to Client, or set CF_SPACE_ID.")
        return space

    def _run_patience(self, patience: float | None) -> float:
        """Return how long a run waits for an outage to end: what the call says, else what the client says."""
        return self._patience if patience is None else config.patience(patience)

    def _workers(self, max_workers: int | None) -> int:
        """Return the workers of one call: not more than there are connections for."""
        if max_workers is None:
            return self._max_workers
        workers = config.max_workers(max_workers)
        if workers > self._max_workers:
            raise InvalidParameterError(
                f"max_workers={workers} is more than the client's {self._max_workers}; build the client with "
                f"max_workers={workers}."
            )
        return workers


class _Prefetch(Background[Any]):
    """A page that is fetched before it is needed; a client that was closed meanwhile refuses it too."""

    check: Callable[[], object]

    def result(self, timeout: float | None = None) -> Any:
        self.check()
        return super().result(timeout)


def _default_id(name: str, value: Id | None, variable: str) -> str | None:
    text = value if value is None else params.object_id(name, value)
    given = config.default_id(text, variable)
    return None if given is None else params.object_id(name, given)


def _pairs(query: Query | Mapping[str, Any] | None) -> Query:
    """Return query parameters as pairs of texts; a list becomes a repeated key, and ``None`` is left out."""
    pairs = list(query.items()) if isinstance(query, Mapping) else query or []
    if not isinstance(pairs, (list, tuple)) or not all(isinstance(p, tuple) and len(p) == 2 for p in pairs):
        raise InvalidParameterError("params must be a mapping or a list of pairs.")
    return [
        (str(key), str(value))
        for key, values in pairs
        for value in (values if isinstance(values, (list, tuple)) else [values])
        if value is not None
    ]
