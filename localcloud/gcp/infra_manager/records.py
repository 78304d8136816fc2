"""What Infrastructure Manager stores: deployments with their states and revisions, previews, and operations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from localcloud.gcp.errors import GoogleError, not_found
from localcloud.gcp.infra_manager.terraform_run import Run

_INTENTS = {
    ("no-op",): "UNCHANGED",
    ("create",): "CREATE",
    ("update",): "UPDATE",
    ("delete",): "DELETE",
    ("delete", "create"): "RECREATE",
    ("create", "delete"): "RECREATE",
}


@dataclass
class Deployment:
    """One deployment: its document, Terraform's state, and the state that an operator imported under a lock.

    `lock` is the id of the lock of `locked_by`, "" without one.
    """

    document: dict[str, Any]
    state: bytes = b""
    draft: bytes = b""
    lock: str = ""
    locked_by: str = ""
    revisions: list[dict[str, Any]] = field(default_factory=list)
    # By the full name of a revision.
    resources: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.document["name"])


@dataclass
class Preview:
    """One preview: its document, the changes, and the plan in both forms."""

    document: dict[str, Any]
    changes: list[dict[str, Any]] = field(default_factory=list)
    plan: bytes = b""
    binary_plan: bytes = b""


class Records:
    """Everything of one local cloud, by full name."""

    def __init__(self) -> None:
        self.deployments: dict[str, Deployment] = {}
        self.previews: dict[str, Preview] = {}
        self.operations: dict[str, dict[str, Any]] = {}

    def deployment(self, name: str) -> Deployment:
        """Return a deployment. Raises GoogleError 404."""
        if name not in self.deployments:
            raise not_found(f"Resource '{name}' was not found")
        return self.deployments[name]

    def preview(self, name: str) -> Preview:
        """Return a preview. Raises GoogleError 404."""
        if name not in self.previews:
            raise not_found(f"Resource '{name}' was not found")
        return self.previews[name]

    def revision(self, name: str) -> tuple[Deployment, dict[str, Any]]:
        """Return a revision with its deployment. Raises GoogleError 404."""
        owner = self.deployment(name.partition("/revisions/")[0])
        for one in owner.revisions:
            if one["name"] == name:
                return owner, one
        raise not_found(f"Resource '{name}' was not found")

    def free(self, name: str) -> None:
        """Raise GoogleError 409 if the name of a deployment or preview is taken."""
        if name in self.deployments or name in self.previews:
            raise GoogleError(409, "alreadyExists", f"Resource '{name}' already exists")


def intents(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return what a plan does to each managed resource, by address."""
    return {
        str(one["address"]): _INTENTS[tuple(one["change"]["actions"])]
        for one in plan.get("resource_changes", ())
        if one["mode"] == "managed" and tuple(one["change"]["actions"]) in _INTENTS
    }


def resources_of(revision: str, run: Run) -> list[dict[str, Any]]:
    """Return the resources of a revision: those in the state, and those that failed."""
    planned = intents(run.plan)
    failed = {one["resourceAddress"] for one in run.problems if "resourceAddress" in one}
    held = {address: (kind, identifier) for address, kind, identifier in run.resources}
    found = []
    for address in sorted({*held, *(failed & set(planned))}):
        kind, identifier = held.get(address, (_type(address), ""))
        found.append(
            {
                "name": f"{revision}/resources/{_hashed(address)}",
                "terraformInfo": {"address": address, "type": kind, **({"id": identifier} if identifier else {})},
                "intent": planned.get(address, "UNCHANGED"),
                "state": "FAILED" if address in failed else "RECONCILED",
            }
        )
    return found


def changes_of(preview: str, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the resource changes of a preview, without their properties."""
    return [
        {
            "name": f"{preview}/resourceChanges/{_hashed(one['address'])}",
            "terraformInfo": {
                "address": one["address"],
                "type": one["type"],
                "resourceName": one["name"],
                "provider": one["provider_name"],
                "actions": list(one["change"]["actions"]),
            },
            "intent": intents(plan)[one["address"]],
        }
        for one in plan.get("resource_changes", ())
        if one["address"] in intents(plan)
    ]


def is_state(content: bytes) -> bool:
    """Return whether a file is a state of Terraform's current format."""
    try:
        document = json.loads(content)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("version") == 4 and isinstance(document.get("resources"), list)


def _type(address: str) -> str:
    return address.rpartition("module.")[2].split(".")[-2] if "." in address else address


def _hashed(address: str) -> str:
    return "r" + hashlib.sha256(address.encode()).hexdigest()[:16]
