"""Destinations: local folders and remote stores, atomic writes, and the state of finished items."""
