"""The steps that only a person can take, as operators read them: what is wrong, what to do, where it is described."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.model import Guide, Key

PORTAL = "https://portal.azure.com/#view/Microsoft_Azure_CostManagement/Menu/~/exports"
EXPORTS_DOC = "https://learn.microsoft.com/azure/cost-management-billing/costs/tutorial-improved-exports"
EA_DOC = "https://learn.microsoft.com/azure/cost-management-billing/manage/assign-roles-azure-service-principals"
LIMITS_DOC = "https://learn.microsoft.com/azure/role-based-access-control/troubleshoot-limits"

KEYS_DISABLED = Guide(
    "the storage account allows no access by key, and exports without an identity of their own write by key",
    (
        "Deploy with EXPORT_IDENTITY=system: exports then write with an identity of their own.",
        "Or allow key access on the destination account (not on the host storage).",
    ),
    EXPORTS_DOC,
)


def billing_role_missing(said: str) -> Guide:
    """Return what to do where a billing scope refuses the function."""
    return Guide(
        f"the function may not use this billing scope: {said}",
        ("Give the function's identity the role EnrollmentReader (or DepartmentReader) of the enterprise agreement.",),
        EA_DOC,
    )


def storage_rights_missing() -> Guide:
    """Return what to do where the function may not give an export its role."""
    return Guide(
        "the function may not give an export's identity its role on the storage account",
        (
            (
                "Grant the function's identity Microsoft.Authorization/permissions/read and roleAssignments/read, "
                "write and delete on the destination storage account (the deployment does it for exports with an "
                "identity)."
            ),
        ),
        EXPORTS_DOC,
    )


def storage_behind_firewall() -> Guide:
    """Return what to do where the exports service is not admitted."""
    return Guide(
        "the exports service may not reach the storage account, most likely because of its firewall",
        (
            "Deploy with EXPORT_IDENTITY=system and allow trusted Microsoft services on the account;",
            "or open the account's firewall for exports.",
        ),
        EXPORTS_DOC,
    )


def role_assignments_full() -> Guide:
    """Return what to do at 4,000 role assignments."""
    return Guide(
        "the destination's subscription has no room for another role assignment (4,000 at most)",
        ("Deploy one more storage account in another subscription and add it to DESTINATION; what works stays.",),
        LIMITS_DOC,
    )


def no_data(said: str) -> Guide:
    """Return what to do where a subscription stays without cost data."""
    return Guide(
        f"Cost Management still has no data for this subscription: {said}",
        ("See whether its offer is supported by Cost Management; if not, add it to EXCLUDE_SUBSCRIPTIONS.",),
        "https://learn.microsoft.com/azure/cost-management-billing/costs/understand-cost-mgt-data",
    )


def linked_rights_missing(said: str) -> Guide:
    """Return what to do where a right on the destination is missing."""
    return Guide(
        f"the function lacks a right on what its exports refer to: {said}",
        ("Grant the action named there on the destination storage account (the deployment does).",),
        EXPORTS_DOC,
    )


def export_foreign(key: Key, actual: Mapping[str, Any]) -> Guide:
    """Return what to do where somebody else has an export of our name."""
    where = f"{actual['destination']}, container {actual['container']}, folder {actual['folder'] or '(none)'}"
    return Guide(
        f"an export named {key.name} exists that is not ours: it delivers to {where}; it was left alone",
        ("Recreate it under another name, or delete it; the next run then creates ours.",),
        PORTAL,
    )
