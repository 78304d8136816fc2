"""The tables of Data Exports: columns, properties, and the quota of exports per account.

Source: AWS Data Exports user guide, "Data Exports table dictionary" and "Quotas and restrictions".
"""

from __future__ import annotations

import msgspec

from localcloud.common.data_file import read_table


class Property(msgspec.Struct, frozen=True):
    """A table property; without `values`, any text is valid."""

    name: str
    values: tuple[str, ...]
    default: str
    description: str


class Table(msgspec.Struct, frozen=True):
    """A table. `gated` maps column prefixes to the property that must be TRUE for those columns to exist."""

    name: str
    description: str
    quota: int
    columns: tuple[str, ...]
    properties: tuple[Property, ...] = ()
    gated: dict[str, str] = {}
    injected: tuple[str, ...] = ()

    def property(self, name: str) -> Property | None:
        return next((item for item in self.properties if item.name == name), None)

    def columns_with(self, chosen: dict[str, str]) -> list[str]:
        """Return the columns for these property values; missing properties have their defaults."""

        def on(name: str) -> bool:
            known = self.property(name)
            return chosen.get(name, known.default if known else "FALSE") == "TRUE"

        gates = [(prefix, gate) for prefix, gate in self.gated.items() if not on(gate)]
        return [name for name in self.columns if not any(name.startswith(prefix) for prefix, _ in gates)]

    def kind(self, column: str) -> str:
        """Return the column's data type, as in GetTable."""
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


TABLES = {table.name: table for table in read_table(__file__, "export_tables.json", tuple[Table, ...])}
