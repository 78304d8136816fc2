"""The gateway of the local GCP: routes, authenticates, validates, answers and logs every request."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from dataclasses import replace
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, unquote

from localcloud.common.control_api import ControlApi
from localcloud.common.http_server import FileRange, Request, Response
from localcloud.gcp.calls import Call
from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.discovery import (
    DISCOVERY,
    Match,
    canonical,
    check_answer,
    check_body,
    check_parameters,
    described,
    match,
)
from localcloud.gcp.errors import (
    GoogleError,
    invalid,
    outside_perimeter,
    quota_project_missing,
    service_disabled,
    unauthenticated,
    unimplemented,
)
from localcloud.gcp.field_mask import parse_mask, select
from localcloud.gcp.iam.federation import Federation
from localcloud.gcp.infra_manager.api import InfraManager
from localcloud.gcp.platform.audited import change_of
from localcloud.gcp.runtime.metadata_server import MetadataServer
from localcloud.gcp.services.jobs_api import UNLOCKED
from localcloud.gcp.services.projects import TITLES
from localcloud.gcp.services.secrets_api import match_secret
from localcloud.gcp.state import World

_LEGACY = ("bigquery", "storage")
# The APIs that charge quota to the caller's project instead of the resource's project.
_OF_QUOTA_PROJECT = frozenset(
    f"{name}.googleapis.com" for name in ("cloudbilling", "cloudresourcemanager", "serviceusage", "iam")
)
_IDENTIFIER = "AbCdEf0123-local-perimeter"
_JSON = "application/json; charset=UTF-8"


class Gateway:
    """Answers all requests; `default_identity` is the caller of requests without a token.

    Google's clients send no token to an emulator (`STORAGE_EMULATOR_HOST`), so such requests count as the function's.
    """

    def __init__(
        self,
        world: World,
        handlers: Mapping[str, Handler],
        federation: Federation,
        infra_manager: InfraManager,
        metadata: MetadataServer,
        control: ControlApi,
        default_identity: str,
    ) -> None:
        self._world = world
        self._handlers = handlers
        self._federation = federation
        self._infra_manager = infra_manager
        self._metadata = metadata
        self._control = control
        self._default = default_identity

    def __call__(self, request: Request) -> Response:
        if self._federation.describes(request):
            return self._federation.description()
        if self._control.owns(request):
            return self._control.answer(request)
        if request.method == "GET" and request.path == DISCOVERY:
            return _document(200, described("bigquery.v2", request.headers.get("host", "")))
        if self._metadata.owns(request):
            return self._metadata.answer(request)
        if self._infra_manager.owns(request):
            return self._infra_manager.signed(request)
        if self._federation.owns(request):
            return self._federation.answer(request)
        if request.path.startswith("/batch"):
            return _refusal(unimplemented("A batch of requests"), legacy=True)
        try:
            found = match(request.method, request.path) or match_secret(request) or self._of_bucket(request)
        except GoogleError as error:
            return _refusal(error, legacy=False)
        if found is None:
            return _document(
                404, {"error": {"code": 404, "message": f"{request.method} {request.path[:200]} is not a method"}}
            )
        return self._method(found, request)

    def _of_bucket(self, request: Request) -> Match | None:
        """Return a read by the XML API, ``/bucket/object``, which Google's Go client and therefore Terraform use."""
        bucket, _, name = request.path.lstrip("/").partition("/")
        if request.method != "GET" or not name or unquote(bucket) not in self._world.buckets.all:
            return None
        found = match("GET", f"/storage/v1/b/{bucket}/o/{quote(unquote(name), safe='')}")
        return replace(found, media="download") if found else None

    def _method(self, found: Match, request: Request) -> Response:
        route = found.route
        context = Context(self._world, request, route.id, found.ids, found.media, self._default)
        at = self._world.clock.now()
        error: GoogleError | None = None
        try:
            context.identity = self._identity(request)
            if self._world.faults.apply(route.id, request.path):
                self._log(context, at, 0, "hang")
                return Response(hang=True)
            response = self._answer(found, context)
            change = change_of(context)
            if change:
                with self._world.lock:
                    self._world.audit.write(change, context.identity)
            error = self._world.faults.lost(route.id, request.path)
        except GoogleError as refusal:
            error = refusal
            response = Response()
        except Exception:  # noqa: BLE001 - an internal error is returned and shown, never a dropped connection
            error = GoogleError(500, "internalError", f"The local cloud failed:\n{traceback.format_exc()[-2000:]}")
            response = Response()
        if error:
            if isinstance(response.body, FileRange):
                response.body.source.close()
            response = _refusal(error, legacy=route.service in _LEGACY)
        self._log(context, at, response.status, error.reason if error else None)
        corruption = self._world.faults.corruption_of(route.id)
        if corruption is not None:
            response.body = corruption.change(_bytes(response.body))
            response.status = corruption.status or response.status
            response.headers.update(corruption.headers)
        response.headers.setdefault("Date", format_datetime(at, usegmt=True))
        return response

    def _log(self, context: Context, at: Any, status: int, error: str | None) -> None:
        rights = tuple(context.rights)
        path = context.request.path
        self._world.calls.add(Call(at, context.identity, context.method, path, rights, status, error))

    def _identity(self, request: Request) -> str:
        header = request.headers.get("authorization")
        if header is None:
            return self._default
        kind, _, token = header.partition(" ")
        identity = self._world.iam.identity_of(token.strip()) if kind == "Bearer" else None
        if identity is None:
            raise unauthenticated()
        return identity

    def _answer(self, found: Match, context: Context) -> Response:
        route, request = found.route, context.request
        handler = self._handlers.get(route.id)
        if handler is None:  # difference: GCP-26
            raise unimplemented(route.id)
        self._check_service(route.service, context)
        check_parameters(route, request.query)
        # An upload's body is content; its metadata is validated where it is parsed.
        if request.body and found.media != "upload":
            given = _parsed(request.body)
            check_body(route, given)
            context.body = canonical(route, given)
        if route.id in UNLOCKED:
            with self._world.lock:
                self._world.settle()
            answer = handler(context)
        else:
            with self._world.lock:
                self._world.settle()
                answer = handler(context)
        if not isinstance(answer, Response):
            check_answer(route, answer or {})
        return _response(answer, request.one("fields"))

    def _check_service(self, service: str, context: Context) -> None:
        """Reject a call to an API that is disabled in the billed project or outside a service perimeter."""
        name = f"{service}.googleapis.com"
        named = context.request.headers.get("x-goog-user-project")
        if name in _OF_QUOTA_PROJECT and not named and context.identity in self._world.without_quota_project:
            raise quota_project_missing(name)
        owner = context.identity.partition("@")[2].removesuffix(".iam.gserviceaccount.com")
        charged = owner if owner in self._world.projects.all else self._world.project
        project = context.request.headers.get("x-goog-user-project") or charged
        if service == "bigquery" and context.ids:
            project = context.ids[0]
        found = self._world.projects.all.get(project)
        if found and name in TITLES and name not in found.services:
            raise service_disabled(TITLES[name], name, found.id, found.number)
        if name in self._world.perimeter:
            raise outside_perimeter(name, found.number if found else "", _IDENTIFIER)


def _bytes(body: bytes | FileRange) -> bytes:
    if isinstance(body, bytes):
        return body
    with body.source as source:
        source.seek(body.start)
        return source.read(body.length)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise invalid("Parse Error: the body is not valid JSON.") from error
    if not isinstance(document, dict):
        raise invalid("Parse Error: the body is not a JSON object.")
    return document


def _response(answer: Answer, fields: str) -> Response:
    if isinstance(answer, Response):
        return answer
    document: Mapping[str, Any] = answer or {}
    if fields:
        document = select(document, parse_mask(fields))
    return _document(200, document)


def _refusal(error: GoogleError, *, legacy: bool) -> Response:
    if error.status in (304, 308):
        return Response(error.status, dict(error.headers))
    response = _document(error.status, error.body(legacy=legacy))
    response.headers.update(error.headers)
    return response


def _document(status: int, document: Mapping[str, Any]) -> Response:
    return Response(status, {"Content-Type": _JSON}, json.dumps(document).encode())
