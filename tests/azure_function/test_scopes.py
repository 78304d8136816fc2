"""Enumeration of the scopes: paging, subscription states, the tenant, management groups and billing scopes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.state import Behavior
from shared.model import Verb
from tests.azure_function.support import action, local_azure, messages, run


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
