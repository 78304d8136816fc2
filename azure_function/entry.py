"""Signs in to another Entra tenant, as its entry in the tenant registry says.

The tenant's owner has admitted a multi-tenant application. The application is proven by the token of a user-assigned
managed identity that it trusts ("Configure an application to trust a managed identity", Microsoft Learn), or by a
certificate ("Certificate credentials").
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any, cast

from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.core.pipeline.transport import RequestsTransport

from azure_function.errors import entry_refused, translate
from azure_function.settings import AzureSettings, Entry
from shared.errors import Denied, NotFound, Permanent, RunStopped, Unreachable

FOREIGN_REMEDY = "Correct the tenant's entry: every resource that it names has to be in the tenant itself."
CERTIFICATE_REMEDY = (
    "Correct 'certificate' in the tenant's entry: a certificate with an exportable RSA key, whose secret of the same "
    "name the function's identity may read (Key Vault Secrets User)."
)
NOT_HERE = "Run it where the identity is: tailpipe-exports invoke azure --tenant ID."


class EntryCredential:
    """The credential of a tenant's entry: it returns tokens of this tenant only. Safe to use from several threads."""

    def __init__(self, entry: Entry, proven: TokenCredential) -> None:
        self._entry = entry
        self._proven = proven

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token of the tenant. Raises Unreachable if the tenant refuses, and other ReportedErrors.

        A resource may answer that it wants the token of another tenant, which the SDK then asks for: that resource is
        not this tenant's, so no token is requested.
        """
        wanted = options.pop("tenant_id", None)
        if wanted and wanted.lower() != self._entry.tenant:
            raise Permanent(
                "foreign-resource",
                f"a resource of the Entra tenant {wanted[:40]} was named for the tenant {self._entry.tenant}",
                FOREIGN_REMEDY,
            )
        try:
            token = self._proven.get_token(*scopes, **options)
        except ClientAuthenticationError as error:
            raise entry_refused(error, self._entry.tenant, self._entry.client) from error
        issued_by = claims_of(token.token).get("tid", self._entry.tenant).lower()
        if issued_by != self._entry.tenant:
            raise Unreachable(
                "wrong-tenant",
                f"the token for the Entra tenant {self._entry.tenant} was issued by {issued_by[:40]}",
                FOREIGN_REMEDY,
            )
        return token


class LoopbackAuthority(RequestsTransport):  # type: ignore[misc]  # azure-core exports it by a lazy import
    """Sends what is meant for Entra ID to a loopback endpoint: the identity library accepts only HTTPS."""

    def __init__(self, authority: str, endpoint: str, **options: Any) -> None:
        super().__init__(**options)
        self._authority, self._endpoint = f"https://{authority}", endpoint.rstrip("/")

    def send(self, request: Any, **options: Any) -> Any:
        if request.url.startswith(f"{self._authority}/"):
            request.url = self._endpoint + request.url.removeprefix(self._authority)
        return super().send(request, **options)


def by_identity(settings: AzureSettings, identity: TokenCredential, entry: Entry, **options: Any) -> EntryCredential:
    """Return the credential of an application that trusts the deployment's user-assigned identity."""
    from azure.identity import ClientAssertionCredential

    def prove() -> str:
        try:
            return identity.get_token(f"{settings.cloud.exchange}/.default").token
        except AzureError as error:
            raise translate(error) from error  # of this deployment's own identity, not of the tenant

    return EntryCredential(entry, ClientAssertionCredential(entry.tenant, entry.client, prove, **options))


def by_certificate(entry: Entry, read: Callable[[str], Any], **options: Any) -> EntryCredential:
    """Return the credential of an application with a certificate; `read` returns a secret's document by its URI.

    Raises RunStopped if the certificate cannot be read or used, Transient.
    """
    from azure.identity import CertificateCredential

    try:
        document = read(entry.certificate.replace("/certificates/", "/secrets/", 1))
        # "Secrets of certificates": PKCS #12 in base64, or PEM.
        pem = document.get("contentType") == "application/x-pem-file"
        data = document["value"].encode() if pem else base64.b64decode(document["value"])
        made = CertificateCredential(entry.tenant, entry.client, certificate_data=data, **options)
    except (KeyError, AttributeError, ValueError, binascii.Error) as error:
        # Its text may quote the certificate.
        raise _unusable(f"is not usable ({type(error).__name__})") from None
    except AzureError as error:
        failed = translate(error)
        if isinstance(failed, Denied | NotFound | Permanent):
            raise _unusable(f"cannot be read: {failed.message}") from error
        raise failed from error
    return EntryCredential(entry, cast("TokenCredential", made))


def _unusable(why: str) -> RunStopped:
    return RunStopped("entry-certificate", f"the certificate of the tenant's entry {why}", CERTIFICATE_REMEDY)


def claims_of(token: str) -> dict[str, str]:
    """Return the claims of an access token that are texts; {} if the token is opaque."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return {name: value for name, value in claims.items() if isinstance(value, str)}
    except (IndexError, ValueError, AttributeError):
        return {}


def not_here(entry: Entry | None) -> RunStopped:
    """Return the error of a run outside of Azure, where no managed identity can prove the application."""
    named = f"the application {entry.client}" if entry else "an application"
    why = f"{named} is proven by the deployment's managed identity, which exists only in Azure"
    return RunStopped("credentials", why, NOT_HERE)
