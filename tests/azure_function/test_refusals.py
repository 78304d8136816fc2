"""Refusals of one scope: none is coverage, none blocks the others, each says who cures it and how."""

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
    READ,
    WRITE,
    Lines,
    advance,
    live,
    local_azure,
    messages,
    outcome,
    run,
)

pytestmark = pytest.mark.long


def test_one_bare_401_leaves_every_other_subscription_its_export_in_the_first_run(azurite: Azurite) -> None:
    """It is that scope's refusal: the run ends well, the scope waits an hour, then a person gets the step."""
    with local_azure(subscriptions=100, azurite=azurite) as cloud:
        refused = sorted(cloud.subscription_ids)[5]
        cloud.refuse_without_reason(refused)
        finished = run(cloud)
        assert len(cloud.exports()) == 99
        assert finished.report["status"] == "ok", finished.report["failures"]
        assert (outcome(finished, refused).result, outcome(finished, refused).code) == (Result.DEFERRED, "unauthorized")
        advance(cloud, HOUR + 60)
        cloud.deliver()
        told = run(cloud)
        assert outcome(told, refused).result is Result.MANUAL
        assert "Ask a person with access to the subscription to create the export once" in messages(told)
        assert "does not allow applications" not in messages(told)
        assert told.report["scopes"]["covered"] == 99
        drop_clients()


def test_a_bare_401_of_a_billing_scope_falls_back_to_its_subscriptions(azure: LocalAzure) -> None:
    """The billing scope's export is refused: its subscriptions are exported one by one from the next run on."""
    path = azure.add_billing_account("8608480", children={"a1": azure.subscription_ids[:2]})
    azure.grant_billing()
    azure.faults.add(WRITE, "", "", status=401, times=None, resource="*billingAccounts*")
    run(azure, BILLING_SCOPES=path)
    finished = run(azure, BILLING_SCOPES=path)
    assert len(azure.exports()) == 6
    assert outcome(finished, path).result is Result.DEFERRED


def test_a_token_that_the_whole_tenant_refuses_ends_the_run(azure: LocalAzure) -> None:
    """Where the listing of subscriptions is refused without a reason, nothing can be believed."""
    azure.faults.add("Microsoft.Resources/subscriptions/read", "", "", status=401, times=None)
    finished = run(azure)
    assert finished.report["status"] == "failed"
    assert [one["code"] for one in finished.report["failures"]] == ["credentials"]
    asked = run(azure, azure.subscription_ids[:2])
    assert [one["code"] for one in asked.report["failures"]] == ["credentials"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_identity_endpoint_is_asked_again(
    azure: LocalAzure, keyless: dict[str, Any], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """An answer that passes says nothing about the credentials: the run goes on when a token comes."""
    drop_clients()
    answer, left = azure.identity.answer, iter([status, status])

    def busy(request: Any) -> Answer:
        found = next(left, 0)
        return Answer({"message": "busy"}, found) if found else answer(request)

    monkeypatch.setattr(azure.identity, "answer", busy)
    lines = Lines()
    assert run(azure, sink=lines, **keyless).report["status"] == "ok"
    assert "identity-endpoint" in lines.text()


def test_an_identity_endpoint_that_stays_busy_fails_the_run_without_blaming_the_credentials(
    azure: LocalAzure, keyless: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is told to renew credentials that may be good."""
    drop_clients()
    monkeypatch.setattr(azure.identity, "answer", lambda _: Answer({"message": "busy"}, 503))
    finished = run(azure, **keyless)
    assert finished.report["status"] == "failed"
    assert "Renew the credentials" not in messages(finished)


def test_a_policy_denial_is_told_at_once_with_its_exemption(azure: LocalAzure) -> None:
    """It is neither a missing role nor an offer: the assignment is named, and an exemption ends it."""
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


def test_a_read_only_lock_is_named(azure: LocalAzure) -> None:
    """Creation stops at a ReadOnly lock, not at one against deletion."""
    locked, kept = azure.subscription_ids[1:3]
    azure.lock(f"/subscriptions/{locked}")
    azure.lock(f"/subscriptions/{kept}", "CanNotDelete")
    finished = run(azure)
    assert (outcome(finished, locked).result, outcome(finished, locked).code) == (Result.MANUAL, "scope-locked")
    assert outcome(finished, kept).result is Result.DONE
    azure.unlock(f"/subscriptions/{locked}")
    advance(azure, DAY)
    assert outcome(run(azure), locked).result is Result.DONE


def test_hidden_charges_everywhere_are_no_coverage_and_an_alarm(azure: LocalAzure) -> None:
    """With all charges of an enrollment hidden nothing is covered, and each subscription has its step."""
    for one in azure.subscription_ids:
        azure.hide_charges(one)
    finished = run(azure)
    scopes = finished.report["scopes"]
    assert (scopes["covered"], scopes["manual"], scopes["active"]) == (0, 6, 6)
    for one in azure.subscription_ids:
        azure.show_charges(one)
    advance(azure, DAY)
    assert run(azure).report["scopes"]["covered"] == 6


def test_a_destination_in_a_disabled_subscription_blocks_everything_that_rests_on_it(covered: LocalAzure) -> None:
    """Exports cannot be written there: the step names the subscription, and no scope is called covered."""
    home = covered.subscription_ids[0]
    covered.suspend_subscription(home)
    finished = run(covered)
    container = outcome(finished, home, "container")
    assert (container.result, container.code) == (Result.MANUAL, "destination-disabled")
    assert f"Reactivate subscription {home}" in messages(finished)
    assert finished.report["scopes"]["covered"] == 0
    covered.resume_subscription(home)
    assert run(covered).report["scopes"]["covered"] == 6


def test_a_closed_network_is_no_missing_role(covered: LocalAzure, keyless: dict[str, Any]) -> None:
    """A destination that admits trusted services alone refuses the function's listing: a network step, no role."""
    covered.close_network()
    run(covered, **keyless)
    advance(covered, HOUR)
    finished = run(covered, **keyless)
    container = outcome(finished, covered.subscription_ids[0], "container")
    assert (container.result, container.code) == (Result.MANUAL, "storage-refuses-exports")
    assert "export_identity = true" in messages(finished)
    assert "Networking" in messages(finished)
    assert "Assign" not in messages(finished)


def test_exports_with_an_identity_need_no_open_network_but_the_function_does(
    monkeypatch: pytest.MonkeyPatch, azurite: Azurite
) -> None:
    """Trusted services get in: exports deliver, and the one step is to admit the function's own network."""
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
def test_what_keeps_exports_with_an_identity_out_is_told_from_the_accounts_properties(
    azurite: Azurite, closed: dict[str, Any], words: str
) -> None:
    """Before a run of an export fails: without trusted services, or with a narrower copy scope, nothing arrives."""
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


def test_a_region_that_azure_offers_to_nobody_new_is_no_missing_right(azurite: Azurite) -> None:
    """Azure's own refusal of a region leads to EXPORT_LOCATION at once; another region ends it."""
    with local_azure(subscriptions=3, azurite=azurite, identity_exports=True) as cloud:
        refused = cloud.subscription_ids[1]
        cloud.disallow_region(refused, "westeurope")
        finished = run(cloud)
        assert (outcome(finished, refused).result, outcome(finished, refused).code) == (
            Result.MANUAL,
            "region-disallowed",
        )
        (told,) = finished.report["manual"]
        assert "EXPORT_LOCATION" in told["steps"][0]
        assert "policy exemption" not in messages(finished)
        assert finished.report["scopes"]["covered"] == 2
        advance(cloud, DAY)
        assert outcome(run(cloud, EXPORT_LOCATION="northeurope"), refused).result is Result.DONE
        drop_clients()


def test_a_disabled_accounts_answer_is_the_subscriptions(covered: LocalAzure, keyless: dict[str, Any]) -> None:
    """The state's account is closed with its subscription: the run fails and says what to reactivate."""
    covered.suspend_subscription(covered.subscription_ids[0])
    finished = run(covered, **keyless)
    assert finished.report["status"] == "failed"
    assert "Reactivate" in messages(finished)


def test_a_container_under_deletion_is_made_again_in_the_same_run(azurite: Azurite, monkeypatch: Any) -> None:
    """Its name is taken for half a minute: the creation waits that long, and exports follow."""
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
def test_a_gateways_answer_is_looked_at_again(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    """A page of a proxy is no answer of Azure, whatever its status: two of them cost a wait, not the export."""
    gateway = _gateway(monkeypatch, status, body, 2)
    new = azure.subscription_ids[1]
    finished = run(azure, [new])
    assert outcome(finished, new).result is Result.DONE, finished.report["failures"]
    assert gateway == []
    assert len(azure.exports(new)) == 1


@pytest.mark.parametrize("status", [200, 504])
def test_a_gateway_that_stays_defers(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """It is not called failed at the first time; nothing of the page reaches the report."""
    _gateway(monkeypatch, status, b"<html>secret page</html>", 100)
    new = azure.subscription_ids[1]
    finished = run(azure, [new])
    assert outcome(finished, new).result is Result.DEFERRED
    assert "secret page" not in str(finished.report)


def _gateway(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, times: int) -> list[int]:
    """Let a gateway answer so many writes of exports in Azure's place; return the answers that are left."""
    left = list(range(times))
    encoded = Answer.encoded
    from localcloud.azure.resource_manager import ResourceManager

    through = ResourceManager._through

    def answered(self: ResourceManager, request: Any, route: Any, action: str) -> Answer:
        if action == WRITE and left:
            left.pop()
            return Answer(("page", body), status)
        return through(self, request, route, action)

    def raw(self: Answer) -> tuple[bytes, str]:
        return (self.document[1], "text/html") if isinstance(self.document, tuple) else encoded(self)

    monkeypatch.setattr(ResourceManager, "_through", answered)
    monkeypatch.setattr(Answer, "encoded", raw)
    return left


def test_a_list_of_subscriptions_wins_over_a_management_group(azure: LocalAzure) -> None:
    """What is included is exported wherever it is, and the group is not even read."""
    outside = azure.subscription_ids[0]
    finished = run(azure, MANAGEMENT_GROUP="sandbox", INCLUDE_SUBSCRIPTIONS=outside)
    assert outcome(finished, outside).result is Result.DONE
    assert len(azure.exports()) == 1
    assert azure.calls.count("Microsoft.Management/*") == 0


def test_a_subscription_that_moved_to_another_tenant_is_excluded(azure: LocalAzure) -> None:
    """Azure refuses the token's issuer for this one alone: the run goes on."""
    moved = azure.subscription_ids[2]
    azure.faults.add(
        "Microsoft.CostManagement/exports/*", "InvalidAuthenticationTokenTenant", status=401, times=None,
        resource=f"*{moved}*",
    )  # fmt: skip
    finished = run(azure)
    assert (outcome(finished, moved).result, outcome(finished, moved).code) == (Result.EXCLUDED, "other-tenant")
    assert len(azure.exports()) == 5


def test_a_withdrawn_focus_version_is_negotiated_and_remembered(azure: LocalAzure) -> None:
    """The best version that is still offered, of no later number, is taken; the next run asks for it at once."""
    new = azure.subscription_ids[1]
    azure.withdraw_focus_version("1.2-preview")
    finished = run(azure, EXPORTS="focus")
    assert finished.report["scopes"]["covered"] == 6, finished.report["failures"]
    assert _version(azure, new) == "1.2"
    assert outcome(run(azure, [new], EXPORTS="focus"), new).action.verb is Verb.KEEP
    azure.delete_export(azure.subscription_ids[2])
    azure.calls.clear()
    run(azure, [azure.subscription_ids[2]], EXPORTS="focus")
    assert azure.calls.count(WRITE, status=201) == 1
    assert azure.calls.count(WRITE, status=400) == 1, "the probe for its eTag alone"
    azure.delete_export(new)
    azure.withdraw_focus_version("1.2")
    run(azure, [new], EXPORTS="focus", FOCUS_VERSION="1.0")
    assert _version(azure, new) == "1.0"


def test_a_version_that_a_person_raised_is_kept(azurite: Azurite) -> None:
    """A later version than ours is no drift, and a repair of something else leaves it."""
    known = ("1.0", "1.2-preview", "1.3")
    with local_azure(Behavior(focus_versions=known), subscriptions=2, azurite=azurite) as cloud:
        new = cloud.subscription_ids[1]
        run(cloud, EXPORTS="focus")
        cloud.actions._change(new, "", {"definition.dataSet.configuration": {"dataVersion": "1.3"}})
        assert outcome(run(cloud, [new], EXPORTS="focus"), new).action.verb is Verb.KEEP
        cloud.set_schedule_inactive(new)
        assert outcome(run(cloud, [new], EXPORTS="focus"), new).action.verb is Verb.REPAIR
        assert _version(cloud, new) == "1.3"
        drop_clients()


def test_a_version_that_nobody_offers_names_the_setting(azure: LocalAzure) -> None:
    """Nothing lower is left: the failure says which setting to change, with what Azure offers."""
    for one in ("1.0-preview(v1)", "1.0", "1.0r2", "1.2-preview"):
        azure.withdraw_focus_version(one)
    finished = run(azure, azure.subscription_ids[1:2], EXPORTS="focus", FOCUS_VERSION="1.0")
    assert "FOCUS_VERSION" in messages(finished)
    assert "'1.2'" in messages(finished)


@pytest.mark.parametrize("answers", ["documented", "recorded"])
def test_both_shapes_of_cost_managements_answers_lead_to_the_same(azurite: Azurite, answers: Any) -> None:
    """Ids without a slash, runs in another order, seven digits, null times and counts: nothing is written twice."""
    with local_azure(Behavior(answers=answers), subscriptions=4, azurite=azurite) as cloud:
        lost, failing = cloud.subscription_ids[1:3]
        assert run(cloud).report["scopes"]["covered"] == 4
        cloud.deliver()
        advance(cloud, HOUR)
        cloud.delete_export(lost)
        assert outcome(run(cloud, [lost]), lost).action.verb is Verb.CREATE
        cloud.fail_runs(failing, times=3)
        for _ in range(3):
            advance(cloud, DAY)
            cloud.deliver()
        broken = run(cloud)
        assert outcome(broken, failing).action.reason == "runs-failed"
        cloud.calls.clear()
        advance(cloud, HOUR)
        assert run(cloud).report["scopes"]["covered"] == 4
        advance(cloud, DAY)
        cloud.deliver()
        assert run(cloud).report["scopes"]["delivering"] == 4
        assert cloud.calls.count(WRITE) == 0
        assert cloud.calls.count(READ) > 0
        drop_clients()


def _version(cloud: LocalAzure, subscription: str) -> str:
    version: str = live(cloud, subscription)["definition"]["dataSet"]["configuration"]["dataVersion"]
    return version
