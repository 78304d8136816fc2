"""Odd answers to what only some settings ask for: billing scopes, management groups, single subscriptions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest

from azure_function.answers import EXPECTED
from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import NOTIFY_SECRET
from shared.model import Result
from shared.reconcile import RunResult
from tests.azure_function.support import HOUR, WRITE, Lines, advance, local_azure, messages, outcome, run
from tests.azure_function.test_invalid_responses import READS as ODD
from tests.azure_function.test_invalid_responses import breaks

BILLED: dict[str, Any] = {"BILLING_SCOPES": "auto"}
ENROLLMENT = "/providers/Microsoft.Billing/billingAccounts/8611537"
READS: dict[str, tuple[dict[str, Any], str]] = {
    "a management group": ({"MANAGEMENT_GROUP": "sandbox", **BILLED}, "GET *managementGroups/*/descendants"),
    "the billing accounts": (BILLED, "GET /providers/Microsoft.Billing/billingAccounts"),
    "the enrollment accounts": (BILLED, "GET */enrollmentAccounts"),
    "a billing scope's exports": (BILLED, "GET */billingAccounts/*/exports"),
    "a billing scope's subscriptions": (BILLED, "GET */billingSubscriptions"),
}
DEPARTMENT: dict[str, Any] = {"BILLING_SCOPES": f"{ENROLLMENT}/departments/dep"}
# Reads that only a refusal, or an agreement of another sort, leads to.
RARE = {
    "a department's accounts": "GET */departments/dep/enrollmentAccounts",
    "the billing profiles": "GET */billingProfiles",
    "the own permissions": "GET */Microsoft.Authorization/permissions",
    "the offer": "GET /subscriptions/*-*-*-*-????????????",
    "single subscriptions": "GET /subscriptions/*-*-*-*-????????????",
    "the webhook's secret": "GET */secrets/*",
}
NOTIFIED: dict[str, Any] = {"NOTIFY_URL": f"https://tailpipe-vault.vault.azure.net/secrets/{NOTIFY_SECRET}"}


@pytest.fixture
def billed() -> Iterator[LocalAzure]:
    """Return a tenant at rest whose subscriptions are in the one export of a billing scope."""
    with local_azure(subscriptions=3) as cloud:
        cloud.add_billing_account("8611537", "EnterpriseAgreement", {"one": cloud.subscription_ids})
        cloud.grant_billing()
        run(cloud, **BILLED)
        cloud.deliver()
        advance(cloud, HOUR)
        assert run(cloud, **BILLED).report["status"] == "ok"
        assert len(cloud.exports()) == 1
        yield cloud


def told(finished: RunResult, lines: Lines) -> str:
    """Return everything that a run says."""
    return json.dumps(finished.report) + lines.text()


@pytest.mark.parametrize("read", READS)
def test_an_answer_that_is_not_understood_has_nothing_exported_twice(billed: LocalAzure, read: str) -> None:
    """Where it is unseen whose costs a billing export holds, nobody gets an export beside it; the run says so."""
    chosen, pattern = READS[read]
    for name, body in breaks(pattern):
        advance(billed, HOUR)
        billed.deliver()
        order, lines = billed.faults.spoil(pattern, body), Lines()
        finished = run(billed, sink=lines, **chosen)
        billed.faults.restore()
        assert order.hits, f"{read} was not called"
        assert len(billed.exports()) == 1, f"{read} {name}: {finished.report}"
        assert "not understood" in told(finished, lines), f"{read} {name}"
        assert not finished.report["enumeration_complete"], f"{read} {name}"
        assert all(one["remedy"] for one in finished.report["failures"]), f"{read} {name}"
    advance(billed, HOUR)
    assert run(billed, **BILLED).report["status"] == "ok"


def test_a_first_run_that_cannot_see_billing_scopes_exports_one_by_one(billed: LocalAzure) -> None:
    """Without a billing export that is known, subscriptions are not kept waiting: theirs are made, and it is told."""
    with billed.blob_client(billed.host_account.name) as client:
        client.get_blob_client("tailpipe-state", "known_subscriptions.json").delete_blob()
    billed.faults.spoil("GET /providers/Microsoft.Billing/billingAccounts", b"{}")
    finished = run(billed, **BILLED)
    billed.faults.restore()
    assert [one["code"] for one in finished.report["failures"]] == ["billing-unknown"]
    assert len(billed.exports()) == 1 + 3


def test_a_departments_accounts_that_are_not_understood_have_nothing_exported_twice(billed: LocalAzure) -> None:
    """Its subscriptions keep to the department's export while it is unseen which accounts it holds."""
    billed.world.billing["8611537"].departments["dep"] = ["one"]
    run(billed, **DEPARTMENT)
    exports = len(billed.exports())
    for name, body in breaks(RARE["a department's accounts"]):
        advance(billed, HOUR)
        billed.deliver()
        order, lines = billed.faults.spoil(RARE["a department's accounts"], body), Lines()
        finished = run(billed, sink=lines, **DEPARTMENT)
        billed.faults.restore()
        assert order.hits
        assert len(billed.exports()) == exports, name
        assert "not understood" in told(finished, lines), name
        assert all(one["remedy"] for one in finished.report["failures"]), name


def test_billing_profiles_that_are_not_understood_change_nothing(azure: LocalAzure) -> None:
    """A customer agreement's profiles are not known in that run: subscriptions stay exported one by one."""
    azure.add_billing_account("mca", "MicrosoftCustomerAgreement", {"PROFILE": azure.subscription_ids})
    azure.grant_billing()
    run(azure, **BILLED)
    exports = len(azure.exports())
    for name, body in breaks(RARE["the billing profiles"]):
        advance(azure, HOUR)
        order, lines = azure.faults.spoil(RARE["the billing profiles"], body), Lines()
        finished = run(azure, sink=lines, **BILLED)
        azure.faults.restore()
        assert order.hits
        assert len(azure.exports()) == exports == 6, name
        assert "not understood" in told(finished, lines), name
        assert all(one["remedy"] for one in finished.report["failures"]), name


@pytest.mark.parametrize("name", [name for name, _ in breaks("permissions")])
def test_permissions_that_are_not_understood_are_no_proof_of_a_missing_role(shared: LocalAzure, name: str) -> None:
    """Where the own rights cannot be read, the step says so, and names the role as well as what is in doubt."""
    refused = shared.join_subscription(f"permissions {name}")
    shared.faults.add(WRITE, "RBACAccessDenied", status=401, times=None, resource=f"*/{refused}/*")
    run(shared, [refused])
    advance(shared, HOUR + 60)
    shared.faults.spoil(RARE["the own permissions"], dict(breaks("permissions"))[name])
    finished = run(shared, [refused])
    assert (outcome(finished, refused).result, outcome(finished, refused).code) == (Result.MANUAL, "rights-missing")
    assert "its permissions could not be read" in messages(finished)
    assert shared.exports(refused) == []


@pytest.mark.parametrize("name", [name for name, _ in breaks("offer")])
def test_an_offer_that_is_not_understood_is_no_unsupported_one(shared: LocalAzure, name: str) -> None:
    """A subscription without cost data waits on, and the log says what is not known."""
    young, lines = shared.join_subscription(f"offer {name}"), Lines()
    refusal = f"Cost management data is not supported for subscription(s) {young}."
    shared.faults.add(WRITE, "BadRequest", refusal, status=400, times=None, resource=f"*/{young}/*")
    # The enumeration of one subscription asks for the same path first: only what follows it is spoiled.
    body = dict(breaks("offer"))[name]
    order = shared.faults.spoil(RARE["the offer"], body)
    finished = run(shared, sink=lines)
    shared.faults.restore()
    assert order.hits
    assert (outcome(finished, young).result, outcome(finished, young).code) == (Result.DEFERRED, "no-cost-data-yet")
    assert "detail-unread" in lines.text()


@pytest.mark.parametrize("name", [name for name, _ in breaks("secret")])
def test_invalid_answer_to_the_read_of_the_secret_costs_only_the_message(shared: LocalAzure, name: str) -> None:
    """The run ends as it would without messages, and the log has the reason but nothing of the answer."""
    new, lines = shared.join_subscription(f"secret {name}"), Lines()
    shared.world.secrets[NOTIFY_SECRET] = "https://127.0.0.1:9/canary"
    shared.deny_by_policy(new)
    order = shared.faults.spoil(RARE["the webhook's secret"], dict(breaks("secret"))[name])
    finished = run(shared, sink=lines, **NOTIFIED)
    shared.faults.restore()
    drop_clients()
    assert order.hits
    assert outcome(finished, new).code == "policy-denied"
    assert [fields["reason"] for _, event, fields in lines.lines if event == "notify-failed"]
    assert "canary" not in told(finished, lines)


def test_every_read_of_the_function_has_its_odd_answers_tried() -> None:
    """What runs with every setting read is on these lists, and each shape that the clients expect is of such a read."""
    patterns = [*ODD.values(), *(pattern for _, pattern in READS.values()), *RARE.values()]
    with local_azure(subscriptions=4) as cloud:
        first, young, refused, last = cloud.subscription_ids
        cloud.add_billing_account("8611537", "EnterpriseAgreement", {"one": [first]}, {"dep": ["one"]})
        cloud.add_billing_account("mca", "MicrosoftCustomerAgreement", {"PROFILE": [last]})
        cloud.grant_billing()
        refusal = f"Cost management data is not supported for subscription(s) {young}."
        cloud.faults.add(WRITE, "BadRequest", refusal, status=400, times=None, resource=f"*/{young}/*")
        cloud.faults.add(WRITE, "RBACAccessDenied", status=401, times=None, resource=f"*/{refused}/*")
        cloud.world.secrets[NOTIFY_SECRET] = "https://127.0.0.1:9/unused"
        for settings in ({**BILLED, "MANAGEMENT_GROUP": cloud.tenant, **NOTIFIED}, DEPARTMENT, {}):
            run(cloud, **settings)
            cloud.deliver()
            advance(cloud, HOUR + 60)
        run(cloud, [last])
        read = {f"GET {one.resource}" for one in cloud.calls if one.method == "GET"}
    untried = {one for one in read if not any(fnmatchcase(one.lower(), pattern.lower()) for pattern in patterns)}
    assert untried == set()
    of_shape = {
        pattern.pattern: [one for one in read if pattern.fullmatch(one.removeprefix("GET ").rstrip("/"))]
        for pattern, _ in EXPECTED
    }
    assert all(of_shape.values()), {shape for shape, of in of_shape.items() if not of}
