"""Enumeration of accounts, for each kind of account that the function may run in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from aws_lambda.clients import RATES
from aws_lambda.errors import NOT_IN_ORGANIZATION, translate
from aws_lambda.scopes import ASK_ONE_BY_ONE, REOPENABLE, Scopes, scope_of
from aws_lambda.settings import read_settings
from localcloud.aws.cloud import LocalAws
from shared.errors import Denied, NotFound, Permanent, RunStopped
from shared.model import Enumeration, ScopeState, Verb
from shared.reconcile import RunResult
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from shared.settings import EngineSettings
from tests.aws_lambda.support import (
    EXPORT,
    HOUR,
    action,
    local_aws,
    members,
    messages,
    outcome,
    run,
    verbs,
    wrote_nothing,
)

MANAGEMENT = "111122223333"


def test_all_pages_are_read_including_empty_ones() -> None:
    """Small pages, and empty pages before further ones, hide no account."""
    with local_aws(accounts=45, page_size=4, empty_pages_every=2) as cloud:
        finished = run(cloud)
        assert finished.report["scopes"]["total"] == 45
        assert finished.report["enumeration_complete"] is True
        assert len(cloud.instances()) == 44


@pytest.mark.parametrize("kind", ["standalone", "management"])
def test_standalone_account_has_an_export_and_no_member_roles(kind: str) -> None:
    """Without an organization the account itself is the only scope, whatever ACCOUNT_KIND says."""
    with local_aws(accounts=1, kind="standalone") as cloud:
        finished = run(cloud, ACCOUNT_KIND=kind)
        assert finished.report["status"] == "ok"
        assert {one.key.kind for one in finished.outcomes} == {"bucket", "export", "connector-role"}
        assert finished.report["scopes"]["covered"] == 1


def test_member_account_is_rejected_with_the_management_account_id() -> None:
    """Its export would contain only its own costs: nothing is written, and the message says where to deploy."""
    with local_aws(kind="member") as cloud:
        finished = run(cloud)
        assert finished.report["status"] == "failed"
        assert wrote_nothing(cloud, "bcm-data-exports", "cloudformation")
        failure = finished.report["failures"][0]
        assert failure["code"] == "member-account"
        assert MANAGEMENT in failure["message"]
        assert MANAGEMENT in failure["remedy"]


def test_delegated_administrator_repairs_members_and_reports_the_export() -> None:
    """Every StackSet call is made as delegated administrator; the export belongs to the management account."""
    called: list[tuple[str, Any]] = []

    def note(attempt: Any) -> bool:
        called.append((attempt.operation, attempt.params.get("CallAs")))
        return False

    with local_aws(kind="delegated") as cloud:
        cloud.faults.add("cloudformation", "*", "InternalFailure", times=None, when=note)
        finished = run(cloud)
        assert finished.report["status"] == "ok"
        assert len(cloud.instances()) == 3
        assert {call_as for _, call_as in called} == {"DELEGATED_ADMIN"}
        export = outcome(finished, "export")
        assert (export.action.verb, export.key.scope) == (Verb.MANUAL, MANAGEMENT)
        assert "belongs to management account" in messages(finished)
        assert cloud.calls.count("bcm-data-exports") == 0


def test_without_organization_permissions_only_the_own_account_is_covered() -> None:
    """A denied listing is not an empty organization: the enumeration is incomplete; the state keeps all accounts."""
    with local_aws() as cloud:
        run(cloud)
        cloud.deny("organizations:ListAccounts")
        finished = run(cloud)
        assert finished.report["enumeration_complete"] is False
        assert finished.report["scopes"]["total"] == 1
        assert finished.report["failures"][0]["code"] == "accounts-not-listed"
        assert "organizations:ListAccounts" in finished.report["failures"][0]["remedy"]
        cloud.allow("organizations:ListAccounts")
        assert set(verbs(run(cloud))) == {"KEEP"}


def test_unreadable_organization_stops_the_run() -> None:
    """The account may be a member or the management account, so nothing is concluded."""
    with local_aws() as cloud:
        cloud.deny("organizations:*")
        finished = run(cloud)
        assert finished.report["status"] == "failed"
        assert finished.report["failures"][0]["code"] == "organization-unreadable"
        assert wrote_nothing(cloud, "bcm-data-exports", "cloudformation")


def test_included_accounts_are_the_only_members(aws: LocalAws) -> None:
    """The function's own account stays, since it has the organization's export."""
    chosen = members(aws)[1]
    finished = run(aws, INCLUDE_ACCOUNTS=chosen)
    assert {one.key.scope for one in finished.outcomes} == {MANAGEMENT, chosen}
    assert set(aws.instances()) == {chosen}
    assert finished.report["enumeration_complete"] is True


def test_included_account_outside_the_organization_is_reported(aws: LocalAws) -> None:
    """The other accounts are covered, and the state keeps all accounts."""
    inside = members(aws)[0]
    finished = run(aws, INCLUDE_ACCOUNTS=f"{inside},999988887777")
    (named,) = [one for one in finished.report["failures"] if one["code"] == "account-outside"]
    assert named["scope"] == "999988887777"
    assert "INCLUDE_ACCOUNTS" in named["remedy"]
    assert finished.report["status"] == "degraded"
    assert finished.report["enumeration_complete"] is True
    assert set(aws.instances()) == {inside}


def test_included_accounts_and_ous_add_up(aws: LocalAws) -> None:
    """An account in INCLUDE_ACCOUNTS need not be below an OU in INCLUDE_OUS."""
    client = aws.client("organizations")
    root = client.list_roots()["Roots"][0]["Id"]
    unit = client.create_organizational_unit(ParentId=root, Name="Chosen")["OrganizationalUnit"]["Id"]
    inside, named, _ = members(aws)
    aws.move_account(inside, unit)
    run(aws, INCLUDE_OUS=unit, INCLUDE_ACCOUNTS=named)
    assert set(aws.instances()) == {inside, named}


def test_excluded_accounts_are_not_scopes(aws: LocalAws) -> None:
    """They are ignored, not reported as missing."""
    left_out = members(aws)[0]
    finished = run(aws, EXCLUDE_ACCOUNTS=left_out)
    assert left_out not in {one.key.scope for one in finished.outcomes}
    assert left_out not in aws.instances()


def test_included_ous_are_listed_recursively(aws: LocalAws) -> None:
    """INCLUDE_OUS selects the accounts of an OU and of all OUs below it; without it no OU is listed."""
    client = aws.client("organizations")
    root = client.list_roots()["Roots"][0]["Id"]
    parent = client.create_organizational_unit(ParentId=root, Name="Outer")["OrganizationalUnit"]["Id"]
    child = client.create_organizational_unit(ParentId=parent, Name="Inner")["OrganizationalUnit"]["Id"]
    inside = members(aws)[:2]
    aws.move_account(inside[0], parent)
    aws.move_account(inside[1], child)
    aws.calls.clear()
    finished = run(aws, INCLUDE_OUS=parent)
    assert {one.key.scope for one in finished.outcomes} == {MANAGEMENT, *inside}
    assert aws.calls.count("organizations", "ListOrganizationalUnitsForParent") == 2
    aws.calls.clear()
    run(aws)
    assert aws.calls.count("organizations", "ListOrganizationalUnitsForParent") == 0


def test_unknown_ou_makes_the_enumeration_incomplete(aws: LocalAws) -> None:
    """A wrong setting never removes accounts from the state."""
    finished = run(aws, INCLUDE_OUS="ou-abcd-12345678")
    assert finished.report["enumeration_complete"] is False
    assert "ou-abcd-12345678" in messages(finished)


def test_request_for_one_account_reads_only_that_account(covered: LocalAws) -> None:
    """Neither all accounts nor all instances are listed for it."""
    member = members(covered)[0]
    covered.remove_instance(member)
    finished = run(covered, [member])
    assert covered.instances()[member] == "SUCCEEDED"
    assert action(finished, "member-role", member).verb is Verb.CREATE
    assert covered.calls.count("organizations", "ListAccounts") == 0
    assert covered.calls.count("organizations", "DescribeAccount") == 1
    assert covered.calls.count("bcm-data-exports") == 0


def test_requested_account_that_does_not_exist_is_reported(aws: LocalAws) -> None:
    """The request is not silently empty."""
    finished = run(aws, ["999999999999"])
    assert "999999999999" in messages(finished)
    assert wrote_nothing(aws, "bcm-data-exports", "cloudformation")


@pytest.mark.parametrize("state", ["SUSPENDED", "CLOSED"])
def test_inactive_accounts_are_skipped_with_their_state(aws: LocalAws, state: str) -> None:
    """The state is the reason."""
    member = members(aws)[0]
    (aws.suspend_account if state == "SUSPENDED" else aws.close_account)(member)
    shown = aws.accounts()[member]
    skipped = action(run(aws), "member-role", member)
    assert (skipped.verb, skipped.reason, skipped.detail) == (Verb.SKIP, "scope-inactive", shown)


def test_export_is_created_in_an_empty_standalone_account() -> None:
    """Bucket and export are created; resources of the deployment are reported with manual steps."""
    with local_aws(accounts=1, bare=True) as cloud:
        finished = run(cloud)
        assert EXPORT in cloud.exports()
        assert action(finished, "connector-role").verb is Verb.MANUAL
        assert finished.report["status"] == "ok"


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ({"State": "ACTIVE", "Status": "SUSPENDED"}, ""),
        ({"State": "PENDING_CLOSURE", "Status": "ACTIVE"}, "PENDING_CLOSURE"),
        ({"State": "PENDING_ACTIVATION"}, "PENDING_ACTIVATION"),
        ({"Status": "SUSPENDED"}, "SUSPENDED"),
        ({"Status": "ACTIVE"}, ""),
        ({}, ""),
    ],
)
def test_state_counts_before_the_retired_status(shown: dict[str, str], reason: str) -> None:
    """Both are read, because endpoints differ; only ACTIVE accounts take part."""
    scope = scope_of({"Id": "210000000000", **shown}, MANAGEMENT, MANAGEMENT)
    assert (scope.reason, scope.state.value) == (reason, "inactive" if reason else "active")


def test_standalone_account_that_creates_an_organization_keeps_its_state() -> None:
    """Account and bucket stay the same: nothing is recreated, and the new organization is covered."""
    with local_aws(accounts=1, kind="standalone") as cloud:
        run(cloud)
        cloud.deliver()
        cloud.client("organizations").create_organization(FeatureSet="ALL")
        cloud.advance(HOUR)
        finished = run(cloud, ACCOUNT_KIND="management")
        assert finished.report["status"] != "failed", finished.report["failures"]
        assert action(finished, "export").verb is Verb.KEEP
        assert action(finished, "stackset").verb is Verb.MANUAL


def test_state_stored_for_the_organization_is_adopted(covered: LocalAws) -> None:
    """Earlier versions stored the organization as the owner; the state of another account is still rejected."""
    s3, where = covered.client("s3"), {"Bucket": covered.deployment.bucket, "Key": "state/known_accounts.json"}
    state = json.loads(s3.get_object(**where)["Body"].read())
    organization = covered.client("organizations").describe_organization()["Organization"]["Id"]

    def run_with_state_of(owner: str) -> RunResult:
        s3.put_object(**where, Body=json.dumps({**state, "owner": owner}).encode())
        return run(covered)

    assert run_with_state_of(organization).report["status"] == "ok"
    assert run_with_state_of("999988887777").report["failures"][0]["code"] == "state-foreign"


@pytest.mark.parametrize("kind", ["member", "management"])
def test_standalone_kind_makes_no_call_to_the_organization(kind: Any) -> None:
    """A member exports its own costs, a management account the organization's; neither creates roles elsewhere."""
    with local_aws(kind=kind) as cloud:
        cloud.deny("organizations:*")
        cloud.deny("cloudformation:*")
        finished = run(cloud, ACCOUNT_KIND="standalone")
        assert finished.report["status"] == "ok", finished.report["failures"]
        assert {one.key.kind for one in finished.outcomes} == {"bucket", "export", "connector-role"}
        assert cloud.exports() == {EXPORT: "HEALTHY"}
        assert cloud.calls.count("organizations") == cloud.calls.count("cloudformation") == 0


def test_listing_without_any_account_proves_nothing() -> None:
    """An organization has at least its management account, so the state must not forget all others."""
    clients: Any = SimpleNamespace(
        organizations=SimpleNamespace(get_paginator=lambda _: None, list_accounts=lambda **_: {"Accounts": []})
    )
    context = RunContext("aws", EngineSettings(), lambda *_: None, VirtualClock(), 900, RATES, translate, seed=1)
    scopes = Scopes(read_settings({"AWS_REGION": "eu-west-1"}), MANAGEMENT, clients, context)
    with pytest.raises(Permanent, match="ListAccounts returned no accounts") as raised:
        scopes.enumerate(())
    assert raised.value.code == "no-accounts"
    assert raised.value.remedy


# --- enumeration alone ---------------------------------------------------------------------------

ONE, TWO, THREE = "210000000001", "210000000002", "210000000003"
ORGANIZATION = "o-abcdefghij"


def account(identifier: str, **fields: str) -> dict[str, str]:
    """Return an account as Organizations does: active, below the management account."""
    arn = f"arn:aws:organizations::{MANAGEMENT}:account/{ORGANIZATION}/{identifier}"
    return {"Id": identifier, "Arn": arn, "Name": f"name {identifier}", "State": "ACTIVE", **fields}


class Organization:
    """Organizations with these accounts, in pages of one; `units` are OUs below an OU, `below` accounts in one."""

    def __init__(self, *accounts: dict[str, str], error: Exception | None = None, own: str = MANAGEMENT) -> None:
        self.accounts, self.error, self.own = list(accounts), error, own
        self.units: dict[str, list[str]] = {}
        self.below: dict[str, list[str]] = {}
        self.organization: dict[str, str] | Exception = {"Id": ORGANIZATION, "MasterAccountId": MANAGEMENT}
        self.described: Exception = NotFound("AccountNotFoundException", "no such account")
        self.calls: list[str] = []
        self.beats = 0
        self.scopes: Scopes

    def _page(self, name: str, all_of: Sequence[Any], MaxResults: int, NextToken: str = "0") -> dict[str, Any]:
        self.calls.append(name)
        if self.error:
            raise self.error
        assert MaxResults == 20
        place = int(NextToken)
        more = {"NextToken": str(place + 1)} if place + 1 < len(all_of) else {}
        return {name: list(all_of[place : place + 1]), **more} if all_of else {}

    def list_accounts(self, **page: Any) -> dict[str, Any]:
        """Return a page of all accounts."""
        return self._page("Accounts", self.accounts, **page)

    def list_accounts_for_parent(self, ParentId: str, **page: Any) -> dict[str, Any]:
        """Return a page of the accounts in an OU."""
        if ParentId not in self.below:
            raise NotFound("ParentNotFoundException", "no such parent")
        return self._page("Accounts", [account(one) for one in self.below[ParentId]], **page)

    def list_organizational_units_for_parent(self, ParentId: str, **page: Any) -> dict[str, Any]:
        """Return a page of the OUs in an OU."""
        return self._page("OrganizationalUnits", [{"Id": one} for one in self.units.get(ParentId, [])], **page)

    def describe_account(self, AccountId: str) -> dict[str, Any]:
        """Return an account."""
        self.calls.append(AccountId)
        if self.error:
            raise self.error
        for one in self.accounts:
            if one["Id"] == AccountId:
                return {"Account": one}
        raise self.described

    def describe_organization(self) -> dict[str, Any]:
        """Return the organization."""
        if isinstance(self.organization, Exception):
            raise self.organization
        return {"Organization": self.organization}

    def enumerate(self, *requested: str, **settings: str) -> Enumeration:
        """Enumerate with these settings."""
        work: Any = SimpleNamespace(calls=lambda _, call, **arguments: call(**arguments), heartbeat=self._beat)
        made = read_settings({"AWS_REGION": "eu-west-1", **settings})
        clients: Any = SimpleNamespace(organizations=self)
        self.scopes = Scopes(made, self.own, clients, work)
        return self.scopes.enumerate(requested)

    def _beat(self) -> None:
        self.beats += 1


def standings(found: Enumeration) -> dict[str, str]:
    """Return the standing of each scope."""
    return {one.id: one.traits["standing"] for one in found.scopes}


def codes(found: Enumeration) -> list[tuple[str, str]]:
    """Return code and scope of each problem."""
    return [(one.code, one.scope) for one in found.problems]


def test_organization_has_its_accounts_in_order_with_their_standing() -> None:
    """Its id was the owner of the state in earlier versions."""
    cloud = Organization(account(TWO), account(MANAGEMENT), account(ONE, State="SUSPENDED"))
    found = cloud.enumerate()
    assert standings(found) == {MANAGEMENT: "management", ONE: "member", TWO: "member"}
    assert [one.id for one in found.scopes] == sorted(one.id for one in found.scopes)
    assert (found.owner, found.formerly, found.complete, found.problems) == (MANAGEMENT, (ORGANIZATION,), True, ())
    assert (cloud.scopes.management, cloud.scopes.delegated, cloud.scopes.requested) == (MANAGEMENT, False, frozenset())
    states = {one.id: (one.name, one.state, one.reason, one.restorable) for one in found.scopes}
    assert states[ONE] == (f"name {ONE}", ScopeState.INACTIVE, "SUSPENDED", REOPENABLE)
    assert states[TWO] == (f"name {TWO}", ScopeState.ACTIVE, "", None)
    assert timedelta(days=90) == REOPENABLE
    assert (cloud.calls, cloud.beats) == (["Accounts"] * 3, 3)


@pytest.mark.parametrize("listed", [True, False])
def test_delegated_administrator_is_a_scope_even_if_it_is_not_listed(listed: bool) -> None:
    """Members depend on its resources, and it is active, since the function runs in it."""
    cloud = Organization(account(MANAGEMENT), account(TWO), *([account(ONE)] if listed else []), own=ONE)
    found = cloud.enumerate(INCLUDE_ACCOUNTS=TWO)
    assert standings(found) == {MANAGEMENT: "management", ONE: "delegated", TWO: "member"}
    assert cloud.scopes.delegated
    assert found.owner == ONE


@pytest.mark.parametrize("state", ["SUSPENDED", "PENDING_CLOSURE", "CLOSED", "PENDING_ACTIVATION"])
def test_only_a_closed_account_may_be_reopened(state: str) -> None:
    """Source: "Closing an AWS account": it is kept for 90 days."""
    scope = scope_of(account(ONE, State=state), MANAGEMENT, MANAGEMENT)
    assert scope.restorable == (None if state == "PENDING_ACTIVATION" else REOPENABLE)
    assert scope_of({"Id": ONE}, MANAGEMENT, MANAGEMENT).name == ""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [ONE, TWO, THREE]),
        ({"INCLUDE_ACCOUNTS": ONE}, [ONE]),
        ({"EXCLUDE_ACCOUNTS": f"{ONE},{MANAGEMENT}"}, [TWO, THREE]),
        ({"INCLUDE_OUS": "ou-abcd-aaaaaaaa"}, [ONE, TWO]),
        ({"INCLUDE_OUS": "ou-abcd-aaaaaaaa", "INCLUDE_ACCOUNTS": THREE}, [ONE, TWO, THREE]),
        ({"INCLUDE_OUS": "ou-abcd-aaaaaaaa", "EXCLUDE_ACCOUNTS": ONE}, [TWO]),
    ],
)
def test_members_are_selected_and_the_management_account_stays(settings: dict[str, str], expected: list[str]) -> None:
    """It has the export of all costs; accounts of OUs below a selected one count too."""
    cloud = Organization(account(MANAGEMENT), account(ONE), account(TWO), account(THREE))
    cloud.below = {"ou-abcd-aaaaaaaa": [ONE], "ou-abcd-bbbbbbbb": [], "ou-abcd-cccccccc": [TWO]}
    cloud.units = {"ou-abcd-aaaaaaaa": ["ou-abcd-bbbbbbbb", "ou-abcd-cccccccc"]}
    found = cloud.enumerate(**settings)
    assert [one.id for one in found.scopes] == [MANAGEMENT, *expected]
    assert (found.complete, codes(found)) == (True, [])


def test_unlisted_ou_makes_the_listing_incomplete() -> None:
    """Its members must not be forgotten; the accounts of the others are still scopes."""
    cloud = Organization(account(MANAGEMENT), account(ONE), account(TWO))
    cloud.below = {"ou-abcd-bbbbbbbb": [TWO]}
    found = cloud.enumerate(INCLUDE_OUS="ou-abcd-aaaaaaaa,ou-abcd-bbbbbbbb")
    assert [one.id for one in found.scopes] == [MANAGEMENT, TWO]
    assert (found.complete, codes(found)) == (False, [("ou-not-listed", "")])
    assert "ou-abcd-aaaaaaaa (INCLUDE_OUS) could not be listed: no such parent" in found.problems[0].message


def test_included_account_of_another_organization_is_named_and_ignored() -> None:
    """The listing is complete all the same; a request for other accounts does not repeat it."""
    cloud = Organization(account(MANAGEMENT), account(ONE))
    found = cloud.enumerate(INCLUDE_ACCOUNTS=f"{ONE},{THREE}")
    assert (found.complete, codes(found)) == (True, [("account-outside", THREE)])
    assert f"account {THREE} in INCLUDE_ACCOUNTS is not in organization {ORGANIZATION}" in found.problems[0].message
    assert codes(cloud.enumerate(ONE, INCLUDE_ACCOUNTS=f"{ONE},{THREE}")) == []


@pytest.mark.parametrize("number", [1, ASK_ONE_BY_ONE, ASK_ONE_BY_ONE + 1])
def test_few_requested_accounts_are_read_one_by_one(number: int) -> None:
    """For more, the listing takes no more calls; the own account stays, since members depend on it."""
    members = [account(f"{210000000000 + one}") for one in range(30)]
    cloud = Organization(account(MANAGEMENT), *members)
    requested = [one["Id"] for one in members[:number]]
    found = cloud.enumerate(*requested)
    assert [one.id for one in found.scopes] == [MANAGEMENT, *requested]
    assert (found.complete, cloud.scopes.requested) == (False, frozenset(requested))
    assert len(cloud.calls) == cloud.beats == (number if number <= ASK_ONE_BY_ONE else 31)


@pytest.mark.parametrize("code", ["AccountNotFoundException", "InvalidInputException"])
def test_requested_account_that_does_not_exist_is_a_problem_of_its_own(code: str) -> None:
    """The other accounts are read all the same; without any, the enumeration is empty."""
    cloud = Organization(account(ONE), account(MANAGEMENT))
    cloud.described = (NotFound if code.startswith("Account") else Permanent)(code, "no")
    assert codes(found := cloud.enumerate("x" * 50, ONE)) == [("account-not-found", "x" * 50)]
    assert f"account {'x' * 40} was not found" in found.problems[0].message
    assert standings(found) == {MANAGEMENT: "management", ONE: "member"}
    none = cloud.enumerate(THREE)
    assert (none.scopes, none.complete, codes(none)) == ((), False, [("account-not-found", THREE)])
    cloud.described = Permanent("ServiceException", "no")
    with pytest.raises(Permanent, match="no"):
        cloud.enumerate(THREE)


def test_account_without_an_organization_is_alone() -> None:
    """Other accounts that are requested are not there."""
    cloud = Organization(error=Permanent(NOT_IN_ORGANIZATION, "none"))
    found = cloud.enumerate()
    assert (standings(found), found.complete, found.owner) == ({MANAGEMENT: "standalone"}, True, MANAGEMENT)
    found = cloud.enumerate(MANAGEMENT, ONE)
    assert (standings(found), found.complete) == ({MANAGEMENT: "standalone"}, False)
    assert codes(found) == [("account-not-found", ONE)]
    with pytest.raises(Permanent, match="other"):
        Organization(error=Permanent("OtherException", "other")).enumerate()


def test_refused_listing_is_judged_by_the_organization() -> None:
    """In the management account a permission is missing, a member account is refused, others are standalone."""
    cloud = Organization(error=Denied("denied", "may not list"))
    found = cloud.enumerate()
    assert (standings(found), found.complete) == ({MANAGEMENT: "management"}, False)
    assert (codes(found), found.formerly) == ([("accounts-not-listed", "")], (ORGANIZATION,))
    assert found.problems[0].message.endswith("may not list")
    cloud.own = ONE
    with pytest.raises(RunStopped, match=f"account {ONE} is a member of organization {ORGANIZATION}") as member:
        cloud.enumerate()
    assert (member.value.code, MANAGEMENT in member.value.message) == ("member-account", True)
    cloud.organization = Permanent(NOT_IN_ORGANIZATION, "none")
    assert standings(cloud.enumerate()) == {ONE: "standalone"}
    cloud.organization = Permanent("OtherException", "other")
    with pytest.raises(Permanent, match="other"):
        cloud.enumerate()
    cloud.organization = Denied("denied", "may not read")
    with pytest.raises(RunStopped, match="neither the accounts nor the organization can be read: may not read") as both:
        cloud.enumerate()
    assert (both.value.code, bool(both.value.remedy)) == ("organization-unreadable", True)
