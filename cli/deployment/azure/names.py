"""The names of what infra/azure creates, by the same rules as in its main.tf, for checks before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GROUP = "tailpipe-dataexport"
FUNCTION = "tailpipe-exports"
LONGEST = 22  # characters of a given account name that precede the number of a further account


@dataclass(frozen=True)
class Names:
    """`accounts` are the storage accounts for exports, `host` the function's own."""

    group: str
    function: str
    host: str
    accounts: tuple[str, ...]


def names(subscription: str, given: Mapping[str, Any]) -> Names:
    """Return the names in a subscription, derived from the variables' values and their defaults."""
    suffix = subscription[-6:]
    first = given.get("storage_account_name") or f"tailpipedataexport{suffix}"
    stem = given.get("storage_account_name") or f"tailpipeexport{suffix}"
    count = given.get("destination_count") or 1
    many = count if isinstance(count, int) else 1
    return Names(
        group=str(given.get("resource_group_name") or GROUP),
        function=f"{given.get('function_name') or FUNCTION}-{suffix}",
        host=str(given.get("host_storage_account_name") or f"tailpipehost{suffix}"),
        accounts=(str(first), *(f"{str(stem)[:LONGEST]}{number:02d}" for number in range(2, many + 1))),
    )


def short_name(identifier: str, resource: Mapping[str, Any] | None = None) -> str:
    """Return what people call a resource: its title, else its name below those it lies in.

    A role assignment is named by where it applies: its own name is a GUID, which what-if shows as the template's
    expression where it needs the app's identity. `resource` is the resource as Azure shows it.
    """
    above, _, below = identifier.rpartition("/providers/")
    if not above:
        return identifier.rsplit("/", 1)[-1]
    kind, *parts = below.split("/")
    where = above.rsplit("/", 1)[-1]
    if parts[0] == "roleAssignments":
        return f"on {where}"
    properties = (resource or {}).get("properties") or {}
    name = str(properties.get("roleName") or properties.get("displayName") or "/".join(parts[1::2]))
    return f"{name} on {where}" if kind == "Microsoft.Authorization" else name
