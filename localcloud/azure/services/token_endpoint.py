"""The token endpoint of every Entra tenant, for applications that prove themselves with a client assertion.

Source: "Microsoft identity platform and the OAuth 2.0 client credentials flow" (Microsoft Learn).
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from localcloud.azure.calls import Call
from localcloud.azure.errors import ArmError
from localcloud.azure.faults import Attempt
from localcloud.azure.iam.caller import token_for
from localcloud.azure.iam.entra import LOGIN, TokenRefused
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request

PREFIX = "/entra"
ACTION = "Microsoft.Entra/tenants/token/action"  # as the call log and the faults name it; no role allows or denies it
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LIFE_S = 3599
_TOKEN = re.compile(r"/([0-9a-f-]{36})/oauth2/v2\.0/token", re.IGNORECASE)
_METADATA = re.compile(r"/([0-9a-f-]{36})/v2\.0/\.well-known/openid-configuration", re.IGNORECASE)


# difference: AZURE-22
class TokenEndpoint:
    """Serve tokens of all tenants; requests and refusals are in the provider's call log."""

    def __init__(self, world: World) -> None:
        self._world = world

    def answer(self, request: Request) -> Answer:
        """Handle a request and log it; errors are returned as responses."""
        path = request.path[len(PREFIX) :]
        metadata = _METADATA.fullmatch(path)
        if metadata and request.method == "GET":
            return Answer(_metadata(metadata[1].lower()))
        form = dict(parse_qsl(request.body.decode(errors="replace")))
        client = form.get("client_id", "").lower()
        try:
            answer = self._token(request, path, client, form)
        except TokenRefused as error:
            answer = Answer(error.document(), error.status)
        except ArmError as error:
            answer = Answer(error.document(), error.status, dict(error.headers))
        at = self._world.clock.monotonic()
        self._world.calls.add(Call(at, client, request.method, ACTION, request.path, answer.status))
        return answer

    def _token(self, request: Request, path: str, client: str, form: dict[str, str]) -> Answer:
        found = _TOKEN.fullmatch(path)
        if found is None or request.method != "POST":
            raise ArmError(404, "NotFound", "The local Entra ID issues tokens and nothing else.")
        tenant = found[1].lower()
        attempt = Attempt(client, "POST", ACTION, request.path, request.headers, self._world.clock.monotonic())
        self._world.faults.delay(ACTION)
        if form.get("grant_type") != "client_credentials" or form.get("client_assertion_type") != _ASSERTION:
            raise TokenRefused(
                7000218,
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            )
        resource, _, last = form.get("scope", "").rpartition("/")
        if last != ".default" or not resource:
            raise TokenRefused(
                1002012, "The provided value for scope is not valid. Client credential flows must have a scope value "
                "with /.default suffixed to the resource identifier (application ID URI).", 400, "invalid_scope",
            )  # fmt: skip
        with self._world.lock:
            self._world.faults.apply(attempt)
            endpoint = f"{LOGIN}/{tenant}/oauth2/v2.0/token"
            principal = self._world.entra.admit(tenant, client, form.get("client_assertion", ""), endpoint)
            token = token_for(tenant, principal.object_id, resource, life_s=_LIFE_S)
        lasts = {"expires_in": _LIFE_S, "ext_expires_in": _LIFE_S}
        return Answer({"token_type": "Bearer", **lasts, "access_token": token})


def _metadata(tenant: str) -> dict[str, object]:
    return {
        "issuer": f"{LOGIN}/{tenant}/v2.0",
        "token_endpoint": f"{LOGIN}/{tenant}/oauth2/v2.0/token",
        "authorization_endpoint": f"{LOGIN}/{tenant}/oauth2/v2.0/authorize",
        "device_authorization_endpoint": f"{LOGIN}/{tenant}/oauth2/v2.0/devicecode",
        "jwks_uri": f"{LOGIN}/{tenant}/discovery/v2.0/keys",
        "response_types_supported": ["code"],
        "subject_types_supported": ["pairwise"],
    }
