"""The documents of the fleet in memory, and the rules of an invented cloud."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from shared.errors import CloudError
from shared.runtime.clock import VirtualClock
from shared.state.store import Blob
from shared.tenants.registry import Field, Rules
from shared.tenants.rows import REGISTRY, ROWS

RULES = Rules(
    cloud="aws",
    entry={
        "role": Field("ROLE", r"role/[a-z]+", "a role", required=True),
        "key": Field("KEY", r"secret:[a-z]+", "the name of a secret", reference=True),
    },
    destination={"bucket": Field("BUCKET", r"[a-z]+", "a bucket's name")},
    settings=frozenset({"EXPORTS"}),
    own=frozenset({"ACCOUNTS"}),
    identity=lambda tenant: tenant.entry["role"],
    unique=("key",),
)


def entry(name: str = "acme", **more: Any) -> dict[str, Any]:
    """Return a sound entry of the registry."""
    return {"id": name, "cloud": "aws", "entry": {"role": f"role/{name.replace('-', '')}"}, **more}


def registry(*entries: Any) -> bytes:
    """Return a registry with these entries."""
    return json.dumps({"version": 1, "tenants": list(entries)}).encode()


class MemoryDocuments:
    """Documents with the times of a clock; `refusal` is raised by each call, `refused_write` by each write."""

    def __init__(self, clock: VirtualClock, *entries: Any) -> None:
        self.clock = clock
        self.stored: dict[str, tuple[bytes, datetime]] = {}
        self.refusal: CloudError | None = None
        self.refused_write: CloudError | None = None
        self.put(REGISTRY, registry(*entries), "")

    def load(self, limit: int, document: str) -> Blob:
        if self.refusal:
            raise self.refusal
        if document not in self.stored:
            return Blob()
        data = self.stored[document][0]
        return Blob(data if len(data) <= limit else b"", "1", len(data))

    def put(self, document: str, data: bytes, content_type: str) -> str:
        del content_type
        if self.refused_write:
            raise self.refused_write
        self.stored[document] = (data, self.clock.now())
        return f"memory:{document}"

    def names(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        if self.refusal:
            raise self.refusal
        yield from ((name, at) for name, (_, at) in self.stored.items() if name.startswith(prefix))

    def row(self, tenant: str) -> dict[str, Any] | None:
        """Return a stored row."""
        found = self.stored.get(f"{ROWS}{tenant}.json")
        return json.loads(found[0]) if found else None
