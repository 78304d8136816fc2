"""The context of one request: its caller, its method, and the permissions that it required."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from localcloud.common.http_server import Request, Response
from localcloud.gcp.errors import GoogleError
from localcloud.gcp.state import World

T = TypeVar("T")
_TESTED = 100  # permissions in one testIamPermissions


@dataclass
class Context:
    """A matched and validated request. `ids` are the path parameters in order; `body` is the JSON object, if any."""

    world: World
    request: Request
    method: str
    ids: tuple[str, ...]
    media: str
    identity: str
    body: dict[str, Any] = field(default_factory=dict)
    rights: list[tuple[str, str]] = field(default_factory=list)

    def may(self, permission: str, resource: str) -> bool:
        """Return whether the caller has an optional permission, and record its use."""
        held = self.world.iam.allows(self.identity, permission, self.world.chain(resource))
        if held:
            self._record(permission, resource)
        return held

    def _record(self, permission: str, resource: str) -> None:
        if (permission, resource) not in self.rights:
            self.rights.append((permission, resource))

    def need(self, permission: str, resource: str, message: str = "The caller does not have permission") -> None:
        """Record a required permission. Raises GoogleError 403 unless the caller has it."""
        self._record(permission, resource)
        if not self.may(permission, resource):
            raise GoogleError(403, "accessDenied" if self.method.startswith("bigquery") else "forbidden", message)

    def tested(self, resource: str) -> dict[str, list[str]]:
        """Return the response of `testIamPermissions`: the permissions named in the request that the caller has."""
        asked = self.body.get("permissions", [])
        if len(asked) > _TESTED:
            raise GoogleError(400, "badRequest", f"At most {_TESTED} permissions are tested at once.")
        chain = self.world.chain(resource)
        held = [name for name in asked if self.world.iam.allows(self.identity, name, chain)]
        return {"permissions": held} if held else {}


Answer = Mapping[str, Any] | Response | None
Handler = Callable[[Context], Answer]


def page(items: Sequence[T], token: str, size: int, salt: str) -> tuple[Sequence[T], str]:
    """Return one page and the token of the next page, or "" on the last. `salt` binds a token to its listing.

    Raises GoogleError for a token that this listing did not issue.
    """
    start = 0
    if token:
        try:
            start, given = json.loads(base64.urlsafe_b64decode(token))
        except (ValueError, binascii.Error, TypeError):
            given = None
        if given != salt or not isinstance(start, int):
            raise GoogleError(400, "invalid", f"Invalid page token: {token[:40]}")
    end = start + size
    following = base64.urlsafe_b64encode(json.dumps([end, salt]).encode()).decode() if end < len(items) else ""
    return items[start:end], following
