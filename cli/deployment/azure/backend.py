"""The storage of Terraform's state on Azure: one private, versioned storage account per subscription, without keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import ContainerClient

from azure_function.clients import READ_S
from cli.deployment.azure.app import RESOURCES_API, TAG, TAGGED
from cli.deployment.azure.names import names
from cli.deployment.azure.preflight import ROLES_API, STORAGE_API
from cli.deployment.azure.rest import Rest
from cli.deployment.azure.session import Session
from cli.deployment.model import Backend, OperatorError, Problem
from cli.deployment.operator import Tell

GROUP = "tailpipe-exports-state"
CONTAINER = "tfstate"
KEY = "azure.tfstate"
TAGS = {TAG: TAGGED}
# Azure's own role "Storage Blob Data Contributor".
DATA_CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
SPREADING = timedelta(minutes=10)  # the longest time until a new role takes effect for storage
POLL_S = 10.0
MAKING_S = 300.0
# The state can be read only with a sign-in, over TLS; Azure always encrypts it at rest.
PRIVATE = {
    "allowBlobPublicAccess": False,
    "allowSharedKeyAccess": False,
    "allowCrossTenantReplication": False,
    "defaultToOAuthAuthentication": True,
    "minimumTlsVersion": "TLS1_2",
    "supportsHttpsTrafficOnly": True,
}
# An overwritten or deleted state can be restored.
RETAINED = {
    "isVersioningEnabled": True,
    "deleteRetentionPolicy": {"enabled": True, "days": 30},
    "containerDeleteRetentionPolicy": {"enabled": True, "days": 30},
}


def account_name(session: Session) -> str:
    """Return the name of the state's storage account, which depends on the subscription only."""
    return "tailpipestate" + hashlib.sha256(session.subscription.encode()).hexdigest()[:11]


def backend(session: Session) -> Backend:
    """Return the azurerm backend, which signs in as the caller and never uses a key."""
    name = account_name(session)
    configuration = {
        "subscription_id": session.subscription,
        "tenant_id": session.tenant,
        "resource_group_name": GROUP,
        "storage_account_name": name,
        "container_name": CONTAINER,
        "key": KEY,
        "use_azuread_auth": True,
    }
    return Backend("azurerm", configuration, f"container {CONTAINER} of storage account {name}")


def exists(session: Session) -> bool:
    """Return whether the state's container exists."""
    return session.rest.get(f"{_account(session)}/blobServices/default/containers/{CONTAINER}", STORAGE_API) is not None


def holds(session: Session) -> bool:
    """Return whether Terraform deployed here: its state exists, and so does the deployment of the app that it makes.

    The app's deployment is what the launch template makes too, beside others that only the template makes.
    """
    if not exists(session):
        return False
    name = names(session.subscription, {})
    made = f"{session.path}/resourceGroups/{name.group}/providers/Microsoft.Resources/deployments/{name.function}"
    return (
        session.rest.get(made, RESOURCES_API) is not None
        and session.rest.get(f"{made}-resources", RESOURCES_API) is None
    )


def make(session: Session, tell: Tell) -> None:
    """Create or restore the state's account and container. Raises OperatorError for a taken name."""
    name, path, location = account_name(session), _account(session), session.region
    group = f"{session.path}/resourceGroups/{GROUP}"
    there = session.rest.get(group, RESOURCES_API)
    if there is None:
        tell(f"creating resource group {GROUP}")
        session.rest.ask("PUT", group, RESOURCES_API, {"location": location, "tags": TAGS})
    if session.rest.get(path, STORAGE_API) is None:
        _require_free(session, name)
        tell(f"creating storage account {name}")
    account = {
        "location": str((there or {}).get("location") or location),
        "kind": "StorageV2",
        "sku": {"name": "Standard_LRS"},
        "tags": TAGS,
        "properties": PRIVATE,
    }
    session.rest.ask("PUT", path, STORAGE_API, account)
    _wait_until_made(session.rest, path)
    session.rest.ask("PUT", f"{path}/blobServices/default", STORAGE_API, {"properties": RETAINED})
    container = f"{path}/blobServices/default/containers/{CONTAINER}"
    session.rest.ask("PUT", container, STORAGE_API, {"properties": {"publicAccess": "None"}})
    _grant(session, path, tell)
    _wait_until_readable(session.rest, name, tell)


def _require_free(session: Session, name: str) -> None:
    body = {"name": name, "type": "Microsoft.Storage/storageAccounts"}
    answer = session.rest.ask(
        "POST", f"{session.path}/providers/Microsoft.Storage/checkNameAvailability", STORAGE_API, body
    )
    if not answer.get("nameAvailable"):
        raise OperatorError(
            Problem(
                f"the storage account for Terraform's state cannot be created: {answer.get('message', name)}",
                "Is it in another resource group of yours? Then move it to "
                f"{GROUP}; else keep the state elsewhere with --local-state.",
            )
        )


def _wait_until_made(rest: Rest, path: str) -> None:
    until = rest.clock.monotonic() + MAKING_S
    while True:
        found: Mapping[str, Any] = (rest.get(path, STORAGE_API) or {}).get("properties") or {}
        if found.get("provisioningState") == "Succeeded":
            return
        if rest.clock.monotonic() >= until:
            raise OperatorError(Problem(f"Azure is still creating {path.rsplit('/', 1)[1]}", "Run the command again."))
        rest.clock.wait_until(rest.clock.monotonic() + POLL_S)


def _grant(session: Session, path: str, tell: Tell) -> None:
    """Grant the caller access to the blobs, which the owner of a subscription does not have."""
    if not session.caller:
        tell("your token has no object id: assign yourself Storage Blob Data Contributor on the account")
        return
    # The name is derived from the grant, so that a repeated call finds it.
    name = uuid5(NAMESPACE_URL, f"{path.lower()}/{DATA_CONTRIBUTOR}/{session.caller}")
    assignment = f"{path}/providers/Microsoft.Authorization/roleAssignments/{name}"
    if session.rest.get(assignment, ROLES_API) is not None:
        return
    tell("granting you Storage Blob Data Contributor on it")
    body = {
        "properties": {
            "roleDefinitionId": f"{session.path}/providers/Microsoft.Authorization/roleDefinitions/{DATA_CONTRIBUTOR}",
            "principalId": session.caller,
            "principalType": "User" if session.user else "ServicePrincipal",
        }
    }
    try:
        session.rest.ask("PUT", assignment, ROLES_API, body)
    except OperatorError as error:
        # The same grant exists under another name.
        if "RoleAssignmentExists" not in str(error):
            raise


def _wait_until_readable(rest: Rest, name: str, tell: Tell) -> None:
    """Wait until the new role is in effect for storage. A local cloud has no such storage."""
    if rest.loopback:
        return
    url = f"https://{name}.blob.{rest.settings.cloud.storage_suffix}"
    until = rest.clock.monotonic() + SPREADING.total_seconds()
    with ContainerClient(
        url, CONTAINER, credential=rest.clients.credential, transport=rest.transport(READ_S), retry_total=0
    ) as container:
        shown = False
        while True:
            try:
                next(iter(container.list_blob_names(results_per_page=1).by_page()), None)
                return
            except HttpResponseError as error:
                if error.status_code != 403 or rest.clock.monotonic() >= until:
                    raise OperatorError(
                        Problem(
                            f"Terraform's state cannot be read: {error.reason}",
                            "Call the command again in some minutes.",
                        )
                    ) from error
            except AzureError as error:
                raise OperatorError(Problem(f"storage account {name} cannot be reached", str(error)[:200])) from error
            if not shown:
                tell("waiting until your new role is in effect, up to ten minutes")
                shown = True
            rest.clock.wait_until(rest.clock.monotonic() + POLL_S)


def _account(session: Session) -> str:
    name = account_name(session)
    return f"{session.path}/resourceGroups/{GROUP}/providers/Microsoft.Storage/storageAccounts/{name}"
