"""Which scopes there are: every page, every state, the tenant, management groups and billing scopes."""

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
    """Return a tenant of seven subscriptions whose listings come in pages of two, with empty ones between."""
    with local_azure(Behavior(page_size=2, empty_pages_every=2), subscriptions=7) as cloud:
        yield cloud
        drop_clients()


def test_every_page_and_state_is_read(paged: LocalAzure) -> None:
    """Small and empty pages lose nobody; subscriptions that take no part say why."""
    ids = paged.subscription_ids
    for one, state in zip(ids[3:], ("Disabled", "Warned", "PastDue", "Deleted"), strict=True):
        paged.set_state(one, state)
    finished = run(paged)
    assert (finished.report["scopes"]["total"], finished.report["scopes"]["active"]) == (7, 4)
    assert {action(finished, one).detail for one in (ids[3], ids[4], ids[6])} == {"Disabled", "Warned", "Deleted"}
    assert action(finished, ids[5]).verb is Verb.CREATE
    assert sum(len(paged.exports(one)) for one in ids) == 4


def test_selections(paged: LocalAzure) -> None:
    """Include and exclude lists and a management group choose; the destination is kept up in any case."""
    first, second, third, *_ = paged.subscription_ids
    chosen = run(paged, INCLUDE_SUBSCRIPTIONS=f"{second.upper()},{third}", dry_run=True)
    assert {one.key.scope for one in chosen.outcomes if one.key.kind == "export"} == {second, third}
    assert {one.key.scope for one in chosen.outcomes if one.key.kind == "container"} == {first}
    nobody = "00000000-0000-0000-0000-00000000000f"
    assert f"{nobody} in INCLUDE_SUBSCRIPTIONS" in messages(run(paged, INCLUDE_SUBSCRIPTIONS=nobody, dry_run=True))
    without = run(paged, EXCLUDE_SUBSCRIPTIONS=first, dry_run=True)
    assert len([one for one in without.outcomes if one.key.kind == "export"]) == 6
    inside = run(paged, MANAGEMENT_GROUP="sandbox", dry_run=True)
    below = {one.key.scope for one in inside.outcomes if one.key.kind == "export"}
    assert 0 < len(below) < 7
    unreadable = run(paged, MANAGEMENT_GROUP="nowhere", dry_run=True)
    assert not unreadable.report["enumeration_complete"]
    assert "MANAGEMENT_GROUP" in messages(unreadable)
    assert not [one for one in unreadable.outcomes if one.key.kind == "export"]


def test_an_empty_list_means_lost_rights(azure: LocalAzure) -> None:
    """Azure answers an identity without rights with an empty list: the run fails, and nothing is forgotten."""
    run(azure)
    for one in azure.subscription_ids:
        azure.revoke_rights(one)
    finished = run(azure)
    assert finished.report["status"] == "failed"
    assert "lost its role assignments" in messages(finished)
    for one in azure.subscription_ids:
        azure.grant_rights(one, 0)
    assert run(azure).report["scopes"]["covered"] == 6


def test_another_tenants_credentials_and_expired_ones_stop_the_run(azure: LocalAzure) -> None:
    """Each ends in a failed run that says what to renew, before anything is written."""
    other = run(azure, AZURE_TENANT_ID="00000000-0000-0000-0000-00000000000f")
    assert other.report["status"] == "failed"
    assert "wrong-tenant" in messages(other)
    expired = run(azure, ARM_TOKEN=_expired(azure))
    assert expired.report["status"] == "failed"
    assert "Renew the credentials" in messages(expired)
    assert azure.exports() == []


def test_an_unreachable_resource_manager_fails_the_run(azure: LocalAzure) -> None:
    """Nothing listens: the run ends by itself, soon, and says so."""
    finished = run(azure, ARM_ENDPOINT="http://127.0.0.1:1", seconds=300)
    assert finished.report["status"] == "failed"
    assert "could not be reached" in messages(finished)


def test_the_managed_identity_is_used_where_no_token_is_given(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform's identity endpoint gives the token; when it is out of order the run stops with the remedy."""
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


def test_billing_scopes_cover_their_subscriptions_once(azure: LocalAzure) -> None:
    """Every enrollment account is a scope; a subscription whose costs are in its export gets none of its own."""
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
        "a billing export that delivers nothing covers nobody"
    )


def test_a_billing_scope_within_another_is_exported_once_and_told(azure: LocalAzure) -> None:
    """An enrollment holds its accounts: the inner scope is left out with the reason, in whatever order they stand."""
    ids = azure.subscription_ids
    outer = azure.add_billing_account("8611537", "EnterpriseAgreement", {"one": ids[:2], "two": ids[2:]})
    azure.grant_billing()
    finished = run(azure, BILLING_SCOPES=f"{outer}/enrollmentAccounts/one,{outer}")
    assert [one["id"].partition("/providers/Microsoft.CostManagement")[0] for one in azure.exports()] == [outer]
    (told,) = finished.report["failures"]
    assert (told["code"], told["scope"]) == ("billing-overlap", f"{outer}/enrollmentAccounts/one")
    assert "not exported a second time" in told["message"]


def test_a_department_beside_its_own_accounts_exports_them_once(azure: LocalAzure) -> None:
    """Accounts of the department are left out and told; an account of another department is exported as well."""
    ids = azure.subscription_ids
    children = {"one": ids[:2], "two": ids[2:4], "three": ids[4:]}
    enrollment = azure.add_billing_account("8611537", children=children, departments={"dep": ["one", "two"]})
    azure.grant_billing()
    named = [f"{enrollment}/enrollmentAccounts/{one}" for one in children]
    scopes = ",".join([*named, f"{enrollment}/departments/dep"])
    finished = run(azure, BILLING_SCOPES=scopes)
    exported = {one["id"].partition("/providers/Microsoft.CostManagement")[0] for one in azure.exports()}
    assert exported == {f"{enrollment}/departments/dep", named[2]}
    told = {one["scope"]: one for one in finished.report["failures"]}
    assert set(told) == set(named[:2])
    assert {one["code"] for one in told.values()} == {"billing-overlap"}
    assert all(f"{enrollment}/departments/dep" in one["message"] and one["remedy"] for one in told.values())


def test_a_departments_own_subscriptions_get_no_export_of_their_own(azure: LocalAzure) -> None:
    """A department is billed by its accounts: their subscriptions are in its export, all others are not."""
    ids = azure.subscription_ids
    children = {"one": ids[:2], "two": ids[2:4], "three": ids[4:]}
    enrollment = azure.add_billing_account("8611537", children=children, departments={"dep": ["one", "two"]})
    azure.grant_billing()
    finished = run(azure, BILLING_SCOPES=f"{enrollment}/departments/dep")
    assert finished.report["status"] == "ok", finished.report["failures"]
    assert [len(azure.exports(one)) for one in ids] == [0, 0, 0, 0, 1, 1]
    assert "TailpipeAllSubs" in action(finished, ids[3]).detail


def test_a_department_whose_accounts_may_not_be_listed_is_told(azure: LocalAzure) -> None:
    """Unknown is not empty: what may overlap and what arrives twice is reported, and nothing is left out."""
    ids = azure.subscription_ids
    enrollment = azure.add_billing_account("8611537", children={"one": ids}, departments={"dep": ["one"]})
    azure.grant_billing()
    listing = "Microsoft.Billing/billingAccounts/departments/enrollmentAccounts/read"
    azure.faults.add(listing, "AuthorizationFailed", status=403, times=None)
    finished = run(azure, BILLING_SCOPES=f"{enrollment}/departments/dep,{enrollment}/enrollmentAccounts/one")
    assert len(azure.exports()) == 2
    told = {one["code"]: one for one in finished.report["failures"]}
    assert set(told) == {"billing-members-unknown", "billing-overlap"}
    assert {one["scope"] for one in told.values()} == {f"{enrollment}/departments/dep"}
    assert "exported twice" in told["billing-overlap"]["message"]
    assert all(one["remedy"] for one in told.values())


def test_an_empty_list_of_billing_accounts_is_unknown(azure: LocalAzure) -> None:
    """It is what an identity without a billing role sees: subscriptions are exported one by one, and it is told."""
    azure.add_billing_account("8611537", "EnterpriseAgreement", {"one": azure.subscription_ids})
    finished = run(azure, BILLING_SCOPES="auto")
    assert not finished.report["enumeration_complete"]
    assert finished.report["status"] == "degraded"
    assert "unknown" in messages(finished)
    assert all(len(azure.exports(one)) == 1 for one in azure.subscription_ids)


def test_customer_agreements_refuse_apps_and_fall_back(azure: LocalAzure) -> None:
    """A billing profile refuses applications whatever their role: its subscriptions are exported one by one."""
    name = "11111111-2222-3333-4444-555555555555:66666666-7777-8888-9999-000000000000_2019-05-31"
    azure.add_billing_account(name, "MicrosoftCustomerAgreement", {"PROFILE": azure.subscription_ids})
    azure.grant_billing()
    finished = run(azure, BILLING_SCOPES="auto")
    assert "an application cannot export billing scope" in messages(finished)
    assert all(len(azure.exports(one)) == 1 for one in azure.subscription_ids)


def _expired(cloud: LocalAzure) -> str:
    """Return a token of the function's identity that ran out a minute ago."""
    from localcloud.azure.iam.caller import token_for

    return token_for(cloud.tenant, cloud.principal, "https://management.azure.com", life_s=-60)
