"""AWS Organizations: accounts, units, states and permissions."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.helpers import START, members, root


def test_accounts_come_twenty_at_most_and_some_pages_are_empty() -> None:
    """An empty page carries a NextToken, and following it finds every account once."""
    with LocalAws(accounts=70, clock=VirtualClock(START)) as cloud:
        pages = list(cloud.client("organizations").get_paginator("list_accounts").paginate())
        sizes = [len(page["Accounts"]) for page in pages]
        assert max(sizes) == 20
        assert 0 in sizes[:-1]
        ids = [one["Id"] for page in pages for one in page["Accounts"]]
        assert len(ids) == len(set(ids)) == 70
        assert cloud.account in ids


def test_an_account_id_may_begin_with_a_zero(cloud: LocalAws) -> None:
    """Twelve digits stay twelve digits."""
    ids = members(cloud)
    assert any(one.startswith("0") for one in ids)
    assert {len(one) for one in ids} == {12}


def test_state_and_status_are_both_answered(cloud: LocalAws) -> None:
    """State distinguishes more than Status did: a closed account was SUSPENDED."""
    suspended, closed = members(cloud)[:2]
    cloud.suspend_account(suspended)
    client = cloud.client("organizations")
    client.close_account(AccountId=closed)
    shown = {one: client.describe_account(AccountId=one)["Account"] for one in (suspended, closed, cloud.account)}
    assert [(one["State"], one["Status"]) for one in shown.values()] == [
        ("SUSPENDED", "SUSPENDED"),
        ("CLOSED", "SUSPENDED"),
        ("ACTIVE", "ACTIVE"),
    ]


def test_a_closure_is_pending_for_its_time() -> None:
    """PENDING_CLOSURE until the delay has passed, then CLOSED; closing twice is refused."""
    with LocalAws(accounts=2, clock=VirtualClock(START), close_delay_s=60) as cloud:
        client, one = cloud.client("organizations"), members(cloud)[0]
        client.close_account(AccountId=one)
        assert cloud.accounts()[one] == "PENDING_CLOSURE"
        with pytest.raises(client.exceptions.AccountAlreadyClosedException):
            client.close_account(AccountId=one)
        cloud.advance(61)
        assert cloud.accounts()[one] == "CLOSED"


def test_a_created_account_is_asked_for_by_its_request(cloud: LocalAws) -> None:
    """CreateAccount says IN_PROGRESS; its status then names the account, which is listed."""
    client = cloud.client("organizations")
    request = client.create_account(AccountName="new", Email="new@example.com")["CreateAccountStatus"]
    assert request["State"] == "IN_PROGRESS"
    status = client.describe_create_account_status(CreateAccountRequestId=request["Id"])["CreateAccountStatus"]
    assert status["State"] == "SUCCEEDED"
    assert client.describe_account(AccountId=status["AccountId"])["Account"]["State"] == "ACTIVE"


def test_an_email_can_be_used_once(cloud: LocalAws) -> None:
    """The second request with it fails with EMAIL_ALREADY_EXISTS."""
    client = cloud.client("organizations")
    client.create_account(AccountName="first", Email="new@example.com")
    request = client.create_account(AccountName="second", Email="new@example.com")["CreateAccountStatus"]
    status = client.describe_create_account_status(CreateAccountRequestId=request["Id"])["CreateAccountStatus"]
    assert (status["State"], status["FailureReason"]) == ("FAILED", "EMAIL_ALREADY_EXISTS")


def test_a_member_may_describe_its_organization_but_not_list_accounts(cloud: LocalAws) -> None:
    """DescribeOrganization names the management account to a member; ListAccounts is refused."""
    client = cloud.client("organizations", members(cloud)[0])
    assert client.describe_organization()["Organization"]["MasterAccountId"] == cloud.account
    with pytest.raises(ClientError, match="You don't have permissions to access this resource") as caught:
        client.list_accounts()
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"


def test_a_delegated_administrator_reads_but_does_not_write() -> None:
    """It lists accounts and may not create one."""
    with LocalAws(accounts=3, kind="delegated") as cloud:
        client = cloud.client("organizations")
        assert len(client.list_accounts()["Accounts"]) == 3
        with pytest.raises(client.exceptions.AccessDeniedException):
            client.create_account(AccountName="new", Email="new@example.com")


@pytest.mark.parametrize("bare", [False, True])
def test_a_standalone_account_is_in_no_organization(bare: bool) -> None:
    """AWSOrganizationsNotInUseException, both after a deployment and bare."""
    with LocalAws(kind="standalone", bare=bare) as cloud:
        client = cloud.client("organizations")
        with pytest.raises(client.exceptions.AWSOrganizationsNotInUseException):
            client.describe_organization()


def test_units_hold_accounts(cloud: LocalAws) -> None:
    """A moved account is under its new parent, and units nest below the root."""
    client, one = cloud.client("organizations"), members(cloud)[0]
    unit = client.create_organizational_unit(ParentId=root(cloud), Name="New")["OrganizationalUnit"]["Id"]
    inner = client.create_organizational_unit(ParentId=unit, Name="Inner")["OrganizationalUnit"]["Id"]
    source = client.list_parents(ChildId=one)["Parents"][0]["Id"]
    client.move_account(AccountId=one, SourceParentId=source, DestinationParentId=inner)
    assert [a["Id"] for a in client.list_accounts_for_parent(ParentId=inner)["Accounts"]] == [one]
    listed = client.list_organizational_units_for_parent(ParentId=unit)["OrganizationalUnits"]
    assert [ou["Id"] for ou in listed] == [inner]
    with pytest.raises(client.exceptions.OrganizationalUnitNotEmptyException):
        client.delete_organizational_unit(OrganizationalUnitId=inner)


def test_what_is_not_offered_is_said_plainly(cloud: LocalAws) -> None:
    """An operation outside the local cloud's scope is refused, not answered from another state."""
    with pytest.raises(ClientError, match="does not offer ListPolicies"):
        cloud.client("organizations").list_policies(Filter="SERVICE_CONTROL_POLICY")
    with pytest.raises(ClientError, match="does not offer CreateStack"):
        cloud.client("cloudformation").create_stack(StackName="stack", TemplateBody="{}")
