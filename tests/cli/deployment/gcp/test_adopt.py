"""Resources of the old scripts in a Google Cloud project are adopted, reported, and never duplicated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from cli.deployment.gcp.operator import GcpOperator
from cli.main import main
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform import legacy_exports
from shared.runtime.clock import VirtualClock
from tests.cli.support.operating import package, terraform
from tests.cli.support.terraform_double import TerraformDouble, change
from tests.gcp_function.support import START, action, messages, run

__all__ = ["package", "terraform"]  # fixtures, which pytest finds by name
PLACE = "us-central1"


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGcp]:
    """Return a project with the old scripts' resources and no deployment."""
    with LocalGcp(bare=True) as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        cloud.earlier_setup(PLACE)
        yield cloud


@pytest.fixture
def taken_over(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGcp]:
    """Return a deployment beside the old scripts' resources, whose additive bindings are kept."""
    options = {"accounts": 1, "done": 1, "history_days": 3, "rows": 2, "kinds": ("standard",)}
    with LocalGcp(location=PLACE, clock=VirtualClock(START), **options) as cloud:  # type: ignore[arg-type]  # of several types
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        cloud.earlier_setup(PLACE)
        cloud.set_lifecycle(legacy_exports.LIFECYCLE["rule"])
        yield cloud


def planned(cloud: LocalGcp) -> list[dict[str, Any]]:
    """Return the module's creations in the plan, for resources with and without a counterpart of the scripts."""
    pool: dict[str, Any] = {"project": cloud.project, "workload_identity_pool_id": "tailpipe-pool"}
    return [
        change("google_bigquery_dataset.export", dataset_id="billing_export", project=cloud.project),
        change("google_storage_bucket.export", name=cloud.deployment.bucket, project=cloud.project),
        change("google_storage_bucket.state", name=cloud.deployment.state_bucket, project=cloud.project),
        change("google_service_account.connector", account_id="tailpipe-connector", project=cloud.project),
        change("google_service_account.function", account_id="tailpipe-function", project=cloud.project),
        change("google_iam_workload_identity_pool.tailpipe", **pool),
        change(
            "google_iam_workload_identity_pool_provider.tailpipe",
            workload_identity_pool_provider_id="tailpipe-provider",
            **pool,
        ),
    ]


def test_resources_of_the_old_scripts_are_adopted(scripted: LocalGcp, terraform: TerraformDouble, package: str) -> None:
    """Dataset, bucket, identity, pool and provider are imported; the dataset keeps its region."""
    terraform.plan(planned(scripted))
    result = CliRunner().invoke(main, ["deploy", "gcp", "--var", "environment=prod", "--var", package, "--dry-run"])
    assert result.exit_code == 0, result.output
    _, second = terraform.calls("plan")
    project = scripted.project
    pool = f"projects/{project}/locations/global/workloadIdentityPools/tailpipe-pool"
    assert second.imports == {
        "google_bigquery_dataset.export": f"projects/{project}/datasets/billing_export",
        "google_storage_bucket.export": f"{project}/{scripted.deployment.bucket}",
        "google_service_account.connector": f"projects/{project}/serviceAccounts/{scripted.deployment.connector}",
        "google_iam_workload_identity_pool.tailpipe": pool,
        "google_iam_workload_identity_pool_provider.tailpipe": f"{pool}/providers/tailpipe-provider",
    }
    values = second.values
    assert values["dataset_location"] == PLACE
    # The trusted tenant is not taken over: the operator must give it.
    assert (values["tailpipe_issuer"], values["tailpipe_audience"]) != (legacy_exports.ISSUER, legacy_exports.AUDIENCE)
    told = " ".join(result.stderr.split())
    assert "adopted, as an earlier setup's" in told
    assert "no costs from before its export was first switched on" in told


def test_insecure_settings_of_the_old_scripts_are_reported_with_commands(taken_over: LocalGcp) -> None:
    """This covers a key, a binding for every tenant and unconditional permissions; resolved ones are omitted."""
    deployment, project = taken_over.deployment, taken_over.project
    account = f"projects/{project}/serviceAccounts/{deployment.connector}"
    operator = GcpOperator.open({})
    found = {one.what: one for one in operator.verify()}
    key, others, rights = (
        found[what]
        for what in (
            "the connector has no key",
            "only Tailpipe may act as the connector",
            "the connector has no other permission on the project",
        )
    )
    assert (key.ok, f"keys delete {legacy_exports.KEY}" in key.remedy) == (None, True)
    assert (others.ok, "/attribute.tenant/*'" in others.remedy) == (False, True)
    assert "gcloud iam service-accounts remove-iam-policy-binding" in others.remedy
    assert rights.ok is False
    # The deployment's bindings of the same role, which have a condition, are kept.
    assert "--role=roles/storage.objectViewer --condition=None" in rights.remedy
    assert "--role=roles/bigquery.dataViewer --all" in rights.remedy
    assert found["the provider admits one tenant only"].ok is True
    (wildcard,) = [one[0] for one in legacy_exports.grants(deployment, "") if one[0].startswith("principalSet")]
    number = taken_over.world.projects.all[project].number
    taken_over.revoke("roles/iam.workloadIdentityUser", account, wildcard.replace("projects//", f"projects/{number}/"))
    again = {one.what: one.ok for one in operator.verify()}
    assert again["only Tailpipe may act as the connector"] is True
    assert again["Tailpipe may act as the connector"] is True


def test_function_keeps_the_old_scripts_resources(taken_over: LocalGcp) -> None:
    """Their copies and region are kept, their deleting rule is reported, and nothing is duplicated."""
    account = next(iter(taken_over.accounts()))
    old = f"{account}/2026-11-20/billing-000000000000.csv.gz"
    taken_over.put_object(old, "x")
    taken_over.clear_calls()
    finished = run(taken_over, EXPORTS="standard", COPY="standard")
    assert action(finished, "retention").reason == "copies-are-deleted"
    assert "deletes copies after 90 days" in messages(finished)
    assert action(finished, "region").verb.name == "KEEP"
    assert old in taken_over.copies()
    assert any(name.endswith("manifest.json") for name in taken_over.copies(account))
    made = [
        call.method for call in taken_over.calls.select() if call.method.endswith(("buckets.insert", "datasets.insert"))
    ]
    assert made == []
    assert json.loads(taken_over.read_object("known_billing_accounts.json", taken_over.deployment.state_bucket))
