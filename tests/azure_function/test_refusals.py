"""Errors of a single scope: never counted as coverage, never blocking others, and reported with the exact step."""

from __future__ import annotations

from typing import Any

import pytest

from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.azurite import Azurite
from localcloud.azure.state import Behavior
from localcloud.azure.wire import Answer
from shared.model import Result, Verb
from tests.azure_function.support import (
    DAY,
    HOUR,
    WRITE,
    Lines,
    advance,
    local_azure,
    messages,
    outcome,
    run,
)

pytestmark = pytest.mark.long


def test_401_without_a_reason_affects_only_its_subscription(azurite: Azurite) -> None:
    """The subscription is deferred for an hour and then a manual step; all others are covered."""
    with local_azure(subscriptions=100, azurite=azurite) as cloud:
        refused = sorted(cloud.subscription_ids)[5]
        cloud.refuse_without_reason(refused)
        finished = run(cloud)
        assert len(cloud.exports()) == 99
        assert finished.report["status"] == "ok", finished.report["failures"]
        assert (outcome(finished, refused).result, outcome(finished, refused).code) == (Result.DEFERRED, "unauthorized")
        advance(cloud, HOUR + 60)
        cloud.deliver()
        late = run(cloud)
        assert outcome(late, refused).result is Result.MANUAL
        assert "Ask a person with access to the subscription to create the export once" in messages(late)
        assert "does not allow applications" not in messages(late)
        assert late.report["scopes"]["covered"] == 99
        drop_clients()


def test_401_of_the_subscription_listing_ends_the_run(azure: LocalAzure) -> None:
    """If even the listing is unauthorized, the token is the cause."""
    azure.faults.add("Microsoft.Resources/subscriptions/read", "", "", status=401, times=None)
    finished = run(azure)
    assert finished.report["status"] == "failed"
    assert [one["code"] for one in finished.report["failures"]] == ["credentials"]
    asked = run(azure, azure.subscription_ids[:2])
    assert [one["code"] for one in asked.report["failures"]] == ["credentials"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_identity_endpoint_is_retried(
    azure: LocalAzure, keyless: dict[str, Any], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """A busy endpoint does not mean that the credentials are wrong."""
    drop_clients()
    answer, left = azure.identity.answer, iter([status, status])

    def busy(request: Any) -> Answer:
        code = next(left, 0)
        return Answer({"message": "busy"}, code) if code else answer(request)

    monkeypatch.setattr(azure.identity, "answer", busy)
    lines = Lines()
    assert run(azure, sink=lines, **keyless).report["status"] == "ok"
    assert "identity-endpoint" in lines.text()


def test_persistently_busy_identity_endpoint_fails_the_run(
    azure: LocalAzure, keyless: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report does not suggest renewing the credentials, which may be valid."""
    drop_clients()
    monkeypatch.setattr(azure.identity, "answer", lambda _: Answer({"message": "busy"}, 503))
    finished = run(azure, **keyless)
    assert finished.report["status"] == "failed"
    assert "Renew the credentials" not in messages(finished)


def test_policy_denial_is_reported_with_the_command_for_an_exemption(azure: LocalAzure) -> None:
    """The manual step names the policy assignment, and appears in the first run."""
    denied = azure.subscription_ids[1]
    azure.deny_by_policy(denied, "deny-cost-exports")
    finished = run(azure)
    assert (outcome(finished, denied).result, outcome(finished, denied).code) == (Result.MANUAL, "policy-denied")
    (step, _) = next(one for one in finished.report["manual"] if one["scope"] == denied)["steps"]
    assert step.startswith("Create an exemption: az policy exemption create")
    assert f'--scope "/subscriptions/{denied}"' in step
    assert step.endswith('/policyAssignments/deny-cost-exports"')
    azure.exempt_from_policy(denied)
    advance(azure, DAY)
    assert outcome(run(azure), denied).result is Result.DONE


def test_read_only_lock_is_reported(azure: LocalAzure) -> None:
    """A ReadOnly lock prevents the creation of an export; a CanNotDelete lock does not."""
    locked, kept = azure.subscription_ids[1:3]
    azure.lock(f"/subscriptions/{locked}")
    azure.lock(f"/subscriptions/{kept}", "CanNotDelete")
    finished = run(azure)
    assert (outcome(finished, locked).result, outcome(finished, locked).code) == (Result.MANUAL, "scope-locked")
    assert outcome(finished, kept).result is Result.DONE
    azure.unlock(f"/subscriptions/{locked}")
    advance(azure, DAY)
    assert outcome(run(azure), locked).result is Result.DONE


def test_charges_hidden_in_all_subscriptions_leave_none_covered(azure: LocalAzure) -> None:
    """Each subscription is a manual step until the charges are visible."""
    for one in azure.subscription_ids:
        azure.hide_charges(one)
    finished = run(azure)
    scopes = finished.report["scopes"]
    assert (scopes["covered"], scopes["manual"], scopes["active"]) == (0, 6, 6)
    for one in azure.subscription_ids:
        azure.show_charges(one)
    advance(azure, DAY)
    assert run(azure).report["scopes"]["covered"] == 6


def test_destination_in_a_disabled_subscription_leaves_no_scope_covered(covered: LocalAzure) -> None:
    """Exports cannot write to it. The manual step names the subscription to reactivate."""
    home = covered.subscription_ids[0]
    covered.suspend_subscription(home)
    finished = run(covered)
    container = outcome(finished, home, "container")
    assert (container.result, container.code) == (Result.MANUAL, "destination-disabled")
    assert f"Reactivate subscription {home}" in messages(finished)
    assert finished.report["scopes"]["covered"] == 0
    covered.resume_subscription(home)
    assert run(covered).report["scopes"]["covered"] == 6


def test_closed_network_of_the_destination_is_not_reported_as_a_missing_role(
    covered: LocalAzure, keyless: dict[str, Any]
) -> None:
    """The storage account allows only trusted services, so the manual step concerns its network."""
    covered.close_network()
    run(covered, **keyless)
    advance(covered, HOUR)
    finished = run(covered, **keyless)
    container = outcome(finished, covered.subscription_ids[0], "container")
    assert (container.result, container.code) == (Result.MANUAL, "storage-refuses-exports")
    assert "export_identity = true" in messages(finished)
    assert "Networking" in messages(finished)
    assert "Assign" not in messages(finished)


def test_exports_with_an_identity_deliver_through_a_closed_network(
    monkeypatch: pytest.MonkeyPatch, azurite: Azurite
) -> None:
    """They are trusted services. Only the network of the function must be allowed."""
    with local_azure(subscriptions=3, azurite=azurite, identity_exports=True) as cloud:
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
            monkeypatch.setenv(name, cloud.environment()[name])
        keyless: dict[str, Any] = cloud.keyless()
        run(cloud, **keyless)
        cloud.close_network()
        assert cloud.deliver() == 3
        run(cloud, **keyless)
        advance(cloud, HOUR)
        container = outcome(run(cloud, **keyless), cloud.subscription_ids[0], "container")
        assert (container.result, container.code) == (Result.MANUAL, "storage-network-closed")
        drop_clients()


@pytest.mark.parametrize(
    ("closed", "words"),
    [({"bypass": False}, "trusted Microsoft services"), ({"copy_scope": "PrivateLink"}, "operations is PrivateLink"),
     ({"closed": False, "copy_scope": "AAD"}, "operations is AAD")],
)  # fmt: skip
def test_network_rules_that_block_trusted_services_are_reported_before_an_export_fails(
    azurite: Azurite, closed: dict[str, Any], words: str
) -> None:
    """Without the bypass for trusted services, or with a narrower copy scope, no export can deliver."""
    with local_azure(subscriptions=3, azurite=azurite, identity_exports=True) as cloud:
        run(cloud)
        cloud.close_network(**closed)
        assert cloud.deliver() == 0
        finished = run(cloud)
        container = outcome(finished, cloud.subscription_ids[0], "container")
        assert (container.result, container.code) == (Result.MANUAL, "storage-refuses-exports")
        assert words in messages(finished)
        cloud.close_network(closed=False)
        assert outcome(run(cloud), cloud.subscription_ids[0], "container").action.verb is Verb.KEEP
        drop_clients()


def test_region_that_accepts_no_new_resources_is_reported_with_its_setting(azurite: Azurite) -> None:
    """The manual step names EXPORT_LOCATION, not a policy exemption; another region resolves it."""
    with local_azure(subscriptions=3, azurite=azurite, identity_exports=True) as cloud:
        refused = cloud.subscription_ids[1]
        cloud.disallow_region(refused, "westeurope")
        finished = run(cloud)
        assert (outcome(finished, refused).result, outcome(finished, refused).code) == (
            Result.MANUAL,
            "region-disallowed",
        )
        (manual,) = finished.report["manual"]
        assert "EXPORT_LOCATION" in manual["steps"][0]
        assert "policy exemption" not in messages(finished)
        assert finished.report["scopes"]["covered"] == 2
        advance(cloud, DAY)
        assert outcome(run(cloud, EXPORT_LOCATION="northeurope"), refused).result is Result.DONE
        drop_clients()


def test_state_in_a_disabled_subscription_fails_the_run(covered: LocalAzure, keyless: dict[str, Any]) -> None:
    """The storage account of the state is disabled with its subscription. The report says what to reactivate."""
    covered.suspend_subscription(covered.subscription_ids[0])
    finished = run(covered, **keyless)
    assert finished.report["status"] == "failed"
    assert "Reactivate" in messages(finished)


def test_container_that_is_being_deleted_is_recreated_in_the_same_run(azurite: Azurite, monkeypatch: Any) -> None:
    """Its name is unavailable for half a minute; the creation waits for it."""
    with local_azure(Behavior(container_deletion_s=30), subscriptions=3, azurite=azurite) as cloud:
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
            monkeypatch.setenv(name, cloud.environment()[name])
        keyless: dict[str, Any] = cloud.keyless()
        run(cloud, **keyless)
        cloud.delete_container()
        finished = run(cloud, **keyless)
        assert finished.report["status"] == "ok", finished.report["failures"]
        advance(cloud, HOUR)
        assert outcome(run(cloud, **keyless), cloud.subscription_ids[0], "container").result in (
            Result.DONE,
            Result.UNCHANGED,
        )
        drop_clients()


@pytest.mark.parametrize("body", [b"<html><body>Bad gateway</body></html>", b""])
@pytest.mark.parametrize("status", [200, 502, 504])
def test_error_page_of_a_gateway_is_retried(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    """A page of a proxy is not a response of Azure, whatever its status."""
    gateway = _answer_as_gateway(monkeypatch, status, body, 2)
    new = azure.subscription_ids[1]
    finished = run(azure, [new])
    assert outcome(finished, new).result is Result.DONE, finished.report["failures"]
    assert gateway == []
    assert len(azure.exports(new)) == 1


@pytest.mark.parametrize("status", [200, 504])
def test_persistent_error_page_of_a_gateway_defers_the_export(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The export is not reported as failed, and the report does not quote the page."""
    _answer_as_gateway(monkeypatch, status, b"<html>secret page</html>", 100)
    new = azure.subscription_ids[1]
    finished = run(azure, [new])
    assert outcome(finished, new).result is Result.DEFERRED
    assert "secret page" not in str(finished.report)


def _answer_as_gateway(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, times: int) -> list[int]:
    """Return a gateway's page for a number of export writes, instead of Azure's response.

    Return the list of those left.
    """
    left = list(range(times))
    encoded = Answer.encoded
    from localcloud.azure.resource_manager import ResourceManager

    through = ResourceManager._handle

    def answered(self: ResourceManager, request: Any, route: Any, action: str) -> Answer:
        if action == WRITE and left:
            left.pop()
            return Answer(("page", body), status)
        return through(self, request, route, action)

    def raw(self: Answer) -> tuple[bytes, str]:
        return (self.document[1], "text/html") if isinstance(self.document, tuple) else encoded(self)

    monkeypatch.setattr(ResourceManager, "_handle", answered)
    monkeypatch.setattr(Answer, "encoded", raw)
    return left


def test_included_subscriptions_override_the_management_group(azure: LocalAzure) -> None:
    """The management group is not even read."""
    outside = azure.subscription_ids[0]
    finished = run(azure, MANAGEMENT_GROUP="sandbox", INCLUDE_SUBSCRIPTIONS=outside)
    assert outcome(finished, outside).result is Result.DONE
    assert len(azure.exports()) == 1
    assert azure.calls.count("Microsoft.Management/*") == 0


def test_subscription_that_moved_to_another_tenant_is_excluded(azure: LocalAzure) -> None:
    """Azure rejects the token's issuer for this subscription only; the run continues with the others."""
    moved = azure.subscription_ids[2]
    azure.faults.add(
        "Microsoft.CostManagement/exports/*", "InvalidAuthenticationTokenTenant", status=401, times=None,
        resource=f"*{moved}*",
    )  # fmt: skip
    finished = run(azure)
    assert (outcome(finished, moved).result, outcome(finished, moved).code) == (Result.EXCLUDED, "other-tenant")
    assert len(azure.exports()) == 5
