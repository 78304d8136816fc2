"""The clients of a tenant's run: every call in the tenant's cloud is made as the service account that it names.

Its tokens never leave the clients of their tenant: they are kept between invocations only for the same tenant and the
same entry. Source: "Create short-lived credentials for a service account" (IAM documentation), and the reference of
`projects.serviceAccounts.generateAccessToken` (IAM Service Account Credentials API).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from google.auth.credentials import Credentials
from google.auth.exceptions import RefreshError
from google.auth.impersonated_credentials import Credentials as Impersonated
from google.auth.transport.requests import Request

from gcp_function.clients import HOSTS, SCOPES, TIMEOUT_S, Clients, PlainSession, warm_key
from gcp_function.settings import GcpSettings
from shared.errors import ReportedError, Throttled, Transient, Unreachable, clean
from shared.redaction import remember_secret
from shared.runtime.context import RunContext
from shared.runtime.warm_clients import WarmClients

QUOTA = "iamcredentials"
# The longest life of a token without an organization policy that extends it, and what is left of it at least when a run
# begins: more than the longest time that Cloud Tasks waits for an answer.
LIFE, NEEDED = timedelta(hours=1), timedelta(minutes=35)
ENTRY_REMEDY = (
    "Ask the tenant to grant roles/iam.serviceAccountTokenCreator on this service account to the function's service "
    "account (tailpipe-exports tenants invite prints the command), or to enable or restore the account."
)
PASSING_REMEDY = "Nothing at first: the next round tries again."
_REFUSED = (400, 401, 403, 404)


class TenantClients(Clients):
    """Clients that impersonate a tenant's service account; `own` are those of the deployment."""

    def __init__(self, settings: GcpSettings, own: Clients) -> None:
        host = settings.endpoints.get(QUOTA) or HOSTS[QUOTA]
        self._entry = _Entry(own.credentials, settings, host)
        self._until: datetime | None = None
        super().__init__(settings, self._entry)

    def enter(self, run: RunContext) -> None:
        """Get a token of the tenant's service account, unless the last one is valid for longer than a run may take.

        Raises Unreachable if Google refuses it, and CloudError.
        """
        now = run.clock.now()
        if self._until is not None and now + NEEDED < self._until:
            return
        plain = PlainSession()
        try:
            request = Request(plain)
            run.calls(QUOTA, self._entry.refresh, partial(request, timeout=TIMEOUT_S))
        finally:
            plain.close()
        self._until = now + LIFE


class _Entry(Credentials):
    """Google's impersonated credentials as they are used here: renewed between runs, and within one only after a 401.

    The library would compare the token's end with the machine's clock at each call; a run is shorter than its token.
    """

    def __init__(self, source: Any, settings: GcpSettings, host: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the library annotates only parts of itself
        self._account, self._tenant = settings.service_account, settings.tenant
        address = f"{host}/v1/projects/-/serviceAccounts/{self._account}:generateAccessToken"
        life = int(LIFE.total_seconds())
        self._inner: Any = Impersonated(  # type: ignore[no-untyped-call]  # the library has no types here
            source, self._account, list(SCOPES), lifetime=life, iam_endpoint_override=address
        )

    def refresh(self, request: Any) -> None:
        """Get a new token. Raises Unreachable, Transient, and what the transport raises."""
        try:
            self._inner.refresh(request)
        except RefreshError as error:
            raise self._translated(error) from None
        self.token = self._inner.token
        remember_secret(self.token)

    def _translated(self, error: RefreshError) -> ReportedError:
        """Return the error for a response without a token; one that the function's own token caused is not it."""
        # The response may quote the request.
        remember_secret(getattr(self._inner._source_credentials, "token", None))
        answer = _answer(error)
        status, message = answer.get("code"), clean(str(answer.get("message", "")))
        if status == 429:
            return Throttled("throttled", f"IAM Credentials throttles: {message}", PASSING_REMEDY)
        if status in _REFUSED:
            what = f"service account {self._account} of tenant {self._tenant} cannot be impersonated: {message}"
            return Unreachable(str(answer.get("status") or status), what, ENTRY_REMEDY)
        what = f"IAM Credentials or the metadata server gave no token for {self._account} ({status or 'no JSON'})"
        return Transient("connection", what, PASSING_REMEDY)


def _answer(error: RefreshError) -> Mapping[str, Any]:
    """Return the ``error`` object of the response that the library quotes, empty if there is none."""
    try:
        found = json.loads(str(error.args[1]))["error"]
    except (IndexError, KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


_warm = WarmClients[TenantClients]()


def tenant_clients(settings: GcpSettings, own: Clients) -> TenantClients:
    """Return the clients of a tenant's run; those of the last run if tenant, entry and destination are the same."""
    key = (*warm_key(settings), settings.tenant, settings.service_account, id(own))
    return _warm.get(key, lambda: TenantClients(settings, own))
