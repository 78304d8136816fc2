"""Lasting problems: each refusal, silence and policy as Azure shows it, until it is resolved."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from azure.storage.blob import ContainerClient

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.caller import token_for
from localcloud.azure.platform.deployment import CONTAINER
from localcloud.azure.services.azurite import Azurite
from localcloud.azure.state import Behavior
from shared.runtime.clock import VirtualClock
from tests.limits import HANG_S
from tests.localcloud.azure.helpers import NAME, Sdk, export, failure, refusal, scope
from tests.localcloud.azure.services.test_blob_gate import code
from tests.readers.azure import STORAGE, blob_service

DAY = 86_400.0


@pytest.fixture
def keyless(azure: LocalAzure, closing: ExitStack) -> ContainerClient:
    """Return the export container with the function's identity."""
    token = token_for(azure.tenant, azure.principal, STORAGE)
    url = f"{azure.keyless()['BLOB_ENDPOINT']}/{azure.destinations[0].name}"
    return closing.enter_context(blob_service(url, lambda _: token)).get_container_client(CONTAINER)


def manifest(sdk: Sdk) -> dict[str, Any]:
    """Return the only delivered manifest."""
    (name,) = [one for one in sdk.names() if one.endswith("manifest.json")]
    document: dict[str, Any] = json.loads(sdk.blobs.get_blob_client(CONTAINER, name).download_blob().readall())
    return document


def runs(sdk: Sdk, azure: LocalAzure) -> list[Any]:
    """Return the statuses of an export's runs, newest first."""
    return [run.status for run in sdk.exports.get_execution_history(scope(azure), NAME).value]


def test_policy_denial_names_assignment_and_definition(azure: LocalAzure, sdk: Sdk) -> None:
    """Both are in `additionalInfo`, as in Resource Manager; an exemption ends the denial."""
    azure.deny_by_policy(azure.subscription_ids[0], "deny-types")
    error: Any = failure(sdk.create)
    assert (error.status_code, error.error.code) == (403, "RequestDisallowedByPolicy")
    (info,) = error.error.additional_info
    assert info.type == "PolicyViolation"
    assert info.info["policyAssignmentId"].endswith("/policyAssignments/deny-types")
    assert "deny-types" in error.error.message
    azure.exempt_from_policy(azure.subscription_ids[0])
    sdk.create()


def test_locks_block_writes_or_deletions_below_their_scope(azure: LocalAzure, closing: ExitStack) -> None:
    """ReadOnly blocks both and CanNotDelete only deletions, even for an owner; reads succeed."""
    sdk = Sdk(azure, closing, azure.operator_token())
    sdk.create()
    azure.lock(scope(azure), "CanNotDelete")
    sdk.create(name="another")
    assert refusal(sdk.exports.delete, scope(azure), NAME)[:2] == (409, "ScopeLocked")
    azure.lock(scope(azure))
    status, response, message = refusal(sdk.create, 0, "third")
    assert (status, response, scope(azure) in message) == (409, "ScopeLocked", True)
    assert len(sdk.exports.list(scope(azure)).value) == 2
    sdk.create(1)
    azure.unlock(scope(azure))
    sdk.exports.delete(scope(azure), NAME)


def test_401_without_a_reason_has_no_body(azure: LocalAzure) -> None:
    """It has neither a code nor a challenge; other subscriptions are served."""
    azure.refuse_without_reason(azure.subscription_ids[0])

    def put(number: int) -> requests.Response:
        url = f"{azure.endpoint}{scope(azure, number)}/providers/Microsoft.CostManagement/exports/{NAME}"
        headers = {"Authorization": f"Bearer {azure.token()}"}
        return requests.put(
            f"{url}?api-version=2025-03-01", json=export(azure, number), headers=headers, timeout=HANG_S
        )

    refused = put(0)
    assert (refused.status_code, refused.content, "www-authenticate" in refused.headers) == (401, b"", False)
    assert put(1).status_code == 201


@pytest.mark.parametrize(("by", "words"), [("enrollment", "AO View Charges"), ("partner", "partner")])
def test_hidden_charges_are_400_with_the_hiding_party(azure: LocalAzure, sdk: Sdk, by: Any, words: str) -> None:
    """The code is AccountCostDisabled until the charges are visible."""
    azure.hide_charges(azure.subscription_ids[0], by)
    status, response, message = refusal(sdk.create)
    assert (status, response, words in message) == (400, "AccountCostDisabled", True)
    azure.show_charges(azure.subscription_ids[0])
    sdk.create()


def test_changed_agreement_stops_only_existing_exports(azure: LocalAzure, sdk: Sdk) -> None:
    """An existing export runs without data until it is recreated."""
    sdk.create()
    assert azure.deliver() == 1
    azure.migrate_agreement(azure.subscription_ids[0])
    assert azure.deliver() == 0
    assert runs(sdk, azure)[0] == "NewDataNotAvailable"
    azure.delete_export(azure.subscription_ids[0])
    sdk.create()
    assert azure.deliver() == 1


@pytest.mark.parametrize(("shape", "rows", "files"), [("header", 0, 1), ("null", None, 1), ("no-blobs", 0, 0)])
def test_empty_delivery_has_three_forms(azure: LocalAzure, sdk: Sdk, shape: Any, rows: int | None, files: int) -> None:
    """The run completes in each, and the manifest shows it as far as Azure does."""
    sdk.create()
    azure.empty_data(azure.subscription_ids[0], shape)
    azure.deliver()
    found = manifest(sdk)
    assert (found["dataRowCount"], found["blobCount"], len(found["blobs"])) == (rows, files, files)
    assert runs(sdk, azure)[0] == "Completed"


def test_lost_data_files_leave_their_manifest(azure: LocalAzure, sdk: Sdk) -> None:
    """The manifest still lists them."""
    sdk.create()
    azure.deliver()
    assert azure.lose_parts(azure.subscription_ids[0]) == 1
    assert manifest(sdk)["blobs"][0]["blobName"] not in sdk.names()


def test_network_rules_and_a_disabled_subscription_refuse_tokens(azure: LocalAzure, keyless: ContainerClient) -> None:
    """Roles do not matter: the codes are those of network rules and of a disabled account."""
    azure.deliver()
    azure.actions._world.blobs.make_container(azure.destinations[0].name, CONTAINER)
    assert list(keyless.list_blobs()) == []
    azure.close_network()
    assert code(lambda: list(keyless.list_blobs())) == (403, "AuthorizationFailure")
    azure.close_network(closed=False)
    azure.suspend_subscription(azure.destinations[0].subscription)
    assert code(lambda: list(keyless.list_blobs())) == (403, "AccountIsDisabled")


def test_name_of_a_deleted_container_is_unavailable_for_a_time(azurite: Azurite, closing: ExitStack) -> None:
    """Calls on it are refused until the deletion is complete; then it can be created again."""
    behavior = Behavior(container_deletion_s=30)
    azure = closing.enter_context(LocalAzure(clock=VirtualClock(), azurite=azurite, behavior=behavior))
    token = token_for(azure.tenant, azure.principal, STORAGE)
    url = azure.keyless()["STATE_ACCOUNT"]
    container = closing.enter_context(blob_service(url, lambda _: token)).get_container_client("tailpipe-state")
    azure.delete_container(azure.host_account.name, "tailpipe-state")
    assert code(container.create_container) == (409, "ContainerBeingDeleted")
    azure.advance(31)
    container.create_container()


@pytest.mark.parametrize(("by", "shown"), [("policy", (True, False)), ("legal-hold", (False, True))])
def test_legal_hold_fails_the_next_days_run(azure: LocalAzure, sdk: Sdk, by: Any, shown: tuple[bool, bool]) -> None:
    """The first delivery is written, and the one that would replace it fails."""
    sdk.create()
    azure.hold_container(by)
    assert azure.deliver() == 1
    azure.advance(DAY)
    assert azure.deliver() == 0
    assert runs(sdk, azure)[0] == "Failed"
    place = f"{azure.destinations[0].id}/blobServices/default/containers/{CONTAINER}"
    headers = {"Authorization": f"Bearer {azure.operator_token()}"}
    answer = requests.get(f"{azure.endpoint}{place}?api-version=2023-05-01", headers=headers, timeout=HANG_S)
    properties = answer.json()["properties"]
    assert (properties["hasImmutabilityPolicy"], properties["hasLegalHold"]) == shown
    azure.hold_container("")
    assert azure.deliver() == 1


def test_lifecycle_rule_deletes_matching_blobs(azure: LocalAzure, sdk: Sdk) -> None:
    """Last month's files are deleted after the given days; those with another prefix stay."""
    sdk.create()
    azure.deliver()
    azure.expire_blobs(7, prefix="other/")
    azure.advance(40 * DAY)
    azure.deliver()
    assert len([one for one in sdk.names() if one.endswith("manifest.json")]) == 2
    azure.expire_blobs(7, prefix=f"{CONTAINER}/tailpipe")
    azure.deliver()
    assert len([one for one in sdk.names() if one.endswith("manifest.json")]) == 1


def test_only_offered_focus_versions_are_accepted(azure: LocalAzure, sdk: Sdk) -> None:
    """An unknown or withdrawn version is refused with the offered ones; existing exports keep theirs."""
    focus: dict[str, Any] = {
        "definition__type": "FocusCost",
        "definition__dataSet__configuration": {"dataVersion": "1.2-preview"},
    }
    status, _, message = refusal(
        sdk.create, 0, NAME, **{**focus, "definition__dataSet__configuration": {"dataVersion": "9.9"}}
    )
    assert (status, "Invalid dataVersion '9.9'" in message, "'1.0r2'" in message) == (400, True, True)
    made = sdk.create(**focus)
    azure.withdraw_focus_version("1.2-preview")
    assert "'1.2-preview'" in refusal(sdk.create, 1, **focus)[2]
    sdk.create(tag=made.e_tag, **focus)
    with pytest.raises(ValueError, match=r"9\.9' is not offered"):
        azure.withdraw_focus_version("9.9")


def test_responses_match_seven_recorded_forms(azurite: Azurite, closing: ExitStack) -> None:
    """Id, run id, order and fields of runs, digits, creation, absence and manifest match API 2021-10-01."""
    behavior = Behavior(answers="recorded")
    azure = closing.enter_context(LocalAzure(clock=VirtualClock(), azurite=azurite, behavior=behavior))
    sdk = Sdk(azure, closing)
    status, response, message = refusal(sdk.exports.get, scope(azure), NAME)
    assert (status, response, message.startswith(f"No export found for {NAME}")) == (404, "404", True)
    url = f"{azure.endpoint}{scope(azure)}/providers/Microsoft.CostManagement/exports/{NAME}?api-version=2025-03-01"
    headers = {"Authorization": f"Bearer {azure.token()}", "ClientType": "tests"}
    made = requests.put(url, json=export(azure), headers=headers, timeout=HANG_S)
    assert made.headers["Location"].startswith("https://costmanagement.trafficmanager.net/subscriptions/")
    assert "nextRunTimeEstimate" not in made.json()["properties"]
    assert made.json()["id"].startswith("subscriptions/")
    azure.deliver()
    azure.fail_runs(azure.subscription_ids[0])
    azure.advance(DAY)
    azure.deliver()
    found = requests.get(f"{url}&$expand=runHistory", headers=headers, timeout=HANG_S).json()
    assert found["properties"]["nextRunTimeEstimate"].endswith(".0000000Z")
    first, second = found["properties"]["runHistory"]["value"]
    assert [first["properties"]["status"], second["properties"]["status"]] == ["Completed", "Failed"]
    assert f"/exports/{NAME}/Run/{first['name']}" in first["id"]
    assert first["properties"]["error"] is None
    assert first["properties"]["runSettings"]["format"] == "Csv"
    assert manifest(sdk)["dataRowCount"] is None


def test_invalid_control_action_is_refused(azure: LocalAzure) -> None:
    """A mistake in a test or a demo raises an error."""
    one = azure.subscription_ids[0]
    calls: tuple[Callable[[], object], ...] = (
        lambda: azure.lock(scope(azure), "Soft"),
        lambda: azure.hide_charges(one, "unknown"),
        lambda: azure.migrate_agreement(one, "none"),
        lambda: azure.empty_data(one, "full"),
        lambda: azure.hold_container("hand"),
        lambda: azure.stop_data("nowhere"),
    )
    for wrong in calls:
        with pytest.raises(ValueError, match=r"neither|is not one of|does not exist"):
            wrong()
