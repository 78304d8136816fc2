"""The data files of a delivery: small, but in the requested format."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from localcloud.common import focus

COLUMNS = (
    "Date",
    "SubscriptionId",
    "MeterCategory",
    "ResourceId",
    "Quantity",
    "CostInBillingCurrency",
    "BillingCurrency",
)
MAX_ROWS = 2


def columns_of(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns of an export's files: those of the FOCUS version that it asks for, or `COLUMNS`."""
    if definition["type"] != "FocusCost":
        return COLUMNS
    configuration = (definition.get("dataSet") or {}).get("configuration") or {}
    return (*focus.columns(str(configuration.get("dataVersion") or "1.0")), "x_ResourceGroupName")


# difference: AZURE-3
def csv_part(
    scope: str,
    start: datetime,
    end: datetime,
    compressed: bool,
    max_rows: int = MAX_ROWS,
    columns: Sequence[str] = COLUMNS,
) -> tuple[bytes, int]:
    """Return a CSV file with one row for each of the first `max_rows` days of the period, and its number of rows."""
    days = min((end - start).days + 1, max_rows)
    lines = [",".join(columns)]
    for number in range(days):
        day = start + timedelta(days=number)
        lines.append(",".join(_row(scope, day, f"{1.25 + number}", columns)))
    data = ("\r\n".join(lines) + "\r\n").encode("utf-8-sig")
    return (gzip.compress(data, 1, mtime=0) if compressed else data), days


def _row(scope: str, day: datetime, cost: str, columns: Sequence[str]) -> list[str]:
    subscription = scope.rsplit("/", 1)[-1]
    resource = f"{scope}/resourceGroups/app/providers/Microsoft.Compute/virtualMachines/vm0"
    if columns is COLUMNS:
        return [f"{day:%m/%d/%Y}", subscription, "Virtual Machines", resource, "24", cost, "EUR"]
    names = dict.fromkeys(("InvoiceIssuerName", "ProviderName", "PublisherName"), "Microsoft")
    accounts = {
        "BillingAccountId": "1",
        "BillingAccountName": "Local",
        "SubAccountId": f"/subscriptions/{subscription}",
    }
    costs = dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), cost)
    other = {"BillingCurrency": "EUR", "ResourceId": resource, "x_ResourceGroupName": "app"}
    return focus.row(columns, day, names | accounts | costs | other)


# difference: AZURE-12
@cache
def parquet_part(columns: Sequence[str] = COLUMNS) -> bytes:
    """Return a Parquet file of text columns without rows: header, metadata in Thrift's compact protocol, footer.

    https://github.com/apache/parquet-format: FileMetaData {1: version, 2: schema, 3: num_rows, 4: row_groups}.
    """
    root = b"\x48" + _text("schema") + b"\x15" + _zigzag(len(columns)) + b"\x00"  # 4: name, 5: num_children
    leaves = b"".join(b"\x15" + _zigzag(6) + b"\x25" + _zigzag(1) + b"\x18" + _text(name) + b"\x00" for name in columns)
    count = len(columns) + 1
    schema = b"\x19" + (bytes([count << 4 | 12]) if count < 15 else b"\xfc" + _varint(count)) + root + leaves
    metadata = b"\x15" + _zigzag(1) + schema + b"\x16" + _zigzag(0) + b"\x19\x0c" + b"\x00"
    return b"PAR1" + metadata + struct.pack("<I", len(metadata)) + b"PAR1"


def _zigzag(value: int) -> bytes:
    return _varint(value << 1)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(value: str) -> bytes:
    data = value.encode()
    return _varint(len(data)) + data
