"""Servers that say what they are told to, as the tests of the transport use them."""

from __future__ import annotations

from tests.http.conftest import connect, serve

__all__ = ["connect", "serve"]
