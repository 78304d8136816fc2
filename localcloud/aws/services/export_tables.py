"""The tables Data Exports offers: their columns, their properties and how many exports of each an account may have.

Source: AWS Data Exports user guide, "Data Exports table dictionary" and "Quotas and restrictions".
"""

from __future__ import annotations

from dataclasses import dataclass, field

_BOOLEAN = ("TRUE", "FALSE")


@dataclass(frozen=True)
class Property:
    """A table property; no `values` means any text."""

    name: str
    values: tuple[str, ...]
    default: str
    description: str


@dataclass(frozen=True)
class Table:
    """`gated` names the property that must be TRUE for a column to exist; `kinds` the columns that are not strings."""

    name: str
    description: str
    quota: int
    columns: tuple[str, ...]
    properties: tuple[Property, ...] = ()
    gated: dict[str, str] = field(default_factory=dict)
    injected: tuple[str, ...] = ()

    def property(self, name: str) -> Property | None:
        return next((item for item in self.properties if item.name == name), None)

    def columns_with(self, chosen: dict[str, str]) -> list[str]:
        """Return the columns that exist under these property values, defaults filled in."""

        def on(name: str) -> bool:
            known = self.property(name)
            return chosen.get(name, known.default if known else "FALSE") == "TRUE"

        gates = [(prefix, gate) for prefix, gate in self.gated.items() if not on(gate)]
        return [name for name in self.columns if not any(name.startswith(prefix) for prefix, _ in gates)]

    def kind(self, column: str) -> str:
        """Return the column's data type, as GetTable names it."""
        lower = column.lower()
        if column in (
            "cost_category",
            "discount",
            "product",
            "resource_tags",
            "tags",
            "Tags",
            "SkuPriceDetails",
        ):
            return "map"
        if column in ("x_Discounts", "x_CostCategories"):
            return "map"
        if lower.endswith(("_date", "_timestamp", "periodend", "periodstart", "period_start", "period_end")):
            return "timestamp"
        if lower.endswith(("cost", "_value", "_fee", "unitprice", "quantity", "_discount", "_usage", "_ratio")):
            return "double"
        return "string"


def _words(prefix: str, names: str) -> tuple[str, ...]:
    return tuple(prefix + name for name in names.split())


_GRANULARITY = Property("TIME_GRANULARITY", ("HOURLY", "DAILY", "MONTHLY"), "HOURLY", "The time unit of a line.")

_CUR2 = (
    *_words(
        "bill_",
        """bill_type billing_entity billing_period_end_date billing_period_start_date invoice_id invoicing_entity
        payer_account_id payer_account_name""",
    ),
    *_words("capacity_reservation_capacity_reservation_", "arn status type"),
    *_words("", "cost_category discount discount_bundled_discount discount_total_discount"),
    *_words("identity_", "line_item_id time_interval"),
    *_words(
        "line_item_",
        """availability_zone blended_cost blended_rate currency_code iam_principal legal_entity
        line_item_description line_item_type net_unblended_cost net_unblended_rate normalization_factor
        normalized_usage_amount operation product_code resource_id tax_type unblended_cost unblended_rate
        usage_account_id usage_account_name usage_amount usage_end_date usage_start_date usage_type
        user_identifier""",
    ),
    *_words(
        "pricing_",
        """currency lease_contract_length offering_class public_on_demand_cost public_on_demand_rate
        purchase_option rate_code rate_id term unit""",
    ),
    "product",
    *_words(
        "product_",
        """comment fee_code fee_description from_location from_location_type from_region_code instance_family
        instance_type instancesku location location_type operation pricing_unit product_family region_code
        servicecode sku to_location to_location_type to_region_code usagetype""",
    ),
    *_words(
        "reservation_",
        """amortized_upfront_cost_for_usage amortized_upfront_fee_for_billing_period availability_zone
        effective_cost end_time modification_status net_amortized_upfront_cost_for_usage
        net_amortized_upfront_fee_for_billing_period net_effective_cost net_recurring_fee_for_usage
        net_unused_amortized_upfront_fee_for_billing_period net_unused_recurring_fee net_upfront_value
        normalized_units_per_reservation number_of_reservations recurring_fee_for_usage reservation_a_r_n
        start_time subscription_id total_reserved_normalized_units total_reserved_units units_per_reservation
        unused_amortized_upfront_fee_for_billing_period unused_normalized_unit_quantity unused_quantity
        unused_recurring_fee upfront_value""",
    ),
    "resource_tags",
    *_words(
        "savings_plan_",
        """amortized_upfront_commitment_for_billing_period end_time instance_type_family
        net_amortized_upfront_commitment_for_billing_period net_recurring_commitment_for_billing_period
        net_savings_plan_effective_cost offering_type payment_option purchase_term
        recurring_commitment_for_billing_period region savings_plan_a_r_n savings_plan_effective_cost
        savings_plan_rate start_time total_commitment_to_date used_commitment""",
    ),
    *_words(
        "split_line_item_",
        """actual_usage net_split_cost net_unused_cost parent_resource_id public_on_demand_split_cost
        public_on_demand_unused_cost reserved_usage split_cost split_usage split_usage_ratio unused_cost""",
    ),
    "tags",
)

_FOCUS_1_0 = _words(
    "",
    """AvailabilityZone BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd
    BillingPeriodStart ChargeCategory ChargeClass ChargeDescription ChargeFrequency ChargePeriodEnd
    ChargePeriodStart CommitmentDiscountCategory CommitmentDiscountId CommitmentDiscountName
    CommitmentDiscountStatus CommitmentDiscountType ConsumedQuantity ConsumedUnit ContractedCost
    ContractedUnitPrice EffectiveCost InvoiceIssuerName ListCost ListUnitPrice PricingCategory PricingQuantity
    PricingUnit ProviderName PublisherName RegionId RegionName ResourceId ResourceName ResourceType
    ServiceCategory ServiceName SkuId SkuPriceId SubAccountId SubAccountName Tags x_CostCategories x_Discounts
    x_Operation x_ServiceCode x_UsageType""",
)

_FOCUS_1_2 = _words(
    "",
    """AvailabilityZone BilledCost BillingAccountId BillingAccountName BillingAccountType BillingCurrency
    BillingPeriodEnd BillingPeriodStart CapacityReservationId CapacityReservationStatus ChargeCategory ChargeClass
    ChargeDescription ChargeFrequency ChargePeriodEnd ChargePeriodStart CommitmentDiscountCategory
    CommitmentDiscountId CommitmentDiscountName CommitmentDiscountQuantity CommitmentDiscountStatus
    CommitmentDiscountType CommitmentDiscountUnit ConsumedQuantity ConsumedUnit ContractedCost
    ContractedUnitPrice EffectiveCost InvoiceId InvoiceIssuerName ListCost ListUnitPrice PricingCategory
    PricingCurrency PricingCurrencyContractedUnitPrice PricingCurrencyEffectiveCost PricingCurrencyListUnitPrice
    PricingQuantity PricingUnit ProviderName PublisherName RegionId RegionName ResourceId ResourceName
    ResourceType ServiceCategory ServiceName ServiceSubcategory SkuId SkuMeter SkuPriceDetails SkuPriceId
    SubAccountId SubAccountName SubAccountType Tags x_Discounts x_Operation x_ServiceCode""",
)

_CARBON = (
    *_words("", "last_refresh_timestamp location model_version payer_account_id product_code region_code"),
    *_words(
        "total_",
        """lbm_emissions_unit lbm_emissions_value mbm_emissions_unit mbm_emissions_value
        scope_1_emissions_unit scope_1_emissions_value scope_2_lbm_emissions_unit scope_2_lbm_emissions_value
        scope_2_mbm_emissions_unit scope_2_mbm_emissions_value scope_3_lbm_emissions_unit
        scope_3_lbm_emissions_value scope_3_mbm_emissions_unit scope_3_mbm_emissions_value""",
    ),
    *_words("usage_", "account_id period_end period_start"),
)

_RECOMMENDATIONS = _words(
    "",
    """account_id account_name action_type currency_code current_resource_details current_resource_summary
    current_resource_type estimated_monthly_cost_after_discount estimated_monthly_cost_before_discount
    estimated_monthly_savings_after_discount estimated_monthly_savings_before_discount
    estimated_savings_percentage_after_discount estimated_savings_percentage_before_discount
    implementation_effort last_refresh_timestamp recommendation_id recommendation_lookback_period_in_days
    recommendation_source recommended_resource_details recommended_resource_summary recommended_resource_type
    region resource_arn restart_needed rollback_possible tags""",
)

TABLES = {
    table.name: table
    for table in (
        Table(
            "COST_AND_USAGE_REPORT",
            "Cost and Usage Report (CUR) 2.0",
            5,
            _CUR2,
            (
                Property("BILLING_VIEW_ARN", (), "", "The billing view the data is taken from."),
                Property("INCLUDE_CAPACITY_RESERVATION_DATA", _BOOLEAN, "FALSE", "Capacity reservation columns."),
                Property("INCLUDE_IAM_PRINCIPAL_DATA", _BOOLEAN, "FALSE", "The IAM principal of a line."),
                Property("INCLUDE_MANUAL_DISCOUNT_COMPATIBILITY", _BOOLEAN, "FALSE", "Bundled discounts as lines."),
                Property("INCLUDE_RESOURCES", _BOOLEAN, "FALSE", "One line for each resource."),
                Property("INCLUDE_SPLIT_COST_ALLOCATION_DATA", _BOOLEAN, "FALSE", "Container cost lines."),
                _GRANULARITY,
            ),
            {
                "line_item_resource_id": "INCLUDE_RESOURCES",
                "split_line_item_": "INCLUDE_SPLIT_COST_ALLOCATION_DATA",
                "line_item_iam_principal": "INCLUDE_IAM_PRINCIPAL_DATA",
                "capacity_reservation_": "INCLUDE_CAPACITY_RESERVATION_DATA",
            },
            ("BILLING_VIEW_ARN", "INCLUDE_MANUAL_DISCOUNT_COMPATIBILITY"),
        ),
        Table("FOCUS_1_2_AWS", "FOCUS 1.2 with AWS columns", 2, _FOCUS_1_2, (_GRANULARITY,)),
        Table("FOCUS_1_0_AWS", "FOCUS 1.0 with AWS columns", 2, _FOCUS_1_0, (_GRANULARITY,)),
        Table("CARBON_EMISSIONS", "Carbon emissions", 2, _CARBON),
        Table(
            "COST_OPTIMIZATION_RECOMMENDATIONS",
            "Cost optimization recommendations",
            2,
            _RECOMMENDATIONS,
            (
                Property("FILTER", (), "{}", "Which recommendations, as a JSON document."),
                Property("INCLUDE_ALL_RECOMMENDATIONS", _BOOLEAN, "FALSE", "Also those that exclude each other."),
            ),
        ),
    )
}
