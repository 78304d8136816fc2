"""Google's clients: one authorized session, reused between invocations, with the SDKs' own retries disabled."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cached_property
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import google.auth
import requests
from google.api_core.exceptions import from_http_response
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
from google.auth.transport.requests import AuthorizedSession, Request
from requests.adapters import HTTPAdapter

from gcp_function.answers import prove
from gcp_function.settings import GcpSettings
from shared.errors import NotUnderstood
from shared.parsing import parse_http_date, require
from shared.redaction import remember_secret
from shared.runtime.context import RunContext
from shared.runtime.rate_limit import Rate
from shared.runtime.warm_clients import WarmClients

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
HOSTS = {
    "bigquery": "https://bigquery.googleapis.com",
    "storage": "https://storage.googleapis.com",
    "cloudbilling": "https://cloudbilling.googleapis.com",
    "cloudresourcemanager": "https://cloudresourcemanager.googleapis.com",
    "serviceusage": "https://serviceusage.googleapis.com",
    "secretmanager": "https://secretmanager.googleapis.com",
    "pubsub": "https://pubsub.googleapis.com",
    "cloudtasks": "https://cloudtasks.googleapis.com",
    "iamcredentials": "https://iamcredentials.googleapis.com",
}
NO_BUCKET_READS = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"  # the client library's own setting
TIMEOUT_S = 10.0  # seconds without a response after which a call is ended

# Calls per second and burst, at or below the documented limits: BigQuery 100 requests a second per user and method
# ("Quotas and limits", BigQuery), 100,000 extract jobs a day; Cloud Storage 1,000 writes and 5,000 reads a second for a
# new bucket ("Request rate and access distribution guidelines"); Cloud Billing 300 a minute, Resource Manager 600 a
# minute, Service Usage 240 a minute, Secret Manager 90,000 reads a minute, IAM Credentials 60,000 tokens a minute, for
# each project; Pub/Sub limits bytes; Cloud Tasks limits the dispatches of a queue, not the creation of tasks.
RATES = {
    "bigquery": Rate(60, 60),
    "bigquery-extract": Rate(50, 50),
    "bigquery-query": Rate(10, 20),
    "storage": Rate(200, 200),
    "cloudbilling": Rate(5, 20),
    "cloudresourcemanager": Rate(10, 10),
    "serviceusage": Rate(4, 4),
    "secretmanager": Rate(10, 10),
    "pubsub": Rate(20, 20),
    "cloudtasks": Rate(50, 50),
    "iamcredentials": Rate(10, 10),
}


class _Session(AuthorizedSession):
    """Sends requests with credentials to the known hosts only, follows no redirect, and validates the responses."""

    def __init__(self, credentials: Any, hosts: frozenset[str]) -> None:
        plain = PlainSession()
        super().__init__(credentials, auth_request=Request(plain))  # type: ignore[no-untyped-call]  # the library has no types here
        self._hosts = hosts

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow no redirect: it is a failed call."""

    def request(self, method: str, url: str, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]  # the library has no types here
        """Send one request. Raises NotUnderstood for another host, and for a response that is not this call's."""
        what = f"{method} {urlsplit(str(url)).path}"
        if urlsplit(str(url)).netloc not in self._hosts:
            raise NotUnderstood(what, "its URL names another host, which is never called")
        answer = super().request(method, url, *arguments, **options)  # type: ignore[no-untyped-call]  # the library has no types here
        status = answer.status_code
        if status >= 300:
            # Only an error response may quote the request, so only then is its token kept for redaction.
            remember_secret(getattr(self.credentials, "token", None))
        if 300 <= status < 400 and status not in (304, 308):  # 308: an upload continues
            raise NotUnderstood(what, f"it is a redirect ({status}), which is never followed")
        if status in (200, 201) and method != "DELETE" and "alt=media" not in urlsplit(answer.url).query:
            prove(answer, what)
        return answer


class PlainSession(requests.Session):
    """Requests tokens, and follows no redirect: such a request contains a credential, too."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow no redirect."""


class Clients:
    """Creates each client once, on first use, from any thread."""

    def __init__(self, settings: GcpSettings, credentials: Any = None) -> None:
        self._settings = settings
        self._given = credentials
        self._lock = threading.RLock()
        self.read_secrets: dict[str, str] = {}  # by their resource names
        # When this instance last began to pull events, and to run for them: older notifications need no call.
        self.pulled_at: datetime | None = None
        self.event_run_at: datetime | None = None
        self.timeout = TIMEOUT_S

    @property
    def bigquery(self) -> Any:
        """Return BigQuery's client; untyped, since its annotations do not allow `retry` to be None."""
        with self._lock:
            return self._bigquery

    @property
    def storage(self) -> Any:
        """Return Cloud Storage's client, which has no types."""
        with self._lock:
            return self._storage

    @property
    def credentials(self) -> Any:
        """Return the credentials of all calls, which have no types."""
        with self._lock:
            return self._credentials

    def enter(self, run: RunContext) -> None:
        """Make the calls of a run possible; only a tenant's clients have to. Raises Unreachable, CloudError."""

    def close(self) -> None:
        """Close the pooled connections; a client that is used again opens new ones."""
        if "_session" in self.__dict__:
            self._session.close()

    def get(self, service: str, path: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON response to a GET. Raises GoogleAPICallError, and what the transport raises."""
        return self._answer("GET", service, path, params=parameters)

    def get_dated(
        self, service: str, path: str, parameters: Mapping[str, Any]
    ) -> tuple[dict[str, Any], datetime | None]:
        """Return the JSON response to a GET, and when the service sent it by its own clock. Raises as `get` does."""
        answer = self._send("GET", service, path, params=parameters)
        return answer.json(), parse_http_date(answer.headers.get("Date"))

    def post(self, service: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON response to a POST. Raises GoogleAPICallError, and what the transport raises."""
        return self._answer("POST", service, path, json=body)

    def patch(self, service: str, path: str, body: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON response to a PATCH. Raises GoogleAPICallError, and what the transport raises."""
        return self._answer("PATCH", service, path, params=parameters, json=body)

    def upload(self, bucket: str, data: bytes, parameters: Mapping[str, Any], content_type: str) -> dict[str, Any]:
        """Write an object of any size in one request; return the object. Raises as `get` does."""
        path = f"upload/storage/v1/b/{bucket}/o"
        query = {"uploadType": "media", **parameters}
        return self._answer("POST", "storage", path, params=query, data=data, headers={"Content-Type": content_type})

    def _answer(self, verb: str, service: str, path: str, **arguments: Any) -> dict[str, Any]:
        body: dict[str, Any] = self._send(verb, service, path, **arguments).json()
        return body

    def _send(self, verb: str, service: str, path: str, **arguments: Any) -> Any:
        with self._lock:
            session = self._session
        answer = session.request(verb, f"{self._host(service)}/{path}", timeout=self.timeout, **arguments)
        if not answer.ok:
            raise from_http_response(answer)  # type: ignore[no-untyped-call]  # the library annotates only parts of itself
        return answer

    def _host(self, service: str) -> str:
        return self._settings.endpoints.get(service) or HOSTS[service]

    @cached_property
    def _credentials(self) -> Any:
        if self._given is not None:
            return self._given
        local = {service for service in self._settings.endpoints if service != "metadata"}
        if not local:
            return _default_credentials(self._settings.project)
        # Real credentials are never sent to a local cloud.
        metadata = self._settings.endpoints.get("metadata")
        return _Metadata(metadata) if metadata else AnonymousCredentials()  # type: ignore[no-untyped-call]  # the library has no types here

    @cached_property
    def _session(self) -> Any:
        hosts = frozenset(urlsplit(self._host(service)).netloc for service in HOSTS)
        session: Any = _Session(self._credentials, hosts)
        adapter = HTTPAdapter(pool_maxsize=max(10, 2 * self._settings.engine.workers))
        for scheme in ("https://", "http://"):
            session.mount(scheme, adapter)
        return session

    @cached_property
    def _bigquery(self) -> Any:
        return import_apart("google.cloud.bigquery").Client(
            project=self._settings.project,
            credentials=self._credentials,
            _http=self._session,
            client_options={"api_endpoint": self._host("bigquery")},
        )

    @cached_property
    def _storage(self) -> Any:
        # For traces, which the function does not use, the client would read each bucket from its own threads: outside
        # the rate limits and the deadline, and without the permission to read the state's bucket.
        os.environ.setdefault(NO_BUCKET_READS, "true")
        return import_apart("google.cloud.storage").Client(
            project=self._settings.project,
            credentials=self._credentials,
            _http=self._session,
            client_options={"api_endpoint": self._host("storage")},
        )


def import_apart(module: str) -> Any:
    """Return a module, imported in a thread of its own, as first use is in the middle of a run.

    google.cloud.bigquery keeps the ImportError of each optional package that is missing (``_pandas_helpers.py``). Its
    traceback holds the variables of all functions that led to the import: those of the first run, for good.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(import_module, module).result()


def _default_credentials(project: str) -> Any:
    """Return the default credentials. Raises GoogleAuthError; TransportError if the metadata server did not respond.

    On Cloud Run (which sets K_SERVICE) credentials always exist: if none are found, the metadata server did not respond
    to the library's short probe. User credentials without a quota project get `project`: otherwise Google charges
    gcloud's own project, in which the APIs are disabled.
    """
    try:
        credentials, _ = google.auth.default(scopes=SCOPES)
    except DefaultCredentialsError as error:
        if os.environ.get("K_SERVICE"):
            raise TransportError("the metadata server did not respond") from error  # type: ignore[no-untyped-call]  # the library has no types here
        raise
    if os.environ.get("K_SERVICE"):
        return credentials
    from google.oauth2.credentials import Credentials as UserCredentials  # not needed, and slow, on Cloud Run

    if isinstance(credentials, UserCredentials) and not credentials.quota_project_id:
        return credentials.with_quota_project(project)
    return credentials


class _Metadata(Credentials):
    """Credentials from a local metadata server; the library's class reads its address only from the environment."""

    def __init__(self, host: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the library annotates only parts of itself
        self._host = host

    def refresh(self, request: Any) -> None:
        url = f"{self._host}/computeMetadata/v1/instance/service-accounts/default/token"
        answer = request(url=url, method="GET", headers={"Metadata-Flavor": "Google"}, timeout=TIMEOUT_S)
        if answer.status != 200:
            # The library's own class raises the same.
            raise RefreshError(TransportError("no token from the metadata server", answer))  # type: ignore[no-untyped-call]  # the library has no types here
        self.token = _token_of(answer)


def _token_of(answer: Any) -> str:
    """Return the token in a metadata server's response. Raises NotUnderstood if it has none."""
    what = "the request for a token"
    try:
        document = json.loads(answer.data)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(what, f"it is not JSON ({type(error).__name__})") from error
    return str(require(document, {"access_token": str}, what)["access_token"])


_warm = WarmClients[Clients]()


def warm_clients(settings: GcpSettings, credentials: Any = None) -> Clients:
    """Return the clients of the last invocation if project, endpoints and credentials are the same, else new ones.

    `credentials` are the caller's; without them Google's libraries find the function's own. For a tenant's run, the
    settings are those `at_home`.
    """
    return _warm.get(warm_key(settings, credentials), lambda: Clients(settings, credentials))


def warm_key(settings: GcpSettings, credentials: Any = None) -> tuple[Any, ...]:
    """Return what clients must have in common to be used again."""
    return (settings.project, settings.engine.workers, credentials, *sorted(settings.endpoints.items()))
