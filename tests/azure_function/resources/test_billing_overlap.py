"""Subscriptions whose costs a billing export may contain are not exported a second time."""

from __future__ import annotations

from localcloud.azure.cloud import LocalAzure
from shared.model import Unknown, Verb
from tests.azure_function.support import BILLED, action, run


def test_unreadable_billing_accounts_export_no_subscription_a_second_time(billed: LocalAzure) -> None:
    """The state has a billing export, which may contain the costs, so the subscriptions wait."""
    billed.faults.add("Microsoft.Billing/billingAccounts/read", "InternalServerError", status=500, times=None)
    finished = run(billed, **BILLED)
    for one in billed.subscription_ids:
        waiting = action(finished, one)
        assert isinstance(waiting.observation, Unknown)
        assert (waiting.verb, waiting.observation.code) == (Verb.DEFER, "billing-unseen")
    assert len(billed.exports()) == 1


def test_first_run_without_billing_scopes_exports_each_subscription(billed: LocalAzure) -> None:
    """If the state has no billing export, the subscriptions do not wait for one. The failure is reported."""
    with billed.blob_client(billed.host_account.name) as client:
        client.get_blob_client("tailpipe-state", "known_subscriptions.json").delete_blob()
    billed.faults.corrupt("GET /providers/Microsoft.Billing/billingAccounts", b"{}")
    finished = run(billed, **BILLED)
    billed.faults.restore()
    assert [one["code"] for one in finished.report["failures"]] == ["billing-unknown"]
    assert len(billed.exports()) == 1 + 3
