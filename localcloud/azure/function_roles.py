"""The custom roles that a deployment gives the function, from the file that the module makes them of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from localcloud.azure.rights import Role

RIGHTS = Path(__file__).resolve().parents[2] / "infra" / "azure" / "rights.yaml"
FUNCTION_ROLE = "7a11b1be-0000-4000-8000-000000000001"
# Scope in the file, "delegation" for what has a condition → id and title of the role.
_ROLES = {
    "management_group": (FUNCTION_ROLE, "exports"),
    "delegation": ("7a11b1be-0000-4000-8000-000000000002", "role of exports"),
    "destination_subscription": ("7a11b1be-0000-4000-8000-000000000003", "registration"),
    "destination": ("7a11b1be-0000-4000-8000-000000000004", "destination"),
}


def function_roles(app: str, identity_exports: bool) -> dict[str, Role]:
    """Return the custom roles by scope, as the module makes them for a whole management group.

    Raises OSError, yaml.YAMLError, and KeyError for a scope that no role is made for.
    """
    document = yaml.safe_load(RIGHTS.read_text(encoding="utf-8"))
    conditions = {"management_group": True, "export_key": not identity_exports, "export_identity": identity_exports}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for grant in document["function"]:
        if "role" not in grant and conditions.get(grant.get("when", ""), "when" not in grant):
            found.setdefault("delegation" if "condition" in grant else grant["scope"], []).append(grant)
    return {
        scope: Role(
            _ROLES[scope][0],
            f"Tailpipe Exports, {_ROLES[scope][1]} ({app})",
            _named(grants, "actions"),
            data_actions=_named(grants, "data_actions"),
            custom=True,
        )
        for scope, grants in found.items()
    }


def _named(grants: list[Mapping[str, Any]], what: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(action for grant in grants for action in grant.get(what, ())))
