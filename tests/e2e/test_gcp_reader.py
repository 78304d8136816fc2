"""What the connector can and cannot read on GCP, with Google's own libraries against the local GCP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError, OAuthError, RefreshError
from google.cloud.bigquery import Dataset, ExtractJobConfig, QueryJobConfig, Table
from googleapiclient.errors import HttpError  # type: ignore[import-untyped]  # the library has no types

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.deployed import AUDIENCE
from localcloud.gcp.platform.deployment import OPERATOR, POOL, TENANT
from localcloud.gcp.services.objects import ObjectStore
from shared.runtime.clock import VirtualClock
from tests.gcp_function.support import DAY, HOUR, accounts, local_gcp, run
from tests.readers.gcp import ONCE, Reader, federated

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
FORGED = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PROVIDER = f"locations/global/workloadIdentityPools/{POOL}/providers/tailpipe-provider"


def jwks(key: rsa.RSAPrivateKey = KEY) -> str:
    """Return the issuer's public keys as a JWK set."""
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return json.dumps({"keys": [public | {"kid": "1", "use": "sig", "alg": "RS256"}]})


def provider_of(gcp: LocalGcp) -> dict[str, Any]:
    """Return the deployed workload identity provider."""
    found: dict[str, Any] = gcp.resource(f"projects/{gcp.project}/{PROVIDER}")
    return found


@pytest.fixture(scope="module")
def gcp() -> Iterator[LocalGcp]:
    """Return a project after a complete run, whose provider has the issuer's keys.

    google-auth compares token expiry with the machine's clock, so the virtual clock starts at the current time.
    """
    with local_gcp(accounts=2, done=2, clock=VirtualClock(datetime.now(UTC))) as cloud:
        assert run(cloud, EXPORTS="standard,detailed,pricing").report["status"] == "ok"
        provider = provider_of(cloud)
        cloud.put_resource(
            f"projects/{cloud.project}/{PROVIDER}", provider | {"oidc": provider["oidc"] | {"jwksJson": jwks()}}
        )
        assert cloud.copies()
        yield cloud


def onboarding(gcp: LocalGcp) -> dict[str, Any]:
    """Return the parts of the onboarding document that the reader needs."""
    deployment, number = gcp.deployment, gcp.world.projects.all[gcp.project].number
    return {
        "project": {"id": gcp.project, "number": number},
        "storage": {"bucket": deployment.bucket, "datasetFullPath": f"{gcp.project}.{deployment.dataset}"},
        "serviceAccount": {"email": deployment.connector},
        "workloadIdentity": {"providerName": f"projects/{number}/{PROVIDER}"},
    }


def issued(gcp: LocalGcp, key: Any = KEY, algorithm: str = "RS256", **claims: Any) -> str:
    """Return a token of Tailpipe's issuer for the deployed tenant.

    `claims` replace the usual ones; None omits a claim.
    """
    now = gcp.clock.now()
    usual: dict[str, Any] = {
        "iss": gcp.world.issuer,
        "aud": AUDIENCE,
        "sub": "tailpipe-connector",
        "tenant_id": TENANT,
        "iat": now,
        "exp": now + timedelta(minutes=10),
    }
    content = {name: value for name, value in (usual | claims).items() if value is not None}
    return jwt.encode(content, key, algorithm=algorithm, headers={"kid": "1"})


def connected(gcp: LocalGcp, token: str) -> str:
    """Return an access token of the connector in exchange for an issuer's token."""
    document = onboarding(gcp)
    provider, account = document["workloadIdentity"]["providerName"], document["serviceAccount"]["email"]
    return federated(gcp.endpoint, provider, token, account)


@pytest.fixture
def reader(gcp: LocalGcp) -> Iterator[Reader]:
    """Return Tailpipe's reader, connected."""
    with closing(Reader(gcp.endpoint, connected(gcp, issued(gcp)), onboarding(gcp))) as found:
        yield found


def refused(call: Callable[[], object]) -> int:
    """Return the HTTP status with which Google refuses a call."""
    with pytest.raises((GoogleAPICallError, HttpError)) as caught:
        call()
    error = caught.value
    return int(error.status_code if isinstance(error, HttpError) else error.code or 0)


def test_tailpipe_reads_tables_copies_and_metrics(gcp: LocalGcp, reader: Reader, tmp_path: Path) -> None:
    """As the connector it reads every table, every row of each copy through its manifest, metrics and instances."""
    tables = gcp.tables()
    assert {name: reader.count(name) for name in reader.tables()} == tables
    usage = sum(rows for name, rows in tables.items() if name.startswith("gcp_billing_export"))
    assert sum(rows for _, rows in reader.rows(tmp_path)) == usage > 0
    assert reader.metrics(gcp.clock.now()) == []
    assert reader.machines() == {}
    found = reader.service("cloudbilling", "v1").billingAccounts().list().execute()["billingAccounts"]
    assert {one["name"].removeprefix("billingAccounts/") for one in found} == set(accounts(gcp))


def test_connector_is_granted_exactly_the_permissions_it_uses(gcp: LocalGcp, reader: Reader) -> None:
    """Each grant allows one operation, which is refused without that grant."""
    deployment = gcp.deployment
    attempts: dict[str, Callable[[], object]] = {
        "ReadDataset": reader.tables,
        "RunQueries": partial(reader.query, "SELECT 1 AS one"),
        "ReadCopies": reader.manifests,
        "ReadMetrics": partial(reader.metrics, gcp.clock.now()),
        "SeeMachines": reader.machines,
        "ListBillingAccounts": lambda: reader.service("cloudbilling", "v1").billingAccounts().get(
            name=f"billingAccounts/{accounts(gcp)[0]}"
        ).execute(),
    }  # fmt: skip
    granted = deployment.grants("connector")
    assert {one.id for one in granted} == set(attempts)
    try:
        for missing in granted:
            gcp.iam.strip(deployment.connector)
            deployment.bind(gcp.iam, deployment.connector, [one for one in granted if one != missing])
            assert refused(attempts[missing.id]) == 403, missing.id
    finally:
        gcp.iam.strip(deployment.connector)
        deployment.bind(gcp.iam, deployment.connector, granted)
    for attempt in attempts.values():
        attempt()


@pytest.mark.parametrize(
    ("match", "claims"),
    [
        ("attribute condition", {"tenant_id": "another-tenant"}),
        ("attribute condition", {"tenant_id": f"{TENANT}x"}),
        ("attribute condition", {"tenant_id": None}),
        ("attribute condition", {"tenant_id": [TENANT]}),
        ("invalid_grant", {"iss": "https://another.example.com"}),
        ("invalid_grant", {"iss": None}),
        ("invalid_grant", {"aud": "https://tailpipe-uat.io"}),
        ("invalid_grant", {"aud": None}),
        ("invalid_grant", {"sub": None}),
        ("invalid_grant", {"sub": ""}),
        ("invalid_grant", {"exp": None}),
        ("invalid_grant", {"iat": None}),
    ],
)
def test_token_with_wrong_claims_is_not_exchanged(gcp: LocalGcp, match: str, claims: Mapping[str, Any]) -> None:
    """Another tenant's token is refused although Tailpipe's issuer signed it, as is one without a required claim."""
    with pytest.raises(OAuthError, match=match):
        connected(gcp, issued(gcp, **claims))


def test_expired_future_or_long_lived_token_is_not_exchanged(gcp: LocalGcp) -> None:
    """A token may not be expired, issued in the future, or valid for more than a day."""
    now = gcp.clock.now()
    for issue, end in ((-2 * HOUR, -HOUR), (2 * HOUR, 3 * HOUR), (0, 2 * DAY)):
        claims: dict[str, Any] = {"iat": now + timedelta(seconds=issue), "exp": now + timedelta(seconds=end)}
        with pytest.raises(OAuthError, match="invalid_grant"):
            connected(gcp, issued(gcp, **claims))


def test_token_without_the_issuers_signature_is_not_exchanged(gcp: LocalGcp) -> None:
    """Forged, missing and symmetric signatures are refused, and so is a malformed token."""
    secret = "a secret that is long enough for the algorithm to take it"
    forged = [issued(gcp, key=FORGED), issued(gcp, key=None, algorithm="none"), issued(gcp, secret, "HS256"), "x.y.z"]
    for token in forged:
        with pytest.raises(OAuthError, match="invalid_grant"):
            connected(gcp, token)


def test_only_the_deployed_provider_exchanges_tokens(gcp: LocalGcp) -> None:
    """Another project number, pool or provider is an invalid target."""
    number = onboarding(gcp)["project"]["number"]
    for name in (
        f"projects/1{number}/{PROVIDER}",
        f"projects/{number}/{PROVIDER.replace(POOL, 'other-pool')}",
        f"projects/{number}/{PROVIDER}-2",
    ):
        with pytest.raises(OAuthError, match="invalid_target"):
            federated(gcp.endpoint, name, issued(gcp), gcp.deployment.connector)


def test_federated_token_alone_has_no_access(gcp: LocalGcp) -> None:
    """Tailpipe's identity has no permissions until it impersonates the connector."""
    document = onboarding(gcp)
    token = federated(gcp.endpoint, document["workloadIdentity"]["providerName"], issued(gcp))
    with closing(Reader(gcp.endpoint, token, document)) as bare:
        assert {refused(call) for call in (bare.tables, bare.manifests, bare.machines)} == {403}


def test_tailpipe_can_impersonate_only_the_connector(gcp: LocalGcp) -> None:
    """The service accounts of the function, the schedule and the build cannot be impersonated."""
    provider = onboarding(gcp)["workloadIdentity"]["providerName"]
    for name in ("function", "scheduler", "build"):
        with pytest.raises(RefreshError, match=r"iam\.serviceAccounts\.getAccessToken"):
            federated(gcp.endpoint, provider, issued(gcp), gcp.deployment.account(name))


def test_other_tenants_cannot_impersonate_the_connector_without_the_condition(gcp: LocalGcp) -> None:
    """Without the provider's condition, another tenant's token is exchanged but gives no access to the connector."""
    name, before = f"projects/{gcp.project}/{PROVIDER}", provider_of(gcp)
    gcp.put_resource(name, before | {"attributeCondition": ""})
    try:
        with pytest.raises(RefreshError, match=r"iam\.serviceAccounts\.getAccessToken"):
            connected(gcp, issued(gcp, tenant_id="another-tenant"))
    finally:
        gcp.put_resource(name, before)


def test_state_and_reports_cannot_be_read(gcp: LocalGcp, reader: Reader) -> None:
    """The connector can neither list nor read the function's state and its reports."""
    bucket = gcp.deployment.state_bucket
    private = gcp.objects(bucket)
    assert {name.partition("/")[0] for name in private} == {"known_billing_accounts.json", "deliveries.bin", "runs"}
    assert {refused(partial(reader.read, name, bucket)) for name in private} == {403}
    assert refused(lambda: list(reader.storage.list_blobs(bucket, retry=ONCE))) == 403
    # The response does not show whether an object exists.
    assert refused(partial(reader.read, "no-such-object", bucket)) == 403


def test_other_buckets_and_datasets_cannot_be_read(gcp: LocalGcp, reader: Reader) -> None:
    """Other buckets, even with the same name prefix, and other datasets and their tables are refused."""
    world, own = gcp.world, gcp.world.buckets.find(gcp.deployment.bucket)
    other = f"{own.name}-2"
    world.buckets.add(type(own)(own.project, own.document | {"name": other}, ObjectStore(), own.created))
    gcp.put_object("private", "x", other)
    assert refused(partial(reader.read, "private", other)) == 403
    assert refused(lambda: list(reader.storage.list_blobs(other, retry=ONCE))) == 403
    assert refused(lambda: list(reader.storage.list_buckets(retry=ONCE))) == 403
    with closing(Reader(gcp.endpoint, OPERATOR, onboarding(gcp))) as operator:
        operator.bigquery.create_dataset("secrets")
        operator.bigquery.create_table(Table(f"{gcp.project}.secrets.salaries"))
    assert refused(lambda: list(reader.bigquery.list_tables("secrets", retry=ONCE))) == 403
    assert refused(lambda: reader.bigquery.get_table(f"{gcp.project}.secrets.salaries", retry=ONCE)) == 403
    assert refused(partial(reader.query, "SELECT COUNT(*) FROM secrets.salaries")) == 403
    assert "secrets" not in {one.dataset_id for one in reader.bigquery.list_datasets(retry=ONCE)}


def test_nothing_can_be_written(gcp: LocalGcp, reader: Reader) -> None:
    """No object, table, dataset, bucket, policy, key, instance, metric or job can be created, changed or deleted."""
    bucket, project = reader.storage.bucket(gcp.deployment.bucket), gcp.project
    manifest, table = reader.manifests()[0], f"{reader.dataset}.{reader.tables()[0]}"
    iam, account = reader.service("iam", "v1"), f"projects/{project}/serviceAccounts/{gcp.deployment.connector}"
    job = f"projects/{project}/locations/us-central1/jobs/tailpipe-exports"
    policy: dict[str, Any] = {"body": {"policy": {"bindings": []}}}
    before = gcp.copies(), gcp.tables()
    attempts: dict[str, Callable[[], object]] = {
        "a new object": lambda: bucket.blob("new").upload_from_string(b"x", retry=ONCE),
        "an object's content": lambda: bucket.blob(manifest).upload_from_string(b"x", retry=ONCE),
        "a deleted object": lambda: bucket.blob(manifest).delete(retry=ONCE),
        "a copied object": lambda: bucket.copy_blob(bucket.blob(manifest), bucket, "new", retry=ONCE),
        "a composed object": lambda: bucket.blob("new").compose([bucket.blob(manifest)], retry=ONCE),
        "an object's metadata": lambda: _relabeled(bucket.blob(manifest)).patch(retry=ONCE),
        "a bucket": lambda: reader.storage.create_bucket("made-by-tailpipe", retry=ONCE),
        "a bucket's settings": lambda: _relabeled(bucket).patch(retry=ONCE),
        "a bucket's policy": lambda: bucket.set_iam_policy(_policy(), retry=ONCE),
        "a deleted bucket": lambda: bucket.delete(retry=ONCE),
        "a dataset": lambda: reader.bigquery.create_dataset("mine", retry=ONCE),
        "a dataset's entries": lambda: reader.bigquery.update_dataset(
            _opened(reader.dataset), ["access_entries"], retry=ONCE
        ),
        "a deleted dataset": lambda: reader.bigquery.delete_dataset(reader.dataset, delete_contents=True, retry=ONCE),
        "a table": lambda: reader.bigquery.create_table(Table(f"{reader.dataset}.mine"), retry=ONCE),
        "a deleted table": lambda: reader.bigquery.delete_table(table, retry=ONCE),
        "rows": lambda: reader.bigquery.insert_rows_json(table, [{"a": 1}], retry=ONCE),
        "a query's destination table": lambda: reader.bigquery.query(
            "SELECT 1 AS one",
            job_config=QueryJobConfig(destination=f"{reader.dataset}.mine"),
            retry=ONCE,
            job_retry=ONCE,
        ).result(retry=ONCE),
        "an extract job": lambda: reader.bigquery.extract_table(
            table,
            f"gs://{bucket.name}/mine-*.parquet",
            job_config=_parquet(),
            retry=ONCE,
        ).result(retry=ONCE),
        "a service account key": iam.projects().serviceAccounts().keys().create(name=account, body={}).execute,
        "a service account": iam.projects().serviceAccounts().create(name=f"projects/{project}", body={}).execute,
        "the connector's policy": iam.projects().serviceAccounts().setIamPolicy(resource=account, **policy).execute,
        "the provider": iam.projects().locations().workloadIdentityPools().providers().patch(
            name=f"projects/{project}/{PROVIDER}", body={"attributeCondition": ""}
        ).execute,
        "the project's policy": reader.service("cloudresourcemanager", "v3").projects().setIamPolicy(
            resource=f"projects/{project}", **policy
        ).execute,
        "a stopped instance": reader.service("compute", "v1").instances().stop(
            project=project, zone="us-central1-a", instance="web"
        ).execute,
        "a time series": reader.service("monitoring", "v3").projects().timeSeries().create(
            name=f"projects/{project}", body={"timeSeries": []}
        ).execute,
        "a schedule run": reader.service("cloudscheduler", "v1").projects().locations().jobs().run(
            name=job, body={}
        ).execute,
        "a schedule pause": reader.service("cloudscheduler", "v1").projects().locations().jobs().pause(
            name=job, body={}
        ).execute,
    }  # fmt: skip
    assert {what: refused(attempt) for what, attempt in attempts.items()} == dict.fromkeys(attempts, 403)
    assert (gcp.copies(), gcp.tables()) == before


def _relabeled(thing: Any) -> Any:
    """Return a bucket with another label, or an object with other metadata."""
    if hasattr(thing, "labels"):
        thing.labels = {"by": "tailpipe"}
    else:
        thing.metadata = {"by": "tailpipe"}
    return thing


def _policy() -> Any:
    from google.api_core.iam import Policy

    return Policy()  # type: ignore[no-untyped-call]  # the library annotates only parts of itself


def _parquet() -> Any:
    return ExtractJobConfig(destination_format="PARQUET")  # type: ignore[no-untyped-call]  # the library annotates only parts of itself


def _opened(name: str) -> Any:
    dataset = Dataset(name)
    dataset.access_entries = []
    return dataset


def test_access_token_expires_after_an_hour(gcp: LocalGcp) -> None:
    """An expired token of the connector is refused."""
    with closing(Reader(gcp.endpoint, connected(gcp, issued(gcp)), onboarding(gcp))) as late:
        assert late.tables()
        gcp.advance(HOUR + 1)
        with pytest.raises((GoogleAuthError, GoogleAPICallError)):
            late.tables()
