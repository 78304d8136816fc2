"""Holds the local Azure's answers against the models of Microsoft's SDK, which are made from the published API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from azure.mgmt.billing import models as billing
from azure.mgmt.costmanagement import models as cost
from azure.mgmt.managementgroups import models as groups
from azure.mgmt.resource.resources import models as resources
from azure.mgmt.resource.subscriptions import models as subscriptions

from localcloud.azure.api_models import Invalid, normalized
from localcloud.azure.errors import ArmError
from localcloud.common.oracles import oracle

_SUBSCRIPTIONS, _BILLING = "Microsoft.Resources/subscriptions", "Microsoft.Billing/billingAccounts"
# The model of what each operation returns, alone or as the items of a list.
MODELS: Mapping[str, type] = {
    "Microsoft.CostManagement/exports/read": cost.Export,
    "Microsoft.CostManagement/exports/write": cost.Export,
    "Microsoft.Resources/tenants/read": subscriptions.TenantIdDescription,
    f"{_SUBSCRIPTIONS}/read": subscriptions.Subscription,
    f"{_SUBSCRIPTIONS}/providers/read": resources.Provider,
    f"{_SUBSCRIPTIONS}/resourceGroups/read": resources.ResourceGroup,
    f"{_SUBSCRIPTIONS}/resourceGroups/write": resources.ResourceGroup,
    "Microsoft.Management/managementGroups/read": groups.ManagementGroup,
    "Microsoft.Management/managementGroups/descendants/read": groups.DescendantInfo,
    f"{_BILLING}/read": billing.BillingAccount,
    f"{_BILLING}/billingProfiles/read": billing.BillingProfile,
    f"{_BILLING}/enrollmentAccounts/read": billing.EnrollmentAccount,
    f"{_BILLING}/departments/read": billing.Department,
    f"{_BILLING}/departments/enrollmentAccounts/read": billing.EnrollmentAccount,
    f"{_BILLING}/billingSubscriptions/read": billing.BillingSubscription,
    f"{_BILLING}/billingProfiles/billingSubscriptions/read": billing.BillingSubscription,
    f"{_BILLING}/enrollmentAccounts/billingSubscriptions/read": billing.BillingSubscription,
    "Microsoft.Billing/billingProperty/read": billing.BillingProperty,
}


@oracle("Azure SDK models, answers")
def check_answer(action: str, path: str, document: Any) -> None:
    """Raise ArmError (501) for an answer that the published API does not describe.

    A list has only its items and perhaps a link to the next page.
    """
    model = cost.ExportRun if path.lower().endswith("/runhistory") else MODELS.get(action)
    if model is None or document is None:
        return
    listed = isinstance(document, dict) and isinstance(document.get("value"), list)
    unknown = sorted(document.keys() - {"value", "nextLink"}) if listed else []
    fault = f"a list has no members {', '.join(unknown)}" if unknown else ""
    try:
        for item in document["value"] if listed else [document]:
            normalized(model, item, answer=True)
    except Invalid as error:
        fault = str(error)
    if fault:
        raise ArmError(
            501, "NotImplemented", f"The local Azure's answer to {action} is not a valid {model.__name__}: {fault}"
        )
