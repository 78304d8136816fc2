"""What the entries of other tenants claim, so that no billing account has two tenants.

The registry alone shows which accounts and organizations an entry names, the cloud which organization an account is in.
The closer name wins: an entry that names the account, then one that names its organization, then one that names neither
and serves all that its service account sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from shared.tenants.registry import Tenant

PREFIX = "organizations/"


class Claims(msgspec.Struct, frozen=True):
    """The other tenants by the billing account that their entries name, and by the organization they serve whole."""

    accounts: Mapping[str, str] = {}
    organizations: Mapping[str, str] = {}

    def tenant_of(self, account: str, organization: str, *, named: bool) -> str:
        """Return the other tenant that an account belongs to, or "".

        `organization` is the one that the account is in, and `named` says that the own entry names an organization. An
        account that the own entry names is never asked for.
        """
        return self.accounts.get(account) or ("" if named else self.organizations.get(organization, ""))


def claims_beside(tenant: str, all_tenants: Iterable[Tenant]) -> Claims:
    """Return what the entries of all other tenants claim."""
    accounts, organizations = dict[str, str](), dict[str, str]()
    for other in all_tenants:
        named = named_accounts(other)
        organization = organization_of(other)
        if other.id == tenant:
            continue
        accounts |= dict.fromkeys(named, other.id)
        if organization and not named:
            organizations[organization] = other.id
    return Claims(accounts, organizations)


def named_accounts(tenant: Tenant) -> list[str]:
    """Return the billing accounts that an entry names; empty: it serves all that it can."""
    return list(filter(None, tenant.entry.get("billing_accounts", "").split(",")))


def organization_of(tenant: Tenant) -> str:
    """Return the organization that an entry names, as ``organizations/NUMBER``, or ""."""
    number = tenant.entry.get("organization", "").removeprefix(PREFIX)
    return f"{PREFIX}{number}" if number else ""


def overlap(account: str, tenant: str, other: str) -> str:
    """Return the sentence about an account of two tenants, of which `other` keeps it."""
    return (
        f"billing account {account} belongs to tenant {other}, whose entry names it or its organization; leave it out "
        f"of tenant {tenant} with EXCLUDE_ACCOUNTS (tenants add --set), or remove it from that entry"
    )
