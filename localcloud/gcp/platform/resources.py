"""The resources around the data by full name: identities, roles, pools, images, logs and alerts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localcloud.gcp.errors import GoogleError


class Resources:
    """Resources by full name (``projects/p/serviceAccounts/a@…``), each in the form of its own API."""

    def __init__(self) -> None:
        self.all: dict[str, dict[str, Any]] = {}

    def add(self, name: str, document: Mapping[str, Any]) -> None:
        """Add a resource; its ``name`` is the full name unless the document sets another."""
        self.all[name] = {"name": name, **document}

    def find(self, name: str) -> dict[str, Any]:
        """Return a resource. Raises GoogleError 404."""
        if name not in self.all:
            raise GoogleError(404, "notFound", f"Resource '{name}' was not found")
        return self.all[name]

    def below(self, collection: str) -> list[dict[str, Any]]:
        """Return the direct members of a collection (``projects/p/locations/-/functions``: of all locations)."""
        wanted = collection.split("/")
        return [
            document
            for name, document in sorted(self.all.items())
            if len(parts := name.split("/")) == len(wanted) + 1
            and all(one in ("-", part) for one, part in zip(wanted, parts, strict=False))
        ]
