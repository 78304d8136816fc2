"""Secret Manager: the one method by which a function reads a secret.

Source: "Method: projects.secrets.versions.access", Secret Manager REST API v1. Google's discovery document of this API
is not among those that the local cloud is set up with, so the method is written out here.
"""

from __future__ import annotations

import base64
import re

import google_crc32c

from localcloud.common.http_server import Request
from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.discovery import Match, Route
from localcloud.gcp.errors import GoogleError

_ACCESS = re.compile(r"/v1/projects/([^/]+)/secrets/([^/]+)/versions/([^/:]+):access")
METHOD = "secretmanager.projects.secrets.versions.access"
_ROUTE = Route(METHOD, "secretmanager", "GET", _ACCESS, {}, "", "secretmanager.v1")


def match_secret(request: Request) -> Match | None:
    """Return the method if a request reads a secret, else None."""
    found = _ACCESS.fullmatch(request.path) if request.method == "GET" else None
    return Match(_ROUTE, found.groups(), "") if found else None


class SecretsApi:
    """The method on versions of secrets that is covered."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {METHOD: self._access}

    def _access(self, context: Context) -> Answer:
        project, name, version = context.ids
        owner = context.world.projects.find(project, context.world.clock.now())
        resource = f"projects/{owner.number if owner else project}/secrets/{name}/versions/{version}"
        context.need(
            "secretmanager.versions.access",
            resource,
            f"Permission 'secretmanager.versions.access' denied for resource '{resource}' (or it may not exist).",
        )
        versions = context.world.secrets.get(name, [])
        number = len(versions) if version == "latest" else int(version) if version.isdigit() else 0
        if owner is None or not 0 < number <= len(versions):
            raise GoogleError(404, "notFound", f"Secret Version [{resource}] not found.")
        data = versions[number - 1].encode()
        return {
            "name": f"projects/{owner.number}/secrets/{name}/versions/{number}",
            "payload": {
                "data": base64.b64encode(data).decode(),
                "dataCrc32c": str(google_crc32c.value(data)),
            },
        }
