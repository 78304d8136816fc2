"""Blob Storage for callers with tokens: authenticates and authorizes requests and forwards them to Azurite.

Azurite itself accepts tokens only over TLS and has no roles. Calls that are signed with a key are forwarded unchanged
if the account allows key access.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

from localcloud.azure.calls import Call
from localcloud.azure.errors import ArmError
from localcloud.azure.faults import Attempt
from localcloud.azure.iam.caller import STORAGE, identify
from localcloud.azure.iam.conditions import BLOB_PATH
from localcloud.azure.iam.identity import Identity
from localcloud.azure.services.blob_actions import needed
from localcloud.azure.services.blobs import Connections, account_signature
from localcloud.azure.services.storage import StorageAccount
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, RawAnswer, Request, corrupted

MAX_BLOB_BODY = 64 * 1024 * 1024  # more than the state of 20,000 subscriptions
_OWN_HEADERS = frozenset({"host", "connection", "authorization", "transfer-encoding"})
_VERSION = "2021-12-02"


@dataclass(slots=True)
class _LogFields:
    """The fields of a request's log entry that are known so far."""

    action: str
    resource: str
    app: str = ""


# difference: AZURE-6
class BlobGate:
    """Handle requests with the path `/{account}/{container}/{blob}`; called from the server's threads."""

    def __init__(
        self,
        world: World,
        identity: Identity,
        port: int,
        sync: Callable[[], None],
        connections: Connections | None = None,
    ) -> None:
        self._world, self._identity, self._sync = world, identity, sync
        self._connections = connections or Connections(port)
        self._signatures: dict[str, str] = {}

    def __call__(self, request: Request) -> Answer:
        """Handle a request and log it; errors are returned as responses."""
        logged = _LogFields(f"{request.method} unknown", request.path)
        answer: Answer
        try:
            self._sync()
            answer = self._forward(request, self._authorize(request, logged))
        except ArmError as error:
            code = "InvalidAuthenticationInfo" if error.status == 401 else error.code
            answer = refusal(error.status, code, error.message, error.headers)
        at = self._world.clock.monotonic()
        self._world.calls.add(Call(at, logged.app, request.method, logged.action, logged.resource, answer.status))
        # Use the same clock as the times in the response, because clients compare the two.
        answer.headers.setdefault("Date", format_datetime(self._world.clock.now(), usegmt=True))
        listing = f"?comp={request.query['comp']}" if "comp" in request.query else ""
        return corrupted(answer, self._world.faults.corruption_of(f"{request.method} {request.path}{listing}"))

    def _authorize(self, request: Request, logged: _LogFields) -> str:
        """Authorize a request and return the signature to add for Azurite, or "" if it is signed. Raises ArmError."""
        name, container, blob = [*request.path.strip("/").split("/", 2), "", ""][:3]
        account = self._world.accounts.get(name)
        if account is None or account.containers is not None:
            raise ArmError(404, "ResourceNotFound", "The specified account does not exist.")
        if request.headers.get("authorization", "").startswith("SharedKey ") or "sig" in request.query:
            if not account.shared_key:
                raise ArmError(
                    403,
                    "KeyBasedAuthenticationNotPermitted",
                    "Key based authentication is not permitted on this storage account.",
                )
            return ""
        caller = identify(request.headers.get("authorization", ""), self._world.tenant, STORAGE)
        logged.app = caller.principal
        self._check_open(account, container)
        kind, comp = request.query.get("restype", ""), request.query.get("comp", "")
        required = needed(account, request.method, container, blob, kind, comp)
        if required is None:
            raise ArmError(403, "AuthorizationFailure", "This request does not accept a token.")
        logged.action, logged.resource = required.action, required.scope
        with self._world.lock:
            now = self._world.clock.monotonic()
            attempt = Attempt(logged.app, request.method, required.action, required.scope, request.headers, now)
            self._world.faults.apply(attempt)
            self._identity.check(caller)
            attributes = {BLOB_PATH: blob} if blob else None
            if not self._world.rights.allows(
                logged.app, required.action, required.scope, data=required.data, attributes=attributes
            ):
                raise ArmError(
                    403,
                    "AuthorizationPermissionMismatch",
                    "This request is not authorized to perform this operation using this permission.",
                )
            return self._signature(account)

    def _check_open(self, account: StorageAccount, container: str) -> None:
        """Check the conditions that roles do not affect: subscription state, network rules, container deletion."""
        if self._world.directory.get(account.subscription).state == "Disabled":
            raise ArmError(403, "AccountIsDisabled", "The specified account is disabled.")
        if account.firewall:
            raise ArmError(403, "AuthorizationFailure", "This request is not authorized to perform this operation.")
        if account.deleting.get(container, 0.0) > self._world.clock.monotonic():
            raise ArmError(
                409, "ContainerBeingDeleted", "The specified container is being deleted. Try operation later."
            )

    def close(self) -> None:
        """Close the connections to Azurite."""
        self._connections.close()

    def _signature(self, account: StorageAccount) -> str:
        """Return the account's signature for Azurite."""
        if account.name not in self._signatures:
            self._signatures[account.name] = account_signature(account.name, account.key)
        return self._signatures[account.name]

    def _forward(self, request: Request, signature: str) -> Answer:
        query = "&".join(part for part in (urlencode(request.query, quote_via=quote), signature) if part)
        url = quote(request.path, safe="/~") + (f"?{query}" if query else "")
        kept = () if signature else ("authorization",)
        headers = {n: v for n, v in request.headers.items() if n in kept or n not in _OWN_HEADERS}
        headers.setdefault("x-ms-version", _VERSION)
        status, response_headers, body = self._connections.exchange(request.method, url, request.body, headers)
        hop = {"connection", "keep-alive", "transfer-encoding", "content-type", "date", "server"}
        if request.method != "HEAD":
            hop.add("content-length")
        passed = {name: value for name, value in response_headers.items() if name.lower() not in hop}
        return RawAnswer(
            None, status, passed, body, response_headers.get("Content-Type", response_headers.get("content-type", ""))
        )


def refusal(status: int, code: str, message: str, headers: Mapping[str, str]) -> Answer:
    """Return an error response in Blob Storage's format: XML, with the code also in a header."""
    text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    body = f'<?xml version="1.0" encoding="utf-8"?>{text}'.encode()
    return RawAnswer(None, status, {**headers, "x-ms-error-code": code}, body, "application/xml")
