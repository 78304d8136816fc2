"""Enumeration of the scopes: paging, subscription states, the tenant, management groups and billing scopes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.state import Behavior
from shared.model import Result, Verb
from tests.azure_function.support import DAY, HOUR, action, advance, local_azure, messages, outcome, run, verbs


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


def test_billing_export_covers_its_subscriptions_until_it_stops_delivering(azure: LocalAzure) -> None:
    """Each enrollment account is a scope. Subscriptions in its export get no export of their own while it delivers."""
    ids = azure.subscription_ids
    azure.add_billing_account("8611537", "EnterpriseAgreement", {"one": ids[:2], "two": ids[2:4]})
    azure.grant_billing()
    finished = run(azure, BILLING_SCOPES="auto")
    assert finished.report["status"] == "ok", finished.report["failures"]
    assert [len(azure.exports(one)) for one in ids] == [0, 0, 0, 0, 1, 1]
    scope = "/providers/Microsoft.Billing/billingAccounts/8611537/enrollmentAccounts/one"
    assert outcome(finished, scope, name="TailpipeAllSubs").result is Result.DONE
    assert "TailpipeAllSubs" in action(finished, ids[0]).detail
    advance(azure, HOUR)
    assert set(verbs(run(azure, BILLING_SCOPES="auto"))) == {"KEEP", "SKIP"}
    azure.fail_runs("*", times=50)
    for _ in range(2):
        advance(azure, 3 * DAY)
        run(azure, BILLING_SCOPES="auto")
    advance(azure, 3 * DAY)
    later = run(azure, BILLING_SCOPES="auto")
    assert later.report["scopes"]["total"] == 8
    assert [len(azure.exports(one)) for one in ids[:2]] == [1, 1], (
        "a billing export that delivers nothing covers no subscription"
    )


def test_nested_billing_scope_is_skipped_and_reported(azure: LocalAzure) -> None:
    """The enrollment includes its accounts, so the inner scope is skipped, regardless of the order in the setting."""
    ids = azure.subscription_ids
    outer = azure.add_billing_account("8611537", "EnterpriseAgreement", {"one": ids[:2], "two": ids[2:]})
    azure.grant_billing()
    finished = run(azure, BILLING_SCOPES=f"{outer}/enrollmentAccounts/one,{outer}")
    assert [one["id"].partition("/providers/Microsoft.CostManagement")[0] for one in azure.exports()] == [outer]
    (failure,) = finished.report["failures"]
    assert (failure["code"], failure["scope"]) == ("billing-overlap", f"{outer}/enrollmentAccounts/one")
    assert "not exported a second time" in failure["message"]


def test_accounts_of_a_selected_department_are_skipped_and_reported(azure: LocalAzure) -> None:
    """An enrollment account of another department is still exported."""
    ids = azure.subscription_ids
    children = {"one": ids[:2], "two": ids[2:4], "three": ids[4:]}
    enrollment = azure.add_billing_account("8611537", children=children, departments={"dep": ["one", "two"]})
    azure.grant_billing()
    named = [f"{enrollment}/enrollmentAccounts/{one}" for one in children]
    scopes = ",".join([*named, f"{enrollment}/departments/dep"])
    finished = run(azure, BILLING_SCOPES=scopes)
    exported = {one["id"].partition("/providers/Microsoft.CostManagement")[0] for one in azure.exports()}
    assert exported == {f"{enrollment}/departments/dep", named[2]}
    failures = {one["scope"]: one for one in finished.report["failures"]}
    assert set(failures) == set(named[:2])
    assert {one["code"] for one in failures.values()} == {"billing-overlap"}
    assert all(f"{enrollment}/departments/dep" in one["message"] and one["remedy"] for one in failures.values())


def test_department_export_covers_the_subscriptions_of_its_accounts(azure: LocalAzure) -> None:
    """Subscriptions of other departments get exports of their own."""
    ids = azure.subscription_ids
    children = {"one": ids[:2], "two": ids[2:4], "three": ids[4:]}
    enrollment = azure.add_billing_account("8611537", children=children, departments={"dep": ["one", "two"]})
    azure.grant_billing()
    finished = run(azure, BILLING_SCOPES=f"{enrollment}/departments/dep")
    assert finished.report["status"] == "ok", finished.report["failures"]
    assert [len(azure.exports(one)) for one in ids] == [0, 0, 0, 0, 1, 1]
    assert "TailpipeAllSubs" in action(finished, ids[3]).detail


def test_department_with_unreadable_accounts_is_reported_and_nothing_is_skipped(azure: LocalAzure) -> None:
    """Without the list of its accounts, a possible overlap is reported, and both billing scopes are exported."""
    ids = azure.subscription_ids
    enrollment = azure.add_billing_account("8611537", children={"one": ids}, departments={"dep": ["one"]})
    azure.grant_billing()
    listing = "Microsoft.Billing/billingAccounts/departments/enrollmentAccounts/read"
    azure.faults.add(listing, "AuthorizationFailed", status=403, times=None)
    finished = run(azure, BILLING_SCOPES=f"{enrollment}/departments/dep,{enrollment}/enrollmentAccounts/one")
    assert len(azure.exports()) == 2
    failures = {one["code"]: one for one in finished.report["failures"]}
    assert set(failures) == {"billing-members-unknown", "billing-overlap"}
    assert {one["scope"] for one in failures.values()} == {f"{enrollment}/departments/dep"}
    assert "exported twice" in failures["billing-overlap"]["message"]
    assert all(one["remedy"] for one in failures.values())


def test_empty_list_of_billing_accounts_counts_as_unknown(azure: LocalAzure) -> None:
    """An identity without a billing role gets an empty list. Each subscription is exported, and the run is degraded."""
    azure.add_billing_account("8611537", "EnterpriseAgreement", {"one": azure.subscription_ids})
    finished = run(azure, BILLING_SCOPES="auto")
    assert not finished.report["enumeration_complete"]
    assert finished.report["status"] == "degraded"
    assert "unknown" in messages(finished)
    assert all(len(azure.exports(one)) == 1 for one in azure.subscription_ids)


def test_billing_profile_that_rejects_applications_falls_back_to_subscriptions(azure: LocalAzure) -> None:
    """A billing profile of a customer agreement rejects applications regardless of their role."""
    name = "11111111-2222-3333-4444-555555555555:66666666-7777-8888-9999-000000000000_2019-05-31"
    azure.add_billing_account(name, "MicrosoftCustomerAgreement", {"PROFILE": azure.subscription_ids})
    azure.grant_billing()
    finished = run(azure, BILLING_SCOPES="auto")
    assert "an application cannot export billing scope" in messages(finished)
    assert all(len(azure.exports(one)) == 1 for one in azure.subscription_ids)


def _expired_token(cloud: LocalAzure) -> str:
    """Return a token of the function's identity that expired a minute ago."""
    from localcloud.azure.iam.caller import token_for

    return token_for(cloud.tenant, cloud.principal, "https://management.azure.com", life_s=-60)
