"""A client for a local cloud in another process: `ControlClient(endpoint).join_account(name="new")`."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit


class ControlError(RuntimeError):
    """The local cloud refused an action; the message has the reason."""


class ControlClient:
    """Every control action of a local cloud as a method with keyword arguments only.

    Raises ControlError if the action is refused, OSError if the cloud does not respond, and ValueError for an endpoint
    that is not on loopback.
    """

    def __init__(self, endpoint: str, timeout_s: float = 60) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError(f"{endpoint} is not a local cloud")
        self._host, self._port, self._timeout_s = parts.hostname, parts.port or 80, timeout_s

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda **arguments: self.act(name, arguments)

    def act(self, action: str, arguments: dict[str, Any]) -> Any:
        """Post one action and return its result."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.request("POST", f"/_local/{action}", json.dumps(arguments), {"Content-Type": "application/json"})
            response = connection.getresponse()
            document = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ControlError(f"{action}: {document.get('error', response.status)}")
        return document["result"]
