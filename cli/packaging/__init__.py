"""Builds the archive of each cloud's function: only what it imports, reproducible byte for byte."""

from __future__ import annotations

from cli.packaging.builder import Package, build
from cli.packaging.errors import PackagingError
from cli.packaging.layouts import TARGETS
from cli.packaging.target import Target

__all__ = ["TARGETS", "Package", "PackagingError", "Target", "build"]
