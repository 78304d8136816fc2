"""Odd answers to what only some settings ask for: billing scopes, management groups, single subscriptions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from localcloud.azure.cloud import LocalAzure
from shared.reconcile import Finished
from tests.azure_function.support import HOUR, Lines, advance, local_azure, run
from tests.azure_function.test_odd_answers import breaks

BILLED: dict[str, Any] = {"BILLING_SCOPES": "auto"}
READS: dict[str, tuple[dict[str, Any], str]] = {
    "a management group": ({"MANAGEMENT_GROUP": "sandbox", **BILLED}, "GET *managementGroups/sandbox/descendants"),
    "the billing accounts": (BILLED, "GET /providers/Microsoft.Billing/billingAccounts"),
    "the enrollment accounts": (BILLED, "GET */enrollmentAccounts"),
    "a billing scope's exports": (BILLED, "GET */enrollmentAccounts/one/*/exports"),
    "a billing scope's subscriptions": (BILLED, "GET */billingSubscriptions"),
}


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


def told(finished: Finished, lines: Lines) -> str:
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
