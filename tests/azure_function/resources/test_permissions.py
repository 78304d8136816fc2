"""Missing permissions: deferred while they may still propagate, then reported with the exact step."""

from __future__ import annotations

from azure_function.resources.permissions import allows
from localcloud.azure.cloud import LocalAzure
from shared.model import Result
from tests.azure_function.support import (
    HOUR,
    advance,
    messages,
    outcome,
    run,
)


def test_permissions_match_wildcards_and_exclusions() -> None:
    """The case of an action is ignored."""
    action = "Microsoft.CostManagement/exports/write"
    assert allows({"actions": ["microsoft.costmanagement/*"]}, action)
    assert not allows({"actions": ["*"], "notActions": ["Microsoft.CostManagement/exports/write"]}, action)
    assert not allows({"actions": ["*/read"]}, action)
    assert not allows({"actions": "*/write"}, action), "a string is not a list of actions"


def test_missing_permissions_are_deferred_for_an_hour_and_then_reported(shared: LocalAzure) -> None:
    """A role assignment may need an hour to take effect. The manual step names role, scope and identity."""
    new = shared.join_subscription("no-rights")
    deny_exports(shared, new)
    begun = shared.clock.monotonic()
    finished = run(shared, [new])
    assert outcome(finished, new).result is Result.DEFERRED
    assert finished.report["status"] == "ok"
    assert shared.clock.monotonic() - begun < 60
    advance(shared, HOUR + 60)
    late = run(shared, [new])
    assert outcome(late, new).result is Result.MANUAL
    text = messages(late)
    assert f"/subscriptions/{new}" in text
    assert "custom role" in text
    assert shared.principal in text
    shared.clear_faults()
    advance(shared, 2 * HOUR)
    assert outcome(run(shared, [new]), new).result is Result.DONE


def deny_exports(cloud: LocalAzure, subscription: str) -> None:
    """Deny all calls to the exports of a subscription, and the read of the function's permissions on it."""
    for permission in ("Microsoft.CostManagement/exports/*", "Microsoft.Authorization/permissions/read"):
        cloud.faults.add(permission, "AuthorizationFailed", "no", status=403, times=None, resource=f"*{subscription}*")


def test_offer_that_rejects_applications_is_not_reported_as_a_missing_role(shared: LocalAzure) -> None:
    """The function has its role, but Azure denies the write.

    The manual step has the values with which to create the export.
    """
    new = shared.join_subscription("payg", agreement="payg")
    assert outcome(run(shared, [new]), new).result is Result.DEFERRED
    advance(shared, HOUR + 60)
    finished = run(shared, [new])
    assert outcome(finished, new).result is Result.MANUAL
    text = messages(finished)
    assert "does not allow applications" in text
    assert f"TailpipeDataExport-{new[-6:]}" in text
    assert f"tailpipe/subscriptions/{new}" in text
    shared.create_exports([new], kind="Usage")


def test_subscription_without_permissions_does_not_block_others(shared: LocalAzure) -> None:
    """The other exports are created in the same run, without waiting."""
    good = [shared.join_subscription(f"good-{number}") for number in range(3)]
    bad = shared.join_subscription("bad", agreement="payg")
    deny_exports(shared, good[0])
    begun = shared.clock.monotonic()
    finished = run(shared, [*good, bad])
    assert [outcome(finished, one).result for one in good[1:]] == [Result.DONE] * 2
    assert outcome(finished, good[0]).result is Result.DEFERRED
    assert shared.clock.monotonic() - begun < 60
