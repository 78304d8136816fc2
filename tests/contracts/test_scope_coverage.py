"""On each cloud, a scope is covered only if the export that has its data is, and only scopes are counted."""

from __future__ import annotations

from typing import Any

import pytest

from azure_function.invocation import status_once
from shared.model import CLASSES, Result
from shared.report import cut_lists
from tests.aws_lambda import support as aws
from tests.azure_function import support as azure
from tests.gcp_function import support as gcp


def counts(report: dict[str, Any]) -> dict[str, int]:
    """Return the non-zero coverage classes of a report."""
    scopes = report["scopes"]
    assert sum(scopes[name] for name in CLASSES) == scopes["active"]
    return {name: scopes[name] for name in CLASSES if scopes[name]}


def test_no_account_is_covered_without_the_organizations_export() -> None:
    """The one export has the costs of all six accounts, and AWS refuses to create it again."""
    with aws.local_aws(accounts=6) as cloud:
        aws.run(cloud)
        cloud.deliver()
        cloud.advance(aws.HOUR)
        before = aws.run(cloud).report
        assert counts(before) == {"covered": 6}
        assert before["scopes"]["delivering"] == 6
        cloud.delete_export(aws.EXPORT)
        cloud.faults.add("bcm-data-exports", "CreateExport", "SomethingNew", times=None)
        after = aws.run(cloud).report
        assert counts(after) == {"failed": 6}
        assert len(after["failures"]) == 1, "one failure, not one per account"


def test_run_for_one_account_uses_the_recorded_state_of_the_export() -> None:
    """The run does not read the export; its recorded failure still keeps the account from being covered."""
    with aws.local_aws(accounts=4) as cloud:
        cloud.faults.add("bcm-data-exports", "CreateExport", "SomethingNew", times=None)
        aws.run(cloud)
        cloud.advance(aws.HOUR)
        cloud.clear_calls()
        one = aws.run(cloud, [aws.members(cloud)[0]]).report
        assert (one["scopes"]["active"], one["scopes"]["covered"]) == (1, 0)
        assert cloud.calls.count("bcm-data-exports") == 0


def test_disabled_organizations_access_leaves_existing_members_covered() -> None:
    """Members keep their roles and exports; only the management account needs a manual step."""
    with aws.local_aws(accounts=4) as cloud:
        aws.run(cloud)
        cloud.deliver()
        cloud.advance(aws.HOUR)
        aws.run(cloud)
        cloud.client("cloudformation").deactivate_organizations_access()
        report = aws.run(cloud).report
        assert counts(report) == {"covered": 3, "manual": 1}


def test_no_subscription_is_covered_if_the_storage_account_refuses_keys() -> None:
    """Recent deliveries do not count, because no further delivery can arrive."""
    with azure.local_azure(subscriptions=3) as cloud:
        azure.run(cloud)
        cloud.deliver()
        azure.advance(cloud, azure.HOUR)
        assert counts(azure.run(cloud).report) == {"covered": 3}
        cloud.set_shared_key(False)
        assert counts(azure.run(cloud).report) == {"manual": 3}


def test_no_subscription_is_covered_if_costs_are_hidden() -> None:
    """Without any export, the report and the stored status say so and give the reason."""
    with azure.local_azure(subscriptions=3, agreements={"students": 1}) as cloud:
        finished = azure.run(cloud)
        assert cloud.exports() == []
        assert finished.report["scopes"]["covered"] == 0
        assert {one.result for one in finished.outcomes if one.key.kind == "export"} <= {
            Result.EXCLUDED,
            Result.MANUAL,
        }
        status = status_once(cloud.environment(), azure.Lines(), cloud.clock)
        assert status["scopes"] == finished.report["scopes"]
        reported = len(finished.report["manual"]) + sum(one["count"] for one in finished.report["excluded"])
        assert reported >= 3


def test_project_is_not_counted_and_its_dataset_decides_for_all_accounts() -> None:
    """Two accounts are two scopes; if the project's BigQuery API is disabled, neither is covered."""
    with gcp.local_gcp(accounts=2, done=2, history_days=2) as cloud:
        report = gcp.run(cloud).report
        assert (report["scopes"]["total"], counts(report)) == (2, {"covered": 2})
        cloud.disable_api("bigquery.googleapis.com")
        report = gcp.run(cloud).report
        assert report["scopes"]["covered"] == 0
        assert report["scopes"]["active"] == 2


@pytest.mark.parametrize("number", [3, 60])
def test_stored_report_is_complete_and_the_response_is_shortened(number: int) -> None:
    """The response lists fifty actions and says where the complete report is."""
    with aws.local_aws(accounts=number) as cloud:
        finished = aws.run(cloud)
        assert {one["scope"] for one in finished.report["actions"]} == set(cloud.accounts())
        response = finished.answer()
        assert response == cut_lists(finished.report, finished.stored_as)
        assert finished.stored_as.startswith("s3://") or "runs/" in finished.stored_as
        assert (len(response["actions"]) == 51) is (number > 50)
