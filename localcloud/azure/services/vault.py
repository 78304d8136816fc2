"""Reads of Key Vault secrets, from a single vault with role-based access control.

Sources: "Get Secret", Key Vault REST API 7.4; "Azure Key Vault REST API error codes"; "Azure RBAC for Key Vault data
plane operations". The messages for rejected tokens are quoted from public reports.
"""

from __future__ import annotations

import hashlib
import re

from localcloud.azure.calls import Call
from localcloud.azure.errors import ArmError, not_found
from localcloud.azure.iam.caller import VAULT, Caller, identify
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request, corrupted

PREFIX = "/vault"
ACTION = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
# Key Vault's messages, by the codes of Resource Manager's errors for the same tokens.
_REFUSED = {
    "AuthenticationFailed": "AKV10000: Request is missing a Bearer or PoP token.",
    "InvalidAuthenticationToken": f"AKV10022: Invalid audience. Expected {VAULT[0]}.",
    "InvalidAuthenticationTokenTenant": "AKV10032: Invalid issuer.",
    "ExpiredAuthenticationToken": "The token is expired.",
}
_SECRET = re.compile(r"/secrets/([A-Za-z0-9-]{1,127})(?:/([0-9a-f]{32}))?/?")


class Vault:
    """Serve reads of secrets; the caller needs the data action at the scope of the secret, the vault or above."""

    def __init__(self, world: World) -> None:
        self._world = world

    def answer(self, request: Request) -> Answer:
        """Handle a request and log it; errors are returned as responses."""
        app = ""
        try:
            app = self._caller(request).principal
            with self._world.lock:
                answer = self._secret(request, app)
        except ArmError as error:
            answer = Answer(error.document(), error.status, dict(error.headers))
        self._world.calls.add(
            Call(self._world.clock.monotonic(), app, request.method, ACTION, request.path, answer.status)
        )
        return corrupted(answer, self._world.faults.corruption_of(f"{request.method} {request.path}"))

    def _caller(self, request: Request) -> Caller:
        """Return the caller. Raises ArmError 401 with a challenge that contains the authority and the audience."""
        try:
            return identify(request.headers.get("authorization", ""), self._world.tenant, VAULT)
        except ArmError as error:
            authority = f"https://login.microsoftonline.com/{self._world.tenant}"
            challenge = f'Bearer authorization="{authority}", resource="{VAULT[0]}"'
            raise ArmError(401, "Unauthorized", _REFUSED[error.code], {"WWW-Authenticate": challenge}) from None

    def _secret(self, request: Request, app: str) -> Answer:
        match = _SECRET.fullmatch(request.path[len(PREFIX) :])
        if request.method != "GET" or match is None:  # difference: AZURE-18
            raise ArmError(501, "NotImplemented", "The local vault supports only reads of secrets.")
        if "api-version" not in request.query:
            raise ArmError(400, "BadParameter", "api-version must be specified")
        name, version = match.groups()
        scope = f"{self._world.vault}/secrets/{name}"
        if not self._world.rights.allows(app, ACTION, scope, data=True):
            raise ArmError(
                403, "Forbidden", f"Caller is not authorized to perform action on resource.\r\nAction: '{ACTION}'"
            )
        value = self._world.secrets.get(name)
        current = hashlib.sha256((value or "").encode()).hexdigest()[:32]
        if value is None or version not in (None, current):
            raise not_found("SecretNotFound", f"A secret with (name/id) {name} was not found in this key vault.")
        return Answer(
            {
                "value": value,
                "id": f"https://{self._world.vault.rpartition('/')[2]}.vault.azure.net/secrets/{name}/{current}",
                "attributes": {"enabled": True, "recoveryLevel": "Recoverable+Purgeable"},
            }
        )
