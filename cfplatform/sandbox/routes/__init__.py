"""The routes of the sandbox, one module per resource; each offers ``routes(platform)``."""

from __future__ import annotations

from starlette.routing import Route

from ..platform import Platform
from . import annotation, batches, control, exports, jwks, public, signing, storage, work_items

#: Resources below the API prefix, which ask for a key.
API_RESOURCES = (work_items, annotation, batches, signing, exports)


def api_routes(platform: Platform) -> list[Route]:
    """Return the routes of the platform's API."""
    return [route for resource in API_RESOURCES for route in resource.routes(platform)]


def well_known_routes(platform: Platform) -> list[Route]:
    """Return the routes that a receiver of webhooks asks, without a key."""
    return jwks.routes(platform)


def storage_routes(platform: Platform) -> list[Route]:
    """Return the routes of the object store."""
    return storage.routes(platform)


def public_routes(platform: Platform) -> list[Route]:
    """Return the routes that ask for no signature."""
    return public.routes(platform)


def control_routes(platform: Platform) -> list[Route]:
    """Return the routes that steer the sandbox."""
    return control.routes(platform)
