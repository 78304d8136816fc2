"""Billing scopes: their exports cover subscriptions, and overlapping scopes are exported once."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from azure_function.billing_scopes import BillingScopes
from localcloud.azure.cloud import LocalAzure
from shared.model import Result
from tests.azure_function.support import (
    DAY,
    HOUR,
    WRITE,
    account_settings,
    action,
    advance,
    messages,
    outcome,
    run,
    verbs,
)


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


def test_401_of_a_billing_scope_falls_back_to_its_subscriptions(azure: LocalAzure) -> None:
    """From the next run on, its subscriptions have exports of their own."""
    path = azure.add_billing_account("8608480", children={"a1": azure.subscription_ids[:2]})
    azure.grant_billing()
    azure.faults.add(WRITE, "", "", status=401, times=None, resource="*billingAccounts*")
    run(azure, BILLING_SCOPES=path)
    finished = run(azure, BILLING_SCOPES=path)
    assert len(azure.exports()) == 6
    assert outcome(finished, path).result is Result.DEFERRED


class Pages(list[Any]):
    """A listing with one item on each page."""

    def by_page(self) -> Iterator[list[Any]]:
        """Yield the pages."""
        return ([one] for one in self)


ACCOUNT = "/providers/Microsoft.Billing/billingAccounts/8611537"


@pytest.mark.parametrize(
    ("below", "listing", "names"),
    [
        ("", "list_by_billing_account", ()),
        ("/enrollmentAccounts/a", "list_by_enrollment_account", ("a",)),
        ("/billingProfiles/a", "list_by_billing_profile", ("a",)),
        ("/billingProfiles/a/invoiceSections/b", "list_by_invoice_section", ("a", "b")),
        ("/billingProfiles/a/customers/b", "list_by_customer", ("a", "b")),
        ("/customers/b", "list_by_customer_at_billing_account", ("b",)),
    ],
)
def test_each_kind_of_billing_scope_has_its_own_list_of_subscriptions(
    below: str, listing: str, names: tuple[str, ...]
) -> None:
    """The subscriptions on it get no export of their own, so that no cost is exported twice."""
    asked: list[tuple[str, ...]] = []

    def listed(*given: str) -> Pages:
        asked.append(given)
        return Pages([{"properties": {"subscriptionId": "ABC"}}, {"properties": {"subscriptionId": "def"}}])

    clients: Any = SimpleNamespace(
        cost=SimpleNamespace(exports=SimpleNamespace(list=lambda _path: None)),
        billing=SimpleNamespace(billing_subscriptions=Listings(listing, listed)),
    )
    beats: list[None] = []
    work: Any = SimpleNamespace(calls=lambda _, call, *given: call(*given), heartbeat=lambda: beats.append(None))
    settings = account_settings(1, BILLING_SCOPES=f"{ACCOUNT}{below}")
    ((found, problem),) = BillingScopes(settings, clients, work).usable()
    assert problem is None
    assert found is not None
    assert (sorted(found.subscriptions), found.unseen) == (["abc", "def"], "")
    assert asked == [("8611537", *names)]
    assert len(beats) == 2


class Listings:
    """Billing subscriptions, of which only one listing may be called."""

    def __init__(self, name: str, listing: Any) -> None:
        self._name, self._listing = name, listing

    def __getattr__(self, name: str) -> Any:
        """Return the listing, or one that must not be called."""
        return self._listing if name == self._name else None
