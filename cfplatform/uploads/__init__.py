"""Uploading: files to the storage of a space, through signed URLs that are asked for ten at a time."""

from __future__ import annotations

from .results import UploadedFile, UploadResult
from .running import Uploader
from .sources import File, check_content_type, check_files

__all__ = ["File", "UploadResult", "UploadedFile", "Uploader", "check_content_type", "check_files"]
