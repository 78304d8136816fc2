"""Invalid responses to reads that depend on a setting: billing scopes, management groups, single subscriptions."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest

from azure_function.answers import EXPECTED
from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import NOTIFY_SECRET
from shared.model import Result
from shared.reconcile import RunResult
from tests.azure_function.support import BILLED, HOUR, WRITE, Lines, advance, local_azure, messages, outcome, run
from tests.azure_function.test_invalid_responses import READS as COMMON_READS
from tests.azure_function.test_invalid_responses import invalid_bodies

ENROLLMENT = "/providers/Microsoft.Billing/billingAccounts/8611537"
READS: dict[str, tuple[dict[str, Any], str]] = {
    "a management group": ({"MANAGEMENT_GROUP": "sandbox", **BILLED}, "GET *managementGroups/*/descendants"),
    "the billing accounts": (BILLED, "GET /providers/Microsoft.Billing/billingAccounts"),
    "the enrollment accounts": (BILLED, "GET */enrollmentAccounts"),
    "a billing scope's exports": (BILLED, "GET */billingAccounts/*/exports"),
    "a billing scope's subscriptions": (BILLED, "GET */billingSubscriptions"),
}
DEPARTMENT: dict[str, Any] = {"BILLING_SCOPES": f"{ENROLLMENT}/departments/dep"}
# Reads that happen only after an error or with another type of agreement.
RARE = {
    "a department's accounts": "GET */departments/dep/enrollmentAccounts",
    "the billing profiles": "GET */billingProfiles",
    "the exports of others": "GET /subscriptions/*/Microsoft.CostManagement/exports",
    "the function's permissions": "GET */Microsoft.Authorization/permissions",
    "the offer": "GET /subscriptions/*-*-*-*-????????????",
    "single subscriptions": "GET /subscriptions/*-*-*-*-????????????",
    "the webhook's secret": "GET */secrets/*",
}
# The vault takes tokens for itself alone, so each comes from the identity's endpoint.
NOTIFIED: dict[str, Any] = {
    "NOTIFY_URL": f"https://tailpipe-vault.vault.azure.net/secrets/{NOTIFY_SECRET}",
    "ARM_TOKEN": "",
}


def identify(cloud: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let azure-identity find the cloud's managed identity."""
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.setenv(name, cloud.environment()[name])


def output_of(finished: RunResult, lines: Lines) -> str:
    """Return the report and the log of a run as one text."""
    return json.dumps(finished.report) + lines.text()


@pytest.mark.parametrize("read", READS)
def test_invalid_billing_response_exports_nothing_twice(billed: LocalAzure, read: str) -> None:
    """While it is unknown which costs a billing export contains, no other export is created. The report says so."""
    chosen, pattern = READS[read]
    for name, body in invalid_bodies(pattern):
        advance(billed, HOUR)
        billed.deliver()
        corruption, lines = billed.faults.corrupt(pattern, body), Lines()
        finished = run(billed, sink=lines, **chosen)
        billed.faults.restore()
        assert corruption.hits, f"{read} was not called"
        assert len(billed.exports()) == 1, f"{read} {name}: {finished.report}"
        assert "not understood" in output_of(finished, lines), f"{read} {name}"
        assert not finished.report["enumeration_complete"], f"{read} {name}"
        assert all(one["remedy"] for one in finished.report["failures"]), f"{read} {name}"
    advance(billed, HOUR)
    assert run(billed, **BILLED).report["status"] == "ok"


def test_invalid_list_of_department_accounts_exports_nothing_twice(billed: LocalAzure) -> None:
    """The subscriptions remain in the department's export while its accounts are unknown."""
    billed.world.billing["8611537"].departments["dep"] = ["one"]
    run(billed, **DEPARTMENT)
    exports = len(billed.exports())
    for name, body in invalid_bodies(RARE["a department's accounts"]):
        advance(billed, HOUR)
        billed.deliver()
        corruption, lines = billed.faults.corrupt(RARE["a department's accounts"], body), Lines()
        finished = run(billed, sink=lines, **DEPARTMENT)
        billed.faults.restore()
        assert corruption.hits
        assert len(billed.exports()) == exports, name
        assert "not understood" in output_of(finished, lines), name
        assert all(one["remedy"] for one in finished.report["failures"]), name


def test_invalid_list_of_billing_profiles_changes_no_export(azure: LocalAzure) -> None:
    """The subscriptions keep their own exports."""
    azure.add_billing_account("mca", "MicrosoftCustomerAgreement", {"PROFILE": azure.subscription_ids})
    azure.grant_billing()
    run(azure, **BILLED)
    exports = len(azure.exports())
    for name, body in invalid_bodies(RARE["the billing profiles"]):
        advance(azure, HOUR)
        corruption, lines = azure.faults.corrupt(RARE["the billing profiles"], body), Lines()
        finished = run(azure, sink=lines, **BILLED)
        azure.faults.restore()
        assert corruption.hits
        assert len(azure.exports()) == exports == 6, name
        assert "not understood" in output_of(finished, lines), name
        assert all(one["remedy"] for one in finished.report["failures"]), name


@pytest.mark.parametrize("name", [name for name, _ in invalid_bodies("exports")])
def test_invalid_list_of_other_exports_does_not_block_a_creation(shared: LocalAzure, name: str) -> None:
    """They would only be mentioned."""
    new = shared.join_subscription(f"others {name}")
    shared.faults.corrupt(RARE["the exports of others"], dict(invalid_bodies("exports"))[name])
    lines = Lines()
    assert outcome(run(shared, [new], sink=lines), new).result is Result.DONE
    assert "detail-unread" in lines.text()


@pytest.mark.parametrize("name", [name for name, _ in invalid_bodies("permissions")])
def test_invalid_permissions_response_does_not_prove_a_missing_role(shared: LocalAzure, name: str) -> None:
    """The manual step names the role, and says that the permissions could not be read."""
    refused = shared.join_subscription(f"permissions {name}")
    shared.faults.add(WRITE, "RBACAccessDenied", status=401, times=None, resource=f"*/{refused}/*")
    run(shared, [refused])
    advance(shared, HOUR + 60)
    shared.faults.corrupt(RARE["the function's permissions"], dict(invalid_bodies("permissions"))[name])
    finished = run(shared, [refused])
    assert (outcome(finished, refused).result, outcome(finished, refused).code) == (Result.MANUAL, "rights-missing")
    assert "its permissions could not be read" in messages(finished)
    assert shared.exports(refused) == []


@pytest.mark.parametrize("name", [name for name, _ in invalid_bodies("offer")])
def test_invalid_offer_response_does_not_exclude_the_subscription(shared: LocalAzure, name: str) -> None:
    """The subscription without cost data remains deferred, and the log has the reason."""
    young, lines = shared.join_subscription(f"offer {name}"), Lines()
    refusal = f"Cost management data is not supported for subscription(s) {young}."
    shared.faults.add(WRITE, "BadRequest", refusal, status=400, times=None, resource=f"*/{young}/*")
    # The run is not limited to this subscription, whose enumeration would read the same path first.
    body = dict(invalid_bodies("offer"))[name]
    corruption = shared.faults.corrupt(RARE["the offer"], body)
    finished = run(shared, sink=lines)
    shared.faults.restore()
    assert corruption.hits
    assert (outcome(finished, young).result, outcome(finished, young).code) == (Result.DEFERRED, "no-cost-data-yet")
    assert "detail-unread" in lines.text()


@pytest.mark.parametrize("name", [name for name, _ in invalid_bodies("secret")])
def test_invalid_response_for_the_secret_affects_only_the_message(
    shared: LocalAzure, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is not affected. The log has the reason but no part of the response."""
    identify(shared, monkeypatch)
    new, lines = shared.join_subscription(f"secret {name}"), Lines()
    shared.world.secrets[NOTIFY_SECRET] = "https://127.0.0.1:9/canary"
    shared.deny_by_policy(new)
    corruption = shared.faults.corrupt(RARE["the webhook's secret"], dict(invalid_bodies("secret"))[name])
    finished = run(shared, sink=lines, **NOTIFIED)
    shared.faults.restore()
    drop_clients()
    assert corruption.hits
    assert outcome(finished, new).code == "policy-denied"
    assert [fields["reason"] for _, event, fields in lines.lines if event == "notify-failed"]
    assert "canary" not in output_of(finished, lines)


def test_every_read_is_tested_with_invalid_responses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists contain every read of a run with any setting. Each expected response belongs to one of them."""
    patterns = [*COMMON_READS.values(), *(pattern for _, pattern in READS.values()), *RARE.values()]
    with local_azure(subscriptions=4) as cloud:
        identify(cloud, monkeypatch)
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
