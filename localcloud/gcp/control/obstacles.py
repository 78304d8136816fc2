"""Control actions for obstacles: data does not arrive although the export is still enabled."""

from __future__ import annotations

from datetime import date
from typing import Any

from localcloud.gcp.control.base import DeployedActions
from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.services.billing import BillingAccount, account_id
from localcloud.gcp.services.catalog import Dataset, canonical_location, default_access
from localcloud.gcp.services.exports import PRINCIPAL
from localcloud.gcp.services.schema import literal

_DAY_MS = 24 * 3600 * 1000


class ObstacleActions(DeployedActions):
    """Actions on settings of the dataset, bucket, project and callers that lose or hide data."""

    # Settings that limit what Google can write and readers can read

    # difference: GCP-11
    def protect_rows(self, account: str, kind: str = "standard", readers: list[str] | None = None) -> None:
        """Put a row access policy on a table: only `readers` can read rows (default: Google's writer)."""
        export = self.world.exports.enabled[(account, kind)]
        dataset = self.world.catalog.dataset(export.project, export.dataset)
        self.world.catalog.table(dataset, export.table).readers = frozenset(readers or [PRINCIPAL])

    def unprotect_rows(self, account: str, kind: str = "standard") -> None:
        """Drop all row access policies of a table."""
        export = self.world.exports.enabled[(account, kind)]
        dataset = self.world.catalog.dataset(export.project, export.dataset)
        self.world.catalog.table(dataset, export.table).readers = None

    def delete_rows(self, account: str, day: str, kind: str = "standard", keep: int = 0) -> int:
        """Delete all rows of a past partition but `keep`, and return how many; its modification time stays unchanged.

        Source: "PARTITIONS view", BigQuery: modifications that involve record deletions might not be reflected.
        """
        export = self.world.exports.enabled[(account, kind)]
        dataset = self.world.catalog.dataset(export.project, export.dataset)
        table = self.world.catalog.table(dataset, export.table)
        partition = literal(date.fromisoformat(day).isoformat())
        partition_rows = f"_table = {table.uid} AND _PARTITIONTIME = TIMESTAMP {partition}"
        before = self.world.warehouse.query(f"SELECT count(*) FROM {table.rows} WHERE {partition_rows}")[0][0]
        kept = f"SELECT rowid FROM {table.rows} WHERE {partition_rows} ORDER BY rowid LIMIT {keep}"
        self.world.warehouse.delete(
            table.rows, table.uid, f"_PARTITIONTIME = TIMESTAMP {partition} AND rowid NOT IN ({kept})"
        )
        return int(before) - min(keep, int(before))

    def make_dataset(self, name: str, location: str = "US") -> None:
        """Create another dataset in the deployment's project."""
        now = self.world.clock.now()
        place = canonical_location(location)
        self.world.catalog.add_dataset(
            Dataset(self.deployment.project, name, place, now, now, default_access(OPERATOR))
        )

    def expire_tables(self, days: float | None, dataset: str = "") -> None:
        """Set the default expiration of a dataset's new tables and partitions; None clears it."""
        found = self._dataset(dataset)
        for name in ("defaultTableExpirationMs", "defaultPartitionExpirationMs"):
            if days is None:
                found.extra.pop(name, None)
            else:
                found.extra[name] = str(int(days * _DAY_MS))
        found.modified = self.world.clock.now()

    # difference: GCP-12
    def encrypt_dataset(self, key: str = "", dataset: str = "") -> None:
        """Set a dataset's default customer-managed encryption key; "" removes it."""
        found = self._dataset(dataset)
        if key:
            found.extra["defaultEncryptionConfiguration"] = {"kmsKeyName": key}
        else:
            found.extra.pop("defaultEncryptionConfiguration", None)
        found.modified = self.world.clock.now()

    def remove_writer(self, dataset: str = "") -> None:
        """Remove Google's billing data writers from a dataset's access entries."""
        found = self._dataset(dataset)
        found.access = [entry for entry in found.access if not _is_google_writer(str(entry.get("userByEmail", "")))]

    # Settings that prevent objects from being replaced

    def retain_objects(self, days: float, bucket: str = "") -> None:
        """Set a retention policy on a bucket (default: the export bucket); 0 removes it."""
        found = self._bucket(bucket)
        if days:
            found.document["retentionPolicy"] = {"retentionPeriod": str(int(days * 24 * 3600)), "isLocked": False}
        else:
            found.document.pop("retentionPolicy", None)

    def hold_objects(self, hold: bool = True, bucket: str = "") -> None:
        """Enable or disable the bucket's default event-based hold on new objects."""
        self._bucket(bucket).document["defaultEventBasedHold"] = hold

    def set_lifecycle(self, rules: list[dict[str, object]], bucket: str = "") -> None:
        """Add lifecycle rules to those of a bucket."""
        document = self._bucket(bucket).document
        document["lifecycle"] = {"rule": [*document.get("lifecycle", {}).get("rule", []), *rules]}

    # Billing, and restrictions on callers

    def unlink_billing(self, project: str = "") -> None:
        """Unlink the project's billing account: Cloud Storage returns errors, and Google stops exporting."""
        self._project(project).billing = ""

    def link_billing(self, account: str, project: str = "") -> None:
        """Link a project to an account. Raises KeyError for an unknown account."""
        self._project(project).billing = self.world.billing.accounts[account].id

    def add_account_elsewhere(self, name: str = "", parent: str = "organizations/999999999999") -> str:
        """Add an account of another organization ("": of none) that the function can view, and return its id."""
        number = len(self.world.billing.accounts)
        identifier = account_id(number, self.world.seed)
        self.world.billing.add(BillingAccount(identifier, name or f"Billing account {number}", parent))
        self.world.iam.grant(
            self.deployment.identity, "roles/billing.viewer", f"billingAccounts/{identifier}", at_once=True
        )
        return identifier

    # difference: GCP-13
    def close_perimeter(self, services: list[str]) -> None:
        """Block these APIs (``bigquery.googleapis.com``) with VPC Service Controls; an empty list lifts the block."""
        self.world.perimeter = frozenset(services)

    # difference: GCP-14
    def set_policy(self, constraint: str, policy: dict[str, Any] | None = None) -> None:
        """Set the project's effective organization policy (``{"listPolicy": …}``); None removes the restriction."""
        if policy is None:
            self.world.policies.pop(constraint, None)
        else:
            self.world.policies[constraint] = policy

    def drop_quota_project(self, identity: str = "") -> None:
        """Turn a user's credentials (default: the operator's) into gcloud's own, without a quota project."""
        self.world.without_quota_project.add(identity or OPERATOR)

    def fail_metadata(self, status: int, times: int | None = 1) -> None:
        """Fail the next calls of the metadata server, as happens briefly on Cloud Run."""
        self.world.faults.add("metadata", status, "backendError", "the metadata server is busy", times=times)


def _is_google_writer(email: str) -> bool:
    return email.startswith(("billing-export-bigquery@", "cloud-account-pricing@"))
