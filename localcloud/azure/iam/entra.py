"""Microsoft Entra ID: several tenants, the applications that they admit, and why a request for a token is refused.

Sources, all on Microsoft Learn: "Configure an application to trust a managed identity", "Important considerations and
restrictions for federated identity credentials", "Microsoft identity platform application authentication certificate
credentials", "Microsoft Entra authentication and authorization error codes". The texts of AADSTS7000229, 700213,
700236 and 7000112 are quoted from public reports.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

LOGIN = "https://login.microsoftonline.com"
EXCHANGE = "api://AzureADTokenExchange"  # the only audience of a managed identity's token that is exchanged
MAX_FEDERATED = 20  # credentials of one application
_SKEW_S = 300.0


class TokenRefused(Exception):
    """An error response of the token endpoint."""

    def __init__(self, code: int, message: str, status: int = 401, error: str = "invalid_client") -> None:
        super().__init__(f"AADSTS{code}: {message}")
        self.code, self.status, self.error = code, status, error

    def document(self) -> dict[str, Any]:
        """Return the response's body."""
        now = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
        trace = "00000000-0000-0000-0000-000000000000"
        return {
            "error": self.error,
            "error_description": f"{self} Trace ID: {trace} Correlation ID: {trace} Timestamp: {now}",
            "error_codes": [self.code],
            "timestamp": now,
            "trace_id": trace,
            "correlation_id": trace,
            "error_uri": f"{LOGIN}/error?code={self.code}",
        }


class FederatedCredential(NamedTuple):
    """A trusted identity, compared exactly with the claims of the same names."""

    issuer: str
    subject: str
    audience: str = EXCHANGE


@dataclass
class Application:
    """An app registration. `certificates` maps both thumbprints (SHA-1 and SHA-256, base64url) of each one to it."""

    client_id: str
    home: str
    name: str = ""
    multi_tenant: bool = True
    federated: list[FederatedCredential] = field(default_factory=list)
    certificates: dict[str, x509.Certificate] = field(default_factory=dict)

    def trust(self, credential: FederatedCredential) -> None:
        """Add a federated credential. Raises ValueError at the limit."""
        if len(self.federated) >= MAX_FEDERATED:
            raise ValueError(f"an application has at most {MAX_FEDERATED} federated credentials")
        self.federated.append(credential)

    def add_certificate(self, pem: bytes) -> None:
        """Add a certificate in PEM form."""
        certificate = x509.load_pem_x509_certificate(pem)
        # Clients name it as x5t#S256, or as x5t with the older thumbprint.
        for algorithm in (hashes.SHA256(), hashes.SHA1()):  # noqa: S303 - an identifier, not a signature
            self.certificates[_encode(certificate.fingerprint(algorithm))] = certificate


@dataclass
class ServicePrincipal:
    """An application in a tenant: what consent creates there and what roles are assigned to."""

    object_id: str
    enabled: bool = True


@dataclass
class EntraTenant:
    """A tenant. `principals` are by client ID; `refuses` is the refusal of every request, by its code."""

    id: str
    name: str = ""
    principals: dict[str, ServicePrincipal] = field(default_factory=dict)
    refuses: int = 0


# What `EntraTenant.refuses` and the control actions can set: OAuth's error, and the text; the status is 400.
REFUSALS = {
    53003: (
        "invalid_grant",
        "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.",
    ),
    65001: (
        "invalid_grant",
        (
            "The user or administrator has not consented to use the application with ID '{client}'. Send an "
            "interactive authorization request for this user and resource."
        ),
    ),
    700016: (
        "unauthorized_client",
        (
            "Application with identifier '{client}' was not found in the directory '{tenant}'. This can happen if the "
            "application has not been installed by the administrator of the tenant or consented to by any user in the "
            "tenant. You may have sent your authentication request to the wrong tenant."
        ),
    ),
    5000225: ("invalid_request", "This tenant has been blocked due to inactivity."),
    90002: (
        "invalid_request",
        (
            "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the "
            "correct cloud. Check with your subscription administrator, this may happen if there are no active "
            "subscriptions for the tenant."
        ),
    ),
}


class Entra:
    """All tenants and applications. Guard it with the lock of the provider's `World`."""

    def __init__(self) -> None:
        self.tenants: dict[str, EntraTenant] = {}
        self.applications: dict[str, Application] = {}
        # Signs the tokens of managed identities, so that no test can use one that was not issued here.
        self._key = secrets.token_bytes(32)

    def add(self, tenant: str, name: str = "") -> EntraTenant:
        """Add a tenant, or return the existing one."""
        return self.tenants.setdefault(tenant, EntraTenant(tenant, name))

    def consent(self, tenant: str, client: str, object_id: str) -> ServicePrincipal:
        """Add an application to a tenant. Raises ValueError if it is registered for its own tenant only."""
        application = self.applications[client]
        if not application.multi_tenant and application.home != tenant:
            raise ValueError(f"application {client} is registered for its own tenant only")
        made = self.tenants[tenant].principals[client] = ServicePrincipal(object_id)
        return made

    def assertion(self, tenant: str, principal: str, audience: str, life_s: float = 86400) -> str:
        """Return a managed identity's token for another audience than Resource Manager: issued by `tenant`, signed."""
        now = int(time.time())
        claims = {"iss": f"{LOGIN}/{tenant}/v2.0", "aud": audience, "tid": tenant, "oid": principal, "sub": principal}
        times = {"iat": now, "nbf": now, "exp": now + int(life_s)}
        signed = ".".join(_encode(msgspec.json.encode(one)) for one in ({"alg": "HS256", "typ": "JWT"}, claims | times))
        return f"{signed}.{self._signature(signed)}"

    def admit(self, tenant: str, client: str, assertion: str, endpoint: str) -> ServicePrincipal:
        """Return the principal that a client's assertion proves. Raises TokenRefused.

        `endpoint` is the URL of the token endpoint, the audience of assertions that are signed with a certificate.
        """
        found = self.tenants.get(tenant)
        if found is None:
            raise _refusal(90002, tenant, client)
        if found.refuses:
            raise _refusal(found.refuses, tenant, client)
        application = self.applications.get(client)
        if application is None:
            raise _refusal(700016, tenant, client)
        principal = found.principals.get(client)
        if principal is None:
            raise TokenRefused(
                7000229,
                f"The client application {client} is missing service principal in the tenant {tenant}. See "
                "instructions here: https://go.microsoft.com/fwlink/?linkid=2225119",
            )
        if not principal.enabled:
            name = application.name or client
            raise TokenRefused(7000112, f"Application '{client}'({name}) is disabled.", 400, "unauthorized_client")
        claims = read_claims(assertion)
        if claims is None:
            raise TokenRefused(50027, "JWT token is invalid or malformed.", 400, "invalid_request")
        if claims.get("iss") == client:
            _check_signed(application, claims, assertion, endpoint)
        else:
            self._check_federated(application, claims, assertion)
        return principal

    def _check_federated(self, application: Application, claims: Mapping[str, Any], assertion: str) -> None:
        issuer, subject, audience = (str(claims.get(one, "")) for one in ("iss", "sub", "aud"))
        if issuer.startswith(LOGIN) and issuer != f"{LOGIN}/{application.home}/v2.0":
            raise TokenRefused(
                700236,
                f"Entra ID tokens issued by issuer '{issuer}' may not be used for federated identity credential flows "
                "for applications or managed identities registered in this tenant.",
            )
        of_issuer = [one for one in application.federated if one.issuer == issuer]
        if not of_issuer:
            raise _no_record(700211, "issuer", issuer)
        of_subject = [one for one in of_issuer if one.subject == subject]
        if not of_subject:
            raise _no_record(700213, "subject", subject)
        if not any(one.audience == audience for one in of_subject):
            raise _no_record(700212, "audience", audience)
        signed, _, signature = assertion.rpartition(".")
        if not hmac.compare_digest(signature, self._signature(signed)):
            raise TokenRefused(50013, "Assertion failed signature validation.", 400, "invalid_grant")
        _check_times(claims)

    def _signature(self, signed: str) -> str:
        return _encode(hmac.digest(self._key, signed.encode(), hashlib.sha256))


def _refusal(code: int, tenant: str, client: str) -> TokenRefused:
    error, text = REFUSALS[code]
    return TokenRefused(code, text.format(tenant=tenant, client=client), 400, error)


def _no_record(code: int, claim: str, value: str) -> TokenRefused:
    return TokenRefused(
        code,
        f"No matching federated identity record found for presented assertion {claim} '{value}'. Please check your "
        "federated identity credential Subject, Audience and Issuer against the presented assertion.",
    )


def _check_signed(application: Application, claims: Mapping[str, Any], assertion: str, endpoint: str) -> None:
    """Check an assertion that is signed with one of the application's certificates. Raises TokenRefused."""
    head = read_claims(assertion, part=0) or {}
    thumbprint = str(head.get("x5t#S256") or head.get("x5t", ""))
    certificate = application.certificates.get(thumbprint.rstrip("="))
    if certificate is None or not _is_signed(assertion, certificate, str(head.get("alg", ""))):
        raise TokenRefused(
            700027,
            "The certificate with identifier used to sign the client assertion is not registered on application. "
            f"The application is '{application.client_id}'.",
        )
    if claims.get("sub") != application.client_id or claims.get("aud") != endpoint:
        raise TokenRefused(700023, f"Client assertion audience claim does not match the expected '{endpoint}'.")
    if certificate.not_valid_after_utc.timestamp() < time.time():
        raise TokenRefused(1000502, "The provided certificate is not within its specified validity period.")
    _check_times(claims)


def _is_signed(assertion: str, certificate: x509.Certificate, algorithm: str) -> bool:
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        return False
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    if algorithm == "PS256":
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
    signed, _, signature = assertion.rpartition(".")
    try:
        key.verify(_decode(signature), signed.encode(), scheme, hashes.SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def _check_times(claims: Mapping[str, Any]) -> None:
    now = time.time()
    if not float(claims.get("nbf", 0)) - _SKEW_S <= now <= float(claims.get("exp", 0)) + _SKEW_S:
        raise TokenRefused(700024, "Client assertion is not within its valid time range.")


def read_claims(token: str, part: int = 1) -> dict[str, Any] | None:
    """Return the claims of a JWT, or with `part` 0 its header; None if it is not a JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        document = msgspec.json.decode(_decode(parts[part]))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    return document if isinstance(document, dict) else None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
