"""Conditions that keep billing data from arriving or from being replaced, as Google's clients see them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import requests
from google.api_core.exceptions import Forbidden

from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.services.billing_schema import table_name
from localcloud.gcp.services.exports import PRICING_PRINCIPAL, PRINCIPAL
from tests.limits import HANG_S
from tests.localcloud.gcp.conftest import NO_RETRY, Clients, Opener

DAY = 24 * 3600


def rows_of(gcp: Clients, account: str, kind: str = "standard") -> int:
    """Return the number of rows that a query with the client's identity returns for an account's table."""
    table = f"`{gcp.cloud.project}.billing_export.{table_name(kind, account)}`"
    (row,) = gcp.bigquery.query_and_wait(f"SELECT COUNT(*) AS n FROM {table}")
    return int(row.n)


def test_pricing_has_its_own_writer_and_only_the_paying_account(gcp: Clients) -> None:
    """A separate principal writes pricing, only for the account that is linked to the dataset's project."""
    dataset = gcp.bigquery.get_dataset("billing_export", retry=NO_RETRY)
    admitted = {entry.entity_id for entry in dataset.access_entries}
    assert {PRINCIPAL, PRICING_PRINCIPAL} <= admitted
    table = f"`{gcp.cloud.project}.billing_export.cloud_pricing_export`"
    rows = gcp.bigquery.query_and_wait(f"SELECT billing_account_id AS id, COUNT(*) AS n FROM {table} GROUP BY 1")
    payer = gcp.get(f"v1/projects/{gcp.cloud.project}/billingInfo").json()["billingAccountName"]
    assert {f"billingAccounts/{row.id}": row.n for row in rows} == {payer: 30}


def test_row_access_policy_hides_rows_without_an_error(gcp: Clients) -> None:
    """Readers without a granting policy get no rows, the catalog counts them, and no job may extract them."""
    account = next(iter(gcp.cloud.accounts()))
    gcp.cloud.protect_rows(account)
    assert rows_of(gcp, account) == 0
    table = gcp.bigquery.get_table(f"billing_export.{table_name('standard', account)}", retry=NO_RETRY)
    assert table.num_rows == 30
    bucket = gcp.cloud.deployment.bucket
    job = gcp.bigquery.extract_table(table, f"gs://{bucket}/x-*.csv", retry=NO_RETRY)
    with pytest.raises(Forbidden, match="row access policies"):
        job.result(retry=NO_RETRY)
    gcp.cloud.protect_rows(account, readers=[PRINCIPAL, gcp.cloud.deployment.identity])
    assert rows_of(gcp, account) == 30
    gcp.cloud.protect_rows(account, readers=[gcp.cloud.deployment.identity])
    assert gcp.cloud.stream(accounts=[account], kinds=["standard"]) == 0
    gcp.cloud.unprotect_rows(account)
    assert gcp.cloud.stream(accounts=[account], kinds=["standard"]) == 20


def test_deleting_rows_does_not_change_the_modification_time(gcp: Clients) -> None:
    """The catalog counts fewer rows, and the partition's last modification stays the same."""
    account = next(iter(gcp.cloud.accounts()))
    sql = (
        "SELECT total_rows AS n, last_modified_time AS at "
        f"FROM `{gcp.cloud.project}.billing_export`.INFORMATION_SCHEMA.PARTITIONS "
        f"WHERE table_name = '{table_name('standard', account)}' AND partition_id = '20260309'"
    )
    (before,) = gcp.bigquery.query_and_wait(sql)
    assert gcp.cloud.delete_rows(account, "2026-03-09", keep=4) == 6
    (after,) = gcp.bigquery.query_and_wait(sql)
    assert (before.n, after.n, after.at) == (10, 4, before.at)


def test_dataset_default_expires_new_tables_and_partitions(opened: Opener, clients: Callable[..., Clients]) -> None:
    """A default applies to tables created after it; a partitioned table expires partition by partition."""
    cloud = opened(accounts=1, done=0)
    account = next(iter(cloud.accounts()))
    cloud.expire_tables(60)
    cloud.console_step(account, ["standard"])
    cloud.stream(days=1, rows=5)
    gcp = clients(cloud)
    table = gcp.bigquery.get_table(f"billing_export.{table_name('standard', account)}", retry=NO_RETRY)
    assert table.time_partitioning.expiration_ms == 60 * DAY * 1000
    cloud.advance(59 * DAY)
    assert rows_of(gcp, account) == 5
    cloud.advance(2 * DAY)
    assert rows_of(gcp, account) == 0
    assert cloud.tables() == {table_name("standard", account): 0}


def test_export_to_an_unsupported_region_is_refused(opened: Opener) -> None:
    """The console refuses regions without billing exports, and accepts other regions and multi-regions."""
    refused = opened(accounts=1, done=0, location="europe-southwest1")
    with pytest.raises(ValueError, match="Invalid dataset region: europe-southwest1"):
        refused.console_step(next(iter(refused.accounts())), ["standard"])
    taken = opened(accounts=1, done=1, location="europe-west1")
    assert taken.stream(rows=1) == 3


@pytest.mark.parametrize("obstacle", ["encrypt_dataset", "unlink_billing", "remove_writer"])
def test_google_stops_writing_rows_without_an_error(gcp: Clients, obstacle: str) -> None:
    """This happens with a customer-managed key, without billing, and without Google's access entry."""
    arguments = ("projects/p/locations/us/keyRings/r/cryptoKeys/k",) if obstacle == "encrypt_dataset" else ()
    assert gcp.cloud.stream() > 0
    getattr(gcp.cloud, obstacle)(*arguments)
    assert gcp.cloud.stream() == 0


@pytest.mark.parametrize(("close", "state"), [(False, "absent"), (True, "closed")])
def test_storage_is_403_without_an_open_billing_account(gcp: Clients, close: bool, state: str) -> None:
    """Without a link, or with one to a closed account, buckets and objects are 403 and no job extracts."""
    payer = next(iter(gcp.cloud.accounts()))
    if close:
        gcp.cloud.close_account(payer)
    else:
        gcp.cloud.unlink_billing()
    bucket = gcp.cloud.deployment.bucket
    for call in (
        lambda: gcp.storage.get_bucket(bucket, retry=None),
        lambda: gcp.storage.bucket(bucket).blob("x").upload_from_string(b"x", retry=None),
        lambda: list(gcp.storage.list_blobs(bucket, retry=None)),
    ):
        with pytest.raises(Forbidden, match=f"disabled in state {state}"):
            call()
    other = list(gcp.cloud.accounts())[1]
    table = f"billing_export.{table_name('standard', other)}"
    job = gcp.bigquery.extract_table(table, f"gs://{bucket}/x-*.csv", retry=NO_RETRY)
    with pytest.raises(Forbidden, match="Billing has not been enabled"):
        job.result(retry=NO_RETRY)
    assert gcp.get(f"v1/projects/{gcp.cloud.project}/billingInfo").json()["billingEnabled"] is False
    gcp.cloud.link_billing(other)
    assert gcp.storage.get_bucket(bucket, retry=None).name == bucket


def test_retained_object_can_be_neither_replaced_nor_deleted(gcp: Clients) -> None:
    """With versioning, a retained object can be replaced but not deleted."""
    gcp.cloud.retain_objects(days=3)
    bucket = gcp.storage.bucket(gcp.cloud.deployment.bucket)
    blob = bucket.blob("manifest.json")
    blob.upload_from_string(b"1", retry=None)
    found = bucket.get_blob("manifest.json", retry=None)
    assert found.retention_expiration_time == found.time_created + timedelta(days=3)
    with pytest.raises(Forbidden, match="retentionPolicyNotMet"):
        blob.upload_from_string(b"2", retry=None)
    with pytest.raises(Forbidden, match="retention policy"):
        blob.delete(retry=None)
    gcp.cloud.world.buckets.find(bucket.name).document["versioning"] = {"enabled": True}
    blob.upload_from_string(b"2", retry=None)
    with pytest.raises(Forbidden):
        blob.delete(retry=None)
    gcp.cloud.advance(3 * DAY)
    blob.delete(retry=None)


def test_default_hold_protects_every_new_object(operator: Clients) -> None:
    """New objects have a hold and cannot change until it is released."""
    operator.cloud.hold_objects()
    blob = operator.storage.bucket(operator.cloud.deployment.bucket).blob("x")
    blob.upload_from_string(b"1", retry=None)
    with pytest.raises(Forbidden, match="hold"):
        blob.upload_from_string(b"2", retry=None)
    blob.event_based_hold = False
    blob.patch(retry=None)
    blob.upload_from_string(b"2", retry=None)
    operator.cloud.hold_objects(hold=False)
    other = operator.storage.bucket(operator.cloud.deployment.bucket).blob("y")
    other.upload_from_string(b"1", retry=None)
    other.delete(retry=None)


def test_perimeter_refusal_has_an_identifier(gcp: Clients) -> None:
    """VPC Service Controls answers 403 with the identifier that an administrator searches for."""
    gcp.cloud.close_perimeter(["bigquery.googleapis.com"])
    with pytest.raises(Forbidden, match="vpcServiceControlsUniqueIdentifier: ") as caught:
        gcp.bigquery.get_dataset("billing_export", retry=NO_RETRY)
    assert caught.value.reason == "SECURITY_POLICY_VIOLATED"
    gcp.storage.get_bucket(gcp.cloud.deployment.bucket, retry=None)
    gcp.cloud.close_perimeter([])
    gcp.bigquery.get_dataset("billing_export", retry=NO_RETRY)


def test_user_credentials_need_a_quota_project(operator: Clients) -> None:
    """Cloud Billing bills such a call to gcloud's project, and accepts it with a quota project."""
    operator.cloud.drop_quota_project(OPERATOR)
    refused = operator.get("v1/billingAccounts")
    assert refused.status_code == 403
    assert refused.json()["error"]["details"][0]["metadata"]["consumer"] == "projects/764086051850"
    operator.session.headers["x-goog-user-project"] = operator.cloud.project
    assert operator.get("v1/billingAccounts").status_code == 200
    operator.storage.get_bucket(operator.cloud.deployment.bucket, retry=None)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_metadata_server_failure_is_returned_once(gcp: Clients, status: int) -> None:
    """The next request returns the token."""
    gcp.cloud.fail_metadata(status)
    url = f"{gcp.cloud.endpoint}/computeMetadata/v1/instance/service-accounts/default/token"
    answers = [requests.get(url, headers={"Metadata-Flavor": "Google"}, timeout=HANG_S) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, 200]
    token = str(answers[1].json()["access_token"])
    assert gcp.cloud.iam.identity_of(token) == gcp.cloud.deployment.identity


def test_account_of_another_organization_is_listed(gcp: Clients) -> None:
    """The role is granted on the account, so the listing has it with its own parent."""
    account = gcp.cloud.add_account_elsewhere("elsewhere")
    found = {one["name"]: one.get("parent") for one in gcp.get("v1/billingAccounts").json()["billingAccounts"]}
    assert found[f"billingAccounts/{account}"] == "organizations/999999999999"
