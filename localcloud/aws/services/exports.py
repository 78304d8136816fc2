"""BCM Data Exports: exports, their health and their executions.

Source: AWS Data Exports user guide and API reference; results are validated against botocore's model.
"""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from localcloud.aws.errors import AwsError, invalid
from localcloud.aws.iam.policy import Access, allows
from localcloud.aws.partitions import Partition
from localcloud.aws.services.billing import Billing, View
from localcloud.aws.services.buckets import Buckets
from localcloud.aws.services.export_query import SERVICE, check_output, check_query
from localcloud.aws.services.export_tables import TABLES, Table
from shared.runtime.clock import Clock

# The object that the service writes to the bucket's root to test its permission.
TEST_OBJECT = "aws-programmatic-access-test-object"
NO_PERMISSION = "S3 bucket permission validation failed"


@dataclass
class Execution:
    """One refresh of an export; `export` is the export's definition at that time."""

    id: str
    export: dict[str, Any]
    status: str
    reason: str | None
    created: datetime
    completed: datetime | None


@dataclass
class Export:
    """An export and its status. `stuck` is the reason why every refresh fails; `silent` stops refreshes.

    `payer` is the account whose costs its billing view shows.
    """

    arn: str
    account: str
    definition: dict[str, Any]
    table: Table
    columns: list[str]
    tags: dict[str, str]
    created: datetime
    updated: datetime
    payer: str
    refreshed: datetime | None = None
    reason: str | None = None
    stuck: str | None = None
    silent: bool = False
    executions: list[Execution] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.definition["Name"])

    @property
    def destination(self) -> dict[str, Any]:
        return dict(self.definition["DestinationConfigurations"]["S3Destination"])

    def status(self) -> dict[str, Any]:
        """ExportStatus as boto3 returns it."""
        reason = self.stuck or self.reason
        status: dict[str, Any] = {"StatusCode": "UNHEALTHY" if reason else "HEALTHY"}
        if reason:
            status["StatusReason"] = reason
        status |= {"CreatedAt": self.created, "LastUpdatedAt": self.updated}
        if self.refreshed:
            status["LastRefreshedAt"] = self.refreshed
        return status

    def read(self) -> dict[str, Any]:
        """Return the export as in GetExport, with its ARN and the table properties that the service adds."""
        shown = copy.deepcopy(self.definition) | {"ExportArn": self.arn}
        configuration = shown["DataQuery"].setdefault("TableConfigurations", {}).setdefault(self.table.name, {})
        for name in self.table.injected:
            known = self.table.property(name)
            default = known.default if known else ""
            if name == "BILLING_VIEW_ARN":
                default = f"arn:{self.arn.split(':')[1]}:billing::{self.account}:billingview/primary"
            configuration.setdefault(name, default)
        return shown


class Exports:
    """The exports of all accounts in a partition."""

    def __init__(self, clock: Clock, partition: Partition, buckets: Buckets, billing: Billing) -> None:
        self._clock = clock
        self._partition = partition
        self.buckets = buckets
        self._billing = billing
        self._exports: dict[str, Export] = {}
        self.withdrawn: set[str] = set()  # tables that are not available to this organization

    def tables(self) -> dict[str, Table]:
        """Return the available tables by name."""
        return {name: table for name, table in TABLES.items() if name not in self.withdrawn}

    def of(self, account: str) -> list[Export]:
        return [export for export in self._exports.values() if export.account == account]

    def find(self, account: str, arn: str) -> Export:
        """Return an export. Raises AwsError (ResourceNotFoundException), also for another account's."""
        export = self._exports.get(arn)
        if export is None or export.account != account:
            extra = {"ResourceId": arn, "ResourceType": "EXPORT"}
            raise AwsError("ResourceNotFoundException", f"Export not found: {arn}", 404, extra)
        return export

    def named(self, account: str, name: str) -> Export:
        """Return the account's export with this name. Raises KeyError."""
        for export in self.of(account):
            if export.name == name:
                return export
        raise KeyError(f"no export {name!r} in account {account}")

    def create(self, account: str, definition: dict[str, Any], tags: dict[str, str]) -> Export:
        """Create an export. Raises AwsError: validation, duplicate name, quota, or failed bucket permission check."""
        table, columns, view = self._checked(account, definition)
        if any(export.name == definition["Name"] for export in self.of(account)):
            raise invalid(SERVICE, "Cannot create duplicate export name")
        if sum(export.table is table for export in self.of(account)) >= table.quota:
            raise AwsError(
                "ServiceQuotaExceededException",
                f"Request would exceed the resource limit of {table.quota} on {table.name} table",
                402,
                {"QuotaCode": f"exports-per-{table.name}", "ServiceCode": SERVICE, "ResourceType": "EXPORT"},
            )
        identity = f"export/{definition['Name']}-{uuid.uuid4()}"
        arn = f"arn:{self._partition.name}:{SERVICE}:{self._partition.home}:{account}:{identity}"
        self._check_bucket(account, arn, definition)
        now = self._clock.now()
        export = Export(arn, account, copy.deepcopy(definition), table, columns, tags, now, now, view.source)
        self._exports[arn] = export
        return export

    def update(self, account: str, arn: str, definition: dict[str, Any]) -> Export:
        """Replace the whole definition except the name. The status changes only with the next refresh."""
        export = self.find(account, arn)
        if definition["Name"] != export.name:
            raise invalid(SERVICE, "Export name cannot be updated")
        if definition.get("ExportArn", arn) != arn:
            raise invalid(SERVICE, "The export ARN in the export does not match the one to update")
        if definition["RefreshCadence"] != export.definition["RefreshCadence"]:
            raise invalid(SERVICE, "Refresh cadence cannot be updated")
        table, columns, view = self._checked(account, definition)
        if table is not export.table:
            raise invalid(SERVICE, "The table of an export cannot be updated")
        self._check_bucket(account, arn, definition)
        kept = {key: value for key, value in definition.items() if key != "ExportArn"}
        export.definition, export.columns, export.payer = copy.deepcopy(kept), columns, view.source
        export.updated = self._clock.now()
        return export

    def delete(self, account: str, arn: str) -> None:
        del self._exports[self.find(account, arn).arn]

    def has_healthy_view(self, export: Export) -> bool:
        """Return whether the export's billing view is healthy."""
        chosen = export.definition["DataQuery"].get("TableConfigurations", {}).get(export.table.name, {})
        arn = chosen.get("BILLING_VIEW_ARN")
        return arn is None or not self._billing.view(export.account, arn).reasons

    def may_write(self, export: Export, key: str) -> bool:
        return self._granted(export.account, export.arn, export.destination, key)

    # difference: AWS-17
    def _checked(self, account: str, definition: dict[str, Any]) -> tuple[Table, list[str], View]:
        table, columns = check_query(definition["DataQuery"], self.tables())
        chosen = definition["DataQuery"].get("TableConfigurations", {}).get(table.name, {})
        own = f"arn:{self._partition.name}:billing::{account}:billingview/primary"
        view = self._billing.view(account, str(chosen.get("BILLING_VIEW_ARN", own)))
        check_output(definition["DestinationConfigurations"]["S3Destination"]["S3OutputConfigurations"])
        return table, columns, view

    def _check_bucket(self, account: str, arn: str, definition: dict[str, Any]) -> None:
        destination = definition["DestinationConfigurations"]["S3Destination"]
        if not self._granted(account, arn, destination, TEST_OBJECT):
            raise invalid(SERVICE, NO_PERMISSION)
        self.buckets.put(destination["S3Bucket"], TEST_OBJECT, b"")

    def _granted(self, account: str, arn: str, destination: dict[str, Any], key: str) -> bool:
        name = destination["S3Bucket"]
        owner = self.buckets.owner(name)
        if owner is None or owner != destination.get("S3BucketOwner", account):
            return False
        if self.buckets.region(name) != destination["S3Region"]:
            return False
        suffixes = {"amazonaws.com", self._partition.dns}
        context = {"aws:sourceaccount": account, "aws:sourcearn": arn, "aws:securetransport": "true"}
        resource = f"arn:{self._partition.name}:s3:::{name}/{key}"
        policy = self.buckets.effective_policy(name)
        return any(
            allows(policy, Access(f"{SERVICE}.{suffix}", "Service", "s3:PutObject", resource, context))
            for suffix in suffixes
        )
