"""The Azure function is granted exactly the permissions that it uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
import yaml

from localcloud.azure.cloud import start_azurite
from localcloud.azure.iam.grants import RIGHTS, conditions_of, read_grants
from localcloud.azure.services.azurite import Azurite
from shared.runtime.clock import VirtualClock
from tests.azure_function.support import START
from tests.e2e.azure_rights import Right, Used, differences, granted
from tests.e2e.azure_scenarios import Tenant, onboard, repair, tenant, with_identities, with_keys
from tests.limits import HANG_S

pytestmark = pytest.mark.long

# Grants that no call to a local cloud can use, each with its documented reason.
KNOWN = {
    "WriteTelemetry": "the Functions host writes the logs, not our code; Entra authentication for Application Insights "
    "asks for Monitoring Metrics Publisher",
}
# Permissions that the function's own calls use of the role on its storage. The host needs the whole role: "Connecting
# to host storage with an identity" in the Azure Functions developer guide.
OWN_STORAGE = {
    "Microsoft.Storage/storageAccounts/blobServices/containers/write",
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
}
# Permissions that deploy a template: "Resource Manager" in the reference of Azure permissions.
DEPLOYING = {"read", "write", "validate/action", "operationStatuses/read", "operations/read"}
SCENARIOS: dict[bool, Callable[[Tenant], None]] = {False: with_keys, True: with_identities}
ALL = {**granted("function", True), **granted("function", False)}


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    """Return the emulator that the tenants of this module use one after another."""
    running = start_azurite(clock=VirtualClock(START))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def scenario(azurite: Azurite) -> Used:
    """Return the permissions that the function used in all scenarios, with either kind of exports."""
    used = Used()
    for identities, run in SCENARIOS.items():
        with tenant(azurite, identity_exports=identities) as own:
            run(own)
            used.add(own.used())
    return used


def edited(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    """Return a copy of rights.yaml in which the function's grants were changed."""
    document = yaml.safe_load(RIGHTS.read_text(encoding="utf-8"))
    change(document["function"])
    path = folder / "rights.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def without(folder: Path, right: Right) -> Path:
    """Return a copy of rights.yaml that lacks one permission."""

    def take(grants: list[dict[str, Any]]) -> None:
        grant = next(one for one in grants if one["id"] == ALL[right])
        if grant.get("role") == right.what:
            grants.remove(grant)
        for kind in ("actions", "data_actions"):
            grant[kind] = [one for one in grant.get(kind, []) if one != right.what]

    return edited(folder, take)


def all_of(path: Path) -> dict[Right, str]:
    """Return every permission that a file grants the function, under any condition."""
    return {**granted("function", True, path), **granted("function", False, path)}


def test_function_is_granted_exactly_the_permissions_it_uses(scenario: Used) -> None:
    """No permission of rights.yaml is superfluous, and none is missing."""
    assert differences(ALL, scenario, KNOWN) == []


def test_function_has_only_the_expected_built_in_roles() -> None:
    """Only one of them is a known exception, which no local call can use."""
    roles = {(right.place, right.what) for right in ALL if "/" not in right.what}
    assert roles == {
        ("delivery_topic", "EventGrid Data Sender"),
        ("notify_secret", "Key Vault Secrets User"),
        ("state", "Storage Blob Data Owner"),
        ("telemetry", "Monitoring Metrics Publisher"),
    }
    assert {right.what for right, grant in ALL.items() if grant in KNOWN} == {"Monitoring Metrics Publisher"}


@pytest.mark.parametrize("identities", [False, True])
def test_policy_identity_may_only_deploy_in_addition_to_the_functions_permissions(identities: bool) -> None:
    """Azure Policy does not run locally: its permissions are those of the function and of a template deployment."""
    beyond = set(granted("policy", identities)) - set(granted("function", identities))
    assert {right.what.removeprefix("Microsoft.Resources/deployments/") for right in beyond} == DEPLOYING


def test_functions_own_code_uses_few_permissions_of_its_storage_role(scenario: Used) -> None:
    """It reads and writes blobs and creates its container; the Functions host needs the rest of the role."""
    (own,) = [one for one in read_grants("function", conditions_of(False)) if one.id == "UseOwnStorage"]
    assert {action for role, action in scenario.by_role if role == own.role} == OWN_STORAGE


@pytest.mark.parametrize("right", sorted(set(ALL) - {one for one, grant in ALL.items() if grant in KNOWN}), ids=str)
def test_removed_permission_is_reported(right: Right, scenario: Used, azurite: Azurite, tmp_path: Path) -> None:
    """The comparison names the permission and the file, and the scenario fails without the permission."""
    path = without(tmp_path, right)
    assert [one for one in differences(all_of(path), scenario, KNOWN) if f" {right.what} ({right.place})" in one]
    identities = right not in granted("function", False)
    with tenant(azurite, rights=path, identity_exports=identities) as own, pytest.raises(AssertionError):
        SCENARIOS[identities](own)


def _append(extra: dict[str, Any], grants: list[dict[str, Any]]) -> None:
    grants.append(extra)


@pytest.mark.parametrize("scope", ["management_group", "destination_subscription", "destination"])
def test_unused_permission_is_reported(scope: str, scenario: Used, tmp_path: Path) -> None:
    """The comparison names each unused permission, even if it is needed at another scope."""
    for action in ("Microsoft.CostManagement/exports/delete", "Microsoft.Storage/storageAccounts/listKeys/action"):
        extra = {"id": "Extra", "why": "by hand", "scope": scope, "actions": [action]}
        path = edited(tmp_path, partial(_append, extra))
        (difference,) = differences(all_of(path), scenario, KNOWN)
        assert difference.startswith("infra/azure/rights.yaml: Extra grants the function")
        assert action in difference


def test_listed_subscriptions_need_no_permission_at_a_management_group(azurite: Azurite) -> None:
    """Permissions are assigned at each listed subscription, and those are enough."""
    with tenant(azurite, listed=(2, 5, 8)) as own:
        onboard(own)
        repair(own)
        grants, scenario = granted("function", False, group=False), own.used()
        assert not [one for one in differences(grants, scenario, KNOWN) if "nothing grants it" in one]
        held = own.cloud.world.rights.of(own.cloud.principal)
        assert not [one.scope for one in held if "/managementGroups/" in one.scope]


BLOB_WRITER, BLOB_OWNER, OWNER = (
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
)
ASSIGNED = "providers/Microsoft.Authorization/roleAssignments"


def call(own: Tenant, method: str, path: str, version: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    """Call Resource Manager as the function; return the response's status and error code."""
    answer = requests.request(
        method,
        f"{own.cloud.endpoint}{path}?api-version={version}",
        json=body,
        headers={"Authorization": f"Bearer {own.cloud.token()}"},
        timeout=HANG_S,
    )
    return answer.status_code, (answer.json().get("error") or {}).get("code", "") if answer.content else ""


def test_function_can_assign_one_role_to_service_principals_only(azurite: Azurite) -> None:
    """The condition allows Storage Blob Data Contributor on the destination: no other role, scope or principal type."""
    with tenant(azurite, identity_exports=True) as own:
        account, host = own.cloud.destinations[0].id, own.cloud.host_account.id

        def assign(where: str, role: str, kind: str) -> tuple[int, str]:
            properties = {"roleDefinitionId": f"/x/{role}", "principalId": str(uuid4()), "principalType": kind}
            path = f"{where}/{ASSIGNED}/{uuid4()}"
            return call(own, "PUT", path, "2022-04-01", {"properties": properties})

        assert assign(account, BLOB_WRITER, "ServicePrincipal")[0] == 201
        refused = (403, "AuthorizationFailed")
        for where, role, kind in (
            (account, OWNER, "ServicePrincipal"),
            (account, BLOB_OWNER, "ServicePrincipal"),
            (account, BLOB_WRITER, "User"),
            (host, BLOB_WRITER, "ServicePrincipal"),
            (f"/subscriptions/{own.home}", BLOB_WRITER, "ServicePrincipal"),
        ):
            assert assign(where, role, kind) == refused, (where, role, kind)
        others = [one for one in own.cloud.world.rights.assignments.values() if one.principal != own.cloud.principal]
        theirs = [one for one in others if one.role != BLOB_WRITER]
        assert theirs
        for one in theirs:
            assert call(own, "DELETE", f"{one.scope.rstrip('/')}/{ASSIGNED}/{one.id}", "2022-04-01") == refused
        assert assign(account, BLOB_WRITER, "ServicePrincipal")[0] == 201


def test_permissions_end_at_their_scope(azurite: Azurite) -> None:
    """The function has no access to exports outside the group, deletions, keys, settings and other storage."""
    with tenant(azurite) as own:
        own.ok()
        (export,) = own.cloud.exports(own.ours[0])
        account, host, site = own.cloud.destinations[0].id, own.cloud.host_account.id, own.cloud.site.id
        outside = f"/subscriptions/{own.home}/providers/Microsoft.CostManagement/exports/any"
        for method, path, version in (
            ("DELETE", export["id"], "2025-03-01"),
            ("GET", outside, "2025-03-01"),
            ("PUT", outside, "2025-03-01"),
            ("POST", f"{account}/listKeys", "2023-05-01"),
            ("GET", host, "2023-05-01"),
            ("PATCH", host, "2023-05-01"),
            ("POST", f"{site}/config/appsettings/list", "2023-12-01"),
            ("POST", f"/subscriptions/{own.ours[0]}/providers/Microsoft.Storage/register", "2022-09-01"),
        ):
            assert call(own, method, path, version) == (403, "AuthorizationFailed"), (method, path)
