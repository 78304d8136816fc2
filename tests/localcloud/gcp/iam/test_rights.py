"""Permissions in the local GCP: conditions, objects, policies that are deleted with their resource, and tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from google.api_core.exceptions import Forbidden, NotFound
from google.auth.exceptions import RefreshError

from localcloud.gcp.iam.conditions import holds, parse
from localcloud.gcp.platform.deployment import OPERATOR, POOL
from tests.limits import HANG_S
from tests.localcloud.gcp.conftest import NO_RETRY, Clients

BUCKET = "projects/_/buckets/b"
EITHER = f'resource.name == "{BUCKET}" ||\n resource.name.startsWith("{BUCKET}/objects/")'
Make = Callable[..., Clients]


@pytest.mark.parametrize(
    ("expression", "value", "held"),
    [
        (EITHER, BUCKET, True),
        (EITHER, f"{BUCKET}/objects/a/b", True),
        (EITHER, f"{BUCKET}-2", False),
        (EITHER, f"{BUCKET}-2/objects/a", False),
        (EITHER, "projects/p", False),
        (f"resource.name == '{BUCKET}' && resource.name.startsWith('projects/')", BUCKET, True),
        (f"resource.name == '{BUCKET}' && resource.type == 'x'", BUCKET, False),
    ],
)
def test_condition_compares_the_resource_name(expression: str, value: str, held: bool) -> None:
    """Equality and prefixes are compared exactly; a term with a missing attribute is false."""
    assert holds(expression, {"resource.name": value}) is held


@pytest.mark.parametrize(
    "expression",
    ["", "true", "resource.name != 'x'", "resource.name == 'x' ||", "!(a == 'x')", "a == 'x' b", "a == \"x'"],
)
def test_unsupported_condition_is_refused(expression: str) -> None:
    """An unsupported condition cannot be granted, because it could be neither true nor false."""
    with pytest.raises(ValueError, match="condition is not supported from"):
        parse(expression)


def test_missing_object_is_404_only_with_permission_to_list(gcp: Clients) -> None:
    """Without that permission it is 403, like an existing object that may not be read."""
    blob = gcp.storage.bucket(gcp.cloud.deployment.state_bucket).blob("absent")
    with pytest.raises(NotFound):
        blob.download_as_bytes(retry=None)
    gcp.cloud.revoke("storage.objects.list")
    with pytest.raises(Forbidden, match=r"storage\.objects\.get"):
        blob.download_as_bytes(retry=None)


def test_changing_public_access_prevention_needs_permission_to_set_policies(gcp: Clients) -> None:
    """The function may patch lifecycle rules and uniform access, but not this setting."""
    bucket = gcp.storage.get_bucket(gcp.cloud.deployment.bucket)
    bucket.clear_lifecycle_rules()
    bucket.iam_configuration.uniform_bucket_level_access_enabled = False
    bucket.patch(retry=None)
    bucket.iam_configuration.public_access_prevention = "inherited"
    with pytest.raises(Forbidden):
        bucket.patch(retry=None)
    assert gcp.storage.get_bucket(bucket.name).iam_configuration.public_access_prevention == "enforced"


def test_recreated_dataset_has_only_its_creators_access(gcp: Clients, clients: Make) -> None:
    """Access to the deleted dataset is lost."""
    name = gcp.cloud.deployment.dataset
    reader = clients(gcp.cloud, gcp.cloud.deployment.connector)
    assert list(reader.bigquery.list_tables(name, retry=NO_RETRY))
    gcp.cloud.delete_dataset()
    gcp.bigquery.create_dataset(name, retry=NO_RETRY)
    with pytest.raises(Forbidden):
        list(reader.bigquery.list_tables(name, retry=NO_RETRY))
    gcp.bigquery.delete_dataset(name, retry=NO_RETRY)


def test_unsupported_write_checks_permissions_first(gcp: Clients, operator: Clients) -> None:
    """Without the permission the write is refused as Google does; with it, it is refused as unsupported."""
    path = f"v1/projects/{gcp.cloud.project}/serviceAccounts/{gcp.cloud.deployment.connector}/keys"
    assert [one.post(path, {}).status_code for one in (gcp, operator)] == [403, 501]


def test_provider_without_keys_refuses_every_token(gcp: Clients) -> None:
    """The local cloud does not fetch an issuer's keys; the refusal has the reason."""
    number = gcp.cloud.world.projects.all[gcp.cloud.project].number
    pool = f"projects/{number}/locations/global/workloadIdentityPools/{POOL}"
    exchange = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "audience": f"//iam.googleapis.com/{pool}/providers/tailpipe-provider",
        "subject_token": "x.y.z",
    }
    answer = requests.post(f"{gcp.cloud.endpoint}/v1/token", data=exchange, timeout=HANG_S)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert "issuer" in answer.json()["error_description"]
    other = requests.post(f"{gcp.cloud.endpoint}/v1/token", data=exchange | {"grant_type": "password"}, timeout=HANG_S)
    assert other.json()["error"] == "invalid_request"
    assert {call.error for call in gcp.cloud.calls.select("sts.token")} == {"invalid_grant", "invalid_request"}


def test_impersonation_token_lasts_at_most_an_hour(gcp: Clients, clients: Make) -> None:
    """A caller who may impersonate a service account gets a token with the requested expiry."""
    cloud = gcp.cloud
    path = f"v1/projects/-/serviceAccounts/{cloud.deployment.connector}:generateAccessToken"
    body = {"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "600s"}
    owner = clients(cloud, OPERATOR)
    assert gcp.post(path, body).status_code == 403
    assert owner.post(path, body | {"lifetime": "7200s"}).status_code == 400
    token = owner.post(path, body).json()["accessToken"]
    reader = clients(cloud, token)
    assert list(reader.bigquery.list_tables(cloud.deployment.dataset, retry=NO_RETRY))
    assert cloud.calls.select("bigquery.tables.list")[-1].identity == cloud.deployment.connector
    cloud.advance(601)
    with pytest.raises(RefreshError):
        list(reader.bigquery.list_tables(cloud.deployment.dataset, retry=NO_RETRY))
    assert cloud.calls.select("bigquery.tables.list")[-1].status == 401
