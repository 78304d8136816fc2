"""Enumeration of the scopes: paging, subscription states, the tenant, management groups and billing scopes."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from azure_function.clients import drop_clients
from azure_function.errors import UNAUTHORIZED
from azure_function.scopes import SUBSCRIPTION, Scopes
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.state import Behavior
from shared.errors import Denied, NotFound, RunStopped
from shared.model import Enumeration, Verb
from tests.azure_function.support import account_settings, action, local_azure, messages, run


@pytest.fixture
def paged() -> Iterator[LocalAzure]:
    """Return a tenant with seven subscriptions whose listings have pages of two, and empty pages in between."""
    with local_azure(Behavior(page_size=2, empty_pages_every=2), subscriptions=7) as cloud:
        yield cloud
        drop_clients()


def test_enumeration_reads_every_page_and_subscription_state(paged: LocalAzure) -> None:
    """Small and empty pages lose no subscription, and inactive subscriptions are reported with their state."""
    ids = paged.subscription_ids
    for one, state in zip(ids[3:], ("Disabled", "Warned", "PastDue", "Deleted"), strict=True):
        paged.set_state(one, state)
    finished = run(paged)
    assert (finished.report["scopes"]["total"], finished.report["scopes"]["active"]) == (7, 4)
    assert {action(finished, one).detail for one in (ids[3], ids[4], ids[6])} == {"Disabled", "Warned", "Deleted"}
    assert action(finished, ids[5]).verb is Verb.CREATE
    assert sum(len(paged.exports(one)) for one in ids) == 4


def test_include_exclude_and_management_group_select_the_subscriptions(paged: LocalAzure) -> None:
    """The container of the destination stays a target even if its subscription is not selected."""
    first, second, third, *_ = paged.subscription_ids
    chosen = run(paged, INCLUDE_SUBSCRIPTIONS=f"{second.upper()},{third}", dry_run=True)
    assert {one.key.scope for one in chosen.outcomes if one.key.kind == "export"} == {second, third}
    assert {one.key.scope for one in chosen.outcomes if one.key.kind == "container"} == {first}
    unknown = "00000000-0000-0000-0000-00000000000f"
    assert f"{unknown} in INCLUDE_SUBSCRIPTIONS" in messages(run(paged, INCLUDE_SUBSCRIPTIONS=unknown, dry_run=True))
    without = run(paged, EXCLUDE_SUBSCRIPTIONS=first, dry_run=True)
    assert len([one for one in without.outcomes if one.key.kind == "export"]) == 6
    inside = run(paged, MANAGEMENT_GROUP="sandbox", dry_run=True)
    below = {one.key.scope for one in inside.outcomes if one.key.kind == "export"}
    assert 0 < len(below) < 7
    unreadable = run(paged, MANAGEMENT_GROUP="nowhere", dry_run=True)
    assert not unreadable.report["enumeration_complete"]
    assert "MANAGEMENT_GROUP" in messages(unreadable)
    assert not [one for one in unreadable.outcomes if one.key.kind == "export"]


def test_empty_subscription_list_fails_the_run(azure: LocalAzure) -> None:
    """Azure returns an empty list to an identity without role assignments. The run fails and keeps its state."""
    run(azure)
    for one in azure.subscription_ids:
        azure.revoke_rights(one)
    finished = run(azure)
    assert finished.report["status"] == "failed"
    assert "lost its role assignments" in messages(finished)
    for one in azure.subscription_ids:
        azure.grant_rights(one, 0)
    assert run(azure).report["scopes"]["covered"] == 6


def test_wrong_tenant_or_expired_token_stops_the_run(azure: LocalAzure) -> None:
    """The report names what to renew, and nothing is written."""
    other = run(azure, AZURE_TENANT_ID="00000000-0000-0000-0000-00000000000f")
    assert other.report["status"] == "failed"
    assert "wrong-tenant" in messages(other)
    expired = run(azure, ARM_TOKEN=_expired_token(azure))
    assert expired.report["status"] == "failed"
    assert "Renew the credentials" in messages(expired)
    assert azure.exports() == []


def test_unreachable_resource_manager_fails_the_run(azure: LocalAzure) -> None:
    """With nothing listening on the endpoint, the run ends before its deadline and reports the failure."""
    finished = run(azure, ARM_ENDPOINT="http://127.0.0.1:1", seconds=300)
    assert finished.report["status"] == "failed"
    assert "could not be reached" in messages(finished)


def test_managed_identity_is_used_without_a_configured_token(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token comes from the platform's identity endpoint. If that fails, the run stops with a remedy."""
    environment = azure.environment()
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.setenv(name, environment[name])
    assert run(azure, ARM_TOKEN="").report["scopes"]["covered"] == 6
    assert azure.calls.actions(app=azure.principal)
    drop_clients()
    azure.break_identity("wrong-tenant")
    wrong = run(azure, ARM_TOKEN="")
    assert wrong.report["status"] == "failed"
    assert "Renew the credentials" in messages(wrong)


def _expired_token(cloud: LocalAzure) -> str:
    """Return a token of the function's identity that expired a minute ago."""
    from localcloud.azure.iam.caller import token_for

    return token_for(cloud.tenant, cloud.principal, "https://management.azure.com", life_s=-60)


# --- enumeration alone ---------------------------------------------------------------------------

TENANT, ELSEWHERE = "aaaaaaaa-0000-0000-0000-000000000000", "bbbbbbbb-0000-0000-0000-000000000000"
ONE, TWO, THREE = (f"1111111{number}-0000-0000-0000-000000000000" for number in range(1, 4))


def subscription(identifier: str, **fields: str) -> dict[str, str]:
    """Return a subscription as Azure does: enabled, in our tenant."""
    return {"subscriptionId": identifier.upper(), "displayName": "a name", "state": "Enabled", **fields}


class Pages(list[Any]):
    """A listing with one item on each page."""

    def by_page(self) -> Iterator[list[Any]]:
        """Yield the pages."""
        return ([one] for one in self)


class Tenant:
    """Resource Manager with these subscriptions, or with an error; `claims` are those of the token."""

    def __init__(self, *shown: dict[str, str], claims: dict[str, str] | None = None, error: Any = None) -> None:
        self.shown, self.error = [{"tenantId": TENANT.upper(), **one} for one in shown], error
        self.claims = lambda: {"tid": TENANT.upper()} if claims is None else claims
        self.subscriptions = SimpleNamespace(subscriptions=self)
        self.groups = SimpleNamespace(
            management_groups=SimpleNamespace(get_descendants=lambda _group: Pages(self.below))
        )
        self.billing = SimpleNamespace()
        self.below: list[dict[str, str]] = []
        self.beats = 0

    def list(self) -> Pages:
        """Return all subscriptions."""
        if self.error:
            raise self.error
        return Pages(self.shown)

    def get(self, identifier: str) -> dict[str, str]:
        """Return a subscription."""
        for one in self.shown:
            if one["subscriptionId"].lower() == identifier and not self.error:
                return one
        raise self.error or NotFound("SubscriptionNotFound", "no such subscription")

    def enumerate(self, *requested: str, **settings: str) -> Enumeration:
        """Enumerate with these settings, without billing scopes."""
        work: Any = SimpleNamespace(calls=lambda _, call, *arguments: call(*arguments), heartbeat=self._beat)
        clients: Any = self
        return Scopes(account_settings(1, BILLING_SCOPES="off", **settings), clients, work).enumerate(requested)

    def _beat(self) -> None:
        self.beats += 1


def selected(found: Enumeration) -> dict[str, str]:
    """Return the reason of each subscription, "" for an active one, without those of destinations."""
    return {one.id: one.reason for one in found.scopes if one.traits["role"] == SUBSCRIPTION}


def test_subscriptions_have_their_name_and_state() -> None:
    """Ids in lower case; the tenant of the token owns the state, and one of another tenant does not take part."""
    cloud = Tenant(
        subscription(TWO, state="Disabled"), subscription(ONE), subscription(THREE, tenantId=ELSEWHERE, state="")
    )
    found = cloud.enumerate()
    assert selected(found) == {ONE: "", TWO: "Disabled", THREE: f"in another tenant ({ELSEWHERE})"}
    assert {one.name for one in found.scopes if one.id in (ONE, TWO)} == {"a name"}
    assert (found.owner, found.complete, cloud.beats) == (TENANT, True, 3)
    assert selected(Tenant(subscription(ONE, state="")).enumerate()) == {ONE: "no state"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"INCLUDE_SUBSCRIPTIONS": f"{ONE},{TWO}"}, [ONE, TWO]),
        ({"EXCLUDE_SUBSCRIPTIONS": ONE}, [TWO, THREE]),
        ({"MANAGEMENT_GROUP": "group"}, [TWO]),
        ({"MANAGEMENT_GROUP": "group", "INCLUDE_SUBSCRIPTIONS": ONE}, [ONE]),
    ],
)
def test_settings_select_subscriptions(settings: dict[str, str], expected: list[str]) -> None:
    """A list wins over a management group, of which only subscriptions count."""
    cloud = Tenant(subscription(ONE), subscription(TWO), subscription(THREE))
    cloud.below = [
        {"type": "Microsoft.Management/managementGroups", "name": THREE},
        {"type": "Microsoft.Management/managementGroups/Subscriptions", "name": TWO.upper()},
    ]
    found = cloud.enumerate(**settings)
    assert list(selected(found)) == expected
    assert (found.complete, found.problems) == (True, ())


def test_included_subscription_that_is_not_listed_is_a_problem() -> None:
    """The listing is incomplete: the function may lack the role there."""
    found = Tenant(subscription(ONE)).enumerate(INCLUDE_SUBSCRIPTIONS=f"{ONE},{TWO}")
    assert (list(selected(found)), found.complete) == ([ONE], False)
    assert [(one.code, one.scope) for one in found.problems] == [("subscription-not-visible", TWO)]


def test_requested_subscription_that_does_not_exist_is_a_problem_of_its_own() -> None:
    """The others are still read; its name is cut in the report."""
    found = Tenant(subscription(ONE)).enumerate(ONE.upper(), "x" * 99)
    assert (selected(found), found.complete) == ({ONE: ""}, False)
    (problem,) = found.problems
    assert (problem.code, problem.scope) == ("subscription-not-found", "x" * 80)
    assert problem.message == f"{'x' * 80}: no such subscription"


@pytest.mark.parametrize(
    ("claims", "shown", "owner", "code"),
    [
        ({"tid": TENANT}, [TENANT], TENANT, ""),
        ({"tid": ELSEWHERE}, [TENANT], "", "wrong-tenant"),
        ({}, [TENANT, ELSEWHERE, ELSEWHERE], ELSEWHERE, ""),
        ({}, [ELSEWHERE, TENANT], TENANT, ""),
        ({}, [""], "", "tenant-unknown"),
    ],
)
def test_tenant_is_that_of_the_token_or_of_most_subscriptions(
    claims: dict[str, str], shown: list[str], owner: str, code: str
) -> None:
    """Credentials of another tenant would read the state of one and write exports in the other."""
    ids = (ONE, TWO, THREE)
    cloud = Tenant(
        *(subscription(one, tenantId=tenant) for one, tenant in zip(ids, shown, strict=False)), claims=claims
    )
    if code:
        with pytest.raises(RunStopped) as stopped:
            cloud.enumerate(AZURE_TENANT_ID="")
        assert stopped.value.code == code
    else:
        assert cloud.enumerate(AZURE_TENANT_ID="").owner == owner


@pytest.mark.parametrize(("code", "stopped"), [(UNAUTHORIZED, "credentials"), ("denied", "subscriptions-forbidden")])
def test_refused_listing_ends_the_run(code: str, stopped: str) -> None:
    """Nothing could be concluded from it."""
    with pytest.raises(RunStopped, match="no") as raised:
        Tenant(error=Denied(code, "no")).enumerate()
    assert raised.value.code == stopped
    with pytest.raises(RunStopped) as empty:
        Tenant().enumerate()
    assert empty.value.code == "no-subscriptions"


def test_refused_token_ends_a_run_for_one_subscription() -> None:
    """A refusal of that subscription only is a problem of its own."""
    with pytest.raises(RunStopped) as raised:
        Tenant(error=Denied(UNAUTHORIZED, "no")).enumerate(ONE)
    assert raised.value.code == "credentials"
    found = Tenant(error=Denied("denied", "no")).enumerate(ONE)
    assert [one.code for one in found.problems] == ["subscription-not-found"]
