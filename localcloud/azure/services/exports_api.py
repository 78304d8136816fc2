"""Cost Management's exports operations, API version 2025-03-01."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from localcloud.azure.errors import (
    ArmError,
    bad_request,
    disallowed_by_azure,
    disallowed_by_policy,
    rbac_access_denied,
)
from localcloud.azure.iam.destination_rights import check_write, give_role
from localcloud.azure.iam.rights import subscription_of
from localcloud.azure.services.agreements import type_refusal
from localcloud.azure.services.billing import ROOT as BILLING_ROOT
from localcloud.azure.services.billing import check_scope
from localcloud.azure.services.directory import check_registered, check_writable, registration_state
from localcloud.azure.services.export_deliveries import Deliveries
from localcloud.azure.services.export_rules import check_tag, period, read
from localcloud.azure.services.exports import KEPT_RUNS, Export
from localcloud.azure.services.storage import account_at
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request

# In recorded traffic, the Location header of a creation contains the service's own host.
_OWN_HOST = "https://costmanagement.trafficmanager.net"
_PROVIDER = "Microsoft.CostManagementExports"
_UNREACHABLE = "The exports service is not authorized to access the specified storage account."


class ExportsApi:
    """Operations on exports. Call with the world's lock held; every method raises ArmError."""

    def __init__(self, world: World, deliveries: Deliveries) -> None:
        self._world = world
        self._deliveries = deliveries

    def list(self, request: Request) -> Answer:
        """List all exports of a scope; `$expand=runHistory` adds the last run of each."""
        scope = self._readable(request)
        runs = 1 if self._expanded(request) else 0
        return Answer({"value": [self._document(one, runs) for one in self._world.exports.at(scope)]})

    def get(self, request: Request) -> Answer:
        """Return an export; `$expand=runHistory` adds the last ten runs."""
        export = self._existing(request)
        return Answer(self._document(export, KEPT_RUNS if self._expanded(request) else 0))

    # difference: AZURE-2
    def put(self, request: Request) -> Answer:
        """Create (201) or update (200) an export."""
        scope, name = self._readable(request), request.path_args[1]
        self._check_policy(scope, name)
        self._check_offer(request, scope)
        existing = self._world.exports.get(scope, name)
        stored = existing.body() if existing else None
        body = read(name, request.json(), self._world.clock.now(), stored)
        tag = body.pop("eTag", None)
        if existing:
            blind = self._world.behavior.blind_updates == "accepted"
            check_tag(tag, existing.etag, name, blind, self._world.behavior.stale_etag, request.id)
        elif tag:
            raise ArmError(412, "PreconditionFailed", f"There is no report: {name} with this eTag.")
        self._check_region(scope, name, str(body.get("location") or ""))
        self._check_type(scope, body["properties"]["definition"]["type"])
        self._check_focus_version(body["properties"]["definition"], stored)
        export = existing or Export(scope, name, "", b"", self._world.clock.monotonic())
        self._use_destination(request, export, body, stored)
        export.stored = msgspec.json.encode(body)
        export.etag = self._world.exports.next_tag()
        self._world.exports.put(export)
        if not self._recorded:
            return Answer(self._document(export), 200 if existing else 201)
        document = export.document(recorded=True)
        return Answer(document, 200) if existing else Answer(document, 201, {"Location": f"{_OWN_HOST}{export.id}"})

    def delete(self, request: Request) -> Answer:
        scope = self._readable(request)
        self._check_subscription_writable(scope)
        if self._world.exports.remove(scope, request.path_args[1]) is None:
            raise self._missing(request)
        return Answer()

    def execute(self, request: Request) -> Answer:
        """Queue a run for the period in the body, or for the definition's time frame."""
        export = self._existing(request)
        self._check_subscription_writable(export.scope)
        kind = export.body()["properties"]["definition"]["type"]
        self._deliveries.execute(export, period(request.json(), kind, self._world.clock.now()))
        self._deliveries.settle()
        return Answer()

    def history(self, request: Request) -> Answer:
        export = self._existing(request)
        return Answer({"value": export.history(len(export.runs), recorded=self._recorded)})

    @property
    def _recorded(self) -> bool:
        return self._world.behavior.answers == "recorded"

    def _document(self, export: Export, runs: int = 0) -> dict[str, Any]:
        return export.document(runs, self._next_run(), recorded=self._recorded)

    def _readable(self, request: Request) -> str:
        """Return the scope after the access checks that all operations share."""
        scope = "/" + request.path_args[0].strip("/")
        subscription = subscription_of(scope)
        if subscription:
            self._world.directory.get(subscription)
            self._check_cost_rights(request, scope)
        elif scope.lower().startswith(BILLING_ROOT.lower()):
            reader = self._world.reads_billing(request.caller.principal)
            check_scope(self._world.billing, BILLING_ROOT + scope[len(BILLING_ROOT) :], reader, not request.caller.user)
        else:
            # difference: AZURE-25
            # Management groups: https://learn.microsoft.com/rest/api/cost-management/exports/create-or-update
            raise ArmError(501, "NotImplemented", f"The local Azure has no exports at the scope '{scope}'.")
        return scope

    def _check_cost_rights(self, request: Request, scope: str) -> None:
        # The action names are in the documented operations of Microsoft.CostManagement ("Run exports" for a run).
        action = {"GET": "read", "PUT": "write", "DELETE": "delete", "POST": "run/action"}[request.method]
        if not self._world.rights.allows(
            request.caller.principal, f"Microsoft.CostManagement/exports/{action}", scope, lag=True
        ):
            raise rbac_access_denied(f"(Request ID: {request.id})")

    def _existing(self, request: Request) -> Export:
        export = self._world.exports.get(self._readable(request), request.path_args[1])
        if export is None:
            raise self._missing(request)
        return export

    def _missing(self, request: Request) -> ArmError:
        name = request.path_args[1]
        if self._recorded:
            return ArmError(404, "404", f"No export found for {name}. (Request ID: {request.id})")
        return ArmError(404, "404", f"Report with name '{name}' could not be found. (Request ID: {request.id})")

    def _check_subscription_writable(self, scope: str) -> None:
        subscription = subscription_of(scope)
        if subscription:
            check_writable(self._world.directory.get(subscription))

    def _check_policy(self, scope: str, name: str) -> None:
        found = self._world.directory.get(subscription_of(scope)) if subscription_of(scope) else None
        if found is not None and found.denied_by:
            raise disallowed_by_policy(name, found.denied_by, self._world.tenant)

    def _check_region(self, scope: str, name: str, region: str) -> None:
        found = self._world.directory.get(subscription_of(scope)) if subscription_of(scope) else None
        if found is not None and region in found.closed_regions:
            raise disallowed_by_azure(name)

    def _check_focus_version(self, definition: dict[str, Any], stored: dict[str, Any] | None) -> None:
        """Check that the version of a FocusCost export is supported or unchanged."""
        wanted = _version(definition)
        known = self._world.behavior.focus_versions
        kept = _version(stored["properties"]["definition"]) if stored else ""
        if definition["type"] == "FocusCost" and wanted and wanted not in (*known, kept):
            valid = ", ".join(f"'{one}'" for one in known)
            raise bad_request(
                f"Request properties validation failed: Invalid dataVersion '{wanted}' for export type 'FocusCost'; "
                f"valid values: {valid}."
            )

    def _check_offer(self, request: Request, scope: str) -> None:
        """Check that the subscription's state and offer allow exports."""
        if not subscription_of(scope):
            return
        found = self._world.directory.get(subscription_of(scope))
        check_writable(found)
        now = self._world.clock.monotonic()
        for namespace in found.demands:
            check_registered(found, namespace, now)
        refusal = found.refusal or found.agreement.refusal
        if refusal:
            status, code, message = refusal
            raise ArmError(status, code, message.format(subscription=found.id))
        if not found.agreement.takes_apps and not request.caller.user:
            raise rbac_access_denied(f"(Request ID: {request.id})")
        if found.young_until > now:
            raise bad_request(
                f"Cost management data is not supported for subscription(s) {found.id}. If the subscription is new, it "
                "may take up to 48 hours."
            )

    def _check_type(self, scope: str, wanted: str) -> None:
        if subscription_of(scope):
            refusal = type_refusal(self._world.directory.get(subscription_of(scope)).agreement, wanted)
            if refusal:
                raise bad_request(refusal)

    def _use_destination(
        self, request: Request, export: Export, body: dict[str, Any], stored: dict[str, Any] | None
    ) -> None:
        """Check the storage account, and assign the export's identity its role on the container."""
        destination = body["properties"]["deliveryInfo"]["destination"]
        try:
            account = account_at(self._world.accounts, destination["resourceId"])
        except ArmError as cause:
            raise bad_request(f"The storage account '{destination['resourceId']}' was not found.") from cause
        owner = self._world.directory.get(account.subscription)
        if registration_state(owner, _PROVIDER, self._world.clock.monotonic()) == "NotRegistered":
            raise bad_request(
                "RP Not Registered. Register destination storage account subscription with "
                "Microsoft.CostManagementExports"
            )
        check_registered(owner, _PROVIDER, self._world.clock.monotonic())
        caller = request.caller.principal
        if account.copy_scope or (account.firewall and not account.bypass):
            raise bad_request(_UNREACHABLE)
        if body.get("identity", {}).get("type") == "SystemAssigned":
            principal = give_role(self._world, caller, export, account, destination["container"])
            export.principal = principal
            body["identity"] = {"type": "SystemAssigned", "principalId": principal, "tenantId": self._world.tenant}
            return
        body.pop("identity", None)
        body.pop("location", None)
        check_write(self._world, caller, account, stored or {})
        if account.firewall:
            raise bad_request(_UNREACHABLE)
        if not account.shared_key:
            raise bad_request(
                "Key-based authentication is currently disabled on this storage account. To proceed, please enable "
                '"Allow storage account key access". For instructions on how to change this setting, please visit '
                "https://aka.ms/sharedkey."
            )
        export.principal = ""

    def _expanded(self, request: Request) -> bool:
        expand = request.query.get("$expand", "")
        if expand and expand.lower() != "runhistory":
            raise bad_request(f"Invalid $expand '{expand}'; valid values: 'runHistory'.")
        return bool(expand)

    def _next_run(self) -> datetime:
        return (self._world.clock.now() + timedelta(days=1)).replace(hour=4, minute=0, second=0)


def _version(definition: dict[str, Any]) -> str:
    return str(((definition.get("dataSet") or {}).get("configuration") or {}).get("dataVersion") or "")
