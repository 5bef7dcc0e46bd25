"""Creating: work items of assets, and batches to put them in."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import http, params
from ..exceptions import (
    APIError,
    CFPlatformError,
    ConflictError,
    InvalidParameterError,
    InvalidResponseError,
    shown,
)
from ..resources import Batch, WorkItem
from .base import Id
from .listing import Listing

if TYPE_CHECKING:
    from ..uploads import UploadedFile

#: Levels of metadata, at the most (our limit): more than anybody means, and few enough for every JSON parser.
MAX_METADATA_DEPTH = 100


class Creating(Listing):
    """Calls that create and rename."""

    def create_work_item(
        self,
        asset_url: str | UploadedFile,
        project_id: Id | None = None,
        *,
        asset_type: str | None = None,
        batch_id: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> WorkItem:
        """Create a work item: one asset to be labelled.

        Evidence: provisional. Customers create work items, but no published source shows the call; it is assumed to be
        a POST to the path of the listing. If the platform knows no such call, the error says so.

        The request is not repeated once the platform may have seen it, because it would create the item twice. After
        an :class:`~cfplatform.APITimeoutError` or :class:`~cfplatform.APIConnectionError` look whether it is there.

        Args:
            asset_url: What :meth:`upload_file` returned, its ``path``, or a URL that the platform can read.
            project_id: The project; else the client's.
            asset_type: Such as "image" or "video"; the platform decides if omitted.
            batch_id: The batch; none if omitted.
            metadata: Anything that JSON can hold, up to 100 levels deep, under keys that are text.
                ``callbackUrl`` names where webhooks about this item go.

        Raises:
            InvalidParameterError: If an argument is wrong; before any request.
            NotFoundError: If there is no such project or batch, or no such call.

        Example:
            >>> import io
            >>> uploaded = client.upload_file(io.BytesIO(b"..."), content_type="image/png")
            >>> item = client.create_work_item(uploaded, batch_id=1002, metadata={"source": "camera 7"})
            >>> item.asset_url == uploaded.path, item.metadata
            (True, {'source': 'camera 7'})
        """
        from ..uploads import UploadedFile

        given = asset_url.path if isinstance(asset_url, UploadedFile) else asset_url
        body: dict[str, Any] = {"assetUrl": _text("asset_url", given)}
        if asset_type is not None:
            body["assetType"] = _text("asset_type", asset_type)
        if batch_id is not None:
            body["batchId"] = int(params.batch_id("batch_id", batch_id))
        if metadata is not None:
            body["metadata"] = _metadata(metadata)
        project = self._project(project_id)
        try:
            answer = self._calls.post_json(self._work_items_path(project), body)
        except APIError as error:
            if error.status_code in (404, 405):
                _add(error, "Or the platform has no such call: it is provisional, no published source shows it.")
            raise
        return WorkItem(_created(answer, "work item"), self._itself, project)

    def create_batch(self, name: str, project_id: Id | None = None) -> Batch:
        """Create a batch.

        Evidence: documented. The published reference describes the operation; its method and path are assumed.

        The request is not repeated once the platform may have seen it. After a broken connection
        :meth:`get_batch` with ``name=`` tells whether the batch is there.

        Args:
            name: The name, unique in the project. White space around it is dropped before it is sent, since a name
                that differs in nothing else could not be told apart.
            project_id: The project; else the client's.

        Raises:
            InvalidParameterError: If the name is blank or holds control characters; before any request.
            ConflictError: If the project has a batch of this name.

        Example:
            >>> client.create_batch("Spring").name
            'Spring'
        """
        text = _text("name", name)
        project = self._project(project_id)
        try:
            answer = self._calls.post_json(http.path("projects", project, "batches"), {"name": text})
        except ConflictError as error:
            _name_conflict(error, text)
            raise
        self._batch_names.pop(project, None)
        return Batch(_created(answer, "batch"), self._itself, project)

    def update_batch(self, batch_id: int, project_id: Id | None = None, *, name: str) -> Batch:
        """Rename a batch.

        Evidence: documented, as :meth:`create_batch`. The answer is not described; where it holds no batch, the batch
        is read again. Files that were downloaded move to a folder of the new name with the next download.

        Args:
            batch_id: The batch.
            project_id: The project; else the client's.
            name: The new name, as for :meth:`create_batch`.

        Raises:
            InvalidParameterError: If the name is blank or holds control characters; before any request.
            ConflictError: If another batch of the project has this name.
            NotFoundError: If the project has no such batch.

        Example:
            >>> client.update_batch(1001, name="Spring, checked").name
            'Spring, checked'
        """
        wanted = params.batch_id("batch_id", batch_id)
        text = _text("name", name)
        project = self._project(project_id)
        path = http.path("projects", project, "batches", wanted)
        try:
            response = self._calls.request("PATCH", path, json={"name": text})
        except ConflictError as error:
            _name_conflict(error, text)
            raise
        self._batch_names.pop(project, None)
        data = _parsed(response.content)
        if isinstance(data, dict) and str(data.get("id")) == wanted:
            return Batch(data, self._itself, project)
        batch = self.get_batch(int(wanted), project)
        if batch.name != text:
            raise InvalidResponseError(f"The platform accepted a new name for batch {wanted}, but did not keep it.")
        return batch


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidParameterError(f"{name} must be a text that is not blank, not {shown(value)}.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value.strip()):
        raise InvalidParameterError(f"{name}: {shown(value)} holds control characters or halves of characters.")
    # A str subclass such as an enum would be written as its base anyway.
    return str.__str__(value).strip()


def _metadata(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidParameterError(f"metadata must be a mapping, not {type(value).__name__}.")
    problem = _first_problem(dict(value), MAX_METADATA_DEPTH)
    if problem is None:
        try:
            json.dumps(dict(value), allow_nan=False)
        except (TypeError, ValueError) as error:
            problem = str(error)
    if problem is not None:
        raise InvalidParameterError(f"metadata cannot be sent as JSON: {problem}.")
    return dict(value)


def _first_problem(value: object, levels: int) -> str | None:
    """Return what JSON has no form for and Python would write differently, or write without end."""
    if not isinstance(value, (dict, list, tuple)):
        return None
    if levels == 0:
        return f"it is more than {MAX_METADATA_DEPTH} levels deep"
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                return f"the key {shown(key)} is not a text"
    inner = value.values() if isinstance(value, dict) else value
    return next((problem for part in inner if (problem := _first_problem(part, levels - 1)) is not None), None)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _created(answer: Any, kind: str) -> dict[str, Any]:
    if not isinstance(answer, dict) or answer.get("id") in (None, ""):
        raise InvalidResponseError(
            f"The platform accepted the {kind}, but its answer holds none with an id. Look whether it is there.",
            method="POST",
        )
    return answer


def _name_conflict(error: ConflictError, name: str) -> None:
    _add(error, f"The name {shown(name)} is taken: get_batch(name=...) finds the batch that has it.")


def _add(error: CFPlatformError, words: str) -> None:
    error.message = f"{error.message} {words}"
    error.args = (error.message,)
