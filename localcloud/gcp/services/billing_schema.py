"""The columns of Google's billing exports.

Standard and detailed usage cost: https://cloud.google.com/billing/docs/how-to/export-data-bigquery-tables/standard-usage
and …/detailed-usage. Pricing: …/pricing-data. FOCUS: the columns of version 1.0 of the FinOps Open Cost and Usage
Specification that Google fills, plus Google's own columns with the prefix ``x_``.
"""

from __future__ import annotations

from localcloud.common.focus import columns
from localcloud.gcp.services.schema import Field

KINDS = ("standard", "detailed", "pricing", "focus")


def _field(name: str, kind: str = "STRING", *, many: bool = False, of: tuple[Field, ...] = ()) -> Field:
    field: Field = {"name": name, "type": "RECORD" if of else kind, "mode": "REPEATED" if many else "NULLABLE"}
    return field | {"fields": list(of)} if of else field


def _strings(*names: str) -> tuple[Field, ...]:
    return tuple(_field(name) for name in names)


def _times(*names: str) -> tuple[Field, ...]:
    return tuple(_field(name, "TIMESTAMP") for name in names)


_PAIR = _strings("key", "value")
_RESOURCE = _field("resource", of=_strings("name", "global_name"))
_PRICE = _field(
    "price",
    of=(
        _field("effective_price", "NUMERIC"),
        _field("tier_start_amount", "NUMERIC"),
        _field("unit"),
        _field("pricing_unit_quantity", "NUMERIC"),
        _field("list_price", "NUMERIC"),
        _field("effective_price_default", "NUMERIC"),
        _field("list_price_consumption_model", "NUMERIC"),
    ),
)


def _usage(*, detailed: bool) -> list[Field]:
    return [
        _field("billing_account_id"),
        _field("service", of=_strings("id", "description")),
        _field("sku", of=_strings("id", "description")),
        *_times("usage_start_time", "usage_end_time"),
        _field(
            "project",
            of=(
                *_strings("id", "number", "name"),
                _field("labels", many=True, of=_PAIR),
                _field("ancestry_numbers"),
                _field("ancestors", many=True, of=_strings("resource_name", "display_name")),
            ),
        ),
        _field("labels", many=True, of=_PAIR),
        _field("system_labels", many=True, of=_PAIR),
        _field("location", of=_strings("location", "country", "region", "zone")),
        *([_RESOURCE] if detailed else []),
        _field("tags", many=True, of=(*_PAIR, _field("inherited", "BOOLEAN"), _field("namespace"))),
        _field("price", of=tuple(_PRICE["fields"])),
        _field("subscription", of=_strings("instance_id")),
        *_strings("transaction_type", "seller_name"),
        _field("export_time", "TIMESTAMP"),
        _field("cost", "FLOAT"),
        _field("cost_at_list", "FLOAT"),
        _field("currency"),
        _field("currency_conversion_rate", "FLOAT"),
        _field(
            "usage",
            of=(
                _field("amount", "FLOAT"),
                _field("unit"),
                _field("amount_in_pricing_units", "FLOAT"),
                _field("pricing_unit"),
            ),
        ),
        _field(
            "credits",
            many=True,
            of=(_field("name"), _field("amount", "FLOAT"), *_strings("full_name", "id", "type")),
        ),
        _field("invoice", of=_strings("month", "publisher_type")),
        _field("cost_type"),
        _field("adjustment_info", of=_strings("id", "description", "mode", "type")),
        _field("cost_at_effective_price_default", "FLOAT"),
        _field("cost_at_list_consumption_model", "FLOAT"),
        _field("consumption_model", of=_strings("id", "description")),
    ]


_AGGREGATION = _field("aggregation_info", of=_strings("aggregation_level", "aggregation_interval"))
_RATES = _field(
    "tiered_rates",
    many=True,
    of=tuple(
        _field(name, "NUMERIC")
        for name in ("pricing_unit_quantity", "start_usage_amount", "usd_amount", "account_currency_amount")
    ),
)

_PRICING: list[Field] = [
    *_times("export_time", "pricing_as_of_time"),
    *_strings("billing_account_id", "billing_account_name", "business_entity_name"),
    _field("service", of=_strings("id", "description")),
    _field("sku", of=(*_strings("id", "description"), _field("destination_migration_mappings", many=True))),
    _field("product_taxonomy", many=True),
    _field("geo_taxonomy", of=(_field("type"), _field("regions", many=True))),
    *_strings("pricing_unit", "pricing_unit_description", "account_currency_code"),
    _field("currency_conversion_rate", "FLOAT"),
    _field("list_price", of=(_AGGREGATION, _RATES)),
    _field("billing_account_price", of=(_field("price_info", of=_strings("price_reason")), _AGGREGATION, _RATES)),
]

# Texts in FOCUS, but another type in Google's tables.
_FOCUS_TYPES = {"Cost": "NUMERIC", "Price": "NUMERIC", "Quantity": "NUMERIC", "Start": "TIMESTAMP", "End": "TIMESTAMP"}
_FOCUS: list[Field] = [
    *(
        _field(name, next((kind for end, kind in _FOCUS_TYPES.items() if name.endswith(end)), "STRING"))
        for name in columns("1.0")
        if name != "Tags"
    ),
    _field("Tags", many=True, of=_PAIR),
    _field("x_ExportTime", "TIMESTAMP"),
]

SCHEMAS: dict[str, list[Field]] = {
    "standard": _usage(detailed=False),
    "detailed": _usage(detailed=True),
    "pricing": _PRICING,
    "focus": _FOCUS,
}


def table_name(kind: str, account: str) -> str:
    """Return the name of the table to which Google exports one kind of an account's data."""
    suffix = account.replace("-", "_")
    return {
        "standard": f"gcp_billing_export_v1_{suffix}",
        "detailed": f"gcp_billing_export_resource_v1_{suffix}",
        "pricing": "cloud_pricing_export",
        "focus": f"gcp_billing_export_focus_{suffix}",
    }[kind]
