"""What the earlier scripts left in a Google Cloud project is taken over: adopted, told, and never duplicated."""

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

__all__ = ["package", "terraform"]  # fixtures, found by their names
PLACE = "us-central1"


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGcp]:
    """Return a project with what the scripts made, and nothing of this project's."""
    with LocalGcp(bare=True) as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        cloud.earlier_setup(PLACE)
        yield cloud


@pytest.fixture
def taken_over(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGcp]:
    """Return a deployment over what the scripts made: additive bindings leave theirs where they are."""
    options = {"accounts": 1, "done": 1, "history_days": 3, "rows": 2, "kinds": ("standard",)}
    with LocalGcp(location=PLACE, clock=VirtualClock(START), **options) as cloud:  # type: ignore[arg-type]  # of several types
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        cloud.earlier_setup(PLACE)
        cloud.set_lifecycle(legacy_exports.LIFECYCLE["rule"])
        yield cloud


def planned(cloud: LocalGcp) -> list[dict[str, Any]]:
    """Return what the module would create, of what the scripts made and of what they did not."""
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


def test_what_the_scripts_made_is_adopted_where_it_is(
    scripted: LocalGcp, terraform: TerraformDouble, package: str
) -> None:
    """Dataset, bucket, identity, pool and provider are imported; the dataset stays in its region."""
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
    # What they trusted is not taken over: it is the operator's to say.
    assert (values["tailpipe_issuer"], values["tailpipe_audience"]) != (legacy_exports.ISSUER, legacy_exports.AUDIENCE)
    told = " ".join(result.stderr.split())
    assert "adopted, as an earlier setup's" in told
    assert "no costs from before its export was first switched on" in told


def test_what_the_scripts_left_open_is_reported_with_the_command_that_closes_it(taken_over: LocalGcp) -> None:
    """A key, a binding for every tenant and rights without their condition; what is closed is not reported again."""
    deployment, project = taken_over.deployment, taken_over.project
    account = f"projects/{project}/serviceAccounts/{deployment.connector}"
    operator = GcpOperator.open({})
    found = {one.what: one for one in operator.verify()}
    key, others, rights = (
        found[what]
        for what in (
            "the connector has no key",
            "only Tailpipe may act as the connector",
            "the connector has no other right on the project",
        )
    )
    assert (key.ok, f"keys delete {legacy_exports.KEY}" in key.remedy) == (None, True)
    assert (others.ok, "/attribute.tenant/*'" in others.remedy) == (False, True)
    assert "gcloud iam service-accounts remove-iam-policy-binding" in others.remedy
    assert rights.ok is False
    # The deployment's own bindings of the same role, which have a condition, stay.
    assert "--role=roles/storage.objectViewer --condition=None" in rights.remedy
    assert "--role=roles/bigquery.dataViewer --all" in rights.remedy
    assert found["the provider admits one tenant only"].ok is True
    (wildcard,) = [one[0] for one in legacy_exports.grants(deployment, "") if one[0].startswith("principalSet")]
    number = taken_over.world.projects.all[project].number
    taken_over.revoke("roles/iam.workloadIdentityUser", account, wildcard.replace("projects//", f"projects/{number}/"))
    again = {one.what: one.ok for one in operator.verify()}
    assert again["only Tailpipe may act as the connector"] is True
    assert again["Tailpipe may act as the connector"] is True


def test_the_function_respects_what_the_scripts_made(taken_over: LocalGcp) -> None:
    """Their copies stay, their rule that deletes is reported, their region is used, and nothing is made twice."""
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
