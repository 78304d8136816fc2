"""Control actions for persistent failures: rejected scopes, missing data, and the customer's own policies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from localcloud.azure.services.agreements import AGREEMENTS, COSTS_HIDDEN
from localcloud.azure.services.directory import Subscription
from localcloud.azure.services.export_deliveries import Deliveries
from localcloud.azure.services.exports import Export
from localcloud.azure.services.storage import StorageAccount
from localcloud.azure.state import World
from localcloud.common.control_api import ControlActions

_WRITE = "Microsoft.CostManagement/exports/write"


class ObstacleActions(ControlActions):
    """Actions on the state of one tenant."""

    def __init__(self, world: World, deliveries: Deliveries) -> None:
        super().__init__(world)
        self._world = world
        self._deliveries = deliveries

    # difference: AZURE-9
    def deny_by_policy(self, subscription: str, assignment: str = "deny-cost-exports") -> None:
        """Deny exports in the subscription by an Azure Policy assignment at the root group.

        Writes fail with 403 RequestDisallowedByPolicy.
        """
        self._find(subscription).denied_by = assignment

    def exempt_from_policy(self, subscription: str) -> None:
        self._find(subscription).denied_by = ""

    def lock(self, scope: str, level: Literal["ReadOnly", "CanNotDelete"] = "ReadOnly") -> None:
        """Lock a scope and everything below it: writes, or only deletions, fail with 409 ScopeLocked."""
        if level not in ("ReadOnly", "CanNotDelete"):
            raise ValueError(f"level {level!r} is neither ReadOnly nor CanNotDelete")
        self._world.locks[scope.rstrip("/").lower()] = level

    def unlock(self, scope: str) -> None:
        self._world.locks.pop(scope.rstrip("/").lower(), None)

    def refuse_without_reason(self, subscription: str, times: int | None = None) -> None:
        """Make Cost Management respond to every write in the subscription with 401 and an empty body."""
        self._world.faults.add(_WRITE, "", "", status=401, times=times, resource=f"*/{self._find(subscription).id}/*")

    def hide_charges(self, subscription: str, by: Literal["enrollment", "partner"] = "enrollment") -> None:
        """Hide the charges, as an enrollment administrator or a partner can (400 AccountCostDisabled)."""
        words = {
            "enrollment": COSTS_HIDDEN,
            "partner": "Access to cost data is disabled: the partner has not enabled the cost visibility policy.",
        }
        if by not in words:
            raise ValueError(f"by {by!r} is not one of {', '.join(words)}")
        self._find(subscription).refusal = (400, "AccountCostDisabled", words[by])

    def show_charges(self, subscription: str) -> None:
        self._find(subscription).refusal = None

    # difference: AZURE-11
    def migrate_agreement(self, subscription: str, agreement: str = "mca") -> None:
        """Change the agreement; existing exports run without data until they are deleted and recreated."""
        if agreement not in AGREEMENTS:
            raise ValueError(f"agreement {agreement!r} is not one of {', '.join(AGREEMENTS)}")
        self._find(subscription).agreement = AGREEMENTS[agreement]
        self.stop_data(subscription)

    def stop_data(
        self, subscription: str, status: Literal["NewDataNotAvailable", "DataNotAvailable"] = "NewDataNotAvailable"
    ) -> int:
        """Make all future runs of the subscription's exports end in `status` without data.

        Return the number of exports.
        """
        stopped = self._exports_of(subscription)
        for export in stopped:
            export.ends_in = status
        return len(stopped)

    def resume_data(self, subscription: str) -> None:
        """Make the subscription's exports deliver data with rows again."""
        for export in self._exports_of(subscription):
            export.ends_in, export.empty = "", ""

    def empty_data(self, subscription: str, shape: Literal["header", "null", "no-blobs"] = "header") -> int:
        """Make the subscription's exports deliver no rows; return the number of exports.

        `header`: files with only a header. `null`: such files, and a manifest whose row counts are null. `no-blobs`: a
        manifest that lists no files.
        """
        if shape not in ("header", "null", "no-blobs"):
            raise ValueError(f"shape {shape!r} is not one of header, null, no-blobs")
        emptied = self._exports_of(subscription)
        for export in emptied:
            export.empty = shape
        return len(emptied)

    def lose_parts(self, subscription: str) -> int:
        """Delete the data files of the last deliveries but keep their manifests; return the number of files."""
        names = [one for one in self._delivered(subscription) if not one[2].endswith("/manifest.json")]
        self._world.blobs.delete(names)
        return len(names)

    def archive_blobs(self, subscription: str, tier: Literal["Archive", "Hot"] = "Archive") -> int:
        """Move the delivered blobs of the subscription's exports to an access tier; return the number of blobs."""
        names = self._delivered(subscription)
        self._world.blobs.set_tier(names, tier)
        return len(names)

    # difference: AZURE-16
    def disallow_region(self, subscription: str, region: str, allowed: bool = False) -> None:
        """Disallow (403 RequestDisallowedByAzure) or allow new resources in a region, as Azure itself can."""
        closed = self._find(subscription).closed_regions
        (closed.discard if allowed else closed.add)(region)

    # difference: AZURE-15
    def close_network(
        self,
        closed: bool = True,
        account: str = "",
        bypass: bool = True,
        copy_scope: Literal["", "AAD", "PrivateLink"] = "",
    ) -> None:
        """Restrict the account to trusted services; requests from elsewhere fail with AuthorizationFailure.

        Without `bypass`, trusted services are blocked too. `copy_scope` limits the sources that blobs can be copied
        from.
        """
        found = self._account(account)
        found.firewall, found.bypass, found.copy_scope = closed, bypass, copy_scope

    def hold_container(
        self, by: Literal["", "policy", "legal-hold"] = "policy", account: str = "", container: str = "dataexport"
    ) -> None:
        """Put a locked immutability policy or a legal hold on a container; "" removes it.

        While it is in place, no blob in the container can be replaced.
        """
        if by not in ("", "policy", "legal-hold"):
            raise ValueError(f"by {by!r} is not one of policy, legal-hold, or empty")
        self._account(account).held[container] = by

    def expire_blobs(self, days: float | None, account: str = "", prefix: str = "") -> None:
        """Set a lifecycle rule that deletes blobs `days` after their last modification; None removes it."""
        filters: dict[str, Any] = {"blobTypes": ["blockBlob"]} | ({"prefixMatch": [prefix]} if prefix else {})
        actions = {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": days}}}
        rule = {"name": "expire", "enabled": True, "type": "Lifecycle"}
        policy = {"policy": {"rules": [{**rule, "definition": {"filters": filters, "actions": actions}}]}}
        self._account(account).lifecycle = None if days is None else policy

    def delete_container(self, account: str = "", container: str = "dataexport") -> None:
        """Delete a container; its name stays in use (409 ContainerBeingDeleted) for `Behavior.container_deletion_s`."""
        found = self._account(account)
        self._world.blobs.delete_container(found.name, container)
        found.deleting[container] = self._world.clock.monotonic() + self._world.behavior.container_deletion_s
        place = f"{found.id}/blobServices/default/containers/{container}"
        self._world.note("Microsoft.Storage/storageAccounts/blobServices/containers/delete", place)

    def withdraw_focus_version(self, version: str) -> None:
        """Withdraw a FOCUS version: Cost Management rejects new exports with it; existing exports keep working."""
        kept = tuple(one for one in self._world.behavior.focus_versions if one != version)
        if len(kept) == len(self._world.behavior.focus_versions):
            raise ValueError(f"FOCUS version {version!r} is not offered")
        self._world.behavior.focus_versions = kept

    def _find(self, subscription: str) -> Subscription:
        found = self._world.directory.subscriptions.get(subscription)
        if found is None:
            raise ValueError(f"subscription {subscription!r} does not exist")
        return found

    def _account(self, name: str) -> StorageAccount:
        """Return an account by name, or the first destination if `name` is empty."""
        found = self._world.accounts.get(name or next(iter(self._world.accounts)))
        if found is None:
            raise ValueError(f"storage account {name!r} does not exist")
        return found

    def _delivered(self, subscription: str) -> list[tuple[str, str, str]]:
        found = self._exports_of(subscription)
        return [name for export in found for blobs in export.blobs.values() for name in blobs]

    def _exports_of(self, subscription: str) -> list[Export]:
        return self._chosen([subscription])

    def _chosen(self, subscriptions: Iterable[str] | None, name: str = "") -> list[Export]:
        if subscriptions is None:
            return list(self._world.exports)
        scopes = [f"/subscriptions/{self._find(one).id}" for one in subscriptions]
        return [one for scope in scopes for one in self._world.exports.at(scope) if name in ("", one.name)]
