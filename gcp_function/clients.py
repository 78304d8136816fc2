"""Google's clients: one authorized session, kept warm between invocations, the SDKs' own retries off."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import google.auth
import requests
from google.api_core.exceptions import from_http_response
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2.credentials import Credentials as UserCredentials
from requests.adapters import HTTPAdapter

from gcp_function.settings import GcpSettings
from shared.errors import NotUnderstood
from shared.parsing import http_date, permit, require, whole
from shared.redaction import remember_secret
from shared.runtime.rate_limit import Rate

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
HOSTS = {
    "bigquery": "https://bigquery.googleapis.com",
    "storage": "https://storage.googleapis.com",
    "cloudbilling": "https://cloudbilling.googleapis.com",
    "cloudresourcemanager": "https://cloudresourcemanager.googleapis.com",
    "serviceusage": "https://serviceusage.googleapis.com",
}
TIMEOUT_S = 10.0  # a call that hangs is cut after so many seconds without an answer

# Calls per second and burst, at or below what is documented: BigQuery 100 requests a second per user and method
# ("Quotas and limits", BigQuery), 100,000 extract jobs a day; Cloud Storage 1,000 writes and 5,000 reads a second for a
# new bucket ("Request rate and access distribution guidelines"); Cloud Billing 300 a minute, Resource Manager 600 a
# minute, Service Usage 240 a minute, for each project.
RATES = {
    "bigquery": Rate(60, 60),
    "bigquery-extract": Rate(50, 50),
    "bigquery-query": Rate(10, 20),
    "storage": Rate(200, 200),
    "cloudbilling": Rate(5, 20),
    "cloudresourcemanager": Rate(10, 10),
    "serviceusage": Rate(4, 4),
}


# What every answer of success holds, by the verb and path of the call: an answer without it is somebody else's, or was
# cut off. The first that matches counts; what is not listed has to be an object. BigQuery and Cloud Storage name the
# kind of each answer, empty listings included; the newer APIs leave empty fields out, so that nothing is required of
# their listings. Source: the APIs' discovery documents.
Fields = Mapping[str, type | tuple[type, ...]]
_EXPECTED: tuple[tuple[str, Fields, str], ...] = (
    (
        r"(GET|POST|PATCH) .*/storage/v1/b/[^/]+",
        {"name": str, "location": str, "iamConfiguration.uniformBucketLevelAccess": Mapping},
        "storage#bucket",
    ),
    (r"POST .*/storage/v1/b", {"name": str}, "storage#bucket"),
    (r"GET .*/storage/v1/b/[^/]+/o", {}, "storage#objects"),
    (r"GET .*/storage/v1/b/[^/]+/o/[^/]+", {}, "storage#object"),
    (r"POST .*/storage/v1/b/[^/]+/o", {"generation": (str, int)}, "storage#object"),
    (r"POST .*/copyTo/.*", {"generation": (str, int)}, "storage#object"),
    (r"GET .*/bigquery/v2/projects/[^/]+/datasets", {}, "bigquery#datasetList"),
    (
        r"(GET|POST) .*/bigquery/v2/projects/[^/]+/datasets(/[^/]+)?",
        {"datasetReference.datasetId": str, "location": str},
        "bigquery#dataset",
    ),
    (r"GET .*/datasets/[^/]+/tables/[^/]+", {"tableReference.tableId": str}, "bigquery#table"),
    (r"POST .*/bigquery/v2/projects/[^/]+/queries", {"jobComplete": bool}, "bigquery#queryResponse"),
    (r"GET .*/bigquery/v2/projects/[^/]+/queries/[^/]+", {"jobComplete": bool}, "bigquery#getQueryResultsResponse"),
    (
        r"(GET|POST) .*/bigquery/v2/projects/[^/]+/jobs(/[^/]+)?",
        {"jobReference.jobId": str, "status.state": str},
        "bigquery#job",
    ),
    (r"GET .*/v3/projects/[^/]+", {"name": str, "projectId": str, "state": str}, ""),
    (r"GET .*/services:batchGet", {"services": list}, ""),
    # What is false may be left out, such as `open` of a closed account and `billingEnabled` of an unlinked project.
    (r"GET .*/v1/billingAccounts/[^/]+", {"name": str}, ""),
    (r"GET .*/v1/projects/[^/]+/billingInfo", {"name": str}, ""),
)
EXPECTED = tuple((re.compile(pattern), fields, kind) for pattern, fields, kind in _EXPECTED)

# What an answer may leave out, and what it is where it is there: read all over this package, by the verb and path of
# the call. A name that ends in [] holds a list, each of whose items is meant.
_TEXT, _NUMBER, _OBJECT = (str,), (str, int), (Mapping,)
_OBJECTS: Mapping[str, tuple[type, ...]] = {"nextPageToken": _TEXT, "items[]": _OBJECT} | {
    f"items[].{name}": kinds
    for name, kinds in (("name", _TEXT), ("metadata", _OBJECT), ("generation", _NUMBER), ("size", _NUMBER))
}
_ACCOUNT: Mapping[str, tuple[type, ...]] = {
    "name": _TEXT,
    "displayName": _TEXT,
    "masterBillingAccount": _TEXT,
    "parent": _TEXT,
    "open": (bool,),
}
_QUERY: Mapping[str, tuple[type, ...]] = {
    "jobReference": _OBJECT,
    "jobReference.jobId": _TEXT,
    "pageToken": _TEXT,
    "errors[]": _OBJECT,
}
_PERMITTED: tuple[tuple[str, Mapping[str, tuple[type, ...]]], ...] = (
    (
        r".*/storage/v1/b(/[^/]+)?",
        {
            "projectNumber": _NUMBER,
            "metageneration": _NUMBER,
            "labels": _OBJECT,
            "iamConfiguration": _OBJECT,
            "iamConfiguration.uniformBucketLevelAccess": _OBJECT,
            "lifecycle": _OBJECT,
            "lifecycle.rule[]": _OBJECT,
            "lifecycle.rule[].action": _OBJECT,
            "lifecycle.rule[].condition": _OBJECT,
            "lifecycle.rule[].condition.matchesPrefix[]": _TEXT,
            "lifecycle.rule[].condition.matchesSuffix[]": _TEXT,
            "retentionPolicy": _OBJECT,
            "softDeletePolicy": _OBJECT,
            "versioning": _OBJECT,
            "defaultEventBasedHold": (bool,),
        },
    ),
    (r"GET .*/storage/v1/b/[^/]+/o", _OBJECTS),
    (r"GET .*/bigquery/v2/projects/[^/]+/datasets", {"datasets[]": _OBJECT, "nextPageToken": _TEXT}),
    (
        r".*/bigquery/v2/projects/[^/]+/datasets/[^/]+",
        {
            "access[]": _OBJECT,
            "access[].userByEmail": _TEXT,
            "labels": _OBJECT,
            "defaultEncryptionConfiguration": _OBJECT,
        },
    ),
    (r".*/bigquery/v2/projects/[^/]+/queries(/[^/]+)?", _QUERY),
    (
        r".*/bigquery/v2/projects/[^/]+/jobs(/[^/]+)?",
        {
            "status.errorResult": _OBJECT,
            "statistics": _OBJECT,
            "statistics.extract": _OBJECT,
            "statistics.extract.destinationUriFileCounts[]": _NUMBER,
        },
    ),
    (r"GET .*/services:batchGet", {"services[]": _OBJECT, "services[].name": _TEXT, "services[].state": _TEXT}),
    (r"GET .*/v1/billingAccounts/[^/]+", _ACCOUNT),
    (
        r"GET .*/v1/billingAccounts",
        {"nextPageToken": _TEXT, "billingAccounts[]": _OBJECT}
        | {f"billingAccounts[].{name}": kinds for name, kinds in _ACCOUNT.items()},
    ),
    (r"GET .*/v1/projects/[^/]+/billingInfo", {"billingAccountName": _TEXT, "billingEnabled": (bool,)}),
)
PERMITTED = tuple((re.compile(pattern), fields) for pattern, fields in _PERMITTED)


class _Session(AuthorizedSession):
    """Sends requests with credentials to the known hosts only, follows no redirect, and proves what it is answered."""

    def __init__(self, credentials: Any, hosts: frozenset[str]) -> None:
        plain = _Plain()
        super().__init__(credentials, auth_request=Request(plain))  # type: ignore[no-untyped-call]  # the library has no types here
        self._hosts = hosts

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow nothing: a redirect is an answer like any other, and a failure."""

    def request(self, method: str, url: str, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]  # the library has no types here
        """Send one request. Raises NotUnderstood where it leads to a foreign host, or the answer is not the call's."""
        what = f"{method} {urlsplit(str(url)).path}"
        if urlsplit(str(url)).netloc not in self._hosts:
            raise NotUnderstood(what, "it leads to another host, which is never followed")
        answer = super().request(method, url, *arguments, **options)  # type: ignore[no-untyped-call]  # the library has no types here
        status = answer.status_code
        if status >= 300:
            # Only an answer that may quote the request makes its token worth remembering.
            remember_secret(getattr(self.credentials, "token", None))
        if 300 <= status < 400 and status not in (304, 308):  # 308: an upload goes on
            raise NotUnderstood(what, f"it redirects ({status}), which is never followed")
        if status in (200, 201) and method != "DELETE" and "alt=media" not in urlsplit(answer.url).query:
            _understood(answer, what)
        return answer


class _Plain(requests.Session):
    """Asks for tokens, and follows no redirect: such a request holds a credential, too."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow nothing."""


def _understood(answer: requests.Response, what: str) -> None:
    """Prove that an answer of success is the call's own. Raises NotUnderstood."""
    try:
        document = json.loads(answer.content)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(what, f"it is not JSON ({type(error).__name__})") from error
    expected = next((one[1:] for one in EXPECTED if one[0].fullmatch(what)), ({}, ""))
    require(document, expected[0], what)
    if expected[1] and document.get("kind") != expected[1]:
        raise NotUnderstood(what, f"it is not of the kind {expected[1]}")
    for pattern, fields in PERMITTED:
        if pattern.fullmatch(what):
            permit(document, fields, what)
    if expected[1] == "bigquery#queryResponse" or expected[1] == "bigquery#getQueryResultsResponse":
        _rows_understood(document, what)
    answer.json = lambda **_: document  # type: ignore[method-assign]  # decoded once, for whoever asks next


def _rows_understood(document: Mapping[str, Any], what: str) -> None:
    """Prove that a query that is done says which columns and how many rows it has. Raises NotUnderstood."""
    if not document["jobComplete"]:
        require(document, {"jobReference.jobId": str}, what)
        return
    require(document, {"schema.fields": list, "totalRows": (str, int)}, what)
    rows, columns = document.get("rows") or (), len(document["schema"]["fields"])
    if whole(document["totalRows"]) and not rows:
        raise NotUnderstood(what, "its rows are missing")
    if not isinstance(rows, list | tuple) or not all(_is_row(row, columns) for row in rows):
        raise NotUnderstood(what, f"its rows are not lists of {columns} texts")


def _is_row(row: Any, columns: int) -> bool:
    """Return whether a row holds as many cells as the query has columns, each a text or null."""
    cells = row.get("f") if isinstance(row, Mapping) else None
    return (
        isinstance(cells, list)
        and len(cells) == columns
        and all(isinstance(cell, Mapping) and isinstance(cell.get("v"), str | None) for cell in cells)
    )


class Clients:
    """Builds each client once, on first use, from any thread."""

    def __init__(self, settings: GcpSettings, credentials: Any = None) -> None:
        self._settings = settings
        self._given = credentials
        self._lock = threading.RLock()
        self.timeout = TIMEOUT_S

    @property
    def bigquery(self) -> Any:
        """The client of BigQuery, whose annotations do not know that `retry` may be None."""
        with self._lock:
            return self._bigquery

    @property
    def storage(self) -> Any:
        """The client of Cloud Storage, which ships no types."""
        with self._lock:
            return self._storage

    def close(self) -> None:
        """Close the pooled connections; a client that is used again opens new ones."""
        if "_session" in self.__dict__:
            self._session.close()

    def get(self, service: str, path: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON answer to a GET. Raises GoogleAPICallError, and what the transport raises."""
        return self._answer("GET", service, path, params=parameters)

    def get_dated(
        self, service: str, path: str, parameters: Mapping[str, Any]
    ) -> tuple[dict[str, Any], datetime | None]:
        """Return the JSON answer to a GET, and when the service sent it by its own clock. Raises as `get` does."""
        answer = self._send("GET", service, path, params=parameters)
        return answer.json(), http_date(answer.headers.get("Date"))

    def post(self, service: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON answer to a POST. Raises GoogleAPICallError, and what the transport raises."""
        return self._answer("POST", service, path, json=body)

    def patch(self, service: str, path: str, body: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON answer to a PATCH. Raises GoogleAPICallError, and what the transport raises."""
        return self._answer("PATCH", service, path, params=parameters, json=body)

    def upload(self, bucket: str, data: bytes, parameters: Mapping[str, Any], content_type: str) -> dict[str, Any]:
        """Write an object by one request, whatever its size; return the object. Raises as `get` does."""
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
        # Real credentials are never shown to a service that only stands in for Google.
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
        from google.cloud.bigquery import Client

        return Client(
            project=self._settings.project,
            credentials=self._credentials,
            _http=self._session,
            client_options={"api_endpoint": self._host("bigquery")},
        )

    @cached_property
    def _storage(self) -> Any:
        from google.cloud.storage import Client

        client: Any = Client(
            project=self._settings.project,
            credentials=self._credentials,
            _http=self._session,
            client_options={"api_endpoint": self._host("storage")},
        )
        # For the sake of traces that nobody takes it reads each bucket from threads of its own: past the quota and the
        # deadline, and, of the state's bucket, past the function's rights.
        client._bucket_metadata_cache = None
        return client


def _default_credentials(project: str) -> Any:
    """Return the identity's credentials. Raises GoogleAuthError; TransportError where the function's own are late.

    On Cloud Run (which sets K_SERVICE) credentials always exist: not to find any means that the metadata server did not
    answer the library's short probe. A person's credentials without a quota project count their calls on `project`:
    otherwise Google counts them on gcloud's own project, where the APIs are off.
    """
    try:
        credentials, _ = google.auth.default(scopes=SCOPES)
    except DefaultCredentialsError as error:
        if os.environ.get("K_SERVICE"):
            raise TransportError("the metadata server did not answer") from error  # type: ignore[no-untyped-call]  # the library has no types here
        raise
    if isinstance(credentials, UserCredentials) and not credentials.quota_project_id:
        return credentials.with_quota_project(project)
    return credentials


class _Metadata(Credentials):
    """The token of a metadata server on this machine, whose address the library's class reads only from the process."""

    def __init__(self, host: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the library annotates only parts of itself
        self._host = host

    def refresh(self, request: Any) -> None:
        url = f"{self._host}/computeMetadata/v1/instance/service-accounts/default/token"
        answer = request(url=url, method="GET", headers={"Metadata-Flavor": "Google"}, timeout=TIMEOUT_S)
        if answer.status != 200:
            # As the library's own class does.
            raise RefreshError(TransportError("no token from the metadata server", answer))  # type: ignore[no-untyped-call]  # the library has no types here
        self.token = _token_of(answer)


def _token_of(answer: Any) -> str:
    """Return the token in a metadata server's answer. Raises NotUnderstood where it has none."""
    what = "the request for a token"
    try:
        document = json.loads(answer.data)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(what, f"it is not JSON ({type(error).__name__})") from error
    return str(require(document, {"access_token": str}, what)["access_token"])


_warm: dict[tuple[Any, ...], Clients] = {}


def warm_clients(settings: GcpSettings, credentials: Any = None) -> Clients:
    """Return the clients of the last invocation if project, endpoints and credentials are the same, else new ones.

    `credentials` are the caller's; without them they are found as Google's libraries do.
    """
    key = (settings.project, settings.engine.workers, credentials, *sorted(settings.endpoints.items()))
    if key not in _warm:
        for clients in _warm.values():
            clients.close()
        _warm.clear()
        _warm[key] = Clients(settings, credentials)
    return _warm[key]
