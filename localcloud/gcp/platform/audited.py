"""The mapping of successful requests to audit log entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from localcloud.gcp.context import Context
from localcloud.gcp.platform.audit_log import Change, bucket_changed, dataset_changed, table_deleted

_CHANGES: Mapping[str, Callable[[Context], Change]] = {
    "bigquery.datasets.insert": lambda context: dataset_changed(context.ids[0], _dataset(context), "Insert"),
    "bigquery.datasets.patch": lambda context: dataset_changed(context.ids[0], context.ids[1], "Patch"),
    "bigquery.datasets.update": lambda context: dataset_changed(context.ids[0], context.ids[1], "Update"),
    "bigquery.datasets.delete": lambda context: dataset_changed(context.ids[0], context.ids[1], "Delete"),
    "bigquery.tables.delete": lambda context: table_deleted(context.ids[0], context.ids[1], context.ids[2]),
    "storage.buckets.insert": lambda context: bucket_changed(str(context.body.get("name")), "create"),
    "storage.buckets.patch": lambda context: bucket_changed(context.ids[0], "update"),
    "storage.buckets.update": lambda context: bucket_changed(context.ids[0], "update"),
    "storage.buckets.delete": lambda context: bucket_changed(context.ids[0], "delete"),
}


def change_of(context: Context) -> Change | None:
    """Return the change that a successful request made, or None for a read or an unlogged change."""
    read = _CHANGES.get(context.method)
    return read(context) if read else None


def _dataset(context: Context) -> str:
    return str((context.body.get("datasetReference") or {}).get("datasetId"))
