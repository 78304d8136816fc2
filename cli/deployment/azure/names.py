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
