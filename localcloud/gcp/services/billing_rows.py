"""Billing rows in Google's schema, the same for the same seed; DuckDB makes them, to be fast.

Every row of usage carries a label ``row`` with a value that no other row of its table has, so that a copy can be
proven complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from localcloud.gcp.services.schema import literal, to_micros

# Some of Google's public SKUs: service id and name, SKU id and name, unit, pricing unit, quotient, price in USD.
_SKUS = (
    ("6F81-5844-456A", "Compute Engine", "2E27-4F75-95CD", "N1 Predefined Instance Core", "seconds", "hour", 3600, 0.03),
    ("6F81-5844-456A", "Compute Engine", "D973-5D65-BAB2", "Storage PD Capacity", "byte-seconds", "gibibyte month", 2.8e15, 0.04),
    ("95FF-2EF5-5EA1", "Cloud Storage", "E5F0-6A5D-7BAD", "Standard Storage US Multi-region", "byte-seconds", "gibibyte month", 2.8e15, 0.026),
    ("24E6-581D-38E5", "BigQuery", "1FBA-25E9-A3B1", "Analysis (us)", "bytes", "tebibyte", 1.1e12, 6.25),
    ("152E-C115-5142", "Cloud Run", "A305-1B19-9E5F", "CPU Allocation Time", "seconds", "second", 1, 0.000024),
    ("5490-F7B7-8DF6", "Cloud Logging", "143F-A1B0-E0BE", "Log Storage cost", "bytes", "gibibyte", 1.07e9, 0.5),
)  # fmt: skip
_REGIONS = ("us-central1", "europe-west1", "europe-west4", "asia-northeast1")


@dataclass(frozen=True)
class Batch:
    """Rows that arrive together in one table: `count` of them in the partition `day`, numbered from `first`.

    `export_time` is when the first is written, each next one a millisecond later. `buffered`: they are streamed, and
    have no partition yet.
    """

    table: int
    account: str
    currency: str
    day: date
    first: int
    count: int
    export_time: datetime
    buffered: bool = False


def select(kind: str, batches: Sequence[Batch], seed: int) -> tuple[str, dict[str, Any]]:
    """Return the query that makes the rows of these batches, with the hidden columns, and its parameters.

    The batches are parameters, since DuckDB is slow to parse thousands of rows of values.
    """
    parameters: dict[str, Any] = {
        "tables": [batch.table for batch in batches],
        "accounts": [batch.account for batch in batches],
        "currencies": [batch.currency for batch in batches],
        "days": [batch.day for batch in batches],
        "firsts": [batch.first for batch in batches],
        "counts": [batch.count for batch in batches],
        "times": [to_micros(batch.export_time) for batch in batches],
        "buffered": [batch.buffered for batch in batches],
    }
    skus = ", ".join(
        f"({index}, {{'sid': {literal(sid)}, 'service': {literal(service)}, 'id': {literal(sku)}, "
        f"'name': {literal(name)}, 'unit': {literal(unit)}, 'pricing_unit': {literal(pricing)}, "
        f"'quotient': {quotient}::DOUBLE, 'price': {price}::DOUBLE}})"
        for index, (sid, service, sku, name, unit, pricing, quotient, price) in enumerate(_SKUS)
    )
    regions = ", ".join(f"({index}, {literal(region)})" for index, region in enumerate(_REGIONS))
    query = f"""
    WITH batches AS (
        SELECT unnest($tables) AS _table, unnest($accounts) AS account, unnest($currencies) AS currency,
            unnest($days) AS day, unnest($firsts) AS first_row, unnest($counts) AS n_rows,
            make_timestamp(unnest($times)) AS written, unnest($buffered) AS buffered
    ),
    skus(sku_index, s) AS (VALUES {skus}),
    regions(region_index, region) AS (VALUES {regions}),
    numbered AS (
        SELECT *, unnest(range(first_row, first_row + n_rows)) AS number FROM batches
    ),
    drawn AS (
        SELECT *, md5_number_lower(concat_ws('/', {seed}, account, number)) AS h,
            written + to_milliseconds(number - first_row) AS export_time,
            CASE WHEN buffered THEN NULL ELSE day::TIMESTAMP END AS _PARTITIONTIME, day AS _due
        FROM numbered
    ),
    base AS (
        SELECT *,
            -- Usage is reported with a delay: it is of this day, or of one of the two before.
            day::TIMESTAMP - to_days((h // 31 % 3)::INTEGER) + to_hours((h // 97 % 24)::INTEGER) AS used_at,
            round((1 + h // 1009 % 1000000)::DOUBLE / 1000, 3) AS amount,
            'project-' || (h // 13 % 5) AS project_id
        FROM drawn JOIN skus ON sku_index = h % {len(_SKUS)} JOIN regions ON region_index = h // 7 % {len(_REGIONS)}
    ),
    priced AS (SELECT *, round(amount * s.price, 6) AS cost FROM base)
    {_COLUMNS[kind]}, _PARTITIONTIME, _table, _due FROM priced ORDER BY _table, day, number
    """
    return query, parameters


_ROW_LABEL = "{'key': 'row', 'value': account || '/' || number}"
_USAGE = f"""
    SELECT account AS billing_account_id,
        {{'id': s.sid, 'description': s.service}} AS service,
        {{'id': s.id, 'description': s.name}} AS sku,
        used_at AS usage_start_time, used_at + INTERVAL 1 HOUR AS usage_end_time,
        {{'id': project_id, 'number': (100000000000 + h // 13 % 5)::VARCHAR, 'name': project_id,
          'labels': [{{'key': 'team', 'value': 'team-' || (h // 17 % 3)}}],
          'ancestry_numbers': '/123456789012/',
          'ancestors': [{{'resource_name': 'organizations/123456789012', 'display_name': 'example.com'}}]}} AS project,
        [{_ROW_LABEL}, {{'key': 'env', 'value': CASE WHEN h % 2 = 0 THEN 'prod' ELSE 'test' END}}] AS labels,
        CASE WHEN s.service = 'Compute Engine'
            THEN [{{'key': 'compute.googleapis.com/machine_spec', 'value': 'n1-standard-4'}}] ELSE [] END AS system_labels,
        {{'location': region, 'country': CASE WHEN region LIKE 'us-%' THEN 'US' ELSE NULL END, 'region': region,
          'zone': region || '-b'}} AS location,
        [{{'key': 'cost-center', 'value': 'cc-' || (h // 19 % 4), 'inherited': true, 'namespace': '123456789012'}}] AS tags,
        {{'effective_price': s.price, 'tier_start_amount': 0, 'unit': s.pricing_unit, 'pricing_unit_quantity': 1,
          'list_price': s.price, 'effective_price_default': s.price, 'list_price_consumption_model': s.price}} AS price,
        {{'instance_id': NULL::VARCHAR}} AS subscription,
        'GOOGLE' AS transaction_type, 'Google' AS seller_name, export_time, cost, cost AS cost_at_list, currency,
        1.0 AS currency_conversion_rate,
        {{'amount': amount * s.quotient, 'unit': s.unit, 'amount_in_pricing_units': amount,
          'pricing_unit': s.pricing_unit}} AS usage,
        CASE WHEN h % 5 = 0 THEN [{{'name': 'Sustained Usage Discount', 'amount': -round(cost / 10, 6),
            'full_name': 'Sustained Usage Discount', 'id': 'Sustained', 'type': 'SUSTAINED_USAGE_DISCOUNT'}}]
            ELSE [] END AS credits,
        {{'month': strftime(used_at, '%Y%m'), 'publisher_type': 'GOOGLE'}} AS invoice,
        CASE WHEN h % 97 = 0 THEN 'rounding_error' ELSE 'regular' END AS cost_type,
        {{'id': NULL::VARCHAR, 'description': NULL::VARCHAR, 'mode': NULL::VARCHAR, 'type': NULL::VARCHAR}} AS adjustment_info,
        cost AS cost_at_effective_price_default, cost AS cost_at_list_consumption_model,
        {{'id': '7754-699E-0EBF', 'description': 'Default'}} AS consumption_model
"""
_RESOURCE = """,
        {'name': 'resource-' || (h // 23 % 50), 'global_name': '//compute.googleapis.com/projects/' || project_id ||
            '/zones/' || region || '-b/instances/' || (h // 23 % 50)} AS resource
"""
_TIER = (
    "[{'pricing_unit_quantity': 1, 'start_usage_amount': 0, 'usd_amount': s.price, 'account_currency_amount': s.price}]"
)
_PRICING = f"""
    SELECT export_time, day::TIMESTAMP AS pricing_as_of_time, account AS billing_account_id,
        'Account ' || account AS billing_account_name, 'GCP' AS business_entity_name,
        {{'id': s.sid, 'description': s.service}} AS service,
        {{'id': s.id, 'description': s.name, 'destination_migration_mappings': []::VARCHAR[]}} AS sku,
        ['GCP', s.service] AS product_taxonomy, {{'type': 'REGIONAL', 'regions': [region]}} AS geo_taxonomy,
        s.pricing_unit AS pricing_unit, s.pricing_unit AS pricing_unit_description, currency AS account_currency_code,
        1.0 AS currency_conversion_rate,
        {{'aggregation_info': {{'aggregation_level': 'ACCOUNT', 'aggregation_interval': 'MONTHLY'}},
          'tiered_rates': {_TIER}}} AS list_price,
        {{'price_info': {{'price_reason': 'DEFAULT_PRICE'}},
          'aggregation_info': {{'aggregation_level': 'ACCOUNT', 'aggregation_interval': 'MONTHLY'}},
          'tiered_rates': {_TIER}}} AS billing_account_price
"""
_FOCUS = f"""
    SELECT account AS BillingAccountId, currency AS BillingCurrency, 'Usage' AS ChargeCategory,
        s.name AS ChargeDescription, 'Google Cloud' AS ProviderName,
        date_trunc('month', used_at) AS BillingPeriodStart,
        date_trunc('month', used_at) + INTERVAL 1 MONTH AS BillingPeriodEnd,
        used_at AS ChargePeriodStart, used_at + INTERVAL 1 HOUR AS ChargePeriodEnd,
        cost AS BilledCost, cost AS EffectiveCost, cost AS ListCost, cost AS ContractedCost, amount AS ConsumedQuantity,
        s.pricing_unit AS ConsumedUnit, region AS RegionId, region AS RegionName,
        '//compute.googleapis.com/projects/' || project_id AS ResourceId, project_id AS ResourceName,
        s.service AS ServiceName, s.id AS SkuId, project_id AS SubAccountId, project_id AS SubAccountName,
        [{_ROW_LABEL}] AS Tags, export_time AS x_ExportTime
"""
_COLUMNS = {"standard": _USAGE, "detailed": _USAGE + _RESOURCE, "pricing": _PRICING, "focus": _FOCUS}
