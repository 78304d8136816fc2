"""Calls of a local Azure's Resource Manager, as its operator."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from localcloud.azure.cloud import LocalAzure
from tests.limits import HANG_S


class Refused(Exception):
    """A call that was answered with an error, whose document is the message."""


class Arm:
    """Sends calls to the Resource Manager of a local Azure."""

    def __init__(self, azure: LocalAzure) -> None:
        self._azure = azure
        self._opener = build_opener(ProxyHandler({}))

    def ask(self, method: str, path: str, version: str, body: Any = None) -> Any:
        """Send a call and return the JSON of its answer. Raises Refused."""
        headers = {"Authorization": f"Bearer {self._azure.operator_token()}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        address = f"{self._azure.endpoint}{path}?api-version={version}"
        sent = Request(address, data, headers, method=method)  # noqa: S310 - a loopback address
        try:
            with self._opener.open(sent, timeout=HANG_S) as answer:
                text = answer.read()
        except HTTPError as error:
            with error:
                raise Refused(f"{method} {path}: {error.read().decode()}") from error
        return json.loads(text) if text else None
