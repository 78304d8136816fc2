"""The export that every contender makes for a subscription."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from azure.mgmt.costmanagement import models

FOREVER = datetime(2099, 12, 31, tzinfo=UTC)


def name_of(subscription: str) -> str:
    """Return the export's name."""
    return f"TailpipeDataExport-{subscription[-6:]}"


def export(subscription: str) -> models.Export:
    """Return the export: daily, month to date, CSV."""
    tomorrow = datetime.fromisoformat(os.environ["PEER_NOW"]) + timedelta(days=1)  # a start in the past is refused
    document = {
        "properties": {
            "schedule": {
                "status": "Active",
                "recurrence": "Daily",
                "recurrencePeriod": {"from": f"{tomorrow:%Y-%m-%dT00:00:00Z}", "to": f"{FOREVER:%Y-%m-%dT%H:%M:%SZ}"},
            },
            "format": "Csv",
            "partitionData": True,
            "compressionMode": "gzip",
            "dataOverwriteBehavior": "OverwritePreviousReport",
            "deliveryInfo": {
                "destination": {
                    "resourceId": os.environ["DESTINATION"],
                    "container": "dataexport",
                    "rootFolderPath": f"tailpipe/subscriptions/{subscription}",
                }
            },
            "definition": {
                "type": "ActualCost",
                "timeframe": "MonthToDate",
                "dataSet": {"granularity": "Daily"},
            },
        }
    }
    return models.Export(document)
