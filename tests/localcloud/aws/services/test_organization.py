"""AWS Organizations: accounts, units, states and permissions."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.helpers import START, members, root


def test_accounts_are_listed_in_pages_of_twenty_some_of_them_empty() -> None:
    """An empty page has a NextToken, and all pages together have every account once."""
    with LocalAws(accounts=70, clock=VirtualClock(START)) as cloud:
        pages = list(cloud.client("organizations").get_paginator("list_accounts").paginate())
        sizes = [len(page["Accounts"]) for page in pages]
        assert max(sizes) == 20
        assert 0 in sizes[:-1]
        ids = [one["Id"] for page in pages for one in page["Accounts"]]
        assert len(ids) == len(set(ids)) == 70
        assert cloud.account in ids


def test_account_id_keeps_its_leading_zero(cloud: LocalAws) -> None:
    """An id has twelve digits."""
    ids = members(cloud)
    assert any(one.startswith("0") for one in ids)
    assert {len(one) for one in ids} == {12}


def test_account_has_state_and_status(cloud: LocalAws) -> None:
    """State distinguishes more than Status: a closed account has the status SUSPENDED."""
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


def test_closed_account_is_pending_closure_first() -> None:
    """It is PENDING_CLOSURE until the delay has passed, then CLOSED; a second closure is refused."""
    with LocalAws(accounts=2, clock=VirtualClock(START), close_delay_s=60) as cloud:
        client, one = cloud.client("organizations"), members(cloud)[0]
        client.close_account(AccountId=one)
        assert cloud.accounts()[one] == "PENDING_CLOSURE"
        with pytest.raises(client.exceptions.AccountAlreadyClosedException):
            client.close_account(AccountId=one)
        cloud.advance(61)
        assert cloud.accounts()[one] == "CLOSED"


def test_status_of_an_account_creation_is_read_by_its_request_id(cloud: LocalAws) -> None:
    """It is IN_PROGRESS first; later it names the account, which is listed."""
    client = cloud.client("organizations")
    request = client.create_account(AccountName="new", Email="new@example.com")["CreateAccountStatus"]
    assert request["State"] == "IN_PROGRESS"
    status = client.describe_create_account_status(CreateAccountRequestId=request["Id"])["CreateAccountStatus"]
    assert status["State"] == "SUCCEEDED"
    assert client.describe_account(AccountId=status["AccountId"])["Account"]["State"] == "ACTIVE"


def test_second_account_with_the_same_email_fails(cloud: LocalAws) -> None:
    """The status is EMAIL_ALREADY_EXISTS."""
    client = cloud.client("organizations")
    client.create_account(AccountName="first", Email="new@example.com")
    request = client.create_account(AccountName="second", Email="new@example.com")["CreateAccountStatus"]
    status = client.describe_create_account_status(CreateAccountRequestId=request["Id"])["CreateAccountStatus"]
    assert (status["State"], status["FailureReason"]) == ("FAILED", "EMAIL_ALREADY_EXISTS")


def test_member_can_describe_its_organization_but_not_list_accounts(cloud: LocalAws) -> None:
    """DescribeOrganization names the management account."""
    client = cloud.client("organizations", members(cloud)[0])
    assert client.describe_organization()["Organization"]["MasterAccountId"] == cloud.account
    with pytest.raises(ClientError, match="You don't have permissions to access this resource") as caught:
        client.list_accounts()
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"


def test_delegated_administrator_can_read_but_not_write() -> None:
    """It can list accounts, but not create one."""
    with LocalAws(accounts=3, kind="delegated") as cloud:
        client = cloud.client("organizations")
        assert len(client.list_accounts()["Accounts"]) == 3
        with pytest.raises(client.exceptions.AccessDeniedException):
            client.create_account(AccountName="new", Email="new@example.com")


@pytest.mark.parametrize("bare", [False, True])
def test_standalone_account_has_no_organization(bare: bool) -> None:
    """The error is AWSOrganizationsNotInUseException, both deployed and bare."""
    with LocalAws(kind="standalone", bare=bare) as cloud:
        client = cloud.client("organizations")
        with pytest.raises(client.exceptions.AWSOrganizationsNotInUseException):
            client.describe_organization()


def test_accounts_can_be_moved_between_units(cloud: LocalAws) -> None:
    """Units can be nested below the root."""
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


def test_unsupported_operation_is_refused(cloud: LocalAws) -> None:
    """The local cloud does not fall back to moto's state."""
    with pytest.raises(ClientError, match="does not offer ListPolicies"):
        cloud.client("organizations").list_policies(Filter="SERVICE_CONTROL_POLICY")
    with pytest.raises(ClientError, match="does not offer ListTypes"):
        cloud.client("cloudformation").list_types()
