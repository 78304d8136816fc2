"""Creation of bearer tokens, and identification of callers by their tokens."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from localcloud.azure.errors import ArmError

_LIFE_S = 24 * 3600
_SIGNATURE = "signature-of-the-local-azure"  # which tests recognize wherever a token must not appear
# The audiences that each service accepts in a token, without the optional trailing slash.
MANAGEMENT = ("https://management.azure.com", "https://management.core.windows.net")
GRAPH = ("https://graph.microsoft.com",)
STORAGE = ("https://storage.azure.com",)
VAULT = ("https://vault.azure.net",)
EVENT_GRID = ("https://eventgrid.azure.net",)


class Caller(NamedTuple):
    """The caller of a request.

    `principal` is the object ID of a known identity, otherwise `app-` and a digest of the token. `user` is true for a
    user, false for an application.
    """

    token: str
    principal: str
    user: bool = False


def token_for(tenant: str, principal: str, audience: str, user: bool = False, life_s: float = _LIFE_S) -> str:
    """Create an unsigned token in the format of Entra ID.

    Its times use the machine's clock, because SDKs compare them with that clock.
    """
    now = int(time.time())
    claims: dict[str, Any] = {"aud": audience, "tid": tenant, "oid": principal, "sub": principal}
    claims |= {"iat": now, "nbf": now, "exp": now + int(life_s), "idtyp": "user" if user else "app"}
    head = {"alg": "none", "typ": "JWT"}
    return ".".join((_encode(head), _encode(claims), _SIGNATURE))


def identify(header: str, tenant: str, audiences: Sequence[str]) -> Caller:
    """Return the caller in the `Authorization` header. Raises ArmError 401.

    Any bearer token is accepted, but a JWT must be issued by this tenant, for one of `audiences`, and not expired.
    """
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise _unauthenticated("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
    token = token.strip()
    claims = _claims(token)
    if claims is None:
        return Caller(token, f"app-{hashlib.sha256(token.encode()).hexdigest()[:12]}")
    if claims.get("tid") != tenant:
        raise wrong_tenant(tenant)
    if str(claims.get("aud", "")).rstrip("/") not in audiences:
        raise _unauthenticated("InvalidAuthenticationToken", "The access token is for another audience.")
    if claims.get("exp", 0) < time.time():
        raise expired()
    return Caller(token, str(claims.get("oid", "")), claims.get("idtyp") == "user")


def wrong_tenant(tenant: str) -> ArmError:
    """Return a 401 error: the token was issued by a different tenant."""
    return _unauthenticated(
        "InvalidAuthenticationTokenTenant",
        f"The access token is from the wrong issuer. It must match the tenant '{tenant}' associated with this "
        "subscription. Please use the authority (URL) of that tenant to get the token.",
    )


def expired() -> ArmError:
    """Return a 401 error: the token has expired."""
    return _unauthenticated("ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than now.")


def _claims(token: str) -> dict[str, Any] | None:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        document = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    return document if isinstance(document, dict) else None


def _encode(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(document)).rstrip(b"=").decode()


def _unauthenticated(code: str, message: str) -> ArmError:
    challenge = 'Bearer authorization_uri="https://login.microsoftonline.com/", error="invalid_token"'
    return ArmError(401, code, message, {"WWW-Authenticate": challenge})
