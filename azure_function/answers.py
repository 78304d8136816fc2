"""Policies of the SDK clients: restrict where requests go, bound and validate what is returned."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit
from weakref import ref

import requests
from azure.core.exceptions import DecodeError
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, ContentDecodePolicy, SansIOHTTPPolicy
from requests.adapters import HTTPAdapter

from azure_function.errors import retry_after
from shared.errors import NotUnderstood, Transient
from shared.parsing import is_html, parse_int, require
from shared.redaction import remember_secret

Call = PipelineRequest[Any] | PipelineResponse[Any, Any]  # both carry the request
Pipe = Any  # the SDK's policies are generic in types that it does not export


class LoopbackTokenPolicy(BearerTokenCredentialPolicy[Any, Any]):
    """Sends tokens over plain HTTP. Only for loopback endpoints: the SDK's policy rightly requires HTTPS."""

    def on_request(self, request: PipelineRequest[Any]) -> None:
        request.context.options["enforce_https"] = False
        super().on_request(request)


def raise_busy_identity_endpoint(response: PipelineResponse[Any, Any]) -> None:
    """Raise Transient if the identity endpoint is busy.

    Without this hook, the SDK would report the same response as a missing identity.
    """
    status = response.http_response.status_code
    if status in TRANSIENT_STATUSES or status >= HTTP_SERVER_ERROR:
        raise Transient(
            "identity-endpoint",
            f"the endpoint that issues tokens returned {status}",
            "Nothing at first: the function retries. If the error persists, restart the function app and check its "
            "managed identity.",
            retry_after=retry_after(response.http_response.headers),
        )


class ClientTypePolicy(SansIOHTTPPolicy[Any, Any]):
    """Sends the ClientType header, so that Cost Management counts the calls of this client separately."""

    def on_request(self, request: PipelineRequest[Any]) -> None:
        request.http_request.headers["ClientType"] = CLIENT_TYPE


# The fields that every successful response contains, by the path of its request: a response without them was truncated
# or came from another server. The first pattern that matches counts; any other response must be a JSON object.
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


# No response of Resource Manager or Key Vault and no listing of storage comes near; the state is read in smaller parts.
# What one tenant's cloud returns must not use up the memory of an instance that serves other tenants too.
LARGEST_BODY = 32 * 1024 * 1024  # bytes, unpacked


class BoundedAdapter(HTTPAdapter):
    """Stops reading a body of more than LARGEST_BODY bytes. Raises NotUnderstood."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Return the response of requests, whose body is read up to the limit."""
        what = f"{req.method} {urlsplit(str(req.url)).path}"
        # A reference to itself would keep a response that is not read to its end, and its socket, until the garbage is
        # collected.
        itself = ref(resp)

        def bounded(*arguments: Any, **options: Any) -> Iterator[bytes]:
            body: Any = itself()
            left = LARGEST_BODY
            for part in type(body).stream(body, *arguments, **options):
                left -= len(part)
                if left < 0:
                    body.close()
                    raise NotUnderstood(what, f"it has more than {LARGEST_BODY:,} bytes")
                yield part

        resp.stream = bounded
        return super().build_response(req, resp)


class SameOriginPolicy(SansIOHTTPPolicy[Any, Any]):
    """Rejects requests to any host but the client's own, for example a next link that points elsewhere.

    It runs before the policy that adds the token, so no credential is sent to a host that a response names.
    """

    def __init__(self, url: str) -> None:
        self._origin = _origin(url)

    def on_request(self, request: PipelineRequest[Any]) -> None:
        if _origin(request.http_request.url) != self._origin:
            raise NotUnderstood(_name_of(request), "its URL is on another host, which is never contacted")


class ResponseValidationPolicy(ContentDecodePolicy):
    """Decodes responses, and validates that a successful one has the fields of its call. Raises NotUnderstood."""

    def on_response(self, request: PipelineRequest[Any], response: PipelineResponse[Any, Any]) -> None:
        status, what = response.http_response.status_code, _name_of(request)
        _register_credentials(request, status)
        if 300 <= status < 400:
            raise NotUnderstood(what, f"it is a redirect ({status}), which is never followed")
        try:
            super().on_response(request, response)
        except DecodeError as error:
            if status >= 300:
                raise
            # The text after "Content:" is the response itself, which may be a secret; a chained error would keep it.
            raise NotUnderstood(what, str(error).partition("Content:")[0].strip()) from None
        if status in (200, 201) and request.http_request.method in ("GET", "PUT"):
            path = urlsplit(request.http_request.url).path.rstrip("/")
            expected = next((fields for pattern, fields in EXPECTED if pattern.fullmatch(path)), {})
            document = require(response.context.get(self.CONTEXT_NAME), expected, what)
            listed = document.get("value")
            if isinstance(listed, list) and not all(isinstance(item, Mapping) for item in listed):
                raise NotUnderstood(what, "an item of its list is not an object")


def validate_storage_response(response: PipelineResponse[Any, Any]) -> None:
    """Validate that a successful response is from Blob Storage. Raises NotUnderstood.

    A listing must be complete XML. Every other response must have an ETag, and a download its length.
    """
    http, request, what = response.http_response, response.http_request, _name_of(response)
    _register_credentials(response, http.status_code)
    try:
        _validate_blob(http, request, what)
    except NotUnderstood:
        # Nobody reads the body of a download that is refused here, which leaves its connection open.
        http.internal_response.close()
        raise


def _validate_blob(http: Any, request: Any, what: str) -> None:
    if 300 <= http.status_code < 400 and http.status_code != 304:
        raise NotUnderstood(what, f"it is a redirect ({http.status_code}), which is never followed")
    if http.status_code >= 300 or request.method == "DELETE":
        return
    if "comp=list" in request.url:
        body = http.body()
        if b"<EnumerationResults" not in body[:512] or not body.rstrip().endswith(b"</EnumerationResults>"):
            raise NotUnderstood(what, "it is an HTML page" if is_html(body) else "it is not a complete listing")
        return
    # A staged block has no ETag; only the committed blob has one.
    if "comp=block&" not in f"{request.url}&" and not http.headers.get("ETag"):
        raise NotUnderstood(what, "it has no ETag")
    if request.method == "GET" and parse_int(http.headers.get("Content-Length")) is None:
        raise NotUnderstood(what, "it has no valid Content-Length")


def _register_credentials(request: Call, status: int) -> None:
    """Register the credential of a failed request as a secret, so that messages that quote it are redacted."""
    if status >= 300:
        credential = request.http_request.headers.get("Authorization", "").partition(" ")[2]
        # A shared key is sent as "account:signature"; the account name is not secret and belongs in messages.
        remember_secret(credential.rpartition(":")[2])


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()


def _name_of(request: Call) -> str:
    """Return method and path of a call for messages, without the query, which may contain a signature."""
    return f"{request.http_request.method} {urlsplit(request.http_request.url).path}"


CLIENT_TYPE = "tailpipe-exports"  # a named client has its own quota; unnamed clients share one
TRANSIENT_STATUSES, HTTP_SERVER_ERROR = (408, 429), 500  # of the token endpoint; they do not concern the credentials
