"""Google's REST APIs with the operator's credentials: those that Terraform's provider uses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import google.auth
import requests
from google.api_core.exceptions import GoogleAPICallError, from_http_response
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2.credentials import Credentials
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException

from cli.deployment.model import AGAIN, ANSWERS, CORRECT, OperatorError, Problem
from gcp_function.errors import translate
from gcp_function.refusals import (
    ACCESS_DENIED,
    CREDENTIALS_REMEDY,
    GONE_REMEDY,
    PASSING_REMEDY,
    UNAUTHORIZED,
    UNKNOWN_REMEDY,
)
from shared.errors import NotFound, NotUnderstood, ReportedError, Throttled, Transient
from shared.parsing import is_html, require
from shared.settings import is_loopback

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
# Terraform's google provider reads the same two variables, so that the caller checked here is the one that applies.
TOKEN = "GOOGLE_OAUTH_ACCESS_TOKEN"  # noqa: S105 - a variable's name
IMPERSONATE = "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT"
FALLBACK = "GOOGLE_API_ENDPOINT"
EMULATORS = {"bigquery": "BIGQUERY_EMULATOR_HOST", "storage": "STORAGE_EMULATOR_HOST"}
SERVICES = (
    "artifactregistry",
    "bigquery",
    "cloudbilling",
    "cloudfunctions",
    "cloudresourcemanager",
    "cloudscheduler",
    "cloudtasks",
    "config",
    "iam",
    "iamcredentials",
    "logging",
    "monitoring",
    "oauth2",
    "pubsub",
    "run",
    "serviceusage",
    "storage",
)
TIMEOUT_S = 30.0
CONNECTIONS = 32
TRIES = 4
WAIT_S = 2.0
LOGIN = "Run: gcloud auth application-default login"
DOCTOR = "`tailpipe-exports doctor gcp` shows which permission is missing, and the command that grants it."
REMEDIES = {PASSING_REMEDY: AGAIN, UNKNOWN_REMEDY: CORRECT, GONE_REMEDY: CORRECT, CREDENTIALS_REMEDY: f"{LOGIN}."}


class Google:
    """Calls the APIs. Every method raises ReportedError of the engine's classes, messages without secrets."""

    def __init__(self, project: str = "", sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._hosts = hosts(os.environ)
        self.local = bool(self._hosts)
        self.credentials = _credentials(self.local, project)
        session: Any = AuthorizedSession(self.credentials)  # type: ignore[no-untyped-call]  # the library has no types here
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
        self.session = session

    def caller(self) -> str:
        """Return the caller's e-mail address, empty if the credentials do not contain it."""
        account = str(getattr(self.credentials, "service_account_email", "") or "")
        if "@" in account:
            return account
        try:
            return str(self.get("oauth2", "oauth2/v2/userinfo").get("email", ""))
        except ReportedError:
            return ""

    def get(self, service: str, path: str, **parameters: Any) -> dict[str, Any]:
        """Return the JSON response to a GET."""
        return self._json("GET", service, path, params=parameters)

    def find(self, service: str, path: str, **parameters: Any) -> dict[str, Any] | None:
        """Return the JSON response to a GET, None if the resource does not exist."""
        try:
            return self.get(service, path, **parameters)
        except NotFound:
            return None

    def post(self, service: str, path: str, body: Mapping[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
        """Return the JSON response to a POST."""
        return self._json("POST", service, path, json=dict(body or {}), params=parameters)

    def patch(self, service: str, path: str, body: Mapping[str, Any], **parameters: Any) -> dict[str, Any]:
        """Return the JSON response to a PATCH."""
        return self._json("PATCH", service, path, json=dict(body), params=parameters)

    def delete(self, service: str, path: str, **parameters: Any) -> dict[str, Any]:
        """Return the JSON response to a DELETE, empty for a resource that does not exist.

        A page in place of the answer proves nothing, and is raised as NotUnderstood.
        """
        try:
            return self._json("DELETE", service, path, params=parameters)
        except NotFound:
            return {}

    def upload(self, bucket: str, name: str, content: bytes) -> dict[str, Any]:
        """Write an object, and return its metadata."""
        path = f"upload/storage/v1/b/{bucket}/o"
        headers = {"Content-Type": "application/octet-stream"}
        parameters = {"uploadType": "media", "name": name}
        return self._json("POST", "storage", path, data=content, params=parameters, headers=headers)

    def signed(self, verb: str, uri: str, content: bytes | None = None) -> bytes:
        """Return the body of the answer to a signed address, which takes no credentials.

        Raises OperatorError for an address that is not Google's.
        """
        if urlsplit(uri).scheme != "https" and not (self.local and is_loopback(uri)):
            raise OperatorError(Problem("a signed address is not one of Google's", ANSWERS))
        try:
            with requests.request(verb, uri, data=content, timeout=TIMEOUT_S, allow_redirects=False) as answer:
                return bytes(_checked(answer).content)
        except (GoogleAPICallError, RequestException, OSError) as error:
            raise translate(error) from error

    def text(self, service: str, path: str, **parameters: Any) -> str | None:
        """Return the body of a GET, None if the resource does not exist."""
        try:
            return str(self._request("GET", service, path, params=parameters).text)
        except NotFound:
            return None

    def pages(self, service: str, path: str, key: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Yield every item of a listing."""
        token: dict[str, Any] = {}
        while True:
            page = self.get(service, path, **parameters, **token)
            yield from page.get(key, ())
            if not page.get("nextPageToken"):
                return
            token = {"pageToken": page["nextPageToken"]}

    def _json(self, verb: str, service: str, path: str, **arguments: Any) -> dict[str, Any]:
        answer = self._request(verb, service, path, **arguments)
        if not answer.content:
            return {}
        what = f"{verb} {service} {path}"
        if is_html(answer.content):
            raise NotUnderstood(what, "it is an HTML page")
        try:
            return dict(require(answer.json(), {}, what))
        except ValueError as error:
            raise NotUnderstood(what, "it is not JSON") from error

    def _request(self, verb: str, service: str, path: str, **arguments: Any) -> Any:
        url = f"{self._host(service)}/{path}"
        for tries in range(1, TRIES + 1):
            try:
                return _checked(self.session.request(verb, url, timeout=TIMEOUT_S, **arguments))
            except (GoogleAPICallError, GoogleAuthError, RequestException, OSError) as error:
                translated = translate(error)
                if tries == TRIES or not isinstance(translated, Transient | Throttled):
                    raise translated from error
                self._sleep(WAIT_S**tries)
        raise AssertionError("the last try either answers or raises")

    def _host(self, service: str) -> str:
        if not self.local:
            return f"https://{'www' if service == 'oauth2' else service}.googleapis.com"
        host = self._hosts.get(service)
        if host is None:
            raise OperatorError(
                Problem(f"some of Google's services are overridden and {service} is not", f"Set {FALLBACK} as well.")
            )
        return host


def _checked(answer: Any) -> Any:
    if not answer.ok:
        raise from_http_response(answer)  # type: ignore[no-untyped-call]  # the library annotates only parts of itself
    return answer


def hosts(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the loopback address of each service that the environment overrides; empty on Google itself.

    Raises OperatorError for an address that is not on the loopback.
    """
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for service in SERVICES:
        own = EMULATORS.get(service, f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service.upper()}")
        name = own if environment.get(own) else FALLBACK
        value = environment.get(name, "").strip()
        if value and not is_loopback(value):
            problems.append(Problem(f"{name} does not name a loopback address", f"Unset {name}."))
        elif value:
            parts = urlsplit(value if "//" in value else f"http://{value}")
            found[service] = f"{parts.scheme}://{parts.netloc}"
    if problems:
        raise OperatorError(*dict.fromkeys(problems))
    return found


def refused(error: ReportedError, remedy: str = "") -> OperatorError:
    """Return a cloud's error as an OperatorError; `remedy`: another one than that of `remedy_of`."""
    return OperatorError(
        Problem(error.message, ANSWERS if isinstance(error, NotUnderstood) else remedy or remedy_of(error))
    )


def remedy_of(error: ReportedError) -> str:
    """Return what the operator can do: the function's remedies speak of its account, and of a next run."""
    if isinstance(error, NotUnderstood):
        return ANSWERS
    if error.code in (ACCESS_DENIED, UNAUTHORIZED):
        return DOCTOR
    return REMEDIES.get(error.remedy, error.remedy) or DOCTOR


def project_of_environment() -> str:
    """Return the project of the environment or of gcloud's configuration, empty without one."""
    named = os.environ.get("GOOGLE_CLOUD_PROJECT") or os.environ.get("CLOUDSDK_CORE_PROJECT")
    if named or hosts(os.environ):
        return named or ""
    try:
        _, project = google.auth.default()
    except GoogleAuthError:
        return ""
    return str(project or "")


def signed_in(project: str) -> Any:
    """Return the caller's credentials; None on a local cloud without a token. Raises OperatorError."""
    local = bool(hosts(os.environ))
    return None if local and not os.environ.get(TOKEN) else _credentials(local, project)


def _credentials(local: bool, project: str) -> Any:
    token = os.environ.get(TOKEN, "")
    if local and token.startswith("ya29."):
        raise OperatorError(Problem(f"{TOKEN} is a token of Google's, and the endpoints are local", f"Unset {TOKEN}."))
    if token:
        return Credentials(token=token)  # type: ignore[no-untyped-call]  # the library annotates only parts of itself
    if local:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]  # the library annotates only parts of itself
    try:
        found: Any = google.auth.default(scopes=SCOPES)[0]
        target = os.environ.get(IMPERSONATE)
        if target:
            from google.auth import impersonated_credentials

            return impersonated_credentials.Credentials(found, target, list(SCOPES))  # type: ignore[no-untyped-call]  # the library annotates only parts of itself
    except GoogleAuthError as error:
        raise OperatorError(Problem("there are no usable Google credentials", f"{LOGIN}, or set {TOKEN}.")) from error
    # Without a quota project, a user's calls count against gcloud's project, where most of these APIs are disabled.
    if isinstance(found, Credentials) and not found.quota_project_id and project:
        return found.with_quota_project(project)
    return found


def reach(google: Google, url: str, token: str, body: bytes, timeout_s: float) -> Any:
    """POST to the function's address with an identity token.

    Raises RequestException, and OperatorError for an address that must not receive the token.
    """
    parts = urlsplit(url)
    if not (parts.scheme == "https" or (google.local and is_loopback(url))):
        raise OperatorError(Problem("the function's address is not one of Google's", "Look at it in the console."))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return requests.post(url, data=body, headers=headers, timeout=(TIMEOUT_S, timeout_s), allow_redirects=False)


Unreachable = RequestException
