"""The grants of a deployment, read from the same file that the Terraform module uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from localcloud.common.rights_file import parsed
from tailpipe_exports import FILES

RIGHTS = FILES / "infra" / "azure" / "rights.yaml"
# The module passes these to `templatefile` in infra/azure/identity.tf.
VARIABLES = {"blob_data_contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe"}
Who = Literal["function", "connector", "policy"]


@dataclass(frozen=True, slots=True)
class Grant:
    """One entry of the file: a built-in role, or actions and data actions for a custom role, at `scope`."""

    id: str
    scope: str
    actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()
    role: str = ""
    condition: str = ""

    @property
    def place(self) -> str:
        """The role's key in the module: the scope, or a name of its own where it shares the scope with other grants."""
        return "delegation" if self.condition and self.scope == "destination" else self.scope


def read_grants(who: Who, conditions: Mapping[str, bool], path: Path = RIGHTS) -> list[Grant]:
    """Return the grants of one key of the file that have no `when`, or whose `when` is true in `conditions`.

    Raises OSError, yaml.YAMLError, and KeyError for a `when` that is not in `conditions`.
    """
    text = path.read_text(encoding="utf-8")
    for name, value in VARIABLES.items():
        text = text.replace(f"${{{name}}}", value)
    return [
        Grant(
            id=one["id"],
            scope=one["scope"],
            actions=tuple(one.get("actions", ())),
            data_actions=tuple(one.get("data_actions", ())),
            role=one.get("role", ""),
            condition=one.get("condition", {}).get("expression", ""),
        )
        for one in parsed(text)[who]
        if "when" not in one or conditions[one["when"]]
    ]


def conditions_of(
    identity_exports: bool,
    group: bool = True,
    notify: bool = False,
    activity_log: bool = False,
    deliveries: bool = False,
    fleet: bool = False,
) -> dict[str, bool]:
    """Return the value of each `when` for a deployment with monitoring and a deployment policy.

    `group`: the function covers a management group; `notify`: a webhook secret is configured; `activity_log`: a
    workspace with the activity logs is configured; `deliveries`: deliveries are announced;
    `fleet`: Durable Functions keep rounds in the function's account.
    """
    return {
        "management_group": group,
        "notify": notify,
        "activity_log": activity_log,
        "deliveries": deliveries,
        "fleet": fleet,
        "monitoring": True,
        "export_key": not identity_exports,
        "export_identity": identity_exports,
        "policy_deploy": True,
        "policy_deploy_key": not identity_exports,
        "policy_deploy_identity": identity_exports,
    }
