"""The policies of the clients' pipelines: where requests may go, and what every answer of success holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from azure.core.exceptions import DecodeError
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, ContentDecodePolicy, SansIOHTTPPolicy

from azure_function.errors import retry_after
from shared.errors import NotUnderstood, Transient
from shared.parsing import is_html, parse_int, require
from shared.redaction import remember_secret

Call = PipelineRequest[Any] | PipelineResponse[Any, Any]  # both hold the request
Pipe = Any  # the SDK's policies are generic in types that it does not export


class LoopbackToken(BearerTokenCredentialPolicy[Any, Any]):
    """Sends tokens over plain HTTP too, which the SDK's own policy rightly refuses: for loopback endpoints only."""

    def on_request(self, request: PipelineRequest[Any]) -> None:
        request.context.options["enforce_https"] = False
        super().on_request(request)


def retry_passing(response: PipelineResponse[Any, Any]) -> None:
    """Raise Transient for an identity endpoint that is busy, before the SDK turns the answer into "no identity"."""
    status = response.http_response.status_code
    if status in PASSING or status >= HTTP_SERVER_ERROR:
        raise Transient(
            "identity-endpoint",
            f"the endpoint that issues tokens answered {status}",
            "Nothing at first: it is tried again. If it lasts, restart the function app, and see its identity.",
            retry_after=retry_after(response.http_response.headers),
        )


class ClientType(SansIOHTTPPolicy[Any, Any]):
    """Names the client, so that Cost Management counts its calls by themselves."""

    def on_request(self, request: PipelineRequest[Any]) -> None:
        request.http_request.headers["ClientType"] = CLIENT_TYPE


# What every successful response contains, by the end of its path: one without it was cut off or came from another
# server.
# The first that matches counts; what is not listed has to be an object.
EXPECTED: tuple[tuple[re.Pattern[str], Mapping[str, type]], ...] = (
    (re.compile(r".*/Microsoft\.CostManagement/exports/[^/]+", re.I), {"name": str, "properties.definition.type": str}),
    (re.compile(r".*/providers/Microsoft\.CostManagementExports", re.I), {"registrationState": str}),
    (re.compile(r".*/Microsoft\.Storage/storageAccounts/[^/]+", re.I), {"name": str, "properties": dict}),
    (re.compile(r".*/blobServices/default/containers/[^/]+", re.I), {"name": str, "properties": dict}),
    (re.compile(r".*/managementPolicies/default", re.I), {"properties.policy": dict}),
    (re.compile(r"(/vault)?/secrets/[^/]+(/[^/]+)?", re.I), {"id": str, "value": str}),
    (re.compile(r"/subscriptions/[^/]+", re.I), {"subscriptionId": str, "state": str}),
    (
        re.compile(r".*/(subscriptions|descendants|permissions|exports|billing\w+|enrollmentAccounts)", re.I),
        {"value": list},
    ),
)


class OwnHost(SansIOHTTPPolicy[Any, Any]):
    """Refuses a request to another host than the client's own, such as the next page that an answer points to.

    It comes before the token is put in: no credential is sent to a host that an answer has named.
    """

    def __init__(self, url: str) -> None:
        self._origin = _origin(url)

    def on_request(self, request: PipelineRequest[Any]) -> None:
        if _origin(request.http_request.url) != self._origin:
            raise NotUnderstood(_named(request), "it leads to another host, which is never followed")


class Understood(ContentDecodePolicy):
    """Decodes answers, and proves that one of success is what the call answers with. Raises NotUnderstood."""

    def on_response(self, request: PipelineRequest[Any], response: PipelineResponse[Any, Any]) -> None:
        status, what = response.http_response.status_code, _named(request)
        _note_credentials(request, status)
        if 300 <= status < 400:
            raise NotUnderstood(what, f"it redirects ({status}), which is never followed")
        try:
            super().on_response(request, response)
        except DecodeError as error:
            if status >= 300:
                raise
            # After "Content:" comes the response itself, which may be a secret; the original would carry it along.
            raise NotUnderstood(what, str(error).partition("Content:")[0].strip()) from None
        if status in (200, 201) and request.http_request.method in ("GET", "PUT"):
            path = urlsplit(request.http_request.url).path.rstrip("/")
            expected = next((fields for pattern, fields in EXPECTED if pattern.fullmatch(path)), {})
            document = require(response.context.get(self.CONTEXT_NAME), expected, what)
            listed = document.get("value")
            if isinstance(listed, list) and not all(isinstance(one, Mapping) for one in listed):
                raise NotUnderstood(what, "its list holds something that is not an object")


def prove_storage(response: PipelineResponse[Any, Any]) -> None:
    """Prove that an answer of success is blob storage's own: listings whole, everything else with its ETag."""
    answer, request, what = response.http_response, response.http_request, _named(response)
    _note_credentials(response, answer.status_code)
    if 300 <= answer.status_code < 400 and answer.status_code != 304:
        raise NotUnderstood(what, f"it redirects ({answer.status_code}), which is never followed")
    if answer.status_code >= 300 or request.method == "DELETE":
        return
    if "comp=list" in request.url:
        body = answer.body()
        if b"<EnumerationResults" not in body[:512] or not body.rstrip().endswith(b"</EnumerationResults>"):
            raise NotUnderstood(what, "it is an HTML page" if is_html(body) else "it is not a whole listing")
        return
    # A part of a blob to come has no version yet.
    if "comp=block&" not in f"{request.url}&" and not answer.headers.get("ETag"):
        raise NotUnderstood(what, "it has no ETag")
    if request.method == "GET" and parse_int(answer.headers.get("Content-Length")) is None:
        raise NotUnderstood(what, "it does not say how long it is")


def _note_credentials(request: Call, status: int) -> None:
    """Note the token of a request that was not answered well, so that an answer that quotes it is recognized."""
    if status >= 300:
        credential = request.http_request.headers.get("Authorization", "").partition(" ")[2]
        # A shared key signs as "account:signature", and the account's name belongs into messages.
        remember_secret(credential.rpartition(":")[2])


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


def _named(request: Call) -> str:
    """Return a call as messages name it: without its query, which may hold a signature."""
    return f"{request.http_request.method} {urlsplit(request.http_request.url).path}"


CLIENT_TYPE = "tailpipe-exports"  # an own name is an own bucket: unnamed clients share one
PASSING, HTTP_SERVER_ERROR = (408, 429), 500  # answers of the token endpoint that say nothing about the credentials
