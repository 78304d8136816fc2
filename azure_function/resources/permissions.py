"""The function's identity: who it is, and whether it has its role when Azure denies a call."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from azure_function.clients import ARM_READ, Clients
from azure_function.errors import RIGHTS, UNAUTHORIZED
from azure_function.manual_steps import PORTAL
from azure_function.settings import AzureSettings
from azure_function.targets import ExportPlacement, placement_of
from shared.errors import CloudError, Denied
from shared.model import Key, ManualStep
from shared.parsing import parse_texts
from shared.runtime.context import RunContext
from shared.target_state import TargetState

PERMISSIONS_API = "2022-04-01"
NEEDED = ("Microsoft.CostManagement/exports/read", "Microsoft.CostManagement/exports/write")
ROLE_DOC = "https://learn.microsoft.com/azure/cost-management-billing/costs/assign-access-acm-data"


class Permissions:
    """Explains denied calls: a missing role, or an offer that rejects applications regardless of their role."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._lock = threading.Lock()
        self._who: str | None = None

    def explained(self, denied: Denied, key: Key, entry: TargetState | None) -> Denied:
        """Return the refusal of a call on an export, with the step to take once it has lasted.

        While a new role assignment may still be taking effect, a refusal is returned unchanged. After that, one read of
        the caller's own permissions on the scope determines the step.
        """
        waiting = entry.waiting_since if entry else None
        if denied.escalation is None or waiting is None:
            return denied
        if not denied.escalation.exhausted(self._run.clock.now() - waiting, (entry.attempts if entry else 0) + 1):
            return denied
        return self._with_step(denied, placement_of(key), key.name)

    def _with_step(self, denied: Denied, placement: ExportPlacement, name: str) -> Denied:
        if denied.code not in (RIGHTS, UNAUTHORIZED) or denied.manual_step is not None:
            return denied
        held = self._holds(placement.path)
        if not held:
            manual_step = self._no_role(placement, denied, unread=held is None)
        else:
            manual_step = self._no_app(placement, name, denied, known=denied.code == RIGHTS)
        return Denied(denied.code, denied.message, denied.remedy, escalation=denied.escalation, manual_step=manual_step)

    def _holds(self, path: str) -> bool | None:
        """Return whether Azure reports the required actions on the scope; None if they could not be read."""
        url = f"{path}/providers/Microsoft.Authorization/permissions"
        try:
            permissions = self._run.calls(ARM_READ, self._clients.arm_get, url, PERMISSIONS_API).get("value", [])
        except Denied:
            return False  # an identity that may not read its own permissions has none
        except CloudError:
            return None
        return all(any(allows(one, action) for one in permissions) for action in NEEDED)

    def _no_role(self, placement: ExportPlacement, denied: Denied, *, unread: bool) -> ManualStep:
        doubt = " (its permissions could not be read)" if unread else ""
        return ManualStep(
            f"the function has no permission for exports on {placement.path}{doubt}: {denied.message}",
            (
                (
                    f"Assign the deployment's custom role (or Cost Management Contributor) on {placement.path} "
                    f"to {self.who()}."
                ),
                "A role inherited from a management group also works. The next run continues automatically.",
            ),
            ROLE_DOC,
        )

    def _no_app(self, placement: ExportPlacement, name: str, denied: Denied, *, known: bool) -> ManualStep:
        """Return the manual step; `known`: whether the refusal is that of offers that accept no applications."""
        settings = self._settings
        kind, shape = placement.dataset.types[0], "Parquet, snappy" if settings.parquet else "CSV, gzip"
        account = settings.destination[0].name if len(settings.destination) == 1 else "one of DESTINATION"
        why = (
            "this offer does not allow applications" if known else "Azure denies the function access to this scope only"
        )
        keyless = ("Or deploy with EXPORT_IDENTITY=none.",) if settings.identity and not known else ()
        return ManualStep(
            f"{why}: the function has its role on {placement.path}, but Azure denies the write ({denied.message})",
            (
                (
                    "Ask a person with access to the subscription to create the export once, in the portal: "
                    f"name {name}, type {kind} (if not offered: {', '.join(placement.dataset.types[1:]) or 'none'}), "
                    f"daily, month to date, {shape}, partitioned, overwrite."
                ),
                (
                    f"Destination: storage account {account}, container {settings.container}, "
                    f"directory {placement.folder}."
                ),
                *keyless,
            ),
            PORTAL,
        )

    def who(self) -> str:
        """Return how an operator finds the function's identity: its object id if the token contains it."""
        with self._lock:
            if self._who is None:
                self._who = self._ask()
            return self._who

    def _ask(self) -> str:
        try:
            claims = self._run.calls(ARM_READ, self._clients.claims)
        except CloudError as error:
            reason = f"could not read the function's identity: {error.message}"
            self._run.log("warning", "detail-unread", code=error.code, reason=reason)
            claims = {}
        if "oid" in claims:
            return f"the identity with object id {claims['oid']}"
        if self._settings.client:
            return f"the identity with client id {self._settings.client}"
        return "the function's identity"


def allows(permission: Mapping[str, Any], action: str) -> bool:
    """Return whether a permission entry allows an action; both may contain ``*``, and case is ignored."""

    def named(patterns: object) -> bool:
        return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in parse_texts(patterns))

    return named(permission.get("actions")) and not named(permission.get("notActions"))
