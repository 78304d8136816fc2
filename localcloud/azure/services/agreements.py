"""The types of offers: the exports that each allows, and the exports service's errors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """One type of offer.

    `name` is the local cloud's name for it and `agreement_type` Cost Management's. `quota_id` is the value that the
    subscription shows, which is only a hint because several agreements share it. `types` are the allowed export types.
    `takes_apps` is whether an application can create exports. `refusal` is the status, code and message of the error
    if the offer has no cost data for exports.
    """

    name: str
    agreement_type: str
    quota_id: str
    types: frozenset[str]
    takes_apps: bool = True
    refusal: tuple[int, str, str] | None = None


COSTS_HIDDEN = (
    "Access to cost data has been disabled for account admins. To enable costs, 'AO View Charges' must be enabled on "
    "the enrollment."
)
_ALL = frozenset({"Usage", "ActualCost", "AmortizedCost", "FocusCost"})
_USAGE = frozenset({"Usage"})
_UNSUPPORTED = (400, "400", "Cost management data is not supported for subscription(s) {subscription}.")

AGREEMENTS: dict[str, Agreement] = {
    agreement.name: agreement
    for agreement in (
        Agreement("ea", "EnterpriseAgreement", "EnterpriseAgreement_2014-09-01", _ALL),
        Agreement("ea-devtest", "EnterpriseAgreement", "MSDNDevTest_2014-09-01", _ALL),
        Agreement(
            "ea-hidden",
            "EnterpriseAgreement",
            "EnterpriseAgreement_2014-09-01",
            _ALL,
            refusal=(400, "AccountCostDisabled", COSTS_HIDDEN),
        ),
        Agreement("mca", "MicrosoftCustomerAgreement", "EnterpriseAgreement_2014-09-01", _ALL),
        Agreement("mca-individual", "MicrosoftCustomerAgreement", "PayAsYouGo_2014-09-01", _ALL, takes_apps=False),
        Agreement("webdirect", "WebDirect", "PayAsYouGo_2014-09-01", _USAGE),
        Agreement("payg", "WebDirect", "PayAsYouGo_2014-09-01", _USAGE, takes_apps=False),
        Agreement("msdn", "WebDirect", "MSDN_2014-09-01", _USAGE),
        Agreement(
            "csp",
            "MicrosoftPartnerAgreement",
            "CSP_2015-05-01",
            _ALL,
            refusal=(401, "AccountCostDisabled", "Access to cost data has been disabled for this account."),
        ),
        Agreement("sponsored", "Sponsored", "Sponsored_2016-01-01", _USAGE, refusal=_UNSUPPORTED),
        Agreement("students", "AzureForStudents", "AzureForStudents_2018-01-01", _USAGE, refusal=_UNSUPPORTED),
    )
}


def type_refusal(agreement: Agreement, wanted: str) -> str:
    """Return the reason why the agreement rejects an export of the type `wanted`, or "" if it does not."""
    if wanted in agreement.types:
        return ""
    if wanted == "FocusCost":
        return f"Export type: FocusCost is not supported for Agreement Type: {agreement.agreement_type}"
    valid = ", ".join(sorted(agreement.types))
    return f"Invalid definition type '{wanted}'; valid values: '{valid}'"
