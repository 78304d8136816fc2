"""The control actions of the local Azure, which simulate changes in a tenant over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal

import msgspec

from localcloud.azure.control.tenants import TenantActions
from localcloud.azure.iam.identity import OPERATOR, Identity, Mode
from localcloud.azure.platform.legacy_exports import old_export
from localcloud.azure.services.agreements import AGREEMENTS
from localcloud.azure.services.billing import BillingAccount, BillingAgreement
from localcloud.azure.services.directory import STATES
from localcloud.azure.services.export_deliveries import Deliveries
from localcloud.azure.services.exports import Export, stamp
from localcloud.azure.state import World
from localcloud.common.control_api import unlocked


class AzureActions(TenantActions):
    """All control actions; `subscription` is always an ID."""

    def __init__(self, world: World, deliveries: Deliveries, identity: Identity) -> None:
        super().__init__(world, deliveries)
        self._identity = identity
        self.tick_timer: Callable[[str], bool] = lambda _name: False
        self.push_event: Callable[[Mapping[str, Any]], bool] = lambda _event: False

    def join_subscription(
        self, name: str, agreement: str = "ea", group: str = "", subscription: str = "", young_s: float | None = None
    ) -> str:
        """Create a subscription under a management group and return its ID.

        Inherited role assignments take effect after the propagation delay.
        """
        now, behavior = self._world.clock.monotonic(), self._world.behavior
        made = self._world.directory.join(name, agreement, group, subscription)
        self._world.directory_copy.joined(made.id, now)
        made.rights_from, made.cost_lag = now + behavior.rights_delay_s, behavior.cost_lag_s
        made.young_until = now + (behavior.young_s if young_s is None else young_s)
        return made.id

    def set_state(self, subscription: str, state: str) -> None:
        """Set the state: Enabled, Warned, PastDue, Disabled or Deleted."""
        if state not in STATES:
            raise ValueError(f"state {state!r} is not one of {', '.join(STATES)}")
        found = self._find(subscription)
        self._world.directory_copy.before_change(subscription, self._world.clock.monotonic())
        found.state = state

    def tag_subscription(self, subscription: str, tags: dict[str, str]) -> None:
        """Replace the tags of a subscription."""
        found = self._find(subscription)
        self._world.directory_copy.before_change(subscription, self._world.clock.monotonic())
        found.tags = dict(tags)

    def suspend_subscription(self, subscription: str) -> None:
        self.set_state(subscription, "Disabled")

    def resume_subscription(self, subscription: str) -> None:
        self.set_state(subscription, "Enabled")

    def remove_subscription(self, subscription: str) -> None:
        """Remove the subscription and its exports from the tenant."""
        self._find(subscription)
        self._world.directory_copy.before_change(subscription, self._world.clock.monotonic())
        del self._world.directory.subscriptions[subscription]
        for export in self._world.exports.at(f"/subscriptions/{subscription}"):
            self._world.exports.remove(export.scope, export.name)

    def set_agreement(self, subscription: str, agreement: str) -> None:
        if agreement not in AGREEMENTS:
            raise ValueError(f"agreement {agreement!r} is not one of {', '.join(AGREEMENTS)}")
        self._find(subscription).agreement = AGREEMENTS[agreement]

    def make_young(self, subscription: str, seconds: float = 48 * 3600) -> None:
        """Make the subscription have no cost data for `seconds`."""
        self._find(subscription).young_until = self._world.clock.monotonic() + seconds

    def subscriptions(self) -> dict[str, str]:
        """Return the state of each subscription by ID."""
        return {one.id: one.state for one in self._world.directory.subscriptions.values()}

    def revoke_rights(self, subscription: str) -> None:
        """Disable inherited role assignments in the subscription."""
        self._find(subscription).rights_from = math.inf

    # difference: AZURE-4
    def grant_rights(self, subscription: str, delay_s: float | None = None) -> None:
        """Enable inherited role assignments again, after the propagation delay."""
        delay = self._world.behavior.rights_delay_s if delay_s is None else delay_s
        self._find(subscription).rights_from = self._world.clock.monotonic() + delay

    def exports(self, subscription: str = "") -> list[dict[str, Any]]:
        """Return the exports as the API returns them, each with its last run."""
        return [one.document(1) for one in self._chosen([subscription] if subscription else None)]

    def create_exports(
        self, subscriptions: list[str] | None = None, name: str = "", kind: str = "", container: str = "dataexport"
    ) -> int:
        """Create exports as the legacy scripts did (default: in every subscription) and return their number.

        `kind` is the export type (default: ActualCost if the agreement allows it, otherwise Usage).
        """
        accounts = list(self._world.accounts.values())
        ids = list(self._world.directory.subscriptions) if subscriptions is None else subscriptions
        now = self._world.clock.now()
        start = stamp(now.replace(hour=0, minute=0, second=0))
        for identifier in ids:
            found = self._find(identifier)
            body = old_export(found, accounts[0].id, kind, container, start)
            scope = f"/subscriptions/{found.id}"
            title = name or f"TailpipeDataExport-{found.id[-6:]}"
            made = Export(scope, title, self._world.exports.next_tag(), msgspec.json.encode(body), 0.0)
            self._world.exports.put(made)
        return len(ids)

    def delete_export(self, subscription: str, name: str = "") -> int:
        """Delete one export, or all exports of the subscription if `name` is empty; return the number deleted."""
        deleted = self._chosen([subscription], name)
        for export in deleted:
            self._world.exports.remove(export.scope, export.name)
            self._world.note("Microsoft.CostManagement/exports/delete", f"/{export.id.lstrip('/')}")
        return len(deleted)

    def set_schedule_inactive(self, subscription: str, name: str = "") -> int:
        return self._change(subscription, name, {"schedule.status": "Inactive"})

    def change_destination(
        self, subscription: str, name: str = "", container: str = "", folder: str = "", account: str = ""
    ) -> int:
        """Change the export's destination and return the number of exports; `account` is a storage account's name."""
        changes: dict[str, Any] = {}
        if container:
            changes["deliveryInfo.destination.container"] = container
        if folder:
            changes["deliveryInfo.destination.rootFolderPath"] = folder
        if account:
            changes["deliveryInfo.destination.resourceId"] = self._account(account).id
        return self._change(subscription, name, changes)

    def change_type(self, subscription: str, kind: str, name: str = "") -> int:
        return self._change(subscription, name, {"definition.type": kind})

    def set_end_date(self, subscription: str, days: float, name: str = "") -> int:
        """Set the schedule's end to `days` from now and return the number of exports."""
        end = stamp(self._world.clock.now() + timedelta(days=days))
        return self._change(subscription, name, {"schedule.recurrencePeriod.to": end})

    # difference: AZURE-1
    def deliver(self, subscriptions: list[str] | None = None) -> int:
        """Run every active export, as the service does daily; return how many delivered data."""
        self._deliveries.settle()
        return self._deliveries.daily(self._chosen(subscriptions))

    def fail_runs(
        self,
        subscription: str = "*",
        times: int = 1,
        status: Literal["Failed", "Timeout", "DataNotAvailable", "NewDataNotAvailable"] = "Failed",
        code: str = "InternalServerError",
        message: str = "The export run failed.",
    ) -> None:
        """Make the next `times` runs of a subscription end without data (`*`: of all subscriptions combined)."""
        self._deliveries.fail_next(subscription, times, status, code, message)

    def throttle(self, seconds: float = 60) -> None:
        """Make Cost Management respond 429 to all callers for `seconds`."""
        self._world.quotas.burst(self._world.clock.monotonic() + seconds)

    def exhaust_default_quota(self, seconds: float = 60) -> None:
        """Make Cost Management respond 429 to callers without a ClientType header for `seconds`."""
        self._world.quotas.exhaust_default(self._world.clock.monotonic() + seconds)

    def register_provider(self, subscription: str, namespace: str = "Microsoft.CostManagementExports") -> None:
        """Register a provider, effective immediately."""
        self._find(subscription).registered[namespace.lower()] = self._world.clock.monotonic()

    def unregister_provider(self, subscription: str, namespace: str = "Microsoft.CostManagementExports") -> None:
        self._find(subscription).registered.pop(namespace.lower(), None)
        self._world.note(f"{namespace}/unregister/action", f"/subscriptions/{subscription}/providers/{namespace}")

    def demand_registration(self, subscription: str, namespace: str = "Microsoft.CostManagement") -> None:
        """Make the subscription reject exports until the provider is registered in it."""
        self._find(subscription).demands = (namespace,)

    def set_shared_key(self, allowed: bool, account: str = "") -> None:
        self._account(account).shared_key = allowed

    def set_firewall(self, closed: bool, account: str = "") -> None:
        """Open or close the storage account's network; an alias of `close_network`."""
        self.close_network(closed, account)

    def fill_role_assignments(self, subscription: str, left: int = 0) -> None:
        """Set the subscription's number of role assignments to `left` below the limit."""
        self._world.rights.counts[self._find(subscription).id] = self._world.rights.limit - left

    def add_billing_account(
        self,
        name: str,
        agreement: BillingAgreement = "EnterpriseAgreement",
        children: dict[str, list[str]] | None = None,
        departments: dict[str, list[str]] | None = None,
        customers: dict[str, str] | None = None,
    ) -> str:
        """Add a billing account and return its ID.

        `children` maps enrollment accounts or billing profiles to the subscriptions that they pay for; `departments`
        maps department names to their enrollment accounts, `customers` of a partner their Entra tenants to names.
        """
        made = BillingAccount(
            name, name, agreement, dict(children or {}), dict(departments or {}), dict(customers or {})
        )
        self._world.billing[name] = made
        return str(made.document()["id"])

    def grant_billing(self, principal: str = "") -> None:
        """Grant a billing role to a principal (default: the function's identity)."""
        self._world.billing_readers.add(principal or self._identity.principal)

    def fault(
        self,
        action: str,
        code: str,
        message: str = "injected by the local cloud",
        status: int = 500,
        times: int | None = 1,
        resource: str = "*",
        headers: dict[str, str] | None = None,
        after: bool = False,
    ) -> None:
        """Inject an error; see `Faults.add`."""
        self._world.faults.add(
            action, code, message, status=status, times=times, resource=resource, headers=headers, after=after
        )

    def latency(self, seconds: float, action: str = "*") -> None:
        self._world.faults.latency(seconds, action)

    def break_identity(self, mode: Mode) -> None:
        """Set how the identity's tokens fail from now on: `well`, `unavailable`, `wrong-tenant` or `expired`."""
        self._identity.mode = mode

    def deny(self, action: str, principal: str = "") -> None:
        """Deny an action (a pattern, as in a role) to a principal (default: the operator), regardless of its roles."""
        withheld = self._world.rights.withheld
        withheld[principal or OPERATOR] = (*withheld.get(principal or OPERATOR, ()), action)

    def allow(self, principal: str = "") -> None:
        """Remove all denials of a principal (default: the operator)."""
        self._world.rights.withheld.pop(principal or OPERATOR, None)

    def take_name(self, name: str) -> None:
        """Reserve the name of a storage account or an app, as if another Azure customer used it."""
        self._world.taken_names.add(name)

    @unlocked
    def tick(self, timer: str = "") -> bool:
        """Trigger a timer of the function app (default: the first one); return whether the function succeeded."""
        return self.tick_timer(timer)

    @unlocked
    def push_events(self) -> dict[str, int]:
        """Deliver the events that are due to the function app; return how many it `accepted` and `failed`."""
        results = []
        with self._world.lock:
            due = self._world.manifest_events.take(self._world.clock.now())
        for one in due:
            results.append(self.push_event(one.event))
            if not results[-1]:
                with self._world.lock:
                    self._world.manifest_events.failed(one, self._world.clock.now())
        return {"accepted": results.count(True), "failed": results.count(False)}

    def advance(self, seconds: float) -> str:
        """Advance a virtual clock, deliver the runs that became due, and return the new time."""
        super().advance(seconds)
        self._deliveries.settle()
        return stamp(self._world.clock.now())

    def _change(self, subscription: str, name: str, changes: dict[str, Any]) -> int:
        """Change properties by dotted path, as a client with the eTag would; return the number of exports."""
        chosen = self._chosen([subscription], name)
        for export in chosen:
            body = export.body()
            for path, value in changes.items():
                *above, last = path.split(".")
                inner = body["properties"]
                for part in above:
                    inner = inner[part]
                inner[last] = value
            export.stored, export.etag = msgspec.json.encode(body), self._world.exports.next_tag()
            self._world.note("Microsoft.CostManagement/exports/write", f"/{export.id.lstrip('/')}")
        return len(chosen)
