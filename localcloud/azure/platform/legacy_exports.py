"""Exports in the form that the legacy scripts created; customers still have them."""

from __future__ import annotations

from typing import Any

from localcloud.azure.services.directory import Subscription


def old_export(found: Subscription, account: str, kind: str, container: str, start: str) -> dict[str, Any]:
    """Return the body of a legacy export; `start` is the `from` of its schedule.

    `kind` is the export type (default: ActualCost if the offer allows it, otherwise Usage). The scripts disabled
    partitioning, selected no columns, and set a region although the export has no identity.
    """
    types = found.agreement.types
    return {
        "location": "centralus",
        "properties": {
            "schedule": {
                "status": "Active",
                "recurrence": "Daily",
                "recurrencePeriod": {"from": start, "to": "2099-12-31T00:00:00Z"},
            },
            "format": "Csv",
            "compressionMode": "gzip",
            "dataOverwriteBehavior": "OverwritePreviousReport",
            "partitionData": False,
            "deliveryInfo": {
                "destination": {
                    "type": "AzureBlob",
                    "resourceId": account,
                    "container": container,
                    "rootFolderPath": f"tailpipe/subscriptions/{found.id}",
                }
            },
            "definition": {
                "type": kind or ("ActualCost" if "ActualCost" in types else "Usage"),
                "timeframe": "MonthToDate",
                "dataSet": {"granularity": "Daily", "configuration": {"columns": []}},
            },
        },
    }
