"""The accounts that a StackSet operation targets."""

from __future__ import annotations

from typing import Any

from localcloud.aws.errors import AwsError, invalid
from localcloud.aws.services.organization import Organization
from localcloud.aws.services.stacksets import SERVICE

MAX_UNITS = 50


def resolve(
    organization: Organization, params: dict[str, Any], accounts_alone: bool = False
) -> tuple[dict[str, str], set[str]]:
    """Return the targeted unit by account, and the accounts that the request names individually.

    The management account is never included. Updates may name accounts without units (`accounts_alone`).
    Raises AwsError (ValidationError) as CloudFormation does.
    """
    if params.get("Accounts"):
        message = "StackSets with SERVICE_MANAGED permission model can only have OrganizationalUnit as target"
        raise invalid(SERVICE, message)
    targets = params.get("DeploymentTargets") or {}
    units, named, how = (
        list(targets.get("OrganizationalUnitIds", [])),
        list(targets.get("Accounts", [])),
        targets.get("AccountFilterType"),
    )
    if targets.get("AccountsUrl"):
        raise invalid(SERVICE, "AccountsUrl is not supported by the local cloud")
    if not units and named and how is None and accounts_alone:
        known = [account for account in named if account in organization.accounts]
        return {account: organization.accounts[account].parent for account in known}, set(named)
    if not units:
        raise invalid(SERVICE, "OrganizationalUnitIds are required for stack sets with SERVICE_MANAGED permissions")
    if len(units) > MAX_UNITS:
        raise invalid(SERVICE, f"At most {MAX_UNITS} OrganizationalUnitIds can be given")
    if named and how is None:
        raise invalid(SERVICE, "AccountFilterType should be specified when both OrganizationalUnitIds and Accounts are")
    if how not in (None, "NONE") and not named:
        raise invalid(SERVICE, f"Accounts must be specified with AccountFilterType {how}")
    if how == "NONE" and named:
        raise invalid(SERVICE, "Accounts cannot be specified with AccountFilterType NONE")
    for unit in units:
        if unit not in organization.units:
            raise invalid(SERVICE, f"Organizational unit {unit} does not exist")
    chosen = {account.id: account.parent for account in organization.below(set(units))}
    if how == "INTERSECTION":
        chosen = {account: parent for account, parent in chosen.items() if account in set(named)}
    elif how == "DIFFERENCE":
        chosen = {account: parent for account, parent in chosen.items() if account not in set(named)}
    elif how == "UNION":
        for account in named:
            if account not in organization.accounts:
                raise AwsError("ValidationError", f"Account {account} is not in the organization", 400)
            chosen.setdefault(account, organization.accounts[account].parent)
    chosen.pop(organization.management, None)
    by_parent = {
        parent: next((above for above in organization.lineage(parent) if above in units), parent)
        for parent in set(chosen.values())
    }
    explicit = set(named) if how in ("INTERSECTION", "UNION") else set()
    return {account: by_parent[parent] for account, parent in chosen.items()}, explicit
