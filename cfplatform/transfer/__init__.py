"""Listings, downloads, uploads and exports, and their worker pool."""
