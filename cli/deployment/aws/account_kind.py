"""The role of an AWS account in its organization, and the account_kind that a deployment there can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.deployment.model import OperatorError, Place, Problem

MANAGEMENT, STANDALONE, MEMBER = "management account", "standalone account", "member account"
KINDS = ("management", "standalone")
VARIABLE = "ACCOUNT_KIND"  # of the function, and here if not given as --var
# Keys of a place's details.
ORGANIZATION, MANAGED_BY, FEATURES, DEPLOYS = "organization", "management account", "features", "deploys"
CONSOLIDATED = "consolidated billing only"
ALONE = "Add --var account_kind=standalone"


def account_kind(place: Place, given: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Return the account_kind to deploy with: ``management`` or ``standalone``.

    Raises OperatorError if the account does not match the requested kind, or if only the operator can decide.
    """
    chosen = str(given.get("account_kind") or environment.get(VARIABLE) or "")
    if chosen not in ("", *KINDS):
        raise OperatorError(Problem(f"account_kind is {chosen[:40]!r}", f"Set it to one of {', '.join(KINDS)}."))
    if place.kind == MEMBER and chosen != "standalone":
        manager, organization = place.details[MANAGED_BY], place.details[ORGANIZATION]
        raise OperatorError(
            Problem(
                f"{place.id} is a member of organization {organization}: an export made here holds this account's own "
                "costs only",
                f"Use the credentials of the management account {manager} to export the costs of all accounts. "
                f"{ALONE} to export this account's own costs.",
            )
        )
    if place.kind == STANDALONE and chosen == "management":
        raise OperatorError(
            Problem(
                f"{place.id} is in no organization and cannot be deployed to as a management account",
                "Leave out account_kind; when the account has created an organization, deploy again.",
            )
        )
    if place.details.get(FEATURES) == CONSOLIDATED and chosen != "standalone":
        raise OperatorError(
            Problem(
                f"organization {place.details[ORGANIZATION]} has consolidated billing only, and StackSets, which "
                "create the member role, need all features",
                f"{ALONE} to export the costs of all accounts without roles in them; or run aws organizations "
                "enable-all-features, let every invited account approve, and deploy again.",
            )
        )
    known = {MANAGEMENT: "management", STANDALONE: "standalone"}.get(place.kind, "")
    if not (chosen or known):
        raise OperatorError(
            Problem(
                "whether this account manages an organization could not be read",
                f"Grant organizations:DescribeOrganization, or add --var account_kind=management. {ALONE} to export "
                "this account's own costs.",
            )
        )
    return chosen or known


def is_alone(place: Place, kind: str) -> bool:
    """Return whether a deployment manages only its own account, by the chosen `kind`, else by the kind of the place."""
    return kind == "standalone" if kind else place.kind in (STANDALONE, MEMBER)
