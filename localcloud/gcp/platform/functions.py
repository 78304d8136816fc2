"""The deployed function: its Cloud Functions and Cloud Scheduler APIs, and its access-checked address."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from localcloud.common.http_server import Request, Response
from localcloud.gcp.calls import Call
from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.errors import GoogleError, invalid
from localcloud.gcp.platform.log_entries import LogEntries
from localcloud.gcp.platform.resources_api import name_of, owner_of
from localcloud.gcp.platform.task_delivery import Dispatch, TaskResponse
from localcloud.gcp.state import World

INVOKE = "run.routes.invoke"
INTERNAL = "ALLOW_INTERNAL_ONLY"
# How long a request waits for a free instance; shorter than Google's ten seconds
# (https://cloud.google.com/run/docs/about-concurrency).
QUEUE_S = 1.0
TOKEN_LIFE = timedelta(hours=1)
_OK, _UNKNOWN = 0, 2
_RPC = {403: 7, 404: 5, 409: 10, 429: 8, 503: 14}
_FUNCTION = "cloudfunctions.functions.get"


class Answered(Protocol):
    """A function's response."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def error(self) -> str | None: ...
    @property
    def logs(self) -> Sequence[str]: ...


class Runner(Protocol):
    """A running function."""

    def invoke(self, body: object = None, headers: Mapping[str, str] | None = None) -> Answered: ...


# Called with the function's environment; returns the runtime's context, which is entered at the first call.
Runtime = Callable[[Mapping[str, str]], AbstractContextManager[Runner]]


@dataclass(frozen=True)
class _Token:
    identity: str
    audience: str
    until: datetime


class Functions:
    """One function in its project, with its log.

    `environment` returns what the platform adds to the function's own settings; `service` is its Cloud Run service.
    """

    def __init__(
        self,
        world: World,
        runtime: Runtime | None,
        environment: Callable[[], Mapping[str, str]],
        service: str,
    ) -> None:
        self._world = world
        self._service_name = service
        self._log = LogEntries()
        self._runtime = runtime
        self._environment = environment
        self._instances = threading.Condition()
        self._idle: list[Runner] = []
        self._busy = 0
        self._stack = ExitStack()
        self._tokens: dict[str, _Token] = {}
        self._threads: list[threading.Thread] = []
        self.handlers: dict[str, Handler] = {
            **self._log.handlers,
            "cloudfunctions.projects.locations.functions.get": self._get,
            "cloudscheduler.projects.locations.jobs.get": self._job,
            "cloudscheduler.projects.locations.jobs.pause": self._pause,
            "cloudscheduler.projects.locations.jobs.resume": self._resume,
            "cloudscheduler.projects.locations.jobs.run": self._run,
            "iamcredentials.projects.serviceAccounts.generateIdToken": self._token,
        }

    def close(self) -> None:
        """Wait for calls in progress, then stop the function; later calls get 503."""
        for thread in self._threads:
            thread.join()
        with self._instances:
            self._runtime = None
            self._instances.wait_for(lambda: not self._busy)
            self._idle.clear()
            self._stack.close()

    def push(self, body: bytes, identity: str) -> int:
        """Call the function as Pub/Sub does, from inside the project, and return the response status."""
        sent = {"user-agent": "APIs-Google", "content-type": "application/json"}
        return self.inside(self._world.function_uri, self._world.function_uri, identity, body, sent).status

    def dispatch(self, request: Dispatch) -> TaskResponse:
        """Call the function as Cloud Tasks does, from inside the project and with the task's own identity."""
        answer = self.inside(request.url, request.audience, request.identity, request.body, request.headers)
        return TaskResponse(answer.status, float(answer.headers.get("retry-after", 0)))

    def inside(self, uri: str, audience: str, identity: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """Call the function from inside the project: 404 for another address, 403 for a refused identity."""
        with self._world.lock:
            service = self._service()
            linked = service is not None and uri == service["uri"] == audience
            allowed = linked and self._world.iam.allows(
                identity, INVOKE, self._world.chain(str((service or {}).get("name")))
            )
        if not linked:
            return _page(404, "The requested URL was not found on this server.")
        if not allowed:
            return _page(403, "Your client does not have permission to get URL / from this server.")
        return self._call(body, headers)

    # Its address

    def serve(self, request: Request) -> Response:
        """Answer a call to the function's own address, as from outside the project."""
        at = self._world.clock.now()
        with self._world.lock:
            service = self._service()
            refused, identity = self._admitted(request, service)
        if refused is None:
            sent = {name: value for name, value in request.headers.items() if name not in ("authorization", "host")}
            answer = self._call(request.body, sent)
        else:
            answer = refused
        resource = str(service.get("name", "")) if service else ""
        rights = ((INVOKE, resource),) if identity else ()
        error = None if answer.status < 400 else str(answer.status)
        self._world.calls.add(Call(at, identity, INVOKE, request.path, rights, answer.status, error))
        return answer

    def _service(self) -> dict[str, Any] | None:
        found = [
            document
            for document in self._world.platform.all.values()
            if "/services/" in document["name"] and document.get("uri") == self._world.function_uri
        ]
        return found[0] if found else None

    def _admitted(self, request: Request, service: Mapping[str, Any] | None) -> tuple[Response | None, str]:
        """Return the error response or None, and the caller ("" if unknown)."""
        if service is None or service.get("ingress") == "INGRESS_TRAFFIC_INTERNAL_ONLY":
            return _page(404, "The requested URL was not found on this server."), ""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            return _page(403, "Your client does not have permission to get URL / from this server."), ""
        known = self._tokens.get(token.strip())
        if known is None or known.audience != service["uri"] or known.until <= self._world.clock.now():
            return _page(401, "The access token could not be verified"), ""
        if not self._world.iam.allows(known.identity, INVOKE, self._world.chain(str(service["name"]))):
            return _page(403, "Your client does not have permission to get URL / from this server."), known.identity
        return None, known.identity

    def _call(self, body: bytes, headers: Mapping[str, str]) -> Response:
        with self._instances:
            if not self._instances.wait_for(lambda: self._busy < self._most(), timeout=QUEUE_S):
                return _page(429, "The request was aborted because there was no available instance.")
            if self._runtime is None:
                return _page(503, "The local GCP was opened without a runtime for its function, or is shutting down.")
            self._busy += 1
            runner = self._idle.pop() if self._idle else None
        try:
            if runner is None:
                runner = self._stack.enter_context(self._runtime(self._environment()))
            answer = runner.invoke(body, headers)
            self._log.keep(self._service_name, answer.logs)
        finally:
            with self._instances:
                self._busy -= 1
                if runner is not None:
                    self._idle.append(runner)
                self._instances.notify_all()
        if answer.error and not answer.body:
            return _page(answer.status, answer.error)
        kind = answer.headers.get("content-type", "text/html")
        return Response(answer.status, {"Content-Type": kind}, answer.body)

    def _most(self) -> int:
        """Return the most instances that the deployed function may have."""
        found = self._world.platform.all.values()
        counts = [one["serviceConfig"].get("maxInstanceCount", 1) for one in found if "/functions/" in one["name"]]
        return max(counts, default=1)

    # The APIs

    def _get(self, context: Context) -> Answer:
        return self._found(context, _FUNCTION)

    def _job(self, context: Context) -> Answer:
        return self._found(context, "cloudscheduler.jobs.get")

    def _pause(self, context: Context) -> Answer:
        job = self._found(context, "cloudscheduler.jobs.pause")
        if job["state"] != "ENABLED":
            raise GoogleError(400, "failedPrecondition", "Job.state must be ENABLED in order to pause it.")
        job["state"] = "PAUSED"
        return job

    def _resume(self, context: Context) -> Answer:
        job = self._found(context, "cloudscheduler.jobs.enable")
        job["state"] = "ENABLED"
        return job

    def _run(self, context: Context) -> Answer:
        job = self._found(context, "cloudscheduler.jobs.run")
        job["lastAttemptTime"] = self._world.clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        job.pop("status", None)
        thread = threading.Thread(target=self._fire, args=(job,), name="scheduler", daemon=True)
        self._threads.append(thread)
        thread.start()
        return job

    def _fire(self, job: dict[str, Any]) -> None:
        """Call the target as Cloud Scheduler does, from inside the project and with the job's own identity."""
        target, oidc = job["httpTarget"], job["httpTarget"].get("oidcToken", {})
        uri = target["uri"]
        headers = {
            "user-agent": "Google-Cloud-Scheduler",
            "x-cloudscheduler": "true",
            "x-cloudscheduler-jobname": job["name"].rpartition("/")[2],
            "x-cloudscheduler-scheduletime": f"{self._world.clock.now():%Y-%m-%dT%H:%M:%SZ}",
        }
        body = base64.b64decode(target.get("body", ""))
        identity = str(oidc.get("serviceAccountEmail"))
        status = self.inside(uri, oidc.get("audience", uri), identity, body, headers).status
        code = _OK if status < 400 else _RPC.get(status, _UNKNOWN)
        with self._world.lock:
            job["status"] = {"code": code} if code else {}

    def _found(self, context: Context, permission: str) -> dict[str, Any]:
        name = name_of(context)
        message = f"Permission '{permission}' denied on '{name}'"
        context.need(permission, owner_of(name), message)
        return self._world.platform.find(name)

    def _token(self, context: Context) -> Answer:
        name = name_of(context)
        context.need(
            "iam.serviceAccounts.getOpenIdToken",
            name,
            "Permission 'iam.serviceAccounts.getOpenIdToken' denied on resource (or it may not exist).",
        )
        self._world.platform.find(name)
        audience = str(context.body.get("audience") or "")
        if not audience:
            raise invalid("Request contains an invalid argument: audience.")
        token = f"local.{secrets.token_urlsafe(24)}"
        until = self._world.clock.now() + TOKEN_LIFE
        self._tokens[token] = _Token(name.rpartition("/")[2], audience, until)
        return {"token": token}


def _page(status: int, text: str) -> Response:
    """Return an HTML error page, as Google's front ends do."""
    body = f"<html><head><title>{status}</title></head><body><h1>Error</h1><h2>{text}</h2></body></html>"
    return Response(status, {"Content-Type": "text/html; charset=UTF-8"}, body.encode())
