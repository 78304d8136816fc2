"""Exports as the scripts before this project created them; customers still have them."""

from __future__ import annotations

from typing import Any

from localcloud.azure.services.directory import Subscription


def old_export(found: Subscription, account: str, kind: str, container: str, start: str) -> dict[str, Any]:
    """Return an export's body; `kind` is its type (default: the first that the offer allows), `start` its `from`.

    The scripts asked for no partitions, chose no columns, and named a region although the export has no identity.
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
