"""Transfers: listings, downloads, uploads and exports, and the worker pool that they use."""
