"""A client of a local GCP that runs in another process: `Remote(endpoint).stream(days=1)`."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit


class RemoteError(RuntimeError):
    """The local cloud refused an action; the message says why."""


class Remote:
    """Every action of `Story` as a method with keyword arguments.

    Raises RemoteError when an action is refused, OSError when nobody listens.
    """

    def __init__(self, endpoint: str, timeout_s: float = 60) -> None:
        address = urlsplit(endpoint)
        self._host, self._port = address.hostname or "127.0.0.1", address.port
        self._timeout_s = timeout_s

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
            raise RemoteError(f"{action}: {document.get('error', response.status)}")
        return document["result"]
