"""Accounts that leave, return, or change their organization, including the function's own account."""

from __future__ import annotations

import json

import pytest

from localcloud.aws.cloud import LocalAws
from shared.model import Verb
from tests.aws_lambda.support import EXPORT, HOUR, Lines, action, local_aws, members, run, verbs, wrote_nothing
from tests.localcloud.aws.helpers import OTHER_MANAGEMENT, join_another_organization


def remembered(cloud: LocalAws) -> set[str]:
    """Return the accounts in the function's state that are not marked as gone."""
    where = {"Bucket": cloud.deployment.bucket, "Key": "state/known_accounts.json"}
    scopes = json.loads(cloud.client("s3").get_object(**where)["Body"].read())["scopes"]
    return {account for account, known in scopes.items() if not known.get("gone_at")}


def test_account_that_leaves_is_marked_and_covered_when_it_returns(covered: LocalAws) -> None:
    """It is neither a failure nor a manual step; after three listings it is marked as gone; its return is reported."""
    account = members(covered)[0]
    assert account in remembered(covered)
    covered.remove_account(account)
    lines = Lines()
    for _ in range(4):
        covered.advance(HOUR)
        finished = run(covered, sink=lines)
        assert (finished.report["status"], finished.report["manual"], finished.report["failures"]) == ("ok", [], [])
        assert finished.report["scopes"]["covered"] == finished.report["scopes"]["active"] == 3
    assert [fields["scope"] for _, event, fields in lines.lines if event == "scope-gone"] == [account]
    assert account not in remembered(covered)
    assert covered.organization
    covered.organization.join("returned", "returned@example.com", identity=account, method="INVITED")
    covered.advance(HOUR)
    finished = run(covered, sink=lines)
    assert [fields["scope"] for _, event, fields in lines.lines if event == "scope-returned"] == [account]
    assert finished.report["scopes"]["covered"] == 4
    assert covered.instances()[account] == "SUCCEEDED"


def test_standalone_member_is_covered_in_any_organization() -> None:
    """When it changes its organization, the account keeps its export, bucket and state."""
    with local_aws(kind="member") as cloud:
        run(cloud, ACCOUNT_KIND="standalone")
        cloud.deliver()
        assert cloud.organization
        cloud.organization.remove(cloud.account)
        for _ in ("alone", "in another organization"):
            cloud.advance(HOUR)
            finished = run(cloud, ACCOUNT_KIND="standalone")
            assert finished.report["status"] == "ok", finished.report["failures"]
            assert set(verbs(finished)) == {"KEEP"}
            join_another_organization(cloud)
        assert cloud.exports() == {EXPORT: "HEALTHY"}


def test_management_account_that_becomes_a_member_stops_with_both_remedies(covered: LocalAws) -> None:
    """Its export would contain only its own costs: nothing is written, and the operator may continue standalone."""
    join_another_organization(covered)
    covered.calls.clear()
    finished = run(covered)
    (failure,) = finished.report["failures"]
    assert (finished.report["status"], failure["code"]) == ("failed", "member-account")
    assert OTHER_MANAGEMENT in failure["message"]
    assert f"management account {OTHER_MANAGEMENT}" in failure["remedy"]
    assert "ACCOUNT_KIND=standalone" in failure["remedy"]
    assert "elegate" not in failure["remedy"]
    assert wrote_nothing(covered)
    finished = run(covered, ACCOUNT_KIND="standalone")
    assert finished.report["status"] == "ok", finished.report["failures"]
    assert action(finished, "export").verb is Verb.KEEP


def test_management_account_without_organization_continues_standalone(covered: LocalAws) -> None:
    """Without an organization there are no members: they are marked as gone, and the export continues."""
    for account in members(covered):
        covered.remove_account(account)
    covered.client("organizations").delete_organization()
    for _ in range(4):
        covered.advance(HOUR)
        finished = run(covered)
        assert finished.report["status"] == "ok", finished.report["failures"]
        assert finished.report["scopes"]["active"] == finished.report["scopes"]["covered"] == 1
    assert remembered(covered) == {covered.account}


@pytest.mark.parametrize("kind", ["management", "standalone"])
def test_organization_with_consolidated_billing_is_covered_without_members(kind: str) -> None:
    """As a management account its members wait for all features; standalone there is nothing to wait for."""
    with local_aws() as cloud:
        assert cloud.organization
        cloud.organization.feature_set = "CONSOLIDATED_BILLING"
        cloud.world.stacks.withdraw_access(cloud.organization, "member.org.stacksets.cloudformation.amazonaws.com")
        finished = run(cloud, ACCOUNT_KIND=kind)
        codes = {one["code"] for one in finished.report["manual"]}
        assert codes == ({"all-features-needed"} if kind == "management" else set())
        alone = finished.report["scopes"]["active"] == finished.report["scopes"]["covered"] == 1
        assert alone is (kind == "standalone")
        assert cloud.exports() == {EXPORT: "HEALTHY"}
