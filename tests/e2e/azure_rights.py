"""Compare the permissions that infra/azure grants with those that a scenario used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.function_roles import PLACES
from localcloud.azure.iam.grants import RIGHTS, Who, conditions_of, read_grants
from localcloud.azure.iam.rights import Check

FILE = "infra/azure/rights.yaml"


class Right(NamedTuple):
    """An action, data action or built-in role (`what`), and its scope in the file's terms (`place`)."""

    place: str
    what: str


@dataclass
class Used:
    """Permissions used in scenarios.

    `sole` are those that alone allowed a call, `refused` those that a call lacked. `by_role` has pairs of a built-in
    role and an action that it allowed.
    """

    sole: set[Right] = field(default_factory=set)
    refused: set[Right] = field(default_factory=set)
    by_role: set[tuple[str, str]] = field(default_factory=set)

    def add(self, other: Used) -> None:
        """Add the permissions of another scenario."""
        self.sole |= other.sole
        self.refused |= other.refused
        self.by_role |= other.by_role


def granted(who: Who, identity_exports: bool, path: Path = RIGHTS, group: bool = True) -> dict[Right, str]:
    """Return the permissions that the file grants in such a deployment, each with the id of its grant."""
    found: dict[Right, str] = {}
    conditions = conditions_of(identity_exports, group, notify=True, activity_log=True, deliveries=True)
    for grant in read_grants(who, conditions, path):
        for what in (grant.role,) if grant.role else (*grant.actions, *grant.data_actions):
            found[Right(grant.place, what)] = grant.id
    return found


def used(cloud: LocalAzure, principal: str) -> Used:
    """Return the permissions that a principal used in a local Azure.

    The destination must be outside the function's management group: then each resource has one scope only, and each
    permission is visible separately.
    """
    scenario = Used()
    for check in cloud.world.rights.checks:
        if check.principal != principal:
            continue
        rights = {_right(cloud, check, one) for one in check.by}
        if not rights:
            scenario.refused.add(Right(place_of(cloud, check.scope), check.action))
        elif len(rights) == 1:
            scenario.sole |= rights
        scenario.by_role |= {(right.what, check.action) for right in rights if right.what != check.action}
    return scenario


def _right(cloud: LocalAzure, check: Check, assignment: str) -> Right:
    held = cloud.world.rights.assignments[assignment]
    if held.role in PLACES:
        return Right(PLACES[held.role], check.action)
    return Right(place_of(cloud, held.scope), cloud.world.rights.roles[held.role].name)


def place_of(cloud: LocalAzure, scope: str) -> str:
    """Return the scope of a resource in the file's terms."""
    low = scope.lower()
    for account in cloud.destinations:
        if low.startswith(f"{account.id.lower()}/blobservices/default/containers"):
            return "destination_container" if low.count("/") == account.id.count("/") + 4 else "destination"
        if low == account.id.lower() or low.startswith(f"{account.id.lower()}/"):
            return "destination"
        if low == f"/subscriptions/{account.subscription}" or low.startswith(
            f"/subscriptions/{account.subscription}/providers/"
        ):
            return "destination_subscription"
    if low == cloud.world.topic.lower():
        return "delivery_topic"
    if low.startswith(f"{cloud.world.vault.lower()}/secrets/"):
        return "notify_secret"
    if low == cloud.world.activity_workspace.lower():
        return "activity_log"
    if low == cloud.host_account.id.lower() or low.startswith(f"{cloud.host_account.id.lower()}/"):
        return "state"
    return "telemetry" if "/microsoft.insights/components/" in low else "management_group"


def differences(
    grants: Mapping[Right, str], scenario: Used, known: Mapping[str, str], of: str = "the function"
) -> list[str]:
    """Return a sentence for each permission that is granted but not used, or used but not granted.

    `known` are grants (id → documented reason) that no local call can use.
    """
    idle = sorted(right for right, grant in grants.items() if right not in scenario.sole and grant not in known)
    superfluous = [
        f"{FILE}: {grants[one]} grants {of} {one.what} ({one.place}), and nothing needs it: remove it" for one in idle
    ]
    lacking = sorted((scenario.sole | {one for one in scenario.refused if not _covered(one, grants)}) - grants.keys())
    missing = [f"{FILE}: {of} uses {one.what} ({one.place}), and nothing grants it: add it" for one in lacking]
    shown = sorted({grant for right, grant in grants.items() if right in scenario.sole} & known.keys())
    return superfluous + missing + [f"{one} is used: remove it from the exceptions" for one in shown]


def _covered(refused: Right, grants: Iterable[Right]) -> bool:
    """Return whether a refused permission is granted there, and was only removed by the scenario itself."""
    places = {"destination": {"destination", "delegation"}, "destination_container": {"destination", "delegation"}}
    return any(one.what == refused.what and one.place in places.get(refused.place, {refused.place}) for one in grants)
