"""On each cloud a scope is covered no better than the thing that holds its data, and only scopes are counted."""

from __future__ import annotations

from typing import Any

import pytest

from azure_function.handler import status_once
from shared.model import CLASSES, Result
from shared.report import cut_lists
from tests.aws_lambda import support as aws
from tests.azure_function import support as azure
from tests.gcp_function import support as gcp


def counts(report: dict[str, Any]) -> dict[str, int]:
    """Return the classes that are not empty."""
    scopes = report["scopes"]
    assert sum(scopes[name] for name in CLASSES) == scopes["active"]
    return {name: scopes[name] for name in CLASSES if scopes[name]}


def test_without_the_organizations_only_export_no_account_is_covered() -> None:
    """It was deleted and AWS takes no new one: 1 of 6 accounts has the export, and all 6 have their costs in it."""
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
        assert len(after["failures"]) == 1, "it is told once, not once for each account"


def test_a_run_for_one_account_judges_it_by_what_the_last_run_found_of_the_export() -> None:
    """An account's event looks at that account only; the export's failure is remembered against it."""
    with aws.local_aws(accounts=4) as cloud:
        cloud.faults.add("bcm-data-exports", "CreateExport", "SomethingNew", times=None)
        aws.run(cloud)
        cloud.advance(aws.HOUR)
        cloud.clear_calls()
        one = aws.run(cloud, [aws.members(cloud)[0]]).report
        assert (one["scopes"]["active"], one["scopes"]["covered"]) == (1, 0)
        assert cloud.calls.count("bcm-data-exports") == 0


def test_what_new_roles_need_says_nothing_of_those_that_exist() -> None:
    """With organizations access switched off the members keep their roles, and their costs are exported."""
    with aws.local_aws(accounts=4) as cloud:
        aws.run(cloud)
        cloud.deliver()
        cloud.advance(aws.HOUR)
        aws.run(cloud)
        cloud.client("cloudformation").deactivate_organizations_access()
        report = aws.run(cloud).report
        assert counts(report) == {"covered": 3, "manual": 1}


def test_no_subscription_is_covered_that_delivers_to_a_closed_account() -> None:
    """Deliveries of an hour ago show that exports live; with the account's keys off nothing arrives tomorrow."""
    with azure.local_azure(subscriptions=3) as cloud:
        azure.run(cloud)
        cloud.deliver()
        azure.advance(cloud, azure.HOUR)
        assert counts(azure.run(cloud).report) == {"covered": 3}
        cloud.set_shared_key(False)
        assert counts(azure.run(cloud).report) == {"manual": 3}


def test_where_costs_are_hidden_nothing_is_called_covered() -> None:
    """Not one export exists: report, status and the stored state say so, and why."""
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
        told = len(finished.report["manual"]) + sum(one["count"] for one in finished.report["excluded"])
        assert told >= 3


def test_a_project_is_no_billing_account_and_all_accounts_rest_on_its_dataset() -> None:
    """Two accounts are two scopes; where the project is closed to BigQuery, neither is covered."""
    with gcp.local_gcp(accounts=2, done=2, history_days=2) as cloud:
        report = gcp.run(cloud).report
        assert (report["scopes"]["total"], counts(report)) == (2, {"covered": 2})
        cloud.disable_api("bigquery.googleapis.com")
        report = gcp.run(cloud).report
        assert report["scopes"]["covered"] == 0
        assert report["scopes"]["active"] == 2


@pytest.mark.parametrize("number", [3, 60])
def test_the_stored_report_is_whole_and_the_answer_is_cut(number: int) -> None:
    """The report under runs/ names every account's action; the answer names fifty and says where the rest is."""
    with aws.local_aws(accounts=number) as cloud:
        finished = aws.run(cloud)
        assert {one["scope"] for one in finished.report["actions"]} == set(cloud.accounts())
        answer = finished.answer()
        assert answer == cut_lists(finished.report, finished.stored_as)
        assert finished.stored_as.startswith("s3://") or "runs/" in finished.stored_as
        assert (len(answer["actions"]) == 51) is (number > 50)
