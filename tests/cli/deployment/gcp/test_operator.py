"""The operator's commands on GCP: place, permissions, preflight, invoke, verification and removal."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from requests.exceptions import ConnectionError as Broken

from cli.deployment.gcp import invoke as gcp_invoke
from cli.deployment.gcp import preflight as gcp_preflight
from cli.deployment.gcp import rights as gcp_rights
from cli.deployment.gcp.operator import GcpOperator
from cli.deployment.gcp.rest import reach
from cli.deployment.model import Change, Finding, OperatorError, Removal
from cli.deployment.terraform.root_module import INFRA
from cli.local.gcp import runtime
from cli.main import main
from gcp_function.targets import EXPORT_LOCATIONS
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.context import Answer, Context
from localcloud.gcp.errors import invalid
from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.platform.names import ORGANIZATION
from localcloud.gcp.services.exports import REGIONS
from localcloud.gcp.state import Behavior
from tests.limits import HANG_S

STATE = "known_billing_accounts.json"
Told = list[str]
Opener = Callable[..., LocalGcp]


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


def faults_of(call: Callable[[], Any]) -> str:
    """Return the problems and remedies with which a call is refused."""
    with pytest.raises(OperatorError) as caught:
        call()
    return " | ".join(f"{one.what} → {one.remedy}" for one in caught.value.problems)


def finding(found: Sequence[Finding], what: str) -> Finding:
    """Return the only finding that starts with a text."""
    (one,) = [one for one in found if one.what.startswith(what)]
    return one


def wrong(found: Sequence[Finding]) -> dict[str, str]:
    """Return the findings that are not well, with their details."""
    return {one.what: one.detail for one in found if one.ok is False}


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Callable[[LocalGcp], None]:
    """Return a function that sets a local cloud's variables for the operator."""

    def take(cloud: LocalGcp) -> None:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)

    return take


@pytest.fixture
def opened(enter: Callable[[LocalGcp], None]) -> Iterator[Opener]:
    """Open local clouds without running their function, with the operator's variables set."""
    with ExitStack() as stack:

        def opener(**options: Any) -> LocalGcp:
            cloud = stack.enter_context(LocalGcp(**{"accounts": 2, "done": 1, **options}))
            enter(cloud)
            return cloud

        yield opener


@pytest.fixture
def gcp(opened: Opener) -> LocalGcp:
    """Return a deployment whose function is not run."""
    return opened()


@pytest.fixture(scope="module")
def serving() -> Iterator[LocalGcp]:
    """Return a deployment whose function runs in its platform's runtime."""
    with LocalGcp(accounts=2, done=1, history_days=1, rows=2, runtime=runtime) as cloud:
        cloud.set_ingress("ALLOW_ALL")
        yield cloud


@pytest.fixture
def running(serving: LocalGcp, enter: Callable[[LocalGcp], None]) -> Iterator[LocalGcp]:
    """Return the running deployment, and restore it after the test."""
    enter(serving)
    job = f"projects/{serving.project}/locations/us-central1/jobs/tailpipe-exports"
    scheduled = serving.resource(job)
    yield serving
    for thread in threading.enumerate():
        if thread.name == "scheduler":
            thread.join(HANG_S)  # a run goes on for a moment after its report can be read
    serving.clear_faults()
    serving.set_ingress("ALLOW_ALL")
    serving.put_resource(job, scheduled)
    serving.delete_objects(serving.deployment.state_bucket)


def at(given: Mapping[str, Any] | None = None, **options: Any) -> GcpOperator:
    """Open the project's deployment."""
    return GcpOperator.open(given or {}, **options)


def silently(_line: str) -> None:
    """Ignore the progress of a command."""


# Who and where


def test_place_shows_project_organization_and_caller(gcp: LocalGcp) -> None:
    """The project's number, organization, caller and region are read live."""
    place = at().place
    assert (place.id, place.kind, place.caller, place.region) == (gcp.project, "project", OPERATOR, "us-central1")
    assert place.details["organization"] == ORGANIZATION.partition("/")[2]
    assert place.details["project number"].isdigit()


def test_missing_unknown_or_deleted_project_is_refused(gcp: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its remedy."""
    assert "gcloud projects create" in faults_of(lambda: at({"project_id": "no-such-project"}))
    gcp.delete_project()
    told = faults_of(at)
    assert "DELETE_REQUESTED" in told
    assert f"gcloud projects undelete {gcp.project}" in told
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    monkeypatch.delenv("CLOUDSDK_CORE_PROJECT")
    assert "GOOGLE_CLOUD_PROJECT" in faults_of(at)


def test_overrides_must_be_loopback_and_get_no_google_token(gcp: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Google token is not sent to an overridden endpoint."""
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING", "https://billing.example.com/")
    assert "does not name a loopback address" in faults_of(at)
    monkeypatch.delenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING")
    gcp.clear_calls()
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "ya29.of-another-user")
    told = faults_of(at)
    assert "Unset GOOGLE_OAUTH_ACCESS_TOKEN" in told
    assert "of-another-user" not in told
    assert gcp.calls.count() == 0


def test_project_with_disabled_apis_is_accepted(opened: Opener) -> None:
    """Before the first deployment there is no function, which is not an error."""
    cloud = opened(bare=True)
    cloud.disable_api("cloudfunctions.googleapis.com")
    operator = at()
    assert operator.deployed() is None
    assert operator.detected({})["organization_id"] == ORGANIZATION.partition("/")[2]


def test_detected_values_are_variables_of_the_module(gcp: LocalGcp) -> None:
    """The dataset's location is that of the live dataset."""
    operator = at()
    text = (INFRA / "gcp" / "variables.tf").read_text(encoding="utf-8")
    found = operator.detected({})
    assert all(f'variable "{name}"' in text for name in found)
    assert (found["project_id"], found["dataset_location"]) == (gcp.project, "US")
    assert "ingress" not in found  # the address stays internal unless more is requested
    assert "organization_id" not in operator.detected({"billing_accounts": ["012345-6789AB-CDEF01"]})


# Rights


def test_doctor_shows_a_missing_permission_with_the_command_that_grants_it(gcp: LocalGcp) -> None:
    """The exit code is 0 with all permissions and 1 otherwise."""
    assert tailpipe("doctor", "gcp").exit_code == 0
    gcp.deny("cloudfunctions.functions.create", identity=OPERATOR)
    gcp.deny("resourcemanager.organizations.setIamPolicy", identity=OPERATOR)
    as_text, as_json = tailpipe("doctor", "gcp"), tailpipe("doctor", "gcp", "--json")
    assert (as_text.exit_code, as_json.exit_code) == (1, 1)
    rights = {one["right"]: one for one in json.loads(as_json.stdout)["rights"]}
    missing = [name for name, one in rights.items() if one["present"] is False]
    assert missing == [
        f"cloudfunctions.functions.create on project {gcp.project}",
        "resourcemanager.organizations.setIamPolicy on organization 123456789012",
    ]
    remedy = rights[missing[0]]["remedy"]
    assert f"gcloud projects add-iam-policy-binding {gcp.project} --member=user:{OPERATOR}" in remedy
    assert "gcloud organizations add-iam-policy-binding 123456789012" in rights[missing[1]]["remedy"]
    assert "2 missing" in as_text.stderr


def test_permissions_that_cannot_be_tested_are_unknown(gcp: LocalGcp) -> None:
    """A denied test is neither granted nor missing."""
    gcp.fail("cloudresourcemanager.organizations.testIamPermissions", 403, "forbidden", times=None)
    operator = at()
    assert [one.ok for one in operator.rights() if "organization" in one.what] == [None]


def test_untestable_permission_does_not_hide_the_others(gcp: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is split until only the untestable permission is unknown."""
    unfit = "storage.objects.list"
    ask = gcp.handlers["cloudresourcemanager.projects.testIamPermissions"]

    def strict(context: Context) -> Answer:
        if unfit in context.body["permissions"]:
            raise invalid(f"Permission {unfit} is not valid for this resource.")
        return ask(context)

    monkeypatch.setitem(gcp.handlers, "cloudresourcemanager.projects.testIamPermissions", strict)
    operator = at()
    found = [one for one in operator.rights() if "on project" in one.what]
    assert [one.what for one in found if one.ok is not True] == [f"{unfit} on project {gcp.project}"]
    assert finding(found, unfit).ok is None


def test_given_billing_accounts_are_checked_instead_of_the_organization(gcp: LocalGcp) -> None:
    """Permissions are needed on each of them."""
    account = next(iter(gcp.accounts()))
    operator = at({"billing_accounts": [account]})
    found = operator.rights()
    assert all(one.ok for one in found)
    assert {one.what for one in found if "organization" in one.what} == set()
    assert f"billing.accounts.setIamPolicy on billing account {account}" in {one.what for one in found}


@pytest.mark.parametrize(("scope", "file"), gcp_rights.ROLE_FILES.items())
def test_shipped_role_has_exactly_the_permissions_of_the_list(scope: str, file: str) -> None:
    """The role file is that beside operator.yaml."""
    path = gcp_rights.FOLDER / file
    assert path.read_text(encoding="utf-8") == gcp_rights.written(gcp_rights.role(scope))
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["includedPermissions"] == gcp_rights.actions(scope)


def test_shipped_role_of_infrastructure_manager_has_exactly_the_permissions_of_its_list() -> None:
    """None of them is in the roles of Terraform's operator, except those on objects of the state's bucket."""
    path = gcp_rights.FOLDER / gcp_rights.NATIVE_ROLE_FILE
    written = gcp_rights.written(gcp_rights.native_role(), gcp_rights.NATIVE_FILE)
    assert path.read_text(encoding="utf-8") == written
    assert yaml.safe_load(written)["includedPermissions"] == gcp_rights.native_actions()
    assert not [one for one in gcp_rights.actions("project") if one.startswith("config.")]


# For each resource type, its prefix in permissions and the verbs besides create, get and delete.
PREFIXES = {
    "google_artifact_registry_repository": "artifactregistry.repositories",
    "google_artifact_registry_repository_iam_member": "artifactregistry.repositories/iam",
    "google_bigquery_dataset": "bigquery.datasets",
    "google_bigquery_dataset_iam_member": "bigquery.datasets/iam",
    "google_billing_account_iam_member": "billing.accounts/iam",
    "google_cloud_run_v2_service_iam_member": "run.services/iam",
    "google_cloud_scheduler_job": "cloudscheduler.jobs",
    "google_cloudfunctions2_function": "cloudfunctions.functions",
    "google_iam_workload_identity_pool": "iam.googleapis.com/workloadIdentityPools",
    "google_iam_workload_identity_pool_provider": "iam.googleapis.com/workloadIdentityPoolProviders",
    "google_logging_metric": "logging.logMetrics",
    "google_logging_project_bucket_config": "logging.buckets",
    "google_logging_project_sink": "logging.sinks",
    "google_monitoring_alert_policy": "monitoring.alertPolicies",
    "google_monitoring_dashboard": "monitoring.dashboards",
    "google_monitoring_notification_channel": "monitoring.notificationChannels",
    "google_logging_organization_sink": "logging.sinks",
    "google_logging_billing_account_sink": "logging.sinks",
    "google_cloud_tasks_queue": "cloudtasks.queues",
    "google_cloud_tasks_queue_iam_member": "cloudtasks.queues/iam",
    "google_storage_bucket_iam_member": "storage.buckets/iam",
    "google_pubsub_subscription": "pubsub.subscriptions",
    "google_pubsub_subscription_iam_member": "pubsub.subscriptions/iam",
    "google_pubsub_topic": "pubsub.topics",
    "google_pubsub_topic_iam_member": "pubsub.topics/iam",
    "google_organization_iam_member": "resourcemanager.organizations/iam",
    "google_project_iam_custom_role": "iam.roles",
    "google_project_iam_member": "resourcemanager.projects/iam",
    "google_project_service": "serviceusage.services/enable",
    "google_service_account": "iam.serviceAccounts",
    "google_service_account_iam_member": "iam.serviceAccounts/iam",
    "google_storage_bucket": "storage.buckets",
    "google_storage_bucket_object": "storage.objects",
}


def test_list_has_permissions_for_every_resource_of_the_module() -> None:
    """Terraform can create, read, change and delete each type."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((INFRA / "gcp").glob("*.tf")))
    types = {kind for kind in re.findall(r'^resource "(\w+)"', text, re.MULTILINE) if kind != "terraform_data"}
    assert types == set(PREFIXES)
    held = {action for scope in ("project", "organization", "billing_account") for action in gcp_rights.actions(scope)}
    for kind in types:
        prefix, _, way = PREFIXES[kind].partition("/i") if PREFIXES[kind].endswith("/iam") else (PREFIXES[kind], "", "")
        verbs = ("getIamPolicy", "setIamPolicy") if way else ("create", "get", "delete")
        if prefix.endswith("/enable"):
            prefix, verbs = prefix.removesuffix("/enable"), ("get", "enable")
        assert {f"{prefix}.{verb}" for verb in verbs} <= held, kind


def test_commands_use_only_permissions_of_the_list(running: LocalGcp) -> None:
    """Each is in operator.yaml with its scope."""
    running.clear_calls()
    operator = at(sleep=lambda _seconds: None)
    operator.detected({})
    operator.rights()
    operator.preflight({})
    operator.surroundings({})
    operator.make_backend(silently)
    kinds = (
        "google_service_account",
        "google_bigquery_dataset",
        "google_monitoring_alert_policy",
        "google_monitoring_dashboard",
    )
    values = {"account_id": "tailpipe-connector", "dataset_id": "billing_export", "display_name": "x"}
    operator.adoptions([Change(kind, kind, ("create",), values) for kind in kinds], silently)
    operator.invoke({}, silently)
    operator.verify()
    operator.onboarding()
    operator.stop_schedule(silently)
    operator.clear(Removal(delete_exports=True), silently)
    used = {right for call in running.calls.select(identity=OPERATOR) for right, _ in call.rights}
    allowed = {action for scope in ("project", "organization") for action in gcp_rights.actions(scope)}
    allowed |= {"billing.accounts.get"}  # included in every role of Google's with billing.accounts.list
    assert used - allowed == set()
    assert {"iam.serviceAccounts.getOpenIdToken", "cloudscheduler.jobs.pause", "billing.accounts.list"} <= used


def test_checked_apis_are_those_of_the_module() -> None:
    """The list equals services.tf."""
    text = (INFRA / "gcp" / "services.tf").read_text(encoding="utf-8")
    named = set(re.findall(r'"([a-z]+)"', text)) - {"this"}
    assert named == set(gcp_preflight.apis({"notify_secret": "projects/p/secrets/s", "fleet": True}))
    assert named - set(gcp_preflight.apis({})) == {"secretmanager", "cloudtasks"}


# Room


def test_empty_project_has_no_obstacle(opened: Opener) -> None:
    """Disabled APIs and missing resources are reported."""
    cloud = opened(bare=True)
    cloud.disable_api("cloudscheduler.googleapis.com")
    operator = at()
    found = operator.preflight({})
    assert wrong(found) == {}
    assert "cloudscheduler" in finding(found, "the project's APIs").detail
    assert finding(found, "function").detail == "will be created"


def test_every_collision_is_reported_with_a_remedy(gcp: LocalGcp) -> None:
    """This covers foreign buckets, deleted pools and log buckets, other locations, and a missing billing account."""
    deployment = gcp.deployment
    world = gcp.world
    bucket = world.buckets.all[deployment.bucket]
    bucket.document["projectNumber"], bucket.project = "1", "another-project"
    pool = f"projects/{gcp.project}/locations/global/workloadIdentityPools/tailpipe-pool"
    gcp.put_resource(pool, {**gcp.resource(pool), "state": "DELETED"})
    logs = f"projects/{gcp.project}/locations/europe-west1/buckets/tailpipe-exports"
    gcp.put_resource(logs, {"lifecycleState": "DELETE_REQUESTED"})
    gcp.unlink_billing()
    given = {"dataset_location": "EU", "region": "europe-west1"}
    operator = at(given)
    found = operator.preflight(given)
    assert set(wrong(found)) == {
        f"bucket {deployment.bucket}",
        "dataset billing_export",
        "function tailpipe-exports",
        "log bucket tailpipe-exports",
        "the project is billed",
        "workload identity pool tailpipe-pool",
    }
    assert "--var export_bucket=" in finding(found, f"bucket {deployment.bucket}").remedy
    assert "--var dataset_location=US" in finding(found, "dataset").remedy
    assert "undelete tailpipe-pool" in finding(found, "workload identity pool").remedy
    assert "--var region=us-central1" in finding(found, "function").remedy


@pytest.mark.parametrize("location", ["europe-west1", "EU", "us-east4"])
def test_existing_dataset_in_a_supported_location_is_adopted(opened: Opener, location: str) -> None:
    """For a region, the finding says that older data is backfilled once, if at all."""
    opened(location=location)
    operator = at()
    found = operator.detected({})
    assert found["dataset_location"] == location
    dataset = finding(operator.preflight(found), "dataset")
    assert (dataset.ok, "first switched on" in dataset.detail) == (True, location != "EU")


def test_existing_dataset_in_an_unsupported_location_is_refused(opened: Opener) -> None:
    """The remedy is another name; the existing dataset is unchanged."""
    opened(location="europe-southwest1", done=0)
    operator = at()
    assert "dataset_location" not in operator.detected({})
    dataset = finding(operator.preflight({}), "dataset")
    assert dataset.ok is False
    assert "dataset_id" in dataset.remedy


def test_module_function_and_local_cloud_have_the_same_regions() -> None:
    """They are the regions to which Cloud Billing exports."""
    text = (INFRA / "gcp" / "variables.tf").read_text(encoding="utf-8")
    listed = text.partition('variable "dataset_location"')[2].partition("contains([")[2].partition("]")[0]
    named = {one.upper() for one in re.findall(r'"([A-Za-z0-9-]+)"', listed)}
    assert named == EXPORT_LOCATIONS == {one.upper() for one in REGIONS} | {"US", "EU"}


def test_incomplete_deployment_and_old_scripts_are_reported(gcp: LocalGcp) -> None:
    """The first is continued, the second adopted."""
    gcp.delete_resource(gcp.deployment.function)
    operator = at()
    assert "interrupted" in finding(operator.preflight({}), "function").detail
    gcp.delete_resource(f"projects/{gcp.project}/serviceAccounts/{gcp.deployment.identity}")
    assert "adopted" in finding(operator.preflight({}), "resources of an earlier setup").detail


def test_second_deployment_in_a_project_is_refused(gcp: LocalGcp) -> None:
    """Even with another name, it would share service accounts, buckets and dataset with the first."""
    given = {"function_name": "another"}
    operator = at(given)
    found = finding(operator.preflight(given), "no other deployment")
    assert (found.ok, found.detail) == (False, "function tailpipe-exports is one")
    assert "--var function_name=tailpipe-exports" in found.remedy


# Terraform's state


def test_state_bucket_is_private_versioned_and_marked(opened: Opener) -> None:
    """It is created once, restored by a second call, and refused if it belongs to another project."""
    cloud = opened(bare=True)
    told: Told = []
    operator = at()
    bucket = operator.backend().configuration["bucket"]
    assert not operator.backend_exists()
    operator.make_backend(told.append)
    assert operator.backend_exists()
    document = cloud.world.buckets.all[bucket].document
    document["versioning"] = {"enabled": False}
    operator.make_backend(told.append)
    document = cloud.world.buckets.all[bucket].document
    assert document["versioning"] == {"enabled": True}
    assert document["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert document["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
    cloud.world.buckets.all[bucket].project = "another-project"
    document["projectNumber"] = "1"
    assert "--local-state" in faults_of(operator.backend_exists)
    assert "another project" in faults_of(lambda: operator.make_backend(told.append))


def test_existing_resources_have_an_import_id(gcp: LocalGcp) -> None:
    """Deleted and foreign resources have none."""
    project = gcp.project
    role = f"projects/{project}/roles/tailpipeExportsRunJobs"
    gcp.put_resource(role, {**gcp.resource(role), "deleted": True})
    gcp.put_resource(f"projects/{project}/dashboards/2", {"displayName": "Somebody else's", "labels": {}})
    planned: dict[str, tuple[str, dict[str, Any]]] = {
        "google_storage_bucket.export": ("google_storage_bucket", {"name": gcp.deployment.bucket}),
        "google_storage_bucket.source": ("google_storage_bucket", {"name": f"tailpipe-source-{project}"}),
        "google_bigquery_dataset.export": ("google_bigquery_dataset", {"dataset_id": "billing_export"}),
        "google_service_account.connector": ("google_service_account", {"account_id": "tailpipe-connector"}),
        "google_cloudfunctions2_function.this": (
            "google_cloudfunctions2_function",
            {"location": "us-central1", "name": "tailpipe-exports"},
        ),
        "google_cloud_scheduler_job.this": (
            "google_cloud_scheduler_job",
            {"region": "us-central1", "name": "tailpipe-exports"},
        ),
        "google_logging_metric.runs": ("google_logging_metric", {"name": "tailpipe_exports_runs_ok"}),
        "google_project_iam_custom_role.this": (
            "google_project_iam_custom_role",
            {"role_id": "tailpipeExportsRunJobs"},
        ),
        "google_monitoring_alert_policy.this": (
            "google_monitoring_alert_policy",
            {"display_name": "tailpipe-exports: a run failed"},
        ),
        "google_monitoring_dashboard.this": (
            "google_monitoring_dashboard",
            {"dashboard_json": json.dumps({"displayName": "Tailpipe Exports: tailpipe-exports"})},
        ),
        "google_monitoring_dashboard.another": (
            "google_monitoring_dashboard",
            {"dashboard_json": json.dumps({"displayName": "Tailpipe Exports: another"})},
        ),
        "google_monitoring_dashboard.unknown": ("google_monitoring_dashboard", {}),
        "google_monitoring_dashboard.foreign": (
            "google_monitoring_dashboard",
            {"dashboard_json": json.dumps({"displayName": "Somebody else's"})},
        ),
        "google_project_iam_member.this": ("google_project_iam_member", {"role": "roles/browser"}),
        "google_iam_workload_identity_pool_provider.tailpipe": (
            "google_iam_workload_identity_pool_provider",
            {"workload_identity_pool_provider_id": "tailpipe-provider"},
        ),
    }
    changes = [Change(address, kind, ("create",), after) for address, (kind, after) in planned.items()]
    operator = at()
    found = {one.address: one.id for one in operator.adoptions(changes, silently)}
    assert found == {
        "google_storage_bucket.export": f"{project}/{gcp.deployment.bucket}",
        "google_bigquery_dataset.export": f"projects/{project}/datasets/billing_export",
        "google_service_account.connector": f"projects/{project}/serviceAccounts/{gcp.deployment.connector}",
        "google_cloudfunctions2_function.this": gcp.deployment.function,
        "google_cloud_scheduler_job.this": f"projects/{project}/locations/us-central1/jobs/tailpipe-exports",
        "google_logging_metric.runs": "tailpipe_exports_runs_ok",
        "google_monitoring_alert_policy.this": f"projects/{project}/alertPolicies/2",
        "google_monitoring_dashboard.this": f"projects/{project}/dashboards/1",
    }


# A call


def test_function_that_cannot_be_read_is_not_reported_as_missing(running: LocalGcp) -> None:
    """The disabled API or the missing permission is reported."""
    running.disable_api("cloudfunctions.googleapis.com")
    try:
        off = CliRunner().invoke(main, ["onboarding", "gcp"])
    finally:
        running.enable_api("cloudfunctions.googleapis.com")
    running.deny("cloudfunctions.functions.list", identity=OPERATOR)
    try:
        refused = CliRunner().invoke(main, ["invoke", "gcp"])
    finally:
        running.allow("cloudfunctions.functions.list")
    assert (off.exit_code, refused.exit_code) == (1, 1)
    assert "the Cloud Functions API is off" in off.stderr
    assert "gcloud services enable cloudfunctions.googleapis.com --project" in off.stderr
    assert "cannot be seen" in refused.stderr
    assert "tailpipe-exports doctor gcp" in refused.stderr
    assert "no function" not in off.stderr + refused.stderr


def test_invoke_runs_the_function_with_the_given_options(running: LocalGcp) -> None:
    """This covers the report, its exit code, a dry run and one scope."""
    whole = tailpipe("invoke", "gcp", "--json")
    report = json.loads(whole.stdout)
    assert (whole.exit_code, report["status"]) == (0, "ok"), whole.output
    # The response has at most fifty actions, so the document is the stored report.
    assert len(report["actions"]) == sum(sum(one.values()) for one in report["outcomes"].values()) > 50
    account = next(iter(running.accounts()))
    running.delete_copy(account, next(name for name in running.copies()).split("/")[1])
    dry = json.loads(tailpipe("invoke", "gcp", "--dry-run", "--scope", account, "--json").stdout)
    assert (dry["dry_run"], dry["scopes"]["total"]) == (True, 1)
    assert "local." not in whole.output  # the token's form


def test_invoke_waits_for_another_run_and_names_its_holder(running: LocalGcp) -> None:
    """The holder is named once, and the run starts when the lock is free."""
    now = datetime.now(UTC)
    held = {"run_id": "r-of-another", "since": now.isoformat(), "until": (now + timedelta(minutes=5)).isoformat()}
    document = json.dumps({"version": 2, "cloud": "gcp", "running": held})
    running.put_object(STATE, document, running.deployment.state_bucket)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            running.delete_objects(running.deployment.state_bucket)

    told: Told = []
    operator = at(sleep=sleep)
    report = operator.invoke({}, told.append)
    assert report["status"] == "ok"
    assert len([line for line in told if "r-of-another" in line]) == 1
    assert slept == [gcp_invoke.AGAIN_S] * 2


def test_invoke_waits_while_the_instance_is_busy(running: LocalGcp) -> None:
    """Cloud Run refuses a second call of a function with one instance."""
    free = threading.Event()
    asked = threading.Event()

    def hold() -> None:
        asked.set()
        free.wait(HANG_S)

    running.faults.before("cloudbilling.billingAccounts.list", hold)
    told: Told = []
    operator = at(sleep=lambda _seconds: free.set())
    first = threading.Thread(target=lambda: tailpipe("invoke", "gcp", "--json"), daemon=True)
    first.start()
    assert asked.wait(HANG_S)
    report = operator.invoke({"dry_run": True}, told.append)
    first.join(HANG_S)
    assert report["dry_run"] is True
    assert told == [f"waiting: {gcp_invoke.BUSY}"]


def test_internal_function_is_called_through_its_schedule(running: LocalGcp) -> None:
    """The report is read from the bucket; options that the schedule cannot pass on are refused."""
    running.set_ingress("ALLOW_INTERNAL_ONLY")
    told: Told = []
    done = threading.Event()
    operator = at(sleep=lambda _seconds: bool(done.wait(0.2)) and None)
    report = operator.invoke({"dry_run": False, "scopes": []}, told.append)
    assert report["status"] == "ok"
    assert "its schedule" in told[0]
    assert "ingress=ALLOW_ALL" in faults_of(lambda: operator.invoke({"dry_run": True}, told.append))


def test_report_of_a_lost_response_is_read_from_the_bucket(running: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run continues after the connection is lost."""

    def breaking(*arguments: Any) -> Any:
        reach(*arguments)
        raise Broken("https://secret.example.com")

    monkeypatch.setattr("cli.deployment.gcp.invoke.reach", breaking)
    told: Told = []
    operator = at(sleep=lambda _seconds: None)
    assert operator.invoke({}, told.append)["status"] == "ok"
    assert "the answer was lost" in told[0]
    assert "secret" not in "".join(told)
    assert "stores no report" in faults_of(lambda: operator.invoke({"dry_run": True}, told.append))


def test_missing_permission_to_invoke_is_reported_with_its_command(gcp: LocalGcp) -> None:
    """The token of the schedule's account needs it; no token is shown."""
    gcp.set_ingress("ALLOW_ALL")
    gcp.deny("iam.serviceAccounts.getOpenIdToken", identity=OPERATOR)
    result = tailpipe("invoke", "gcp")
    assert result.exit_code == 1
    assert "getOpenIdToken" in result.stderr
    assert "roles/iam.serviceAccountOpenIdTokenCreator" in result.stderr


def test_wait_for_a_permission_is_limited(gcp: LocalGcp) -> None:
    """A denied call is retried while a grant may propagate; then the command that grants it is shown."""
    gcp.set_ingress("ALLOW_ALL")
    gcp.revoke("roles/run.invoker", identity=gcp.deployment.scheduler)
    slept: list[float] = []
    operator = at(sleep=slept.append)
    with pytest.raises(OperatorError, match="permission to call the function") as caught:
        operator.invoke({}, silently)
    assert "tailpipe-exports deploy gcp" in caught.value.problems[0].remedy
    assert sum(slept) == gcp_invoke.PROPAGATION_S


def test_missing_deployment_is_reported_by_every_command(opened: Opener) -> None:
    """Both `invoke` and `onboarding` show a remedy, and verify has one finding."""
    opened(bare=True)
    for command in ("invoke", "onboarding"):
        result = tailpipe(command, "gcp")
        assert (result.exit_code, "tailpipe-exports deploy gcp" in result.stderr) == (1, True)
    operator = at()
    assert [one.ok for one in operator.verify()] == [False]


# Proofs


def test_working_deployment_has_no_findings(running: LocalGcp) -> None:
    """All checks succeed after a run."""
    operator = at()
    operator.invoke({}, silently)
    assert [(one.what, one.ok) for one in operator.verify() if one.ok is not True] == []


def test_each_damage_has_a_finding(gcp: LocalGcp) -> None:
    """This covers the schedule, public access, a lost bucket, the provider, a key, and superfluous permissions."""
    deployment, project = gcp.deployment, gcp.project
    job = f"projects/{project}/locations/us-central1/jobs/tailpipe-exports"
    pool = f"projects/{project}/locations/global/workloadIdentityPools/tailpipe-pool/providers/tailpipe-provider"
    account = f"projects/{project}/serviceAccounts/{deployment.connector}"
    gcp.put_resource(
        job, {**gcp.resource(job), "state": "PAUSED", "httpTarget": {"uri": "https://elsewhere.example.com"}}
    )
    gcp.put_resource(pool, {**gcp.resource(pool), "attributeCondition": ""})
    gcp.put_resource(f"{account}/keys/0123", {})
    gcp.grant("roles/run.invoker", deployment.service, "allUsers")
    gcp.grant("roles/bigquery.admin", f"projects/{project}", deployment.connector)
    gcp.grant("roles/iam.workloadIdentityUser", account, "principalSet://iam.googleapis.com/x/attribute.tenant/*")
    gcp.revoke("roles/monitoring.viewer", identity=deployment.connector)
    gcp.delete_bucket()
    operator = at()
    found = operator.verify()
    assert {"the function answered", *wrong(found)} == {
        "only Tailpipe may act as the connector",
        "only known accounts may call the function",
        "schedule tailpipe-exports calls the function",
        "schedule tailpipe-exports is enabled",
        "the connector has its permissions on the project",
        "the connector has no other permission on the project",
        "the function answered",
        "the provider admits one tenant only",
        f"bucket {deployment.bucket} is private",
    }
    assert finding(found, "the connector has no key").ok is None
    assert (
        finding(found, "the connector has no other permission").detail == "roles/bigquery.admin without its condition"
    )
    assert all(one.remedy for one in found if one.ok is False)


def test_missing_console_step_is_a_manual_step(opened: Opener) -> None:
    """It is not a failure, and has its link."""
    cloud = opened(done=0)
    operator = at()
    step = finding(operator.verify(), "Google's billing export")
    assert step.ok is None
    assert f"/billing/{next(iter(cloud.accounts()))}/export/bigquery" in step.remedy


def test_onboarding_document_has_the_keys_of_the_old_scripts(gcp: LocalGcp) -> None:
    """The values are live: accounts, tables, roles, pool and provider; there is no key."""
    gcp.stream(days=1, rows=1)
    result = tailpipe("onboarding", "gcp")
    document = json.loads(result.stdout)
    number = document["project"]["number"]
    assert document["platform"] == "gcp"
    assert document["billingAccountId"] == list(gcp.accounts())
    assert document["project"] == {"id": gcp.project, "number": number, "region": "US"}
    assert document["serviceAccount"]["keyFile"] is None
    assert document["serviceAccount"]["organizationRoles"] == ["roles/billing.viewer"]
    assert "roles/bigquery.dataViewer" in document["serviceAccount"]["projectRoles"]
    pool = f"projects/{number}/locations/global/workloadIdentityPools/tailpipe-pool"
    assert document["workloadIdentity"] == {
        "enabled": True,
        "poolName": pool,
        "providerName": f"{pool}/providers/tailpipe-provider",
    }
    assert document["billingExport"]["accountCount"] == 1
    assert len(document["billingExport"]["tables"]) == 3
    output = (INFRA / "gcp" / "outputs.tf").read_text(encoding="utf-8")
    assert all(key in output for part in document.values() if isinstance(part, dict) for key in part)


# A removal


def test_stopping_the_schedule_can_be_repeated(gcp: LocalGcp) -> None:
    """A paused or missing job is reported."""
    told: Told = []
    operator = at()
    operator.stop_schedule(told.append)
    job = f"projects/{gcp.project}/locations/us-central1/jobs/tailpipe-exports"
    assert gcp.resource(job)["state"] == "PAUSED"
    operator.stop_schedule(told.append)
    gcp.delete_resource(job)
    operator.stop_schedule(told.append)
    assert told == ["the schedule is stopped", "the schedule is paused already", "there is no schedule"]


def test_data_is_deleted_only_on_request_and_continues_after_an_interruption(opened: Opener) -> None:
    """With the flag, files and tables are deleted page by page."""
    cloud = opened(history_days=1, rows=2, behavior=Behavior(page_size=3))
    for number in range(7):
        cloud.put_object(f"copies/{number} ü.parquet", "x")
    told: Told = []
    operator = at(sleep=lambda _seconds: None)
    operator.clear(Removal(), told.append)
    assert len(cloud.copies()) == 7
    # Google still exports, which is reported; the earlier call ended after the first page.
    cloud.fail("storage.objects.delete", 403, "forbidden", times=1)
    removal = Removal(delete_exports=True, delete_data=True)
    assert "injected" in faults_of(lambda: operator.clear(removal, told.append))
    operator.clear(removal, told.append)
    assert cloud.copies() == []
    assert cloud.tables() == {}
    assert any(f"/billing/{account}/export/bigquery" in line for account in cloud.accounts() for line in told)


def test_partly_deleted_deployment_can_be_cleared(opened: Opener) -> None:
    """Function, schedule and copies were deleted by hand."""
    cloud = opened(history_days=1, rows=1)
    cloud.delete_resource(cloud.deployment.function)
    cloud.delete_resource(f"projects/{cloud.project}/locations/us-central1/jobs/tailpipe-exports")
    cloud.delete_bucket(cloud.deployment.bucket)
    told: Told = []
    operator = at(sleep=lambda _seconds: None)
    removal = Removal(delete_exports=True, delete_data=True)
    assert operator.deployed() is None
    assert [f"of dataset {cloud.deployment.dataset}" in one for one in operator.clearing(removal).deletes] == [True]
    operator.stop_schedule(told.append)
    operator.clear(removal, told.append)
    assert told[0] == "there is no schedule"
    assert cloud.tables() == {}


def test_foreign_tables_or_bucket_stop_the_deletion_of_data(opened: Opener) -> None:
    """Nothing is deleted."""
    cloud = opened(history_days=1, rows=1)
    dataset = cloud.world.catalog.dataset(cloud.project, "billing_export")
    fields = [{"name": "x", "type": "STRING", "mode": "NULLABLE"}]
    cloud.world.catalog.add_table(dataset, "foreign_table", fields, cloud.clock.now())
    operator = at()
    before = len(dataset.tables)
    removal = Removal(delete_exports=True, delete_data=True)
    assert "foreign_table" in faults_of(lambda: operator.clear(removal, silently))
    assert len(dataset.tables) == before
    cloud.world.catalog.drop_table(dataset, "foreign_table")
    cloud.put_object("copies/1.parquet", "x")
    cloud.world.buckets.all[cloud.deployment.bucket].document["labels"] = {}
    assert "managed-by" in faults_of(lambda: operator.clear(removal, silently))
    assert cloud.copies() == ["copies/1.parquet"]
    assert len(dataset.tables) == before - 1


def test_preview_of_a_removal_deletes_nothing(opened: Opener) -> None:
    """It lists tables and files, and Google's exports, which only a person can disable."""
    cloud = opened(history_days=1, rows=1)
    cloud.put_object("copies/1.parquet", "x")
    operator = at()
    cloud.clear_calls()
    kept = operator.clearing(Removal())
    assert (kept.deletes, "Google's exports of 2 billing accounts" in kept.keeps[0]) == ([], True)
    asked = operator.clearing(Removal(delete_exports=True, delete_data=True))
    tables, files = asked.deletes
    assert f"of dataset {cloud.deployment.dataset}" in tables
    assert cloud.deployment.bucket in files
    changing = re.compile(r"insert|patch|delete|update|pause")
    assert not [one.method for one in cloud.calls.select() if changing.search(one.method)]


@pytest.mark.parametrize("damage", ["gone", "invalid"])
def test_unreadable_settings_do_not_become_defaults(gcp: LocalGcp, damage: str) -> None:
    """Commands that need them report missing or invalid variables, and stop."""
    name = gcp.deployment.function
    function = gcp.resource(name)
    variables = {} if damage == "gone" else {**function["serviceConfig"]["environmentVariables"], "COPY_DAYS": "soon"}
    service = {**function["serviceConfig"], "environmentVariables": variables}
    gcp.put_resource(name, {**function, "serviceConfig": service})
    gcp.put_object("copies/1.parquet", "x")
    operator = at(sleep=lambda _seconds: None)
    removal = Removal(delete_exports=True, delete_data=True)
    for act in (
        operator.deployed,
        operator.onboarding,
        lambda: operator.kept(removal),
        lambda: operator.clearing(removal),
        lambda: operator.clear(removal, silently),
    ):
        told = faults_of(act)
        assert "the settings of function tailpipe-exports cannot be read" in told
        assert ("GOOGLE_CLOUD_PROJECT" if damage == "gone" else "COPY_DAYS") in told
    assert gcp.copies() == ["copies/1.parquet"]


def test_kept_resources_have_addresses_of_the_module(gcp: LocalGcp) -> None:
    """Data is kept by default, the identity on request."""
    operator = at()
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((INFRA / "gcp").glob("*.tf")))
    known = {f"{kind}.{name}" for kind, name in re.findall(r'^resource "(\w+)" "(\w+)"', text, re.MULTILINE)}
    everything = operator.kept(Removal(keep_identity=True))
    for address in (one for part in everything for one in part.addresses):
        start = address.partition("[")[0]
        assert any(one.startswith(start) for one in known), address
    assert operator.kept(Removal(delete_data=True, delete_exports=True)) == []
    assert gcp.deployment.bucket in operator.kept(Removal())[0].what
