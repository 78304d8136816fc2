"""Secret Manager: the method that a function uses to read a secret, and the two that an operator uses to store one.

Source: "REST Resource: projects.secrets" and "projects.secrets.versions", Secret Manager REST API v1. The
local cloud is not set up with Google's discovery document of this API, so the routes are defined here.
"""

from __future__ import annotations

import base64
import binascii
import re

import google_crc32c

from localcloud.common.http_server import Request
from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.discovery import Match, Route
from localcloud.gcp.errors import GoogleError, invalid, unimplemented

_SECRETS = "/v1/projects/([^/]+)/secrets"
METHOD = "secretmanager.projects.secrets.versions.access"
_CREATE, _ADD = "secretmanager.projects.secrets.create", "secretmanager.projects.secrets.addVersion"
_ALT = {"alt": {"type": "string", "enum": ["json"]}}
_ROUTES = tuple(
    Route(name, "secretmanager", verb, re.compile(path), {**_ALT, **parameters}, "", "secretmanager.v1")
    for name, verb, path, parameters in (
        (METHOD, "GET", f"{_SECRETS}/([^/]+)/versions/([^/:]+):access", {}),
        (_CREATE, "POST", _SECRETS, {"secretId": {"type": "string"}}),
        (_ADD, "POST", f"{_SECRETS}/([^/:]+):addVersion", {}),
    )
)
_ANY = re.compile(r"/v1/projects/[^/]+/(?:locations/[^/]+/)?secrets\b")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")


def match_secret(request: Request) -> Match | None:
    """Return the Secret Manager method of a request, or None. Raises GoogleError 501 for an unsupported one."""
    for route in _ROUTES:
        found = route.pattern.fullmatch(request.path) if request.method == route.verb else None
        if found:
            return Match(route, found.groups(), "")
    if _ANY.match(request.path):  # difference: GCP-20
        raise unimplemented("This method of Secret Manager")
    return None


class SecretsApi:
    """The supported methods on secrets and their versions."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {METHOD: self._access, _CREATE: self._create, _ADD: self._add}

    def _access(self, context: Context) -> Answer:
        project, name, version = context.ids
        owner = context.world.projects.find(project, context.world.clock.now())
        resource = f"projects/{owner.number if owner else project}/secrets/{name}/versions/{version}"
        _need(context, "secretmanager.versions.access", resource)
        versions = context.world.secrets.get(name, [])
        number = len(versions) if version == "latest" else int(version) if version.isdigit() else 0
        if owner is None or not 0 < number <= len(versions):
            raise GoogleError(404, "notFound", f"Secret Version [{resource}] not found.")
        text = versions[number - 1]
        if text is None:
            raise GoogleError(400, "failedPrecondition", f"Secret Version [{resource}] is in DISABLED state.")
        data = text.encode()
        return {
            "name": f"projects/{owner.number}/secrets/{name}/versions/{number}",
            "payload": {
                "data": base64.b64encode(data).decode(),
                "dataCrc32c": str(google_crc32c.value(data)),
            },
        }

    def _create(self, context: Context) -> Answer:
        parent, name = f"projects/{context.ids[0]}", context.request.one("secretId")
        _need(context, "secretmanager.secrets.create", parent)
        if not _NAME.fullmatch(name):
            raise invalid(f"The provided Secret ID [{name}] does not match the expected format [{_NAME.pattern}]")
        if "replication" not in context.body:
            raise invalid("The field [secret.replication] is required.")
        resource = _numbered(context, f"secrets/{name}")
        if name in context.world.secrets:
            raise GoogleError(409, "alreadyExists", f"Secret [{resource}] already exists.")
        context.world.secrets[name] = []
        return {**context.body, "name": resource, "createTime": _stamp(context)}

    def _add(self, context: Context) -> Answer:
        project, name = context.ids
        _need(context, "secretmanager.versions.add", f"projects/{project}/secrets/{name}")
        resource = _numbered(context, f"secrets/{name}")
        if name not in context.world.secrets:
            raise GoogleError(404, "notFound", f"Secret [{resource}] not found.")
        payload = context.body.get("payload") or {}
        try:
            # Google accepts both base64 alphabets, and gcloud sends the URL-safe one.
            written = str(payload.get("data", "")).replace("-", "+").replace("_", "/")
            data = base64.b64decode(written, validate=True)
            text, checksum = data.decode(), int(payload.get("dataCrc32c", google_crc32c.value(data)))
        except (binascii.Error, ValueError) as error:
            raise invalid(f"The payload of Secret [{resource}] is not valid.") from error
        if checksum != google_crc32c.value(data):
            raise invalid(f"The checksum of the payload of Secret [{resource}] does not match.")
        versions = context.world.secrets[name]
        versions.append(text)
        return {"name": f"{resource}/versions/{len(versions)}", "createTime": _stamp(context), "state": "ENABLED"}


def _need(context: Context, permission: str, resource: str) -> None:
    message = f"Permission '{permission}' denied for resource '{resource}' (or it may not exist)."
    context.need(permission, resource, message)


def _numbered(context: Context, rest: str) -> str:
    """Return a full name with the project number, as Google returns it."""
    owner = context.world.projects.find(context.ids[0], context.world.clock.now())
    return f"projects/{owner.number if owner else context.ids[0]}/{rest}"


def _stamp(context: Context) -> str:
    return context.world.clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
