"""The kinds of offers: what each may export, and the refusals of the exports service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """One kind of offer.

    `name` is the local cloud's word for it, `agreement_type` Cost Management's, `quota_id` what the subscription
    shows (only a hint: several agreements share one). `types` are the export types it allows. `takes_apps`: whether an
    app may create exports at all. `refusal`: status, code and message where the offer has no cost data for exports.
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
    """Return why the agreement refuses an export of the type `wanted`; empty if it does not."""
    if wanted in agreement.types:
        return ""
    if wanted == "FocusCost":
        return f"Export type: FocusCost is not supported for Agreement Type: {agreement.agreement_type}"
    valid = ", ".join(sorted(agreement.types))
    return f"Invalid definition type '{wanted}'; valid values: '{valid}'"
