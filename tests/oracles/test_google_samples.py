"""Samples of Google's SDKs over HTTP, with the names of the local project.

The calls and their order are those of https://github.com/googleapis/python-bigquery/tree/main/samples,
https://github.com/googleapis/python-storage/tree/main/samples/snippets,
https://github.com/GoogleCloudPlatform/python-docs-samples (cloud_scheduler, cloud_tasks, functions/billing, iam and
secretmanager), and the generated samples of billing, functions and projects in
https://github.com/googleapis/google-cloud-python/tree/main/packages. Where a sample uses a client over gRPC, the test
makes the same calls over HTTP. Public tables are replaced by the account's own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import httplib2  # type: ignore[import-untyped]  # has no types
import pytest
import requests
from google.cloud import bigquery
from google.cloud.exceptions import Forbidden, NotFound
from google.oauth2.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp  # type: ignore[import-untyped]  # has no types
from googleapiclient import discovery  # type: ignore[import-untyped]  # has no types

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.discovery import described
from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.platform.names import REGION
from shared.runtime.clock import VirtualClock
from tests.limits import HANG_S
from tests.localcloud.gcp.conftest import START, Clients
from tests.oracles.samples import GOOGLE, not_covered, played

Api = Callable[[str], Any]


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    """Return an operator's clients; the accounts have exported rows."""
    with LocalGcp(accounts=2, clock=VirtualClock(START), history_days=3, rows=10) as cloud:
        made = Clients(cloud, OPERATOR)
        yield made
        made.close()


@pytest.fixture(scope="module")
def api(clients: Clients) -> Iterator[Api]:
    """Build the client of an API from Google's discovery document."""
    made: dict[str, Any] = {}

    def build(name: str) -> Any:
        if name not in made:
            http = AuthorizedHttp(Credentials(token=OPERATOR), http=httplib2.Http(timeout=HANG_S))  # type: ignore[no-untyped-call]  # google-auth is only partly typed
            document = described(name, clients.cloud.endpoint.removeprefix("http://"))
            made[name] = discovery.build_from_document(document, http=http)
        return made[name]

    yield build
    for one in made.values():
        one.close()


@pytest.fixture
def project(clients: Clients) -> str:
    """Return the id of the local project."""
    return clients.cloud.project


@pytest.fixture
def dataset(clients: Clients) -> Iterator[str]:
    """Return the full id of a dataset that a sample creates; it is deleted after the test, as by delete_dataset.py."""
    name = f"{clients.cloud.project}.samples"
    with played(GOOGLE):  # create_dataset.py
        made = bigquery.Dataset(name)
        made.location = "US"
        assert clients.bigquery.create_dataset(made, timeout=HANG_S).dataset_id == "samples"
    yield name
    with played(GOOGLE):  # delete_dataset.py
        clients.bigquery.delete_dataset(name, delete_contents=True, not_found_ok=True)
    with played(GOOGLE), pytest.raises(NotFound):  # dataset_exists.py
        clients.bigquery.get_dataset(name)


@pytest.fixture
def exported(clients: Clients) -> str:
    """Return the full id of a table with rows, which stands for the public tables of the samples."""
    cloud = clients.cloud
    name = next(name for name in sorted(cloud.tables()) if "billing_export_v1" in name)
    return f"{cloud.project}.billing_export.{name}"


def test_datasets_of_bigquery(clients: Clients, dataset: str) -> None:
    """Samples get_dataset, list_datasets, label_dataset, update_dataset_{description,access,default_…_expiration}."""
    client = clients.bigquery
    with played(GOOGLE):
        assert dict(client.get_dataset(dataset).labels) == {}
        assert list(client.list_tables(client.get_dataset(dataset))) == []
    with played(GOOGLE):
        assert "samples" in {one.dataset_id for one in client.list_datasets()}
    with played(GOOGLE):
        found = client.get_dataset(dataset)
        found.labels = {"color": "green"}
        assert client.update_dataset(found, ["labels"]).labels == {"color": "green"}
    with played(GOOGLE):
        assert [one.dataset_id for one in client.list_datasets(filter="labels.color:green")] == ["samples"]
    with played(GOOGLE):
        found = client.get_dataset(dataset)
        found.labels["color"] = None
        assert client.update_dataset(found, ["labels"]).labels == {}
    with played(GOOGLE):
        found = client.get_dataset(dataset)
        found.description = "Updated description."
        assert client.update_dataset(found, ["description"]).description == "Updated description."
    with played(GOOGLE):
        found = client.get_dataset(dataset)
        found.default_table_expiration_ms = 24 * 60 * 60 * 1000
        updated = client.update_dataset(found, ["default_table_expiration_ms"])
        assert updated.default_table_expiration_ms == 24 * 60 * 60 * 1000
    with played(GOOGLE):
        found = client.get_dataset(dataset)
        entry = bigquery.AccessEntry(role="READER", entity_type="groupByEmail", entity_id="a-group@example.com")
        found.access_entries = [*found.access_entries, entry]
        assert entry in client.update_dataset(found, ["access_entries"]).access_entries


def test_tables_of_bigquery(clients: Clients, dataset: str) -> None:
    """Samples create_table, get_table, list_tables, table_exists, table_insert_rows, add_empty_column, delete_table."""
    client, name = clients.bigquery, f"{dataset}.people"
    schema = [
        bigquery.SchemaField("full_name", "STRING", mode="REQUIRED"),
        bigquery.SchemaField("age", "INTEGER", mode="REQUIRED"),
    ]
    with played(GOOGLE):
        assert client.create_table(bigquery.Table(name, schema=schema)).table_id == "people"
    with played(GOOGLE):
        assert (client.get_table(name).num_rows, [one.name for one in client.get_table(name).schema]) == (
            0,
            ["full_name", "age"],
        )
    with played(GOOGLE):
        assert [one.table_id for one in client.list_tables(dataset)] == ["people"]
    with not_covered("bigquery.Client.insert_rows_json"):
        client.insert_rows_json(name, [{"full_name": "Phred Phlyntstone", "age": 32}])
    with not_covered("bigquery.Client.update_table"):
        table = client.get_table(name)
        table.schema = [*table.schema, bigquery.SchemaField("phone", "STRING")]
        client.update_table(table, ["schema"])
    with not_covered("bigquery.Client.list_rows"):
        list(client.list_rows(name))
    with played(GOOGLE):
        client.delete_table(name, not_found_ok=True)
    with played(GOOGLE), pytest.raises(NotFound):
        client.get_table(name)


def test_jobs_of_bigquery(clients: Clients, dataset: str, exported: str, tmp_path: Path) -> None:
    """Samples client_query…, client_list_jobs, create_job, manage_job_*, load_table_*, copy_table, extract_table."""
    client, rows = clients.bigquery, clients.cloud.tables()[exported.rpartition(".")[2]]
    count = f"SELECT COUNT(*) AS number FROM `{exported}`"
    with played(GOOGLE):  # client_query.py
        assert [row["number"] for row in client.query_and_wait(count)] == [rows]
    with played(GOOGLE):  # client_query_w_named_params.py
        parameters = [bigquery.ScalarQueryParameter("least", "INT64", 0)]
        named = client.query_and_wait(
            f"SELECT cost FROM `{exported}` WHERE cost >= @least ORDER BY cost DESC",
            job_config=bigquery.QueryJobConfig(query_parameters=parameters),
        )
        assert list(named)
    with played(GOOGLE):  # client_query_dry_run.py
        settings = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
        assert client.query(count, job_config=settings).total_bytes_processed > 0
    with not_covered("bigquery.Client.query with a destination"):  # client_query_destination_table.py
        client.query_and_wait(count, job_config=bigquery.QueryJobConfig(destination=f"{dataset}.counted"))
    with not_covered("bigquery.Client.query with legacy SQL"):  # client_query_legacy_sql.py
        client.query_and_wait("SELECT 1", job_config=bigquery.QueryJobConfig(use_legacy_sql=True))
    with not_covered("bigquery.Client.query with DML"):  # update_with_dml.py
        client.query_and_wait("DELETE FROM " + f"`{exported}` WHERE TRUE")
    with played(GOOGLE):  # create_job.py, snippets/manage_job_get.py, snippets/manage_job_cancel.py
        job: Any = client.create_job(
            job_config={"query": {"query": count}, "labels": {"example-label": "example-value"}}
        )
        assert client.get_job(job.job_id, location=job.location).labels == {"example-label": "example-value"}
        assert client.cancel_job(job.job_id, location=job.location).state == "DONE"
    with played(GOOGLE):  # client_list_jobs.py
        assert job.job_id in {one.job_id for one in client.list_jobs(max_results=10)}
        assert list(client.list_jobs(max_results=10, all_users=True))
        assert list(client.list_jobs(max_results=10, state_filter="DONE"))
    uri = f"gs://{clients.cloud.deployment.bucket}/sample-*.json"
    as_json = bigquery.ExtractJobConfig(destination_format="NEWLINE_DELIMITED_JSON")  # type: ignore[no-untyped-call]  # the library is only partly typed
    with not_covered("bigquery.Client.extract_table to JSON"):  # https://cloud.google.com/bigquery/docs/exporting-data
        client.extract_table(exported, uri, location="US", job_config=as_json).result()
    file = tmp_path / "people.csv"
    file.write_text("name,age\nWylma,29\n", encoding="utf-8")
    with not_covered("bigquery.Client.load_table_from_file"), file.open("rb") as data:  # load_table_file.py
        settings_of_load = bigquery.LoadJobConfig(source_format="CSV", skip_leading_rows=1, autodetect=True)
        client.load_table_from_file(data, f"{dataset}.people", job_config=settings_of_load).result()
    with not_covered("bigquery.Client.load_table_from_uri"):  # load_table_uri_json.py
        client.load_table_from_uri(
            f"gs://{clients.cloud.deployment.bucket}/us-states.json",
            f"{dataset}.states",
            location="US",
            job_config=bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON"),
        ).result()
    with not_covered("bigquery.Client.copy_table"):  # copy_table.py
        client.copy_table(exported, f"{dataset}.copied").result()


def test_buckets_of_cloud_storage(clients: Clients) -> None:
    """Samples storage_{create,list,get,delete}_bucket…, labels, lifecycle, versioning, retention, IAM of a bucket."""
    client = clients.storage
    with played(GOOGLE):
        assert client.create_bucket("a-bucket-of-samples").name == "a-bucket-of-samples"
    with played(GOOGLE):
        assert "a-bucket-of-samples" in {one.name for one in client.list_buckets()}
    with played(GOOGLE):
        bucket = client.get_bucket("a-bucket-of-samples")
        bucket.labels = {**bucket.labels, "example": "label"}
        bucket.patch()
        assert client.get_bucket("a-bucket-of-samples").labels == {"example": "label"}
    with played(GOOGLE):
        bucket = client.get_bucket("a-bucket-of-samples")
        bucket.add_lifecycle_delete_rule(age=2)
        bucket.patch()
        assert [rule["condition"]["age"] for rule in bucket.lifecycle_rules] == [2]
    with played(GOOGLE):
        bucket = client.get_bucket("a-bucket-of-samples")
        bucket.versioning_enabled = True
        bucket.patch()
    with played(GOOGLE):
        bucket = client.bucket("a-bucket-of-samples")
        bucket.reload()
        assert bucket.retention_policy_locked is None
    with played(GOOGLE):
        bucket = client.get_bucket("a-bucket-of-samples")
        bucket.default_kms_key_name = None
        bucket.patch()
    with not_covered("storage.Bucket.get_iam_policy"):
        client.bucket("a-bucket-of-samples").get_iam_policy(requested_policy_version=3)
    with played(GOOGLE):
        client.get_bucket("a-bucket-of-samples").delete()


def test_objects_of_cloud_storage(clients: Clients, tmp_path: Path) -> None:
    """Samples storage_{upload,download,list,get_metadata,copy,move,compose,rename,change,delete}_…."""
    client, source = clients.storage, tmp_path / "source.txt"
    source.write_bytes(b"contents of a file")
    with played(GOOGLE):
        bucket = client.create_bucket("objects-of-samples")
    with played(GOOGLE):
        bucket.blob("folder/one.txt").upload_from_filename(str(source), if_generation_match=0)
    with played(GOOGLE):
        bucket.blob("folder/two.txt").upload_from_string("from memory")
    with played(GOOGLE):
        assert bucket.blob("folder/two.txt").download_as_bytes() == b"from memory"
    with played(GOOGLE):
        target = tmp_path / "range"
        bucket.blob("folder/one.txt").download_to_filename(str(target), start=0, end=7)
        assert target.read_bytes() == b"contents"
    with played(GOOGLE):
        assert [one.name for one in client.list_blobs("objects-of-samples")] == ["folder/one.txt", "folder/two.txt"]
    with played(GOOGLE):
        blobs = client.list_blobs("objects-of-samples", prefix="", delimiter="/")
        assert (list(blobs), blobs.prefixes) == ([], {"folder/"})
    with played(GOOGLE):
        found: Any = bucket.get_blob("folder/one.txt")
        assert (found.size, found.event_based_hold) == (18, None)
    with played(GOOGLE):
        found.metadata = {"color": "Red", "name": "Test"}
        found.patch(if_metageneration_match=found.metageneration)
    with played(GOOGLE):
        copy: Any = bucket.copy_blob(bucket.blob("folder/one.txt"), bucket, "copy.txt", if_generation_match=0)
        assert copy.metadata == {"color": "Red", "name": "Test"}
    with played(GOOGLE):
        bucket.copy_blob(bucket.blob("copy.txt"), bucket, "moved.txt", if_generation_match=0)
        bucket.delete_blob("copy.txt")
    with played(GOOGLE):
        assert bucket.rename_blob(bucket.blob("moved.txt"), "renamed.txt").name == "renamed.txt"
    with played(GOOGLE):
        whole = bucket.blob("whole.txt")
        whole.content_type = "text/plain"
        whole.compose([bucket.blob("folder/one.txt"), bucket.blob("folder/two.txt")], if_generation_match=0)
        assert whole.download_as_bytes() == b"contents of a filefrom memory"
    with played(GOOGLE):
        blob = bucket.blob("whole.txt")
        blob.reload()
        blob.update_storage_class("NEARLINE", if_generation_match=blob.generation)
        assert blob.storage_class == "NEARLINE"
    for held in (True, False):
        with played(GOOGLE):
            blob = bucket.blob("whole.txt")
            blob.reload()
            blob.event_based_hold = held
            blob.patch(if_metageneration_match=blob.metageneration)
        if held:
            with pytest.raises(Forbidden):
                blob.delete()
    blobs_to_patch = list(bucket.list_blobs(prefix="folder/"))
    with not_covered("storage.Client.batch"), client.batch():
        for one in blobs_to_patch:
            one.metadata = {"your-metadata-key": "your-metadata-value"}
            one.patch()
    with played(GOOGLE):
        found = [one.name for one in client.list_blobs("objects-of-samples", versions=True)]
        assert found == [one.name for one in bucket.list_blobs()]
    with played(GOOGLE):
        for one in list(bucket.list_blobs()):
            one.reload()
            one.delete(if_generation_match=one.generation)
        bucket.delete()


def test_billing_accounts(clients: Clients, api: Api, project: str) -> None:
    """The generated samples of Cloud Billing, and functions/billing."""
    billing, name = api("cloudbilling.v1"), f"billingAccounts/{next(iter(clients.cloud.world.billing.accounts))}"
    accounts, projects = billing.billingAccounts(), billing.projects()
    with played(GOOGLE):
        assert name in {one["name"] for one in accounts.list().execute()["billingAccounts"]}
    with played(GOOGLE):
        assert accounts.get(name=name).execute()["name"] == name
    with played(GOOGLE):
        assert accounts.getIamPolicy(resource=name).execute()["etag"]
    with played(GOOGLE):
        asked = {"permissions": ["billing.accounts.get"]}
        assert accounts.testIamPermissions(resource=name, body=asked).execute() == asked
    with played(GOOGLE):
        assert projects.getBillingInfo(name=f"projects/{project}").execute()["billingEnabled"]
    with not_covered("cloudbilling.projects.updateBillingInfo"):
        projects.updateBillingInfo(name=f"projects/{project}", body={"billingAccountName": ""}).execute()
    with not_covered("cloudbilling.billingAccounts.projects.list"):
        accounts.projects().list(name=name).execute()
    with not_covered("cloudbilling.billingAccounts.create"):
        accounts.create(body={"displayName": "new"}).execute()
    with not_covered("cloudbilling.billingAccounts.patch"):
        accounts.patch(name=name, body={"displayName": "new"}).execute()
    with not_covered("cloudbilling.billingAccounts.setIamPolicy"):
        accounts.setIamPolicy(resource=name, body={"policy": {}}).execute()
    with not_covered("cloudbilling.services.list"):
        billing.services().list().execute()
    with not_covered("compute.instances.list"):
        api("compute.v1").instances().list(project=project, zone="us-west1-b").execute()


def test_projects_and_service_accounts(api: Api, project: str) -> None:
    """iam/cloud-client: get_policy, set_policy, iam_check_permissions, {list,create}_service_account."""
    name, accounts = f"projects/{project}", api("iam.v1").projects().serviceAccounts()
    for version in ("cloudresourcemanager.v1", "cloudresourcemanager.v3"):
        projects = api(version).projects()
        resource = project if version.endswith("v1") else name
        wanted = {"permissions": ["resourcemanager.projects.get"]}
        with played(GOOGLE):
            policy = projects.getIamPolicy(resource=resource, body={}).execute()
        assert policy["bindings"]
        with played(GOOGLE):
            assert projects.testIamPermissions(resource=resource, body=wanted).execute() == wanted
        with played(GOOGLE):
            assert (
                projects.setIamPolicy(resource=resource, body={"policy": policy}).execute()["bindings"]
                == policy["bindings"]
            )
    with played(GOOGLE):
        found = accounts.list(name=name).execute()["accounts"]
    with played(GOOGLE):
        assert accounts.get(name=found[0]["name"]).execute() == found[0]
    with played(GOOGLE):
        body = {"accountId": "sample-account", "serviceAccount": {"displayName": "Sample"}}
        assert accounts.create(name=name, body=body).execute()["displayName"] == "Sample"
    with not_covered("iam.projects.roles.list"):
        api("iam.v1").projects().roles().list(parent=name).execute()


def test_queues_and_tasks(api: Api, project: str) -> None:
    """cloud_tasks/snippets: create_queue, list_queues, create_http_task, create_http_task_with_token, delete_queue."""
    place = f"projects/{project}/locations/{REGION}"
    queues, name = api("cloudtasks.v2").projects().locations().queues(), f"{place}/queues/samples"
    sent = {
        "httpMethod": "POST",
        "url": "https://example.com/task_handler",
        "headers": {"Content-type": "application/json"},
        "body": base64.b64encode(json.dumps({"hello": "world"}).encode()).decode(),
    }
    with played(GOOGLE):
        assert queues.create(parent=place, body={"name": name}).execute()["state"] == "RUNNING"
    with played(GOOGLE):
        assert name in {one["name"] for one in queues.list(parent=place).execute()["queues"]}
    with played(GOOGLE):
        later = {"httpRequest": sent, "scheduleTime": "2026-03-10T12:01:00Z", "dispatchDeadline": "15s"}
        body = {"task": {**later, "name": f"{name}/tasks/one"}}
        assert queues.tasks().create(parent=name, body=body).execute()["name"] == f"{name}/tasks/one"
    with played(GOOGLE):
        email = api("iam.v1").projects().serviceAccounts().list(name=f"projects/{project}").execute()["accounts"][0]
        token = {"serviceAccountEmail": email["email"], "audience": "https://example.com"}
        body = {"task": {**later, "httpRequest": {**sent, "oidcToken": token}}}
        assert queues.tasks().create(parent=name, body=body).execute()["name"].startswith(f"{name}/tasks/")
    with played(GOOGLE):
        assert queues.delete(name=name).execute() == {}


def test_jobs_and_functions(api: Api, project: str) -> None:
    """cloud_scheduler/snippets: create_job, delete_job; the generated samples that list and get jobs and functions."""
    place = f"projects/{project}/locations/{REGION}"
    jobs, functions = (api(one).projects().locations() for one in ("cloudscheduler.v1", "cloudfunctions.v2"))
    jobs = jobs.jobs()
    with played(GOOGLE):
        (job,) = jobs.list(parent=place).execute()["jobs"]
    with played(GOOGLE):
        assert jobs.get(name=job["name"]).execute()["schedule"] == job["schedule"]
    with played(GOOGLE):
        assert jobs.pause(name=job["name"], body={}).execute()["state"] == "PAUSED"
    with played(GOOGLE):
        assert jobs.resume(name=job["name"], body={}).execute()["state"] == "ENABLED"
    target = {"appEngineRouting": {"service": "default"}, "relativeUri": "/log_payload", "httpMethod": "POST"}
    with not_covered("cloudscheduler.projects.locations.jobs.create"):
        body = {"appEngineHttpTarget": target, "schedule": "* * * * *", "timeZone": "America/Los_Angeles"}
        jobs.create(parent=place, body=body).execute()
    with not_covered("cloudscheduler.projects.locations.jobs.delete"):
        jobs.delete(name=job["name"]).execute()
    with played(GOOGLE):
        (function,) = functions.functions().list(parent=place).execute()["functions"]
    with played(GOOGLE):
        assert functions.functions().get(name=function["name"]).execute()["state"] == "ACTIVE"
    with not_covered("cloudfunctions.projects.locations.functions.generateUploadUrl"):
        functions.functions().generateUploadUrl(parent=place, body={}).execute()
    with not_covered("cloudfunctions.projects.locations.functions.create"):
        functions.functions().create(parent=place, functionId="new", body={}).execute()
    with not_covered("cloudfunctions.projects.locations.runtimes.list"):
        functions.runtimes().list(parent=place).execute()


def test_secrets(clients: Clients, project: str) -> None:
    """secretmanager/snippets: create_secret, add_secret_version, access_secret_version, get_secret, list_secrets."""
    secrets, data = f"v1/projects/{project}/secrets", b"payload"

    def answered(response: requests.Response) -> Any:
        response.raise_for_status()
        return response.json()

    with played(GOOGLE):
        made = answered(clients.post(f"{secrets}?secretId=sample", {"replication": {"automatic": {}}}))
        assert made["name"].endswith("/secrets/sample")
    with played(GOOGLE):
        payload = {"data": base64.b64encode(data).decode(), "dataCrc32c": str(google_crc32c.value(data))}
        added = answered(clients.post(f"{secrets}/sample:addVersion", {"payload": payload}))
        assert added["name"].endswith("/versions/1")
    with played(GOOGLE):
        assert answered(clients.get(f"{secrets}/sample/versions/latest:access"))["payload"] == payload
    for call, path in (
        ("secretmanager.projects.secrets.get", "/sample"),
        ("secretmanager.projects.secrets.list", ""),
        ("secretmanager.projects.secrets.versions.list", "/sample/versions"),
    ):
        with not_covered(call):
            answered(clients.get(f"{secrets}{path}"))
