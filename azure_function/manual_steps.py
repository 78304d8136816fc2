"""The steps that only a person can take: what is wrong, what to do, and where it is described.

The module is long because it is one list of texts: keeping them together keeps their wording alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

from shared.model import Key, ManualStep

PORTAL = "https://portal.azure.com/#view/Microsoft_Azure_CostManagement/Menu/~/exports"
EXPORTS_DOC = "https://learn.microsoft.com/azure/cost-management-billing/costs/tutorial-improved-exports"
EA_DOC = "https://learn.microsoft.com/azure/cost-management-billing/manage/assign-roles-azure-service-principals"
LIMITS_DOC = "https://learn.microsoft.com/azure/role-based-access-control/troubleshoot-limits"
OFFERS_DOC = "https://learn.microsoft.com/azure/cost-management-billing/costs/understand-cost-mgt-data"
CHARGES_DOC = "https://learn.microsoft.com/azure/cost-management-billing/costs/assign-access-acm-data"
PARTNER_DOC = "https://learn.microsoft.com/azure/cost-management-billing/costs/get-started-partners"
POLICY_DOC = "https://learn.microsoft.com/azure/governance/policy/concepts/exemption-structure"
REGION_DOC = "https://learn.microsoft.com/troubleshoot/azure/general/region-access-request-process"
LOCKS_DOC = "https://learn.microsoft.com/azure/azure-resource-manager/management/lock-resources"
STATES_DOC = "https://learn.microsoft.com/azure/cost-management-billing/manage/subscription-states"
REACTIVATE_DOC = "https://learn.microsoft.com/azure/cost-management-billing/manage/subscription-disabled"
NETWORK_DOC = "https://learn.microsoft.com/azure/storage/common/storage-network-security"
BLOB_ROLES_DOC = "https://learn.microsoft.com/azure/storage/blobs/authorize-access-azure-active-directory"
IMMUTABLE_DOC = "https://learn.microsoft.com/azure/storage/blobs/immutable-storage-overview"
ARCHIVE_DOC = "https://learn.microsoft.com/azure/storage/blobs/archive-rehydrate-overview"
LIFECYCLE_DOC = "https://learn.microsoft.com/azure/storage/blobs/lifecycle-management-overview"
_ID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


class Refusal(msgspec.Struct, frozen=True):
    """An answer that is no success, as it came.

    `path` is the request's path without its query, "" where the SDK does not say; `wait` what the headers ask for;
    `policies` the assignments of Azure Policy that the answer's additionalInfo names (id → display name).
    """

    status: int
    code: str
    message: str
    method: str = ""
    host: str = ""
    path: str = ""
    wait: timedelta | None = None
    policies: Mapping[str, str] = {}

    @property
    def said(self) -> str:
        """Return the answer as one sentence: status, code and Azure's own text."""
        head = f"Azure answered {self.status}{f' {self.code}' if self.code else ''}"
        return f"{head}: {self.message}" if self.message else f"{head} without a reason"

    @property
    def scope(self) -> str:
        """Return what the call was about: the path up to the provider that extends it."""
        return self.path.partition("/providers/Microsoft.CostManagement")[0] or self.path


def policy_denied(refusal: Refusal) -> ManualStep:
    """Return what to do where an assignment of Azure Policy denies the write."""
    names = [f"{name} ({one})" if name else one for one, name in refusal.policies.items()]
    which = f"policy assignment {', '.join(names)}" if names else "an assignment of Azure Policy"
    scope = refusal.scope or "the scope named"
    exempt = [
        "Exempt it: az policy exemption create --name tailpipe-exports --exemption-category Waiver "
        f'--scope "{scope}" --policy-assignment "{one}"'
        for one in refusal.policies
    ] or [f"Find the assignment in the scope's policy compliance in the portal, and exempt {scope} from it."]
    return ManualStep(
        f"{which} denies cost exports on {scope}: {refusal.said}",
        (*exempt, "Or change the assignment so that it allows Microsoft.CostManagement/exports."),
        POLICY_DOC,
    )


def region_disallowed(refusal: Refusal) -> ManualStep:
    """Return what to do where Azure itself, and no policy of the customer's, offers a region to no new resources.

    Only a request with a location can be refused so: an export has one for its identity.
    """
    return ManualStep(
        f"Azure accepts no new resources of {refusal.scope or 'this subscription'} in the region asked for, or not "
        f"yet: {refusal.said}",
        (
            (
                "Set EXPORT_LOCATION to a region that Azure's text allows (settings of the deployment): it is the "
                "region of the exports' identities, and need not be that of the storage account."
            ),
            "Or ask for access to the region in the portal (Help + support, Service and subscription limits).",
            "No role is missing, and no policy assignment of yours can be exempted.",
        ),
        REGION_DOC,
    )


def scope_locked(refusal: Refusal) -> ManualStep:
    """Return what to do where a resource lock stops the write."""
    locks = re.findall(r"/subscriptions/[^\s'\",]+", refusal.message.partition("locked")[2])
    where = ", ".join(dict.fromkeys(one.rstrip(".") for one in locks)) or refusal.scope or "the scope named"
    return ManualStep(
        f"a read-only lock on {where} stops the function: {refusal.said}",
        (
            f"See the locks: az lock list --query \"[?level=='ReadOnly']\" (portal: {where}, Settings, Locks).",
            "Delete the ReadOnly lock, or make it a CanNotDelete lock, which does not stop exports.",
        ),
        LOCKS_DOC,
    )


def account_disabled(refusal: Refusal) -> ManualStep:
    """Return what to do where a storage account is closed with its subscription."""
    account = refusal.host.partition(".")[0] or "the destination"
    return ManualStep(
        f"storage account {account} is closed, because its subscription is disabled: {refusal.said}",
        (
            (
                f"Reactivate the subscription that holds {account} (portal: Subscriptions, Reactivate); "
                "its owner sees there whether a spending limit, an unpaid bill or a cancellation closed it."
            ),
            "Or set DESTINATION to an account of a subscription that is enabled.",
        ),
        REACTIVATE_DOC,
    )


def destination_disabled(account: str, subscription: str, state: str) -> ManualStep:
    """Return what to do where the subscription of a destination is not enabled."""
    return ManualStep(
        f"storage account {account} of DESTINATION lies in subscription {subscription}, which is {state}: "
        "exports cannot be written there",
        (
            f"Reactivate subscription {subscription} (portal: Subscriptions, {subscription}, Reactivate).",
            "Or set DESTINATION to an account of a subscription that is enabled.",
        ),
        REACTIVATE_DOC,
    )


def subscription_disabled(refusal: Refusal) -> ManualStep:
    """Return what to do where a subscription takes no writes."""
    found = re.search(_ID, refusal.message) or re.search(_ID, refusal.path)
    which = found.group() if found else "named in Azure's answer"
    return ManualStep(
        f"subscription {which} is disabled and read-only: {refusal.said}",
        (
            (
                f"Reactivate it (portal: Subscriptions, {which}, Reactivate), or let it go: once Azure lists it as "
                "Disabled, the function leaves it alone."
            ),
        ),
        REACTIVATE_DOC,
    )


def costs_hidden(refusal: Refusal) -> ManualStep:
    """Return what to do where the administrator of an agreement hides its charges."""
    low = refusal.message.lower()
    enrollment = (
        "Enterprise Agreement: its enterprise administrator opens Cost Management + Billing in the portal, the billing "
        "account (enrollment), Settings, Policies, and turns on 'Account owners can view charges' (AO View Charges) "
        "and 'Department admins can view charges' (DA View Charges)."
    )
    partner = (
        "Cloud Solution Provider: the partner (Admin agent) opens Cost Management + Billing in the partner's tenant, "
        "Customers, this customer, Settings, Policies, and sets Azure usage to Yes."
    )
    indirect = (
        "Indirect Enterprise Agreement: the partner publishes the prices (markup) of the enrollment, without which "
        "Cost Management shows no costs."
    )
    then = "The next run then creates the export."
    if refusal.code == "IndirectCostDisabled":
        return ManualStep(
            f"the partner has not published prices: {refusal.said}", (indirect, partner, then), CHARGES_DOC
        )
    if refusal.code == "DepartmentCostDisabled" or any(
        one in low for one in ("view charges", "enrollment", "account admin")
    ):
        return ManualStep(
            f"the enterprise agreement hides its charges: {refusal.said}", (enrollment, then), CHARGES_DOC
        )
    if "partner" in low or "csp" in low:
        return ManualStep(f"the partner has not enabled cost visibility: {refusal.said}", (partner, then), PARTNER_DOC)
    return ManualStep(
        f"the administrator of the agreement hides its charges: {refusal.said}",
        (enrollment, partner, then),
        CHARGES_DOC,
    )


def subscription_restricted(refusal: Refusal) -> ManualStep:
    """Return what to do where a subscription is not allowed to use Cost Management."""
    return ManualStep(
        f"{refusal.scope or 'the subscription'} may not use Microsoft.CostManagement: {refusal.said}",
        (
            (
                "The subscription's billing owner opens a support request (type: Subscription management) to have the "
                "restriction removed, or moves the subscription to another offer."
            ),
            "If it holds nothing that costs, add it to EXCLUDE_SUBSCRIPTIONS.",
        ),
        STATES_DOC,
    )


def keys_disabled(_: Refusal | None = None) -> ManualStep:
    """Return what to do where exports write by key, and the account allows none."""
    return ManualStep(
        "the storage account allows no access by key, and exports without an identity of their own write by key",
        (
            "Deploy with EXPORT_IDENTITY=system: exports then write with an identity of their own.",
            "Or allow key access on the destination account (not on the host storage).",
        ),
        EXPORTS_DOC,
    )


def billing_role_missing(refusal: Refusal) -> ManualStep:
    """Return what to do where a billing scope refuses the function."""
    return ManualStep(
        f"the function may not use this billing scope: {refusal.said}",
        ("Give the function's identity the role EnrollmentReader (or DepartmentReader) of the enterprise agreement.",),
        EA_DOC,
    )


def storage_rights_missing(_: Refusal) -> ManualStep:
    """Return what to do where the function may not give an export its role."""
    return ManualStep(
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


def storage_behind_firewall(_: Refusal) -> ManualStep:
    """Return what to do where the exports service is not admitted."""
    what = "the exports service may not reach the storage account, most likely because of its firewall"
    return ManualStep(what, _admit_exports("the account"), EXPORTS_DOC)


def storage_closed(account: str, why: str, *, function_too: bool) -> ManualStep:
    """Return what to do where an account's own properties show that exports cannot be written there.

    `function_too`: the account's network rules refuse the function as well.
    """
    also = (_admit_function(account),) if function_too else ()
    what = f"exports cannot be written to storage account {account}: {why}"
    return ManualStep(what, (*_admit_exports(account), *also), EXPORTS_DOC)


def _admit_exports(account: str) -> tuple[str, ...]:
    return (
        (
            f"Deploy with EXPORT_IDENTITY=system (export_identity = true), and on {account} allow trusted Microsoft "
            "services (bypass AzureServices) and set 'Permitted scope for copy operations' to 'From any storage "
            "account'."
        ),
        f"Or open {account} to all networks: exports come from no address that can be listed.",
    )


def _admit_function(account: str) -> str:
    return (
        f"Admit the function's network on {account} (portal: the account, Networking): its virtual network and subnet, "
        "a private endpoint that it reaches, or its outbound addresses."
    )


def storage_network_closed(refusal: Refusal) -> ManualStep:
    """Return what to do where a storage account's network rules keep the function out; a role changes nothing."""
    account = refusal.host.partition(".")[0] or "named"
    return ManualStep(
        f"the network rules of storage account {account} refuse the function: {refusal.said}",
        (
            _admit_function(account),
            "No role is missing. See as well whether a policy closed public network access on the account.",
        ),
        NETWORK_DOC,
    )


def storage_role_missing(refusal: Refusal) -> ManualStep:
    """Return what to do where the function has no role for the data of a storage account."""
    account = refusal.host.partition(".")[0] or "named"
    return ManualStep(
        f"the function may not use the blobs of storage account {account}: {refusal.said}",
        (
            (
                f"Assign the function's identity a role on {account}: Storage Blob Data Contributor on the host's "
                "account, Storage Blob Data Reader on a destination; applying the deployment again does."
            ),
        ),
        BLOB_ROLES_DOC,
    )


def container_immutable(refusal: Refusal) -> ManualStep:
    """Return what to do where a policy forbids to overwrite or delete blobs."""
    return _immutable(f"an immutability policy forbids to overwrite blobs: {refusal.said}")


def destination_immutable(where: str, held: str) -> ManualStep:
    """Return what to do where exports could not replace what they delivered the day before."""
    return _immutable(f"{where} has {held}: exports replace their files every day, and cannot there")


def _immutable(what: str) -> ManualStep:
    return ManualStep(
        what,
        (
            (
                "Remove the policy or legal hold from the container (portal: the container, Access policy). A locked "
                "policy stays until it ends: then set DESTINATION_CONTAINER or DESTINATION to another place."
            ),
        ),
        IMMUTABLE_DOC,
    )


def destination_expires(account: str, rules: Mapping[str, str]) -> ManualStep:
    """Return what to do where lifecycle rules take exports away; `rules` says what each one does."""
    told = "; ".join(f"rule {name} {does}" for name, does in sorted(rules.items()))
    return ManualStep(
        f"lifecycle management of storage account {account} takes exports away before they can be read: {told}",
        (
            (
                f"Limit the rule to other prefixes, or lengthen it (portal: {account}, Data management, Lifecycle "
                "management). What it has deleted comes back with BACKFILL_MONTHS, or with one execution of the export."
            ),
        ),
        LIFECYCLE_DOC,
    )


def destination_archived(account: str, container: str, count: int, example: str) -> ManualStep:
    """Return what to do where deliveries that have to be read lie in the archive tier, which cannot be read.

    Source: "Blob rehydration from the archive tier", Azure Storage documentation.
    """
    return ManualStep(
        f"{count} blobs that exports delivered for this month or the last one lie in the archive tier of storage "
        f"account {account}, where they cannot be read, for example {example}",
        (
            (
                "Bring them back, which takes up to 15 hours: az storage blob set-tier --auth-mode login "
                f'--account-name {account} --container-name {container} --tier Hot --name "{example}", and so on for '
                "the others."
            ),
            (
                "Find what archives them, such as a lifecycle rule, a storage task or a script, and limit it to blobs "
                "that are older than 62 days."
            ),
        ),
        ARCHIVE_DOC,
    )


def role_assignments_full(_: Refusal) -> ManualStep:
    """Return what to do at 4,000 role assignments."""
    return ManualStep(
        "the destination's subscription has no room for another role assignment (4,000 at most)",
        ("Deploy one more storage account in another subscription and add it to DESTINATION; what works stays.",),
        LIMITS_DOC,
    )


def no_data(refusal: Refusal) -> ManualStep:
    """Return what to do where a subscription stays without cost data."""
    return ManualStep(
        f"Cost Management still has no data for this subscription: {refusal.said}",
        ("See whether its offer is supported by Cost Management; if not, add it to EXCLUDE_SUBSCRIPTIONS.",),
        OFFERS_DOC,
    )


def linked_rights_missing(refusal: Refusal) -> ManualStep:
    """Return what to do where a right on the destination is missing."""
    return ManualStep(
        f"the function lacks a right on what its exports refer to: {refusal.said}",
        ("Grant the action named there on the destination storage account (the deployment does).",),
        EXPORTS_DOC,
    )


def export_foreign(key: Key, actual: Mapping[str, Any]) -> ManualStep:
    """Return what to do where another owner has an export of our name."""
    where = f"{actual['destination']}, container {actual['container']}, folder {actual['folder'] or '(none)'}"
    return ManualStep(
        f"an export named {key.name} exists that is not ours: it delivers to {where}; it was left alone",
        ("Recreate it under another name, or delete it; the next run then creates ours.",),
        PORTAL,
    )
