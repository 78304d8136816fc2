"""The known differences of the local clouds: docs/testing.md lists them, the code marks them, and probes verify them.

Each id is marked beside the code that makes the difference (``# difference: ID``). A probe shows the difference on the
running local cloud. If it fails, the difference is gone: remove its row and its marker.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from azure_function.clients import drop_clients
from localcloud.aws.cloud import LocalAws
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.caller import VAULT, token_for
from localcloud.azure.platform.deployment import CONTAINER
from localcloud.azure.services.azurite import Azurite
from localcloud.gcp.cloud import LocalGcp
from tests.aws_lambda.support import EXPORT, local_aws
from tests.aws_lambda.support import run as run_aws
from tests.azure_function.support import DAY, advance, local_azure
from tests.azure_function.support import run as run_azure
from tests.gcp_function.support import accounts, local_gcp
from tests.limits import HANG_S

MARK = re.compile(r"# difference: ([A-Z]+-\d+)\b")
SILENT = f"{EXPORT}-focus"
LISTED = re.compile(r"^\| ([A-Z]+-\d+) \|", re.MULTILINE)


def documented(repository: Path) -> set[str]:
    """Return the ids that docs/testing.md lists."""
    return set(LISTED.findall((repository / "docs" / "testing.md").read_text(encoding="utf-8")))


def test_listed_differences_are_marked_once_in_the_code(repository: Path) -> None:
    """A difference must be both listed and marked, and marked only once."""
    folder = repository / "localcloud"
    marked = [one for path in sorted(folder.rglob("*.py")) for one in MARK.findall(path.read_text(encoding="utf-8"))]
    assert sorted(marked) == sorted(set(marked))
    assert set(marked) == documented(repository)


def test_every_probe_has_a_listed_difference(repository: Path) -> None:
    """A probe for an unlisted id proves nothing."""
    assert {one for probes in (AWS, AZURE, GCP) for one in probes} <= documented(repository)


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    """Return an organization with exports."""
    with local_aws(accounts=3) as cloud:
        run_aws(cloud, EXPORTS="cur2,focus")
        yield cloud


@pytest.fixture(scope="module")
def azure(azurite: Azurite) -> Iterator[LocalAzure]:
    """Return a tenant with exports."""
    with local_azure(subscriptions=3, azurite=azurite) as cloud:
        run_azure(cloud, EXPORT_FORMAT="parquet")
        yield cloud
        drop_clients()


@pytest.fixture(scope="module")
def gcp() -> Iterator[LocalGcp]:
    """Return a project with exports."""
    with local_gcp(accounts=1, done=1, history_days=1) as cloud:
        yield cloud


def delivered(cloud: LocalAws) -> list[str]:
    """Return the export's data files."""
    bucket = cloud.deployment.bucket
    found = cloud.client("s3").list_objects_v2(Bucket=bucket)
    return [str(one["Key"]) for one in found.get("Contents", []) if f"/{EXPORT}/data/" in str(one["Key"])]


def nothing_is_delivered_on_aws(cloud: LocalAws) -> bool:
    """Two months pass without a delivery; a control action delivers."""
    before = delivered(cloud)
    cloud.advance(61 * DAY)
    quiet = delivered(cloud)
    cloud.deliver(EXPORT)
    return before == quiet != delivered(cloud)


def one_invented_row(cloud: LocalAws) -> bool:
    """A delivery has a header and one row, whatever the size of the organization."""
    cloud.deliver(EXPORT)
    name = delivered(cloud)[-1]
    with cloud.client("s3").get_object(Bucket=cloud.deployment.bucket, Key=name)["Body"] as body:
        return len(gzip.decompress(body.read()).decode().splitlines()) == 2


def lifecycle_rules_rest(cloud: LocalAws) -> bool:
    """An object outlives the rule that expires it after a day."""
    s3, bucket = cloud.client("s3"), "rules-that-rest"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    rule = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")
    cloud.advance(30 * DAY)
    return bool(s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1)


def keys_are_names(cloud: LocalAws) -> bool:
    """A nonexistent key encrypts like any other."""
    s3, bucket = cloud.client("s3"), "keys-are-names"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    key = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-4000-8000-000000000000"
    s3.put_object(Bucket=bucket, Key="a", Body=b"1", ServerSideEncryption="aws:kms", SSEKMSKeyId=key)
    with s3.get_object(Bucket=bucket, Key="a")["Body"] as body:
        return bool(body.read() == b"1")


def a_silent_export_is_healthy(cloud: LocalAws) -> bool:
    """The export reports HEALTHY although its last delivery is old."""
    exports = cloud.client("bcm-data-exports")
    (arn,) = [one["ExportArn"] for one in exports.list_exports()["Exports"] if one["ExportName"] == SILENT]
    before = exports.get_export(ExportArn=arn)["ExportStatus"]
    cloud.silence_export(SILENT, 3)
    after = exports.get_export(ExportArn=arn)["ExportStatus"]
    return bool(after["StatusCode"] == "HEALTHY" and before["CreatedAt"] - after["CreatedAt"] == timedelta(days=3))


def policies_of_secrets_are_not_evaluated(cloud: LocalAws) -> bool:
    """A secret whose own policy denies everything is read."""
    secrets = cloud.client("secretsmanager")
    arn = secrets.create_secret(Name="denied", SecretString="text")["ARN"]
    denial = {"Effect": "Deny", "Principal": "*", "Action": "secretsmanager:*", "Resource": "*"}
    secrets.put_resource_policy(
        SecretId=arn, ResourcePolicy=json.dumps({"Version": "2012-10-17", "Statement": [denial]})
    )
    return bool(secrets.get_secret_value(SecretId=arn)["SecretString"] == "text")


AWS: Mapping[str, Callable[[LocalAws], bool]] = {
    "AWS-1": nothing_is_delivered_on_aws,
    "AWS-6": one_invented_row,
    "AWS-7": lifecycle_rules_rest,
    "AWS-8": keys_are_names,
    "AWS-15": a_silent_export_is_healthy,
    "AWS-21": policies_of_secrets_are_not_evaluated,
}


def blobs(cloud: LocalAzure, **options: Any) -> list[str]:
    """Return the names of the delivered blobs."""
    with cloud.blob_client() as client:
        return list(client.get_container_client(CONTAINER).list_blob_names(**options))


def nothing_is_delivered_on_azure(cloud: LocalAzure) -> bool:
    """A week passes without a delivery; a control action delivers."""
    before = blobs(cloud)
    advance(cloud, 7 * DAY)
    quiet = blobs(cloud)
    cloud.deliver()
    return before == quiet != blobs(cloud)


def parquet_without_rows(cloud: LocalAzure) -> bool:
    """Manifests of Parquet files have no row count."""
    cloud.deliver()
    name = next(one for one in blobs(cloud) if one.endswith("/manifest.json"))
    with cloud.blob_client() as client:
        manifest = json.loads(client.get_container_client(CONTAINER).download_blob(name).readall())
    return manifest["dataRowCount"] is None


def markers_are_names(cloud: LocalAzure) -> bool:
    """The marker of the next page is the last name of the current one."""
    cloud.deliver()
    with cloud.blob_client() as client:
        pages: Any = client.get_container_client(CONTAINER).list_blobs(results_per_page=1).by_page()
        (only,) = next(pages)
        return bool(pages.continuation_token == only.name)


def secrets_are_read_and_not_listed(cloud: LocalAzure) -> bool:
    """A listing of secrets, which Key Vault answers, is answered with 501."""
    token = token_for(cloud.tenant, cloud.principal, VAULT[0])
    url = f"{cloud.environment()['VAULT_ENDPOINT']}/secrets?api-version=7.4"
    return status_of(url, {"Authorization": f"Bearer {token}"}) == 501


def older_versions_are_not_served(cloud: LocalAzure) -> bool:
    """An API version of exports that Azure still serves is 501."""
    path = f"subscriptions/{cloud.subscription_ids[0]}/providers/Microsoft.CostManagement/exports"
    headers = {"Authorization": f"Bearer {cloud.token()}", "ClientType": "probe"}
    return status_of(f"{cloud.endpoint}/{path}?api-version=2021-10-01", headers) == 501


def a_write_without_a_tag_is_refused(cloud: LocalAzure) -> bool:
    """The other documented behavior exists only where a test selects it."""
    (live,) = cloud.exports(cloud.subscription_ids[0])
    path = f"{cloud.endpoint}{live['id']}?api-version=2025-03-01"
    headers = {"Authorization": f"Bearer {cloud.token()}", "ClientType": "probe"}
    body = {"properties": live["properties"]}
    with requests.put(path, json=body, headers=headers, timeout=HANG_S) as answer:
        return answer.status_code == 400 and "eTag" in answer.text.replace("Etag", "eTag")


AZURE: Mapping[str, Callable[[LocalAzure], bool]] = {
    "AZURE-1": nothing_is_delivered_on_azure,
    "AZURE-2": a_write_without_a_tag_is_refused,
    "AZURE-10": older_versions_are_not_served,
    "AZURE-12": parquet_without_rows,
    "AZURE-13": markers_are_names,
    "AZURE-18": secrets_are_read_and_not_listed,
}


def status_of(url: str, headers: Mapping[str, str], **parameters: str) -> int:
    """Return the status of a response."""
    with requests.get(url, headers=headers, params=parameters, timeout=HANG_S) as answer:
        return answer.status_code


def rows(cloud: LocalGcp) -> int:
    """Return the number of rows of all tables."""
    return sum(cloud.tables().values())


def nothing_is_streamed(cloud: LocalGcp) -> bool:
    """A week passes without new rows; a control action adds them."""
    before = rows(cloud)
    cloud.advance(7 * DAY)
    quiet = rows(cloud)
    cloud.stream(days=1, rows=1)
    return before == quiet < rows(cloud)


def statements_are_refused(cloud: LocalGcp) -> bool:
    """DDL and DML, which BigQuery supports, are 501."""
    url = f"{cloud.endpoint}/bigquery/v2/projects/{cloud.project}/queries"
    body: Any = {"query": "CREATE TABLE x AS SELECT 1", "useLegacySql": False, "location": "US"}
    headers = {"Authorization": f"Bearer {cloud.deployment.identity}"}
    with requests.post(url, json=body, headers=headers, timeout=HANG_S) as answer:
        return answer.status_code == 501


def no_console_step_over_any_api(cloud: LocalGcp) -> bool:
    """A control action replaces the console step."""
    new = cloud.add_account("probe")
    before = rows(cloud)
    cloud.stream(days=1, rows=1, accounts=[new])
    nothing = rows(cloud) == before
    cloud.console_step(new)
    cloud.stream(days=1, rows=1, accounts=[new])
    return nothing and rows(cloud) > before


def pages_of_a_glob_are_full(cloud: LocalGcp) -> bool:
    """A page has the requested number of matches, however far apart they are."""
    for number in range(40):
        cloud.put_object(f"far/{number:02d}/{'m' if number % 10 == 0 else 'x'}", "1")
    url = f"{cloud.endpoint}/storage/v1/b/tailpipe-billing-export-{cloud.project}/o"
    headers = {"Authorization": f"Bearer {cloud.deployment.identity}"}
    query = {"matchGlob": "far/*/m", "maxResults": "3"}
    with requests.get(url, headers=headers, params=query, timeout=HANG_S) as answer:
        return len(answer.json()["items"]) == 3


def secrets_are_accessed_and_not_listed(cloud: LocalGcp) -> bool:
    """A listing of secrets, which Secret Manager answers, is answered with 501."""
    headers = {"Authorization": f"Bearer {cloud.deployment.identity}"}
    return status_of(f"{cloud.endpoint}/v1/projects/{cloud.project}/secrets", headers) == 501


def a_row_policy_shows_all_or_nothing(cloud: LocalGcp) -> bool:
    """A policy has no condition, because there is no way to set one."""
    account = accounts(cloud)[0]
    cloud.protect_rows(account)
    cloud.unprotect_rows(account)
    with pytest.raises(TypeError):
        cloud.protect_rows(account, condition="cost > 1")
    return True


GCP: Mapping[str, Callable[[LocalGcp], bool]] = {
    "GCP-1": nothing_is_streamed,
    "GCP-2": no_console_step_over_any_api,
    "GCP-3": statements_are_refused,
    "GCP-11": a_row_policy_shows_all_or_nothing,
    "GCP-15": pages_of_a_glob_are_full,
    "GCP-20": secrets_are_accessed_and_not_listed,
}


@pytest.mark.parametrize("probe", AWS.values(), ids=AWS)
def test_listed_difference_of_the_local_aws_exists(aws: LocalAws, probe: Callable[[LocalAws], bool]) -> None:
    """If it does not, remove its row in docs/testing.md, its marker and its probe."""
    assert probe(aws)


@pytest.mark.parametrize("probe", AZURE.values(), ids=AZURE)
def test_listed_difference_of_the_local_azure_exists(azure: LocalAzure, probe: Callable[[LocalAzure], bool]) -> None:
    """If it does not, remove its row in docs/testing.md, its marker and its probe."""
    assert probe(azure)


@pytest.mark.parametrize("probe", GCP.values(), ids=GCP)
def test_listed_difference_of_the_local_gcp_exists(gcp: LocalGcp, probe: Callable[[LocalGcp], bool]) -> None:
    """If it does not, remove its row in docs/testing.md, its marker and its probe."""
    assert probe(gcp)
