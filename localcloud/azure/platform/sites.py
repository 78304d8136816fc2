"""Function apps as resources; `runtime.function_app` hosts them."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

_TRUE = ("true", "1")
LINES = 50_000  # the number of log lines that are kept per app


@dataclass
class Site:
    """A function app.

    `functions` returns the bindings of the indexed functions by name and can start the host. `package` is the archive
    that was published last, or empty if none was published since the deployment; `loads` is false if the host finds no
    function in it. `passwords` are the publishing endpoints that accept user name and password. `lines` are the
    functions' log lines, each with its time on the machine's clock. `assigned` are the user-assigned identities, by
    resource ID, each with `principalId` and `clientId`.
    """

    name: str
    subscription: str
    group: str
    location: str
    principal: str
    settings: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    key: str = field(default_factory=lambda: f"local-function-key-{secrets.token_urlsafe(32)}", repr=False)
    assigned: dict[str, dict[str, str]] = field(default_factory=dict)
    functions: Callable[[], Mapping[str, list[dict[str, Any]]]] = dict
    modified: datetime | None = None
    package: bytes = field(default=b"", repr=False)
    loads: bool = True
    passwords: set[str] = field(default_factory=lambda: {"scm", "ftp"})
    # Stores a package as the app's own publish endpoint does; returns why it could not, or "".
    publish: Callable[[bytes], str] = lambda _package: "The site has no host."
    given: dict[str, Any] = field(default_factory=dict)
    lines: deque[tuple[datetime, str]] = field(default_factory=lambda: deque(maxlen=LINES), repr=False)

    @property
    def id(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}/providers/Microsoft.Web/sites/{self.name}"
        )

    def disabled(self, function: str) -> bool:
        """Return whether a function is disabled by the setting `AzureWebJobs.<name>.Disabled`."""
        return self.settings.get(f"AzureWebJobs.{function}.Disabled", "").lower() in _TRUE

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "type": "Microsoft.Web/sites",
            "kind": "functionapp,linux",
            "location": self.location,
            "tags": self.tags,
            "identity": self._identity(),
            "properties": {
                **self.given,
                "state": "Running",
                "enabled": True,
                "httpsOnly": True,
                "defaultHostName": f"{self.name}.azurewebsites.net",
                **({"lastModifiedTimeUtc": self.modified.strftime("%Y-%m-%dT%H:%M:%S.%f")} if self.modified else {}),
                "hostNameSslStates": [
                    {"name": f"{self.name}.azurewebsites.net", "hostType": "Standard"},
                    {"name": f"{self.name}.scm.azurewebsites.net", "hostType": "Repository"},
                ],
            },
        }

    def _identity(self) -> dict[str, Any]:
        own = {"type": "SystemAssigned", "principalId": self.principal}
        if not self.assigned:
            return own
        return {**own, "type": "SystemAssigned, UserAssigned", "userAssignedIdentities": self.assigned}
