"""Workload identity federation: exchanges an external token for a federated token, then for a service account's.

Sources: "Workload Identity Federation" (IAM documentation), and the references of the Security Token Service and of IAM
Credentials. Keys come from the provider's `oidc.jwksJson`; nothing is fetched from an issuer.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import jwt

from localcloud.common.http_server import Request, Response
from localcloud.gcp.calls import Call
from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.errors import GoogleError, invalid, unimplemented
from localcloud.gcp.iam.conditions import holds
from localcloud.gcp.iam.policies import ISSUED
from localcloud.gcp.platform.resources_api import name_of
from localcloud.gcp.state import World

PATH = "/v1/token"
# The path under which the local cloud acts as the issuer that its deployment trusts.
ISSUER = "/_local/issuer"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
LIFE = timedelta(hours=1)
LONGEST = timedelta(hours=24)  # maximum time between `iat` and `exp` of an accepted token
SKEW = timedelta(seconds=60)
_ALGORITHMS = ["RS256", "ES256"]
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS = "urn:ietf:params:oauth:token-type:access_token"
_SUBJECTS = ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token")
_RIGHT = "iam.serviceAccounts.getAccessToken"
_CLAIMS = ["exp", "iat", "iss", "aud", "sub"]


class _Rejected(Exception):
    """A rejected exchange: OAuth's error code, and the reason."""

    def __init__(self, error: str, why: str) -> None:
        super().__init__(why)
        self.error = error


class Federation:
    """The Security Token Service, and access tokens of service accounts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.handlers: dict[str, Handler] = {
            "iamcredentials.projects.serviceAccounts.generateAccessToken": self._impersonate,
        }

    def owns(self, request: Request) -> bool:
        return request.method == "POST" and request.path == PATH

    # difference: GCP-18
    def describes(self, request: Request) -> bool:
        return request.method == "GET" and request.path == f"{ISSUER}/.well-known/openid-configuration"

    def description(self) -> Response:
        """Return the issuer's discovery document (OpenID Connect Discovery 1.0)."""
        issuer = self._world.issuer
        document = {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/keys",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": list(_ALGORITHMS),
        }
        return Response(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def answer(self, request: Request) -> Response:
        """Exchange a token (RFC 8693)."""
        at = self._world.clock.now()
        fields = {name: values[0] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
        identity, status = "", 200
        try:
            with self._world.lock:
                identity, document = self._exchanged(fields, at)
        except _Rejected as rejected:
            status, document = 400, {"error": rejected.error, "error_description": str(rejected)}
        error = str(document["error"]) if status == 400 else None
        self._world.calls.add(Call(at, identity, "sts.token", request.path, (), status, error))
        return Response(status, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(document).encode())

    # difference: GCP-8
    def _exchanged(self, fields: Mapping[str, str], now: datetime) -> tuple[str, dict[str, Any]]:
        if fields.get("grant_type") != _EXCHANGE or fields.get("requested_token_type") != _ACCESS:
            raise _Rejected("invalid_request", "Only a token exchange for an access token is possible.")
        if fields.get("subject_token_type") not in _SUBJECTS:
            raise _Rejected("invalid_request", 'Invalid value for "subject_token_type".')
        pool, provider = self._provider(fields.get("audience", ""))
        claims = _verified(fields.get("subject_token", ""), provider, fields.get("audience", ""), now)
        values = {f"assertion.{name}": value for name, value in claims.items() if isinstance(value, str)}
        mapped = {name: values.get(source, "") for name, source in provider.get("attributeMapping", {}).items()}
        if not mapped.get("google.subject"):
            raise _Rejected(
                "invalid_grant", "The mapped attribute 'google.subject' must be of type STRING and not empty."
            )
        condition = str(provider.get("attributeCondition", ""))
        if condition and not holds(condition, values | mapped):
            raise _Rejected("unauthorized_client", "The given credential is rejected by the attribute condition.")
        identity = f"principal://iam.googleapis.com/{pool}/subject/{mapped['google.subject']}"
        sets = {f"principalSet://iam.googleapis.com/{pool}/{name}/{value}" for name, value in mapped.items() if value}
        self._world.iam.members[identity] = frozenset({*sets, f"principalSet://iam.googleapis.com/{pool}/*"})
        token = f"{ISSUED}federated.{secrets.token_urlsafe(24)}"
        self._world.iam.issue(token, identity, now + LIFE)
        return identity, {
            "access_token": token,
            "issued_token_type": _ACCESS,
            "token_type": "Bearer",
            "expires_in": int(LIFE.total_seconds()),
        }

    def _provider(self, audience: str) -> tuple[str, dict[str, Any]]:
        """Return the pool's full name, with the project number, and the provider that an audience identifies."""
        name = audience.removeprefix("//iam.googleapis.com/")
        parts = name.split("/")
        project = self._world.projects.all.get(self._world.project)
        if len(parts) == 8 and project and parts[1] == project.number and "sts.googleapis.com" in project.services:
            found = self._world.platform.all
            local = "/".join(["projects", project.id, *parts[2:]])
            pool, provider = found.get(local.rpartition("/providers/")[0]), found.get(local)
            if (
                pool
                and provider
                and all(one.get("state") == "ACTIVE" and not one.get("disabled") for one in (pool, provider))
            ):
                return name.rpartition("/providers/")[0], provider
        raise _Rejected(
            "invalid_target",
            'The target service indicated by the "audience" parameters is invalid. This might either be because the '
            "pool or provider is disabled or deleted or because it doesn't exist.",
        )

    def _impersonate(self, context: Context) -> Answer:
        name = name_of(context)
        context.need(_RIGHT, name, f"Permission '{_RIGHT}' denied on resource (or it may not exist).")
        self._world.platform.find(name)
        scopes = context.body.get("scope") or []
        if not scopes:
            raise invalid("Request contains an invalid argument: scope.")
        if set(scopes) != {SCOPE}:
            raise unimplemented("A token of other scopes than cloud-platform")
        seconds = float(str(context.body.get("lifetime") or "3600s").removesuffix("s"))
        if not 0 < seconds <= LIFE.total_seconds():
            raise GoogleError(400, "badRequest", "The lifetime must be positive, and one hour at most.")
        until = self._world.clock.now() + timedelta(seconds=seconds)
        token = f"{ISSUED}impersonated.{secrets.token_urlsafe(24)}"
        self._world.iam.issue(token, name.rpartition("/")[2], until)
        return {"accessToken": token, "expireTime": until.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _verified(token: str, provider: Mapping[str, Any], audience: str, now: datetime) -> dict[str, Any]:
    """Return the claims of a token after checking its signature, issuer, audience and validity period."""
    oidc = provider.get("oidc", {})
    allowed = oidc.get("allowedAudiences") or [f"https:{audience}", audience]
    if not oidc.get("jwksJson"):
        raise _Rejected("invalid_grant", "Error connecting to the given credential's issuer.")
    try:
        keys = jwt.PyJWKSet.from_json(oidc["jwksJson"])
        key = keys[jwt.get_unverified_header(token).get("kid", "")]
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=_ALGORITHMS,
            audience=allowed,
            issuer=oidc["issuerUri"],
            # Times are checked below, by the local cloud's clock.
            options={"require": _CLAIMS, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        issued, expires = (datetime.fromtimestamp(float(claims[name]), now.tzinfo) for name in ("iat", "exp"))
    except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
        raise _Rejected("invalid_grant", f"The given credential is refused: {error}") from error
    if expires + SKEW <= now or issued - SKEW > now or expires - issued > LONGEST:
        raise _Rejected(
            "invalid_grant", "The given credential is expired, not yet valid, or valid for more than a day."
        )
    return claims
