"""The token endpoint of managed identities that App Service and Functions provide on the local machine.

https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Literal

from localcloud.azure.iam.caller import Caller, expired, token_for, wrong_tenant
from localcloud.azure.iam.entra import EXCHANGE, Entra
from localcloud.azure.services.directory import made_up_id
from localcloud.azure.wire import Answer, Request

PATH = "/msi/token"
OPERATOR = made_up_id("whoever deploys")
Mode = Literal["well", "unavailable", "wrong-tenant", "expired"]


class Identity:
    """The function's system-assigned identity; `mode` sets how its tokens fail, including those already issued.

    `assigned` maps the client IDs of the user-assigned identities that the function also has to their object IDs;
    `deployed` returns those of the deployed apps.
    """

    def __init__(
        self,
        tenant: str,
        principal: str,
        entra: Entra | None = None,
        deployed: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._tenant, self._deployed = tenant, deployed
        self._entra = entra or Entra()
        self.principal = principal
        self.assigned: dict[str, str] = {}
        self.header = secrets.token_hex(16)
        self.mode: Mode = "well"

    def check(self, caller: Caller) -> None:
        """Raise ArmError 401 for a token of this identity that is no longer valid."""
        if caller.principal == self.principal and self.mode == "expired":
            raise expired()
        if caller.principal == self.principal and self.mode in ("wrong-tenant", "unavailable"):
            raise wrong_tenant(self._tenant)

    def answer(self, request: Request) -> Answer:
        if not hmac.compare_digest(request.headers.get("x-identity-header", ""), self.header):
            return Answer({"statusCode": 401, "message": "The X-IDENTITY-HEADER is missing or wrong."}, 401)
        resource = request.query.get("resource", "")
        if not resource:
            return Answer({"statusCode": 400, "message": "The resource parameter is required."}, 400)
        client = request.query.get("client_id", "").lower()
        assigned = {**self.assigned, **self._deployed()}
        if self.mode == "unavailable" or (client and client not in assigned):
            return Answer({"statusCode": 400, "message": "No managed identity was found for this app."}, 400)
        tenant = made_up_id("another tenant") if self.mode == "wrong-tenant" else self._tenant
        # The SDK must accept the token as valid; only Resource Manager detects that it has expired.
        principal, life_s = assigned.get(client, self.principal), -60.0 if self.mode == "expired" else 86400.0
        if resource.rstrip("/") == EXCHANGE:
            token = self._entra.assertion(tenant, principal, EXCHANGE, life_s)
        else:
            token = token_for(tenant, principal, resource, life_s=life_s)
        expires = str(int(time.time()) + 86400)
        return Answer(
            {
                "access_token": token,
                "expires_on": expires,
                "resource": resource,
                "token_type": "Bearer",
                "client_id": client,
            }
        )


def function_principal() -> str:
    """Return the object ID of the function's identity, which is constant."""
    return made_up_id("the function's identity")
