"""Least privilege of the Azure function, both ways: what infra/azure grants is used, and what is used is granted."""

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
from tests.e2e.azure_least import Tenant, mend, onboard, tenant, with_identities, with_keys
from tests.e2e.azure_rights import Right, Used, differences, granted
from tests.limits import HANG_S

# Grants that no call to a local cloud can show, each with its documented reason.
KNOWN = {
    "WriteTelemetry": "the Functions host writes the logs, not our code; Entra authentication for Application Insights "
    "asks for Monitoring Metrics Publisher",
}
# What the function's own calls need of the role on its storage. The Functions host asks for the whole role: "Connecting
# to host storage with an identity" in the Azure Functions developer guide.
OWN_STORAGE = {
    "Microsoft.Storage/storageAccounts/blobServices/containers/write",
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
}
# What a template's deployment asks of whoever makes it: "Resource Manager" in the reference of Azure permissions.
DEPLOYING = {"read", "write", "validate/action", "operationStatuses/read", "operations/read"}
STORIES: dict[bool, Callable[[Tenant], None]] = {False: with_keys, True: with_identities}
ALL = {**granted("function", True), **granted("function", False)}


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    """Return the emulator that the tenants of this module use one after another."""
    running = start_azurite(clock=VirtualClock(START))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def story(azurite: Azurite) -> Used:
    """Return what the function used in its whole life, with either sort of exports."""
    told = Used()
    for identities, tell in STORIES.items():
        with tenant(azurite, identity_exports=identities) as own:
            tell(own)
            told.add(own.used())
    return told


def edited(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    """Return a copy of the rights' file in which the function's grants are changed."""
    document = yaml.safe_load(RIGHTS.read_text(encoding="utf-8"))
    change(document["function"])
    path = folder / "rights.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def without(folder: Path, right: Right) -> Path:
    """Return a copy of the rights' file that lacks one right."""

    def take(grants: list[dict[str, Any]]) -> None:
        grant = next(one for one in grants if one["id"] == ALL[right])
        if grant.get("role") == right.what:
            grants.remove(grant)
        for kind in ("actions", "data_actions"):
            grant[kind] = [one for one in grant.get(kind, []) if one != right.what]

    return edited(folder, take)


def all_of(path: Path) -> dict[Right, str]:
    """Return everything that a file grants the function, under any condition."""
    return {**granted("function", True, path), **granted("function", False, path)}


def test_what_is_granted_is_used_and_what_is_used_is_granted(story: Used) -> None:
    """The rights that the stories need are those of rights.yaml: none is superfluous, none is missing."""
    assert differences(ALL, story, KNOWN) == []


def test_built_in_roles_are_those_of_the_host_and_of_the_webhooks_secret() -> None:
    """No right hides behind a known exception: of Azure's own roles the function has just these, each at its place."""
    roles = {(right.place, right.what) for right in ALL if "/" not in right.what}
    assert roles == {
        ("notify_secret", "Key Vault Secrets User"),
        ("state", "Storage Blob Data Owner"),
        ("telemetry", "Monitoring Metrics Publisher"),
    }
    assert {right.what for right, grant in ALL.items() if grant in KNOWN} == {"Monitoring Metrics Publisher"}


@pytest.mark.parametrize("identities", [False, True])
def test_the_policys_identity_may_do_what_the_function_does_and_deploy(identities: bool) -> None:
    """Nobody runs Azure Policy here: beyond rights that the function proves, its identity has those of a deployment."""
    beyond = set(granted("policy", identities)) - set(granted("function", identities))
    assert {right.what.removeprefix("Microsoft.Resources/deployments/") for right in beyond} == DEPLOYING


def test_the_function_uses_little_of_the_role_that_its_host_needs(story: Used) -> None:
    """On its own storage it reads and writes blobs and makes its container; the rest of the role is the host's."""
    (own,) = [one for one in read_grants("function", conditions_of(False)) if one.id == "UseOwnStorage"]
    assert {action for role, action in story.by_role if role == own.role} == OWN_STORAGE


@pytest.mark.parametrize("right", sorted(set(ALL) - {one for one, grant in ALL.items() if grant in KNOWN}), ids=str)
def test_a_right_that_is_taken_out_is_missed(right: Right, story: Used, azurite: Azurite, tmp_path: Path) -> None:
    """The comparison names the right and the file, and with the right gone the story itself breaks."""
    path = without(tmp_path, right)
    assert [one for one in differences(all_of(path), story, KNOWN) if f" {right.what} ({right.place})" in one]
    identities = right not in granted("function", False)
    with tenant(azurite, rights=path, identity_exports=identities) as own, pytest.raises(AssertionError):
        STORIES[identities](own)


def _append(extra: dict[str, Any], grants: list[dict[str, Any]]) -> None:
    grants.append(extra)


@pytest.mark.parametrize("scope", ["management_group", "destination_subscription", "destination"])
def test_a_right_that_is_added_is_superfluous(scope: str, story: Used, tmp_path: Path) -> None:
    """The comparison names each right that nothing needs, one that is right elsewhere too."""
    for action in ("Microsoft.CostManagement/exports/delete", "Microsoft.Storage/storageAccounts/listKeys/action"):
        extra = {"id": "Extra", "why": "by hand", "scope": scope, "actions": [action]}
        path = edited(tmp_path, partial(_append, extra))
        (told,) = differences(all_of(path), story, KNOWN)
        assert told.startswith("infra/azure/rights.yaml: Extra grants the function")
        assert action in told


def test_a_list_of_subscriptions_takes_no_right_at_a_group(azurite: Azurite) -> None:
    """Where subscriptions are listed, the rights are assigned at each of them, and those suffice."""
    with tenant(azurite, listed=(2, 5, 8)) as own:
        onboard(own)
        mend(own)
        grants, story = granted("function", False, group=False), own.used()
        assert not [told for told in differences(grants, story, KNOWN) if "nothing grants it" in told]
        held = own.cloud.world.rights.of(own.cloud.principal)
        assert not [one.scope for one in held if "/managementGroups/" in one.scope]


BLOB_WRITER, BLOB_OWNER, OWNER = (
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
)
ASSIGNED = "providers/Microsoft.Authorization/roleAssignments"


def call(own: Tenant, method: str, path: str, version: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    """Call Resource Manager as the function; return status and code of the answer."""
    answer = requests.request(
        method,
        f"{own.cloud.endpoint}{path}?api-version={version}",
        json=body,
        headers={"Authorization": f"Bearer {own.cloud.token()}"},
        timeout=HANG_S,
    )
    return answer.status_code, (answer.json().get("error") or {}).get("code", "") if answer.content else ""


def test_the_function_gives_one_role_to_service_principals_and_nothing_else(azurite: Azurite) -> None:
    """The condition lets it assign Storage Blob Data Contributor on the destination: no other role, nobody else."""
    with tenant(azurite, identity_exports=True) as own:
        account, host = own.cloud.destinations[0].id, own.cloud.host_account.id

        def give(where: str, role: str, kind: str) -> tuple[int, str]:
            properties = {"roleDefinitionId": f"/x/{role}", "principalId": str(uuid4()), "principalType": kind}
            path = f"{where}/{ASSIGNED}/{uuid4()}"
            return call(own, "PUT", path, "2022-04-01", {"properties": properties})

        assert give(account, BLOB_WRITER, "ServicePrincipal")[0] == 201
        refused = (403, "AuthorizationFailed")
        for where, role, kind in (
            (account, OWNER, "ServicePrincipal"),
            (account, BLOB_OWNER, "ServicePrincipal"),
            (account, BLOB_WRITER, "User"),
            (host, BLOB_WRITER, "ServicePrincipal"),
            (f"/subscriptions/{own.home}", BLOB_WRITER, "ServicePrincipal"),
        ):
            assert give(where, role, kind) == refused, (where, role, kind)
        others = [one for one in own.cloud.world.rights.assignments.values() if one.principal != own.cloud.principal]
        theirs = [one for one in others if one.role != BLOB_WRITER]
        assert theirs
        for one in theirs:
            assert call(own, "DELETE", f"{one.scope.rstrip('/')}/{ASSIGNED}/{one.id}", "2022-04-01") == refused
        assert give(account, BLOB_WRITER, "ServicePrincipal")[0] == 201


def test_each_right_ends_at_its_place(azurite: Azurite) -> None:
    """Exports outside of the group, their deletion, keys, settings and other storage are closed to the function."""
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
