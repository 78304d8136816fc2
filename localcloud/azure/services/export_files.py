"""The data files of a delivery: small, but in the requested format."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
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
# Cost Management writes dates with seconds from 1.0r2 on: https://github.com/microsoft/finops-toolkit/issues/973
WITHOUT_SECONDS = ("1.0-preview(v1)", "1.0")


def focus_version_of(definition: Mapping[str, Any]) -> str | None:
    """Return the FOCUS version that an export asks for, or None for other cost data."""
    if definition["type"] != "FocusCost":
        return None
    configuration = (definition.get("dataSet") or {}).get("configuration") or {}
    return str(configuration.get("dataVersion") or "1.0")


def _columns(version: str | None) -> tuple[str, ...]:
    return COLUMNS if version is None else (*focus.columns(version), "x_ResourceGroupName")


# difference: AZURE-3
def csv_part(
    scope: str,
    start: datetime,
    end: datetime,
    compressed: bool,
    max_rows: int = MAX_ROWS,
    version: str | None = None,
) -> tuple[bytes, int]:
    """Return a CSV file with one row for each of the first `max_rows` days of the period, and its number of rows."""
    days = min((end - start).days + 1, max_rows)
    lines = [",".join(_columns(version))]
    for number in range(days):
        day = start + timedelta(days=number)
        lines.append(",".join(_row(scope, day, f"{1.25 + number}", version)))
    data = ("\r\n".join(lines) + "\r\n").encode("utf-8-sig")
    return (gzip.compress(data, 1, mtime=0) if compressed else data), days


def _row(scope: str, day: datetime, cost: str, version: str | None) -> list[str]:
    subscription = scope.rsplit("/", 1)[-1]
    resource = f"{scope}/resourceGroups/app/providers/Microsoft.Compute/virtualMachines/vm0"
    if version is None:
        return [f"{day:%m/%d/%Y}", subscription, "Virtual Machines", resource, "24", cost, "EUR"]
    names = dict.fromkeys(("InvoiceIssuerName", "ProviderName", "PublisherName"), "Microsoft")
    accounts = {
        "BillingAccountId": "1",
        "BillingAccountName": "Local",
        "SubAccountId": f"/subscriptions/{subscription}",
    }
    costs = dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), cost)
    other = {"BillingCurrency": "EUR", "ResourceId": resource, "x_ResourceGroupName": "app"}
    moment = "%Y-%m-%dT%H:%MZ" if version in WITHOUT_SECONDS else focus.MOMENT
    return focus.row(_columns(version), day, names | accounts | costs | other, moment)


# difference: AZURE-12
@cache
def parquet_part(version: str | None = None) -> bytes:
    """Return a Parquet file of text columns without rows: header, metadata in Thrift's compact protocol, footer.

    https://github.com/apache/parquet-format: FileMetaData {1: version, 2: schema, 3: num_rows, 4: row_groups}.
    """
    columns = _columns(version)
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
