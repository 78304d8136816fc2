"""The GCP module, applied with a stand-in provider (see `standin` for what that proves)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator

import pytest
import yaml

from gcp_function.resources.bucket import lifecycle_rules
from gcp_function.settings import read_settings
from tests.infra.planning import REPOSITORY, Workspace, stand_in_providers
from tests.infra.standin.roots import Applied, apply
from tests.infra.standin.values import PROJECT_NUMBER

PROJECT = "tailpipe-dataexport"
EXAMPLES = ("minimal", "complete")
ACCOUNTS = ["012345-6789AB-CDEF01", "0A1B2C-3D4E5F-678901"]
CONDITIONS_MET = {
    "minimal": {"organization", "focus", "events"},
    "complete": {"billing_accounts", "events", "delivery_events", "tenants"},
}
PLACES = ("project", "dataset", "subscription", "topic", "queue", "caller")
Deployed = Callable[[str], Applied]
Binding = tuple[str, str, str, bool]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """Return a function that applies an example on first use."""
    known: dict[str, Applied] = {}

    def applied(name: str) -> Applied:
        if name not in known:
            with stand_in_providers(Workspace(tmp_path_factory.mktemp(name), "gcp")) as workspace:
                known[name] = apply(workspace, name)
        return known[name]

    return applied


@pytest.mark.parametrize("name", EXAMPLES)
def test_module_applies_and_a_second_plan_is_empty(deployed: Deployed, name: str) -> None:
    """The module is valid, all values are known in time, and a second plan has no changes."""
    steps = deployed(name).steps

    assert {step: done.code for step, done in steps.items()} == {"validate": 0, "apply": 0, "again": 0}, steps


@pytest.mark.parametrize("name", EXAMPLES)
def test_function_accepts_its_settings(deployed: Deployed, name: str) -> None:
    """The function reads the settings that the module sets."""
    applied = deployed(name)
    settings = read_settings(applied.outputs["settings"])
    [function] = applied.of("google_cloudfunctions2_function")

    assert function["service_config"][0]["environment_variables"] == applied.outputs["settings"]
    assert (settings.project, settings.bucket) == (PROJECT, applied.outputs["destination"]["bucket"])
    assert settings.organization == ("organizations/123456789012" if name == "minimal" else "")


@pytest.mark.parametrize("name", EXAMPLES)
def test_onboarding_document_has_the_keys_that_tailpipe_reads(deployed: Deployed, name: str) -> None:
    """Values that only the command can fill in are empty."""
    document = deployed(name).outputs["onboarding"]
    organized = name == "minimal"
    bucket = f"tailpipe-billing-export-{PROJECT}" if organized else "example-billing-export-eu"
    pool = f"projects/{PROJECT_NUMBER}/locations/global/workloadIdentityPools/tailpipe-pool"

    assert document == {
        "platform": "gcp",
        "organizationId": "123456789012" if organized else None,
        "billingAccountId": [] if organized else ACCOUNTS,
        "project": {"id": PROJECT, "number": PROJECT_NUMBER, "region": "US" if organized else "EU"},
        "storage": {
            "bucket": bucket,
            "bucketUri": f"gs://{bucket}",
            "dataset": "billing_export",
            "datasetFullPath": f"{PROJECT}.billing_export",
        },
        "serviceAccount": {
            "email": f"tailpipe-connector@{PROJECT}.iam.gserviceaccount.com",
            "keyFile": None,
            "projectRoles": [
                "roles/bigquery.dataViewer",
                "roles/bigquery.jobUser",
                "roles/compute.viewer",
                "roles/monitoring.viewer",
                "roles/storage.objectViewer",
            ],
            "organizationRoles": ["roles/billing.viewer"] if organized else [],
        },
        "workloadIdentity": {
            "enabled": True,
            "poolName": pool,
            "providerName": f"{pool}/providers/tailpipe-provider",
        },
        "billingExport": {"type": "BigQuery", "dataset": "billing_export", "accountCount": None, "tables": []},
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_iam_bindings_match_rights_yaml(deployed: Deployed, name: str) -> None:
    """Every grant whose condition holds is assigned to its holder at its scope, and no other is."""
    applied = deployed(name)

    assert set(bound(applied)) == set(granted(name))


def bound(applied: Applied) -> Iterator[Binding]:
    """Yield holder, scope, permission and presence of a condition for the function's and connector's bindings."""
    roles = {one["name"]: one["permissions"] for one in applied.of("google_project_iam_custom_role")}
    kinds = {
        "google_project_iam_member": "project",
        "google_bigquery_dataset_iam_member": "dataset",
        "google_pubsub_subscription_iam_member": "subscription",
        "google_pubsub_topic_iam_member": "topic",
        "google_cloud_tasks_queue_iam_member": "queue",
        "google_service_account_iam_member": "caller",
        "google_organization_iam_member": "org_id",
        "google_billing_account_iam_member": "billing_account_id",
    }
    for kind, place in kinds.items():
        for one in applied.of(kind):
            if not one["member"].startswith("serviceAccount:"):
                continue  # Tailpipe's own tokens, in the identity pool
            holder = one["member"].removeprefix("serviceAccount:tailpipe-").partition("@")[0]
            if holder == "build" or one["_name"] == "events":
                continue
            where = place if place in PLACES else one[place]
            for right in roles.get(one["role"], [one["role"]]):
                yield holder, where, right, bool(one.get("condition"))


def granted(name: str) -> Iterator[Binding]:
    """Yield the same for the grants in rights.yaml."""
    rights = yaml.safe_load((REPOSITORY / "infra/gcp/rights.yaml").read_text(encoding="utf-8"))
    places = {"organization": ["123456789012"], "billing_account": ACCOUNTS, "dataset": ["dataset"]}
    places |= {"events_subscription": ["subscription"], "delivery_topic": ["topic"]}
    places |= {"tenants_queue": ["queue"], "tenants_caller": ["caller"]}
    for holder, grants in rights.items():
        for grant in grants:
            if grant.get("when") is None or grant["when"] in CONDITIONS_MET[name]:
                for place in places.get(grant["scope"], ["project"]):
                    for right in grant.get("actions", [grant.get("role")]):
                        yield holder, place, right, "condition" in grant


@pytest.mark.parametrize("name", EXAMPLES)
def test_schedule_calls_the_function_as_its_only_invoker(deployed: Deployed, name: str) -> None:
    """The job's token is for the service account with run.invoker, and for the service's own address."""
    applied = deployed(name)
    [job] = [one for one in applied.of("google_cloud_scheduler_job") if one["_name"] == "this"]
    [caller] = [one for one in applied.of("google_cloud_run_v2_service_iam_member") if one["_name"] == "scheduler"]
    target = job["http_target"][0]
    token = target["oidc_token"][0]

    assert caller["member"] == f"serviceAccount:{token['service_account_email']}"
    assert caller["role"] == "roles/run.invoker"
    assert target["uri"] == token["audience"] != ""


@pytest.mark.parametrize("name", EXAMPLES)
def test_events_call_the_function_with_their_own_service_account(deployed: Deployed, name: str) -> None:
    """All sinks publish to one topic; it has one pull subscription, and one push subscription for the function."""
    applied = deployed(name)
    [topic] = [one for one in applied.of("google_pubsub_topic") if one["_name"] == "events"]
    publishers = [one for one in applied.of("google_pubsub_topic_iam_member") if one["_name"] == "events"]
    pulled, pushing = sorted(applied.of("google_pubsub_subscription"), key=lambda one: bool(one["push_config"]))
    sinks = [
        one
        for scope in ("project", "organization", "billing_account")
        for one in applied.of(f"google_logging_{scope}_sink")
        if one["_name"] == "events"
    ]
    token = pushing["push_config"][0]["oidc_token"][0]
    [caller] = [one for one in applied.of("google_cloud_run_v2_service_iam_member") if one["_name"] == "events"]

    assert pulled["name"] == read_settings(applied.outputs["settings"]).events_subscription.rpartition("/")[2]
    assert caller["member"] == f"serviceAccount:{token['service_account_email']}"
    assert pushing["push_config"][0]["push_endpoint"] == token["audience"] != ""
    assert len(sinks) == (2 if name == "minimal" else 3)
    assert {one["destination"] for one in sinks} == {f"pubsub.googleapis.com/{topic['id']}"}
    assert len(publishers) == len(sinks)
    own = f"tailpipe-function@{PROJECT}.iam.gserviceaccount.com"
    assert all(f'principalEmail!="{own}"' in one["filter"] for one in sinks)


@pytest.mark.parametrize("name", EXAMPLES)
def test_deliveries_have_a_topic_and_their_documents_expire(deployed: Deployed, name: str) -> None:
    """Only with `delivery_events`: the topic of the settings, the rule for deltas/, and the alarm."""
    applied = deployed(name)
    topics = [one["name"] for one in applied.of("google_pubsub_topic") if one["_name"] == "deliveries"]
    settings = read_settings(applied.outputs["settings"])
    [bucket] = [one for one in applied.of("google_storage_bucket") if one["_name"] == "export"]
    deleting = [one["condition"][0] for one in bucket["lifecycle_rule"] if one["action"][0]["type"] == "Delete"]
    alarms = [one for one in applied.outputs["alarms"] if "not announced" in one]

    if name == "minimal":
        assert (settings.deltas, settings.delivery_topic) == (False, "")
        assert (topics, deleting, alarms) == ([], [], [])
        return
    assert settings.deltas
    assert settings.delivery_topic == f"projects/{PROJECT}/topics/{topics[0]}"
    assert [(one["age"], one["matches_prefix"]) for one in deleting] == [(60, ["deltas/"])]
    assert len(alarms) == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_rounds_call_the_function_as_one_account_that_may_do_nothing_else(deployed: Deployed, name: str) -> None:
    """Only with `fleet`: the queue and the schedule, and the address that the function's tasks call."""
    applied = deployed(name)
    settings = read_settings(applied.outputs["settings"])
    queues, [function] = applied.of("google_cloud_tasks_queue"), applied.of("google_cloudfunctions2_function")
    most = function["service_config"][0]["max_instance_count"]
    if name == "minimal":
        assert (settings.rounds, queues, applied.outputs.get("fleet"), most) == (None, [], None, 1)
        return
    assert settings.rounds
    [job] = [one for one in applied.of("google_cloud_scheduler_job") if one["_name"] == "tenants"]
    [caller] = [one for one in applied.of("google_cloud_run_v2_service_iam_member") if one["_name"] == "tenants"]
    [bucket] = [one for one in applied.of("google_storage_bucket") if one["_name"] == "registry"]
    token = job["http_target"][0]["oidc_token"][0]
    assert json.loads(base64.b64decode(job["http_target"][0]["body"])) == {"round": {"step": "begin"}}
    assert settings.rounds.caller == token["service_account_email"]
    assert caller["member"] == f"serviceAccount:{settings.rounds.caller}"
    assert settings.rounds.queue == f"projects/{PROJECT}/locations/europe-west1/queues/{queues[0]['name']}"
    assert settings.rounds.url == f"https://tailpipe-exports-{PROJECT_NUMBER}.europe-west1.run.app"
    assert queues[0]["rate_limits"][0]["max_concurrent_dispatches"] == most - 1
    assert (settings.registry_bucket, settings.home_project) == (bucket["name"], PROJECT)
    assert {one["member"] for one in applied.of("google_storage_bucket_iam_member")} == {"group:finops@example.com"}
    granted = [one["member"] for one in applied.of("google_project_iam_member")]
    assert not [one for one in granted if settings.rounds.caller in one]


@pytest.mark.parametrize("name", EXAMPLES)
def test_only_runs_of_everything_count_as_a_success(deployed: Deployed, name: str) -> None:
    """A run for events follows a run of everything, if at all, by more than that may take: its line is not counted."""
    applied = deployed(name)
    [counted] = [one for one in applied.of("google_logging_metric") if one["name"] == "tailpipe_exports_runs_ok"]
    [function] = applied.of("google_cloudfunctions2_function")
    limit = function["service_config"][0]["timeout_seconds"]
    assert f'jsonPayload.status="ok" AND jsonPayload.seconds_since_last_success<={limit}' in counted["filter"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_only_one_tenant_is_admitted(deployed: Deployed, name: str) -> None:
    """The issuer serves many customers; the condition and the principal both name this tenant."""
    applied = deployed(name)
    [provider] = applied.of("google_iam_workload_identity_pool_provider")
    [member] = [one for one in applied.of("google_service_account_iam_member") if one["_name"] != "this"]

    assert provider["attribute_condition"] == "assertion.tenant_id == 'tenant-1'"
    assert member["member"].endswith("/attribute.tenant/tenant-1")


@pytest.mark.parametrize("name", EXAMPLES)
def test_export_bucket_has_the_functions_lifecycle_and_no_soft_delete(deployed: Deployed, name: str) -> None:
    """New files have the standard storage class, and the lifecycle rules are those that the function restores."""
    [bucket] = [one for one in deployed(name).of("google_storage_bucket") if one["_name"] == "export"]
    rules = [
        {
            "action": {"type": rule["action"][0]["type"], "storageClass": rule["action"][0]["storage_class"]},
            "condition": {
                "age": rule["condition"][0]["age"],
                "matchesSuffix": rule["condition"][0]["matches_suffix"],
            },
        }
        for rule in bucket["lifecycle_rule"]
        if rule["condition"][0]["matches_prefix"] != ["deltas/"]
    ]
    assert rules == lifecycle_rules()
    assert not bucket.get("storage_class")  # Google's own default, which is STANDARD
    assert [one["retention_duration_seconds"] for one in bucket["soft_delete_policy"]] == [0]


@pytest.mark.parametrize("name", EXAMPLES)
def test_issuer_and_audience_are_those_of_the_variables(deployed: Deployed, name: str) -> None:
    """Only tokens of this issuer and audience are admitted, and a changed issuer is verified again."""
    applied = deployed(name)
    [provider] = applied.of("google_iam_workload_identity_pool_provider")
    oidc = provider["oidc"][0]

    assert oidc["issuer_uri"] == "https://issuer.example.com"
    assert oidc["allowed_audiences"] == ["https://audience.example.com"]
    assert [one["triggers_replace"]["value"] for one in applied.of("terraform_data") if one["_name"] == "issuer"] == [
        ["https://issuer.example.com"]
    ]
