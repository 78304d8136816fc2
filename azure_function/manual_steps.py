"""Manual steps of Azure: what is wrong, what a person must do, and where Microsoft describes it.

The module is long because it is one list of texts; together they keep one wording.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
    """An error response of Azure.

    `path` is the path of the request without its query, "" if the SDK does not report it. `wait` is the delay that the
    headers request. `policies` are the Azure Policy assignments in additionalInfo (id → display name).
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
    def summary(self) -> str:
        """Return the response as one sentence: status, code and Azure's message."""
        head = f"Azure returned {self.status}{f' {self.code}' if self.code else ''}"
        return f"{head}: {self.message}" if self.message else f"{head} without a message"

    @property
    def scope(self) -> str:
        """Return the scope of the call: the path up to the Cost Management provider."""
        return self.path.partition("/providers/Microsoft.CostManagement")[0] or self.path


def policy_denied(refusal: Refusal) -> ManualStep:
    """Return the step when an Azure Policy assignment denies the write."""
    names = [f"{name} ({one})" if name else one for one, name in refusal.policies.items()]
    which = f"policy assignment {', '.join(names)}" if names else "an Azure Policy assignment"
    scope = refusal.scope or "the scope in the message"
    exempt = [
        "Create an exemption: az policy exemption create --name tailpipe-exports --exemption-category Waiver "
        f'--scope "{scope}" --policy-assignment "{one}"'
        for one in refusal.policies
    ] or [f"Find the assignment under Policy, Compliance in the portal, and create an exemption for {scope}."]
    return ManualStep(
        f"{which} denies cost exports on {scope}: {refusal.summary}",
        (*exempt, "Alternatively, change the assignment so that it allows Microsoft.CostManagement/exports."),
        POLICY_DOC,
    )


def region_disallowed(refusal: Refusal) -> ManualStep:
    """Return the step when Azure itself, not a policy of the customer, accepts no new resources in a region.

    Only a request with a location can fail like this. An export has a location for its managed identity.
    """
    return ManualStep(
        f"Azure accepts no new resources of {refusal.scope or 'this subscription'} in the requested region: "
        f"{refusal.summary}",
        (
            (
                "Set EXPORT_LOCATION, in the settings of the deployment, to a region that the message allows. It is "
                "the region of the exports' managed identities and may differ from that of the storage account."
            ),
            "Or request access to the region in the portal: Help + support, Service and subscription limits.",
            "Do not look for a missing role or a policy assignment; neither is the cause.",
        ),
        REGION_DOC,
    )


def scope_locked(refusal: Refusal) -> ManualStep:
    """Return the step when a resource lock denies the write."""
    locks = re.findall(r"/subscriptions/[^\s'\",]+", refusal.message.partition("locked")[2])
    where = ", ".join(dict.fromkeys(one.rstrip(".") for one in locks)) or refusal.scope or "the scope in the message"
    return ManualStep(
        f"a read-only lock on {where} denies the write: {refusal.summary}",
        (
            f"List the locks: az lock list --query \"[?level=='ReadOnly']\" (portal: {where}, Settings, Locks).",
            "Delete the ReadOnly lock, or replace it with a CanNotDelete lock, which allows exports.",
        ),
        LOCKS_DOC,
    )


def account_disabled(refusal: Refusal) -> ManualStep:
    """Return the step when a storage account is disabled with its subscription."""
    account = refusal.host.partition(".")[0] or "the destination"
    return ManualStep(
        f"storage account {account} is unavailable because its subscription is disabled: {refusal.summary}",
        (
            (
                f"Reactivate the subscription of {account} (portal: Subscriptions, Reactivate). Its owner sees there "
                "whether a spending limit, an unpaid bill or a cancellation is the cause."
            ),
            "Alternatively, set DESTINATION to a storage account in an enabled subscription.",
        ),
        REACTIVATE_DOC,
    )


def destination_disabled(account: str, subscription: str, state: str) -> ManualStep:
    """Return the step when the subscription of a destination is not enabled."""
    return ManualStep(
        f"exports cannot be written to storage account {account} in DESTINATION: its subscription {subscription} is "
        f"{state}",
        (
            f"Reactivate subscription {subscription} (portal: Subscriptions, {subscription}, Reactivate).",
            "Alternatively, set DESTINATION to a storage account in an enabled subscription.",
        ),
        REACTIVATE_DOC,
    )


def subscription_disabled(refusal: Refusal) -> ManualStep:
    """Return the step when a subscription is read-only."""
    found = re.search(_ID, refusal.message) or re.search(_ID, refusal.path)
    which = found.group() if found else "in the message"
    return ManualStep(
        f"subscription {which} is disabled and read-only: {refusal.summary}",
        (
            (
                f"Reactivate it (portal: Subscriptions, {which}, Reactivate). If it is not needed, do nothing: once "
                "Azure lists it as Disabled, the function skips it."
            ),
        ),
        REACTIVATE_DOC,
    )


def costs_hidden(refusal: Refusal) -> ManualStep:
    """Return the step when the administrator of an agreement hides its charges."""
    low = refusal.message.lower()
    enrollment = (
        "Enterprise Agreement: the enterprise administrator opens Cost Management + Billing in the portal, selects the "
        "billing account (enrollment), Settings, Policies, and turns on 'Account owners can view charges' "
        "(AO View Charges) and 'Department admins can view charges' (DA View Charges)."
    )
    partner = (
        "Cloud Solution Provider: the partner (Admin agent) opens Cost Management + Billing in the partner's tenant, "
        "selects Customers, this customer, Settings, Policies, and sets Azure usage to Yes."
    )
    indirect = (
        "Indirect Enterprise Agreement: the partner publishes the prices (markup) of the enrollment. Until then, Cost "
        "Management shows no costs."
    )
    then = "The next run creates the export."
    if refusal.code == "IndirectCostDisabled":
        return ManualStep(
            f"the partner has not published prices: {refusal.summary}", (indirect, partner, then), CHARGES_DOC
        )
    if refusal.code == "DepartmentCostDisabled" or any(
        one in low for one in ("view charges", "enrollment", "account admin")
    ):
        return ManualStep(
            f"the enterprise agreement hides its charges: {refusal.summary}", (enrollment, then), CHARGES_DOC
        )
    if "partner" in low or "csp" in low:
        return ManualStep(
            f"the partner has not enabled cost visibility: {refusal.summary}", (partner, then), PARTNER_DOC
        )
    return ManualStep(
        f"the administrator of the agreement hides its charges: {refusal.summary}",
        (enrollment, partner, then),
        CHARGES_DOC,
    )


def subscription_restricted(refusal: Refusal) -> ManualStep:
    """Return the step when a subscription must not use Cost Management."""
    return ManualStep(
        f"{refusal.scope or 'the subscription'} is not allowed to use Microsoft.CostManagement: {refusal.summary}",
        (
            (
                "Ask the billing owner of the subscription to open a support request (type: Subscription management) "
                "that removes the restriction, or to move the subscription to another offer."
            ),
            "If the subscription has no costs, add it to EXCLUDE_SUBSCRIPTIONS.",
        ),
        STATES_DOC,
    )


def keys_disabled(_: Refusal | None = None) -> ManualStep:
    """Return the step when exports write with the account key and the account disallows key access."""
    return ManualStep(
        "the storage account disallows key access, and exports without a managed identity write with the account key",
        (
            "Deploy with EXPORT_IDENTITY=system, so that exports write with their own managed identity.",
            "Alternatively, allow storage account key access on the destination account (not on the host storage).",
        ),
        EXPORTS_DOC,
    )


def billing_role_missing(refusal: Refusal) -> ManualStep:
    """Return the step when the function lacks a role on a billing scope."""
    return ManualStep(
        f"the function has no access to this billing scope: {refusal.summary}",
        ("Assign the function's identity the role EnrollmentReader or DepartmentReader of the Enterprise Agreement.",),
        EA_DOC,
    )


def storage_rights_missing(_: Refusal) -> ManualStep:
    """Return the step when the function may not assign an export's identity its role."""
    return ManualStep(
        "the function is not allowed to assign an export's identity its role on the storage account",
        (
            (
                "Apply the deployment again with EXPORT_IDENTITY=system. It grants the function's identity "
                "Microsoft.Authorization/permissions/read and roleAssignments/read, write and delete on the "
                "destination storage account."
            ),
        ),
        EXPORTS_DOC,
    )


def storage_behind_firewall(_: Refusal) -> ManualStep:
    """Return the step when the storage firewall blocks the exports service."""
    what = "the exports service cannot reach the storage account, most likely because of its firewall"
    return ManualStep(what, _admit_exports("the account"), EXPORTS_DOC)


def storage_closed(account: str, why: str, *, function_too: bool) -> ManualStep:
    """Return the step when the properties of a storage account show that exports cannot be written to it.

    `function_too`: the network rules of the account block the function as well.
    """
    also = (_admit_function(account),) if function_too else ()
    what = f"exports cannot be written to storage account {account}: {why}"
    return ManualStep(what, (*_admit_exports(account), *also), EXPORTS_DOC)


def _admit_exports(account: str) -> tuple[str, ...]:
    return (
        (
            f"Deploy with EXPORT_IDENTITY=system (export_identity = true). On {account}, allow trusted Microsoft "
            "services (bypass AzureServices) and set 'Permitted scope for copy operations' to 'From any storage "
            "account'."
        ),
        f"Alternatively, open {account} to all networks. The exports service has no fixed addresses to allow.",
    )


def _admit_function(account: str) -> str:
    return (
        f"Allow the function's network on {account} (portal: the account, Networking): its subnet, a private endpoint "
        "in its virtual network, or its outbound addresses."
    )


def storage_network_closed(refusal: Refusal) -> ManualStep:
    """Return the step when the network rules of a storage account block the function; a role does not help."""
    account = refusal.host.partition(".")[0] or "in the message"
    return ManualStep(
        f"the network rules of storage account {account} block the function: {refusal.summary}",
        (
            _admit_function(account),
            "Do not look for a missing role. Check whether a policy disabled public network access on the account.",
        ),
        NETWORK_DOC,
    )


def storage_role_missing(refusal: Refusal) -> ManualStep:
    """Return the step when the function has no data role on a storage account."""
    account = refusal.host.partition(".")[0] or "in the message"
    return ManualStep(
        f"the function has no access to the blobs of storage account {account}: {refusal.summary}",
        (
            (
                f"Apply the deployment again, or assign the function's identity a role on {account}: Storage Blob Data "
                "Contributor on the host's account, Storage Blob Data Reader on a destination."
            ),
        ),
        BLOB_ROLES_DOC,
    )


def container_immutable(refusal: Refusal) -> ManualStep:
    """Return the step when an immutability policy prevents overwriting blobs."""
    return _immutable(f"an immutability policy prevents overwriting blobs: {refusal.summary}")


def destination_immutable(where: str, held: str) -> ManualStep:
    """Return the step when exports cannot replace the files of the day before."""
    return _immutable(f"{where} has {held}, but exports must replace their files every day")


def _immutable(what: str) -> ManualStep:
    return ManualStep(
        what,
        (
            (
                "Remove the policy or legal hold from the container (portal: the container, Access policy). A locked "
                "policy cannot be removed; in that case set DESTINATION_CONTAINER or DESTINATION to another "
                "container or account."
            ),
        ),
        IMMUTABLE_DOC,
    )


def destination_expires(account: str, rules: Mapping[str, str]) -> ManualStep:
    """Return the step when lifecycle rules delete or archive exports; `rules` maps each rule to what it does."""
    effects = "; ".join(f"rule {name} {does}" for name, does in sorted(rules.items()))
    return ManualStep(
        f"lifecycle rules of storage account {account} delete or archive exports before they can be read: {effects}",
        (
            (
                f"Limit the rule to other prefixes, or increase its days (portal: {account}, Data management, "
                "Lifecycle management). To restore deleted months, run `tailpipe-exports backfill azure --missing`."
            ),
        ),
        LIFECYCLE_DOC,
    )


def destination_archived(account: str, container: str, count: int, example: str) -> ManualStep:
    """Return the step when recent deliveries are in the archive tier, which cannot be read.

    Source: "Blob rehydration from the archive tier", Azure Storage documentation.
    """
    return ManualStep(
        f"{count} blobs of this month or the last one are in the archive tier of storage account {account}, where they "
        f"cannot be read, for example {example}",
        (
            (
                "Rehydrate them, which takes up to 15 hours: az storage blob set-tier --auth-mode login "
                f'--account-name {account} --container-name {container} --tier Hot --name "{example}"; '
                "repeat this for the other blobs."
            ),
            (
                "Find what archives them, such as a lifecycle rule, a storage task or a script. Limit it to blobs "
                "older than 62 days."
            ),
        ),
        ARCHIVE_DOC,
    )


def role_assignments_full(_: Refusal) -> ManualStep:
    """Return the step when a subscription has reached 4,000 role assignments."""
    return ManualStep(
        "the destination's subscription has reached the limit of 4,000 role assignments",
        ("Deploy another storage account in another subscription and add it to DESTINATION. Existing exports stay.",),
        LIMITS_DOC,
    )


def no_data(refusal: Refusal) -> ManualStep:
    """Return the step when a subscription still has no cost data."""
    return ManualStep(
        f"Cost Management still has no data for this subscription: {refusal.summary}",
        ("Check whether Cost Management supports its offer. If not, add it to EXCLUDE_SUBSCRIPTIONS.",),
        OFFERS_DOC,
    )


def linked_rights_missing(refusal: Refusal) -> ManualStep:
    """Return the step when a permission on a linked resource is missing."""
    return ManualStep(
        f"the function lacks a permission on a resource that its exports use: {refusal.summary}",
        ("Apply the deployment again, or grant the action in the message on the destination storage account.",),
        EXPORTS_DOC,
    )


def export_foreign(key: Key, actual: Mapping[str, Any]) -> ManualStep:
    """Return the step when an export with our name belongs to another owner."""
    where = f"{actual['destination']}, container {actual['container']}, folder {actual['folder'] or '(none)'}"
    return ManualStep(
        f"an export named {key.name} exists and is not managed by Tailpipe Exports; it delivers to {where}",
        ("Recreate it under another name, or delete it. The next run creates the managed one.",),
        PORTAL,
    )


def folder_shared(key: Key, others: Sequence[str], folder: str) -> ManualStep:
    """Return the step when exports of others deliver the same data to the folder of the export `key`."""
    names = ", ".join(others)
    return ManualStep(
        f"{names} delivers the data of {key.name} to the same folder, {folder}: with both, costs count twice",
        (
            f"Let {names} deliver to another folder, or delete it; delete also what it has delivered to this one.",
            f"The function does not change it. Where {key.name} does not exist, the next run then creates it.",
        ),
        PORTAL,
    )
