"""Several Entra tenants in one local Azure: who gets a token of which tenant, and what it opens."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.customers import APPLICATION
from localcloud.azure.iam.entra import EXCHANGE, LOGIN, Application, Entra, FederatedCredential, TokenRefused
from localcloud.azure.quotas import UNLIMITED
from localcloud.azure.services.directory import made_up_id
from tests.limits import HANG_S

ARM = "https://management.azure.com"
HOME, OTHER = made_up_id("home"), made_up_id("other")
CLIENT, PRINCIPAL = made_up_id("client"), made_up_id("principal")
ENDPOINT = f"{LOGIN}/{OTHER}/oauth2/v2.0/token"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalAzure]:
    """Return a provider's tenant with two customers' tenants."""
    with LocalAzure(subscriptions=1, customers=2, limits=UNLIMITED) as made:
        yield made


def send(url: str, headers: dict[str, str], form: dict[str, str] | None = None) -> tuple[int, Any]:
    """Return status and JSON document of a request."""
    answer = requests.request("POST" if form else "GET", url, data=form, headers=headers, timeout=HANG_S)
    return answer.status_code, answer.json()


def assertion(cloud: LocalAzure, client: str | None = None, audience: str = EXCHANGE) -> str:
    """Return a token of the function's identity: by default the one that the application trusts."""
    environment = cloud.environment()
    query = {"resource": audience, "client_id": cloud.tenants_identity if client is None else client}
    url = f"{environment['IDENTITY_ENDPOINT']}?{urlencode(query)}"
    status, document = send(url, {"X-IDENTITY-HEADER": environment["IDENTITY_HEADER"]})
    assert status == 200, document
    return str(document["access_token"])


def exchange(cloud: LocalAzure, tenant: str, proof: str, scope: str = f"{ARM}/.default", **form: str) -> Any:
    """Return a token of the multi-tenant application in a tenant, or the error codes of the refusal."""
    asked = {
        "grant_type": "client_credentials",
        "client_id": APPLICATION,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": proof,
        "scope": scope,
        **form,
    }
    _, document = send(f"{cloud.environment()['AUTHORITY_ENDPOINT']}/{tenant}/oauth2/v2.0/token", {}, asked)
    return document.get("access_token") or document["error_codes"]


def call(cloud: LocalAzure, path: str, token: str) -> tuple[int, Any]:
    """Return the response of Resource Manager."""
    return send(f"{cloud.endpoint}{path}?api-version=2022-12-01", {"Authorization": f"Bearer {token}"})


def test_a_token_lists_the_subscriptions_of_its_own_tenant(cloud: LocalAzure) -> None:
    """One endpoint serves all tenants."""
    for customer in cloud.customers:
        token = exchange(cloud, customer.id, assertion(cloud))
        status, document = call(cloud, "/subscriptions", token)
        assert status == 200
        assert [one["subscriptionId"] for one in document["value"]] == customer.subscription_ids


def test_a_token_is_refused_in_the_subscriptions_of_another_tenant(cloud: LocalAzure) -> None:
    """The refusal names the tenant whose authority has to issue the token."""
    one, other = cloud.customers
    token = exchange(cloud, one.id, assertion(cloud))
    for subscription, owner in ((other.subscription_ids[0], other.id), (cloud.subscription_ids[0], cloud.tenant)):
        status, document = call(cloud, f"/subscriptions/{subscription}", token)
        assert (status, document["error"]["code"]) == (401, "InvalidAuthenticationTokenTenant")
        assert owner in document["error"]["message"]


def test_a_token_is_refused_by_the_storage_of_another_tenant(cloud: LocalAzure) -> None:
    """An account belongs to the tenant of its subscription."""
    one, other = cloud.customers
    token = exchange(cloud, one.id, assertion(cloud), "https://storage.azure.com/.default")
    headers = {"Authorization": f"Bearer {token}", "x-ms-version": "2021-12-02"}
    endpoint = cloud.environment()["BLOB_ENDPOINT"]
    accounts = (one.account.name, other.account.name, cloud.host_account.name)
    listings = [f"{endpoint}/{account}/dataexport?restype=container&comp=list" for account in accounts]
    answers = [requests.get(listing, headers=headers, timeout=HANG_S).status_code for listing in listings]
    assert answers == [200, 401, 401]


def test_a_system_assigned_identity_is_no_credential(cloud: LocalAzure) -> None:
    """Only the user-assigned identity that the application trusts is; its name is compared exactly."""
    assert exchange(cloud, cloud.customers[0].id, assertion(cloud, client="")) == [700213]


def test_a_token_of_another_audience_is_no_assertion(cloud: LocalAzure) -> None:
    """Nor is an assertion whose signature was changed."""
    proof = assertion(cloud)
    assert exchange(cloud, cloud.customers[0].id, assertion(cloud, audience=ARM)) == [700211]
    assert exchange(cloud, cloud.customers[0].id, proof[:-4] + ("AAAA" if proof[-4:] != "AAAA" else "BBBB")) == [50013]


def test_consent_decides_who_gets_a_token(cloud: LocalAzure) -> None:
    """A new consent makes a new principal, whose roles have to be assigned again."""
    customer = cloud.customers[1]
    proof = assertion(cloud)
    cloud.revoke_consent(customer.name)
    assert exchange(cloud, customer.id, proof) == [7000229]
    former = cloud.consent_tenant(customer.name, roles=False)
    token = exchange(cloud, customer.id, proof)
    assert call(cloud, "/subscriptions", token)[1]["value"] == []
    cloud.revoke_consent(customer.name)
    assert cloud.consent_tenant(customer.name) != former
    assert len(call(cloud, "/subscriptions", exchange(cloud, customer.id, proof))[1]["value"]) == 2
    cloud.disable_application(customer.name)
    assert exchange(cloud, customer.id, proof) == [7000112]
    cloud.disable_application(customer.name, disabled=False)


@pytest.mark.parametrize("code", [53003, 65001, 700016, 5000225, 90002])
def test_a_tenant_can_refuse_every_token(cloud: LocalAzure, code: int) -> None:
    """Tokens that were issued before stay valid, as in Entra ID."""
    customer = cloud.customers[0]
    token = exchange(cloud, customer.id, assertion(cloud))
    cloud.refuse_tokens(customer.name, code)
    assert exchange(cloud, customer.id, assertion(cloud)) == [code]
    assert call(cloud, "/subscriptions", token)[0] == 200
    cloud.refuse_tokens(customer.name, 0)
    with pytest.raises(ValueError, match="is not one of"):
        cloud.refuse_tokens(customer.name, 1)


def test_an_unknown_tenant_and_an_incomplete_request_are_refused(cloud: LocalAzure) -> None:
    """The provider's own tenant has not admitted the application either."""
    proof, tenant = assertion(cloud), cloud.customers[0].id
    assert exchange(cloud, made_up_id("nobody"), proof) == [90002]
    assert exchange(cloud, cloud.tenant, proof) == [7000229]
    assert exchange(cloud, tenant, proof, client_id=made_up_id("nobody")) == [700016]
    assert exchange(cloud, tenant, proof, scope=ARM) == [1002012]
    assert exchange(cloud, tenant, proof, grant_type="password") == [7000218]
    assert exchange(cloud, tenant, "no token") == [50027]


def test_control_actions_reach_a_customers_tenant_over_http(cloud: LocalAzure) -> None:
    """Each tenant has the actions of the provider's, and a call log of its own."""
    customer = cloud.customers[0]
    url = f"{cloud.endpoint}/_local/tenants/{customer.name}/subscriptions"
    assert list(requests.post(url, timeout=HANG_S).json()["result"]) == customer.subscription_ids
    with pytest.raises(ValueError, match="no tenant 'nobody'"):
        cloud.revoke_consent("nobody")


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    """Return a private key; making one takes a tenth of a second."""
    return rsa.generate_private_key(65537, 2048)


def certificate(key: rsa.RSAPrivateKey, days: float = 30) -> bytes:
    """Return a certificate of the key that expires in some days, in PEM form."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tailpipe-exports")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def encoded(data: bytes) -> str:
    """Return bytes in the base64 of tokens."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(key: rsa.RSAPrivateKey, pem: bytes, audience: str = ENDPOINT) -> str:
    """Return an assertion that is signed with a certificate, as azure-identity makes it."""
    thumbprint = encoded(x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()))
    claims = {"iss": CLIENT, "sub": CLIENT, "aud": audience, "nbf": time.time(), "exp": time.time() + 600}
    head = {"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}
    text = ".".join(encoded(json.dumps(one).encode()) for one in (head, claims))
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
    return f"{text}.{encoded(key.sign(text.encode(), pss, hashes.SHA256()))}"


def registered(home: str = HOME) -> tuple[Entra, Application]:
    """Return two tenants, and an application of the first that the second has admitted."""
    entra = Entra()
    entra.add(HOME)
    entra.add(OTHER)
    application = entra.applications[CLIENT] = Application(CLIENT, home)
    entra.consent(OTHER, CLIENT, PRINCIPAL)
    return entra, application


def refusal(entra: Entra, proof: str) -> int:
    """Return the error code with which an assertion is refused."""
    with pytest.raises(TokenRefused) as caught:
        entra.admit(OTHER, CLIENT, proof, ENDPOINT)
    return caught.value.code


def test_issuer_subject_and_audience_of_an_assertion_are_compared() -> None:
    """The identity has to be of the application's own tenant."""
    entra, application = registered()
    application.trust(FederatedCredential(f"{LOGIN}/{HOME}/v2.0", "trusted"))
    assert entra.admit(OTHER, CLIENT, entra.assertion(HOME, "trusted", EXCHANGE), ENDPOINT).object_id == PRINCIPAL
    assert refusal(entra, entra.assertion(HOME, "another", EXCHANGE)) == 700213
    assert refusal(entra, entra.assertion(HOME, "trusted", ARM)) == 700212
    assert refusal(entra, entra.assertion(OTHER, "trusted", EXCHANGE)) == 700236
    assert refusal(entra, entra.assertion(HOME, "trusted", EXCHANGE, life_s=-3600)) == 700024
    assert refusal(entra, Entra().assertion(HOME, "trusted", EXCHANGE)) == 50013


def test_an_application_has_at_most_twenty_federated_credentials() -> None:
    """A single-tenant application cannot be admitted elsewhere."""
    entra, application = registered()
    for number in range(20):
        application.trust(FederatedCredential("issuer", str(number)))
    with pytest.raises(ValueError, match="at most 20"):
        application.trust(FederatedCredential("issuer", "21"))
    application.multi_tenant = False
    with pytest.raises(ValueError, match="own tenant only"):
        entra.consent(OTHER, CLIENT, PRINCIPAL)


def test_a_certificate_proves_the_application(key: rsa.RSAPrivateKey) -> None:
    """It has to be registered and valid, and the assertion has to be for this tenant's endpoint."""

    entra, application = registered()
    valid, expired = certificate(key), certificate(key, days=-1)
    assert refusal(entra, signed(key, valid)) == 700027
    application.add_certificate(valid)
    application.add_certificate(expired)
    assert entra.admit(OTHER, CLIENT, signed(key, valid), ENDPOINT).object_id == PRINCIPAL
    assert refusal(entra, signed(key, valid, f"{LOGIN}/{HOME}/oauth2/v2.0/token")) == 700023
    assert refusal(entra, signed(key, expired)) == 1000502
    assert refusal(entra, signed(key, valid)[:-6] + "AAAAAA") == 700027
