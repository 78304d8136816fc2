"""Samples of Microsoft's SDKs over HTTP, with the names of the local tenant.

The calls and their order are those of https://github.com/Azure/azure-sdk-for-python: of
sdk/costmanagement/azure-mgmt-costmanagement/generated_samples (export_*, exports_get_by_*) and
sdk/storage/azure-storage-blob/samples; and of
https://github.com/Azure-Samples/azure-samples-python-management/tree/main/samples/resources. The dates of a schedule
are later than the local clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from typing import Any

import pytest
from azure.mgmt.resource.subscriptions import SubscriptionClient
from azure.storage.blob import (
    AccessPolicy,
    BlobPrefix,
    BlobServiceClient,
    ContainerSasPermissions,
    RetentionPolicy,
    generate_container_sas,
)

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.identity import OPERATOR
from localcloud.azure.services.azurite import Azurite
from shared.runtime.clock import VirtualClock
from tests.localcloud.azure.helpers import Sdk
from tests.oracles.samples import MICROSOFT, not_covered, played

ENROLLMENT = "providers/Microsoft.Billing/billingAccounts/100"
SCOPES = {
    "subscription": "subscriptions/{subscription}",
    "resource_group": "subscriptions/{subscription}/resourceGroups/{group}",
    "billing_account": ENROLLMENT,
    "department": f"{ENROLLMENT}/departments/123",
    "enrollment_account": f"{ENROLLMENT}/enrollmentAccounts/456",
    "management_group": "providers/Microsoft.Management/managementGroups/TestMG",
}
NAME = "TestExport"


@pytest.fixture(scope="module")
def azure(azurite: Azurite) -> Iterator[LocalAzure]:
    """Return a tenant with an enterprise enrollment whose administrator is the operator."""
    with LocalAzure(clock=VirtualClock(), azurite=azurite) as cloud:
        paid = [cloud.subscription_ids[0]]
        cloud.add_billing_account("100", "EnterpriseAgreement", {"456": paid}, departments={"123": ["456"]})
        cloud.grant_billing(OPERATOR)
        yield cloud


@pytest.fixture(scope="module")
def sdk(azure: LocalAzure) -> Iterator[Sdk]:
    """Return Microsoft's clients for the operator."""
    with ExitStack() as closing:
        yield Sdk(azure, closing, azure.operator_token())


@pytest.fixture(scope="module")
def blobs(azure: LocalAzure) -> Iterator[BlobServiceClient]:
    """Return the client of a storage account, with a connection string as in the samples."""
    with azure.blob_client() as client:
        yield client


def parameters(azure: LocalAzure) -> dict[str, Any]:
    """Return the export of export_create_or_update_by_subscription.py."""
    return {
        "identity": {"type": "SystemAssigned"},
        "location": "centralus",
        "properties": {
            "compressionMode": "gzip",
            "dataOverwriteBehavior": "OverwritePreviousReport",
            "definition": {
                "dataSet": {"configuration": {"dataVersion": "2023-05-01"}, "granularity": "Daily"},
                "timeframe": "MonthToDate",
                "type": "ActualCost",
            },
            "deliveryInfo": {
                "destination": {
                    "container": "exports",
                    "resourceId": azure.destinations[0].id,
                    "rootFolderPath": "ad-hoc",
                    "type": "AzureBlob",
                }
            },
            "exportDescription": "This is a test export.",
            "format": "Csv",
            "partitionData": True,
            "schedule": {
                "recurrence": "Daily",
                "recurrencePeriod": {"from": "2026-06-01T00:00:00Z", "to": "2026-06-30T00:00:00Z"},
                "status": "Active",
            },
        },
    }


@pytest.mark.parametrize("kind", SCOPES)
def test_exports(azure: LocalAzure, sdk: Sdk, kind: str) -> None:
    """The samples export_{create_or_update,get,run,run_history_get,delete}_by_… and exports_get_by_… of each scope."""
    group = azure.destinations[0].id.split("/")[4]
    scope = SCOPES[kind].format(subscription=azure.subscription_ids[0], group=group)
    exports = sdk.exports

    def call() -> AbstractContextManager[None]:
        if kind == "management_group":
            return not_covered("costmanagement.exports of a management group")
        return played(MICROSOFT)

    with call():
        assert exports.create_or_update(scope, NAME, parameters(azure)).name == NAME
    with call():
        assert exports.get(scope, NAME).format == "Csv"
    with call():
        assert NAME in [one.name for one in exports.list(scope).value]
    with call():
        exports.execute(scope, NAME)
    with call():
        assert len(exports.get_execution_history(scope, NAME).value) == 1
    with call():
        exports.delete(scope, NAME)


def test_subscriptions(azure: LocalAzure, sdk: Sdk) -> None:
    """samples/resources/manage_resource_subscriptions.py."""
    with played(MICROSOFT):
        found = list(sdk.client(SubscriptionClient).subscriptions.list())
        assert [one.subscription_id for one in found] == azure.subscription_ids


def test_resource_groups(azure: LocalAzure, sdk: Sdk) -> None:
    """samples/resources/manage_resource_group.py and manage_resource_group_tag.py."""
    groups = sdk.resources(azure.subscription_ids[1]).resource_groups
    with not_covered("resource.resource_groups.check_existence"):
        groups.check_existence("testgroupx")
    with played(MICROSOFT):
        assert groups.create_or_update("testgroupx", {"location": "eastus"}).location == "eastus"
    with played(MICROSOFT):
        assert groups.get("testgroupx").name == "testgroupx"
    with not_covered("resource.resource_groups.update"):
        groups.update("testgroupx", {"tags": {"tag1": "valueA", "tag2": "valueB"}})
    with played(MICROSOFT):
        groups.begin_delete("testgroupx").result()


def test_resources(azure: LocalAzure, sdk: Sdk) -> None:
    """samples/resources/manage_resource.py and manage_resource_check_exsistence.py."""
    client = sdk.resources(azure.subscription_ids[1])
    named = {
        "resource_group_name": "testgroupx",
        "resource_provider_namespace": "Microsoft.Compute",
        "parent_resource_path": "",
        "resource_type": "availabilitySets",
        "resource_name": "pytestresource",
        "api_version": "2019-07-01",
    }
    with played(MICROSOFT):
        client.resource_groups.create_or_update("testgroupx", {"location": "eastus"})
    with not_covered("resource.resources.check_existence"):
        client.resources.check_existence(**named)
    with not_covered("resource.resources.begin_create_or_update of a virtual machine's parts"):
        client.resources.begin_create_or_update(**named, parameters={"location": "eastus"}).result()
    with played(MICROSOFT):
        client.resource_groups.begin_delete("testgroupx").result()


def test_providers(azure: LocalAzure, sdk: Sdk) -> None:
    """samples/resources/manage_providers.py."""
    providers = sdk.resources(azure.subscription_ids[1]).providers
    with played(MICROSOFT):
        assert "Microsoft.CostManagementExports" in {one.namespace for one in providers.list()}
    with played(MICROSOFT):
        assert providers.get("Microsoft.CostManagementExports").registration_state


def test_containers(blobs: BlobServiceClient, azure: LocalAzure) -> None:
    """blob_samples_containers.py and blob_samples_service.py."""
    container = blobs.get_container_client("mynewcontainer")
    with played(MICROSOFT):
        container.create_container()
        assert container.get_container_properties().name == "mynewcontainer"
    with played(MICROSOFT):
        container.set_container_metadata(metadata={"type": "test"})
        assert container.get_container_properties().metadata == {"type": "test"}
    with played(MICROSOFT):
        now = azure.clock.now()
        policy = AccessPolicy(ContainerSasPermissions(read=True), now + timedelta(hours=1), now - timedelta(minutes=1))
        container.set_container_access_policy(signed_identifiers={"test": policy})
        assert [one.id for one in container.get_container_access_policy()["signed_identifiers"]] == ["test"]
        assert generate_container_sas(
            str(container.account_name), "mynewcontainer", blobs.credential.account_key, policy_id="test"
        )
    with played(MICROSOFT):
        assert blobs.get_account_information()["sku_name"]
        assert blobs.get_service_properties()["analytics_logging"]
    with played(MICROSOFT):
        lease = container.acquire_lease()
        container.delete_container(lease=lease)


def test_blobs(blobs: BlobServiceClient) -> None:
    """blob_samples_hello_world.py, blob_samples_common.py and blob_samples_walk_blob_hierarchy.py."""
    container = blobs.get_container_client("containerformyblobs")
    with played(MICROSOFT):
        container.create_container()
        assert "containerformyblobs" in {one.name for one in blobs.list_containers()}
    for kind, size in (("BlockBlob", 11), ("PageBlob", 512), ("AppendBlob", 11)):
        with played(MICROSOFT):
            blob = container.get_blob_client(f"my{kind.lower()}")
            blob.upload_blob(b"x" * size, blob_type=kind)
            assert blob.download_blob().readall() == b"x" * size
            blob.delete_blob()
    with played(MICROSOFT):
        container.upload_blob("my_blob", b"Hello World")
        snapshot = blobs.get_blob_client("containerformyblobs", "my_blob")
        assert snapshot.create_snapshot()["snapshot"]
        snapshot.delete_blob(delete_snapshots="only")
    with played(MICROSOFT):
        blob = blobs.get_blob_client("containerformyblobs", "my_blob")
        blob.delete_blob(lease=blob.acquire_lease())
    with played(MICROSOFT):
        for number in (1, 2, 3):
            container.upload_blob(f"my_blob{number}", b"Hello World")
        container.delete_blobs("my_blob1", "my_blob2")
        container.delete_blobs(*container.list_blobs(name_starts_with="my_blob"))
        assert list(container.list_blobs()) == []
    with played(MICROSOFT):
        container.upload_blob("folder/below/blob", b"Hello World")
        (folder,) = container.walk_blobs(delimiter="/")
        assert isinstance(folder, BlobPrefix)
        assert folder.name == "folder/"
    with played(MICROSOFT):
        copied = container.get_blob_client("copied")
        copied.start_copy_from_url(container.get_blob_client("folder/below/blob").url)
        assert copied.get_blob_properties().copy.status == "success"
    with not_covered("storage.BlobClient.undelete_blob"):
        blobs.set_service_properties(delete_retention_policy=RetentionPolicy(enabled=True, days=1))
        copied.delete_blob()
        copied.undelete_blob()
    with played(MICROSOFT):
        blobs.delete_container("containerformyblobs")
