"""The function's custom roles, read from the same file that the Terraform module uses."""

from __future__ import annotations

from collections.abc import Sequence

from localcloud.azure.iam.grants import Grant
from localcloud.azure.iam.rights import Role

FUNCTION_ROLE = "7a11b1be-0000-4000-8000-000000000001"
# Maps the place of a grant to the ID and title of its role.
_ROLES = {
    "management_group": (FUNCTION_ROLE, "exports"),
    "delegation": ("7a11b1be-0000-4000-8000-000000000002", "role of exports"),
    "destination_subscription": ("7a11b1be-0000-4000-8000-000000000003", "registration"),
    "destination": ("7a11b1be-0000-4000-8000-000000000004", "destination"),
    "activity_log": ("7a11b1be-0000-4000-8000-000000000005", "activity log"),
    "delivery_documents": ("7a11b1be-0000-4000-8000-000000000006", "deliveries"),
}
PLACES = {identifier: place for place, (identifier, _) in _ROLES.items()}


def function_roles(app: str, grants: Sequence[Grant]) -> dict[str, Role]:
    """Return the custom roles by place, as the module creates them. Raises KeyError for a place without a role."""
    found: dict[str, list[Grant]] = {}
    for grant in grants:
        if not grant.role:
            found.setdefault(grant.place, []).append(grant)
    return {
        place: Role(
            _ROLES[place][0],
            f"Tailpipe Exports, {_ROLES[place][1]} ({app})",
            tuple(dict.fromkeys(action for one in ones for action in one.actions)),
            data_actions=tuple(dict.fromkeys(action for one in ones for action in one.data_actions)),
            custom=True,
        )
        for place, ones in found.items()
    }
