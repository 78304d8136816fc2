"""Deliveries: the files that an export writes, and its status when it cannot write them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import uuid
import zipfile
from datetime import datetime, timedelta

from localcloud.aws.services.exports import Execution, Export, Exports
from localcloud.common import focus
from shared.runtime.clock import Clock

_FAILED = ("QUERY_FAILURE", "DELIVERY_FAILURE")


class Deliveries:
    """Runs executions of exports on demand."""

    def __init__(self, exports: Exports, clock: Clock) -> None:
        self._exports = exports
        self._clock = clock
        self._failures: dict[str, list[tuple[str, str]]] = {}

    def inject_failure(
        self, export: Export, status: str = "DELIVERY_FAILURE", reason: str = "INTERNAL_FAILURE"
    ) -> None:
        """Make the next execution fail with `status` (QUERY_FAILURE or DELIVERY_FAILURE) and `reason`."""
        if status not in _FAILED:
            raise ValueError(f"status {status!r} is not one of {', '.join(_FAILED)}")
        self._failures.setdefault(export.arn, []).append((status, reason))

    def deliver(self, export: Export, billing_period: str | None = None) -> Execution:
        """Run one execution for the billing period `YYYY-MM` (default: the current one) and record it.

        A success writes the data parts, then the manifest, and makes the export healthy; a failure makes it unhealthy.
        Raises ValueError for a silent export.
        """
        if export.silent:
            raise ValueError(f"export {export.name} is silent")
        now = self._clock.now()
        period = billing_period or f"{now:%Y-%m}"
        execution = Execution(str(uuid.uuid4()), export.read(), "INITIATION_IN_PROCESS", None, now, None)
        export.executions.append(execution)
        manifest, part = _keys(export, execution, period)
        failures = self._failures.get(export.arn)
        if failures:
            execution.status, execution.reason = failures.pop(0)
        elif export.stuck:
            execution.status, execution.reason = "QUERY_FAILURE", export.stuck
        elif not self._exports.has_healthy_view(export):
            execution.status, execution.reason = "QUERY_FAILURE", "INTERNAL_FAILURE"
        elif not (self._exports.may_write(export, part) and self._exports.may_write(export, manifest)):
            execution.status, execution.reason = "DELIVERY_FAILURE", "INSUFFICIENT_PERMISSION"
        else:
            self._write(export, execution, period, manifest, part)
            execution.status = "DELIVERY_SUCCESS"
            export.refreshed = now
        export.reason = execution.reason
        execution.completed = self._clock.now()
        return execution

    # difference: AWS-15
    def silence(self, export: Export, days: float) -> None:
        """Stop an export's refreshes as of `days` ago, while its status stays HEALTHY."""
        by = timedelta(days=days)
        export.silent = True
        export.created, export.updated = export.created - by, export.updated - by
        if export.refreshed:
            export.refreshed -= by
        for one in export.executions:
            one.created, one.completed = one.created - by, one.completed and one.completed - by
        self._exports.buckets.age(export.destination["S3Bucket"], _root(export), by)

    # difference: AWS-16
    def _write(self, export: Export, execution: Execution, period: str, manifest: str, part: str) -> None:
        bucket = export.destination["S3Bucket"]
        self._exports.buckets.put(bucket, part, _data(export, period, self._clock.now()))
        document = {
            "exportArn": export.arn,
            "executionId": execution.id,
            "tableName": export.table.name,
            "billingPeriod": period,
            "createdAt": self._clock.now().isoformat(),
            "columns": [{"name": name, "type": export.table.kind(name)} for name in export.columns],
            "dataFiles": [f"s3://{bucket}/{part}"],
        }
        self._exports.buckets.put(bucket, manifest, json.dumps(document, indent=1).encode())


def _root(export: Export) -> str:
    prefix = str(export.destination["S3Prefix"]).strip("/")
    return f"{prefix}/{export.name}" if prefix else export.name


def _keys(export: Export, execution: Execution, period: str) -> tuple[str, str]:
    root = _root(export)
    output = export.destination["S3OutputConfigurations"]
    suffix = {"GZIP": "csv.gz", "ZIP": "csv.zip", "PARQUET": "snappy.parquet"}[output["Compression"]]
    folder = f"BILLING_PERIOD={period}"
    own = "" if output["Overwrite"] == "OVERWRITE_REPORT" else f"{execution.created:%Y%m%dT%H%M%SZ}-{execution.id}/"
    return (
        f"{root}/metadata/{folder}/{own}{export.name}-Manifest.json",
        f"{root}/data/{folder}/{own}{export.name}-00001.{suffix}",
    )


# difference: AWS-6
def _data(export: Export, period: str, now: datetime) -> bytes:
    """Return a file with one row of the export's columns. Parquet has only magic bytes: nothing local reads it."""
    compression = export.destination["S3OutputConfigurations"]["Compression"]
    if compression == "PARQUET":
        return b"PAR1PAR1"
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(export.columns)
    writer.writerow(_row(export, period, now))
    if compression == "GZIP":
        return gzip.compress(text.getvalue().encode(), mtime=0)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{export.name}-00001.csv", text.getvalue())
    return packed.getvalue()


def _row(export: Export, period: str, now: datetime) -> list[str]:
    if not export.table.name.startswith("FOCUS_"):
        return [_value(export, column, period, now) for column in export.columns]
    accounts = dict.fromkeys(("BillingAccountId", "SubAccountId"), export.payer)
    names = dict.fromkeys(("InvoiceIssuerName", "ProviderName", "PublisherName"), "AWS")
    own = {"BillingAccountName": "Local organization", "x_Discounts": "{}", "x_CostCategories": "{}"}
    return focus.row(export.columns, datetime.fromisoformat(f"{period}-01T00:00:00+00:00"), accounts | names | own)


def _value(export: Export, column: str, period: str, now: datetime) -> str:
    kind = export.table.kind(column)
    if column.endswith(("account_id", "AccountId")):
        return export.payer
    if kind == "timestamp":
        return f"{period}-01T00:00:00.000Z" if "start" in column.lower() else f"{now:%Y-%m-%dT%H:00:00.000Z}"
    return {"double": "0.0", "map": "{}"}.get(kind, "")
