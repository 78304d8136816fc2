"""The archive that each cloud's function is deployed from: only what it imports, and always the same bytes."""

from __future__ import annotations

from cli.packaging.builder import Package, build
from cli.packaging.faults import PackagingError
from cli.packaging.layouts import TARGETS
from cli.packaging.target import Target

__all__ = ["TARGETS", "Package", "PackagingError", "Target", "build"]
