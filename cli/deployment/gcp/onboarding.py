"""What Tailpipe needs to connect, read from the live project, with the keys of the earlier scripts."""

from __future__ import annotations

import re
from typing import Any

from cli.deployment.gcp.session import Google, Here
from cli.deployment.gcp.verify import PROVIDER, accounts, connector_roles, held_on_project, reads_dataset
from gcp_function.targets import EXPORTS, LINKED_DATASET


def onboarding(google: Google, here: Here) -> dict[str, Any]:
    """Return the document. Raises ReportedError for what may not be read."""
    account = here.account("connector")
    covered = accounts(google, here)
    tables = _tables(google, here)
    dataset = google.find("bigquery", f"bigquery/v2/{here.parent}/datasets/{here.dataset}") or {}
    roles = {role for role, _ in held_on_project(google, here, f"serviceAccount:{account}")}
    roles |= {"roles/bigquery.dataViewer"} if reads_dataset(google, here, account) else set()
    organization = here.settings.get("ORGANIZATION", "")
    on_organization = sorted(role for role, _, scope in connector_roles(here) if scope == "organization")
    provider = google.find("iam", f"v1/{here.pool}/providers/{PROVIDER}")
    return {
        "platform": "gcp",
        "organizationId": organization.removeprefix("organizations/") or None,
        "billingAccountId": covered,
        "project": {"id": here.project, "number": here.number, "region": dataset.get("location")},
        "storage": {
            "bucket": here.bucket,
            "bucketUri": f"gs://{here.bucket}",
            "dataset": here.dataset,
            "datasetFullPath": f"{here.project}.{here.dataset}",
        },
        "serviceAccount": {
            "email": account,
            "keyFile": None,
            "projectRoles": sorted(roles),
            "organizationRoles": on_organization if organization else [],
        },
        "workloadIdentity": {
            "enabled": provider is not None,
            "poolName": here.pool_name,
            "providerName": (provider or {}).get("name"),
        },
        "billingExport": {
            "type": "BigQuery",
            "dataset": here.dataset,
            "accountCount": len({one for one in covered if any(_of(one, table) for table in tables)}),
            "tables": tables,
        },
    }


def _of(account: str, table: str) -> bool:
    return table.endswith(account.replace("-", "_"))


def export_tables(google: Google, here: Here) -> tuple[list[str], list[str]]:
    """Return the names of the billing export's tables in the dataset, and those of all others."""
    shape = "[0-9A-F]{6}_[0-9A-F]{6}_[0-9A-F]{6}"
    known = re.compile("|".join(re.escape(one.table).replace(re.escape("{ID}"), shape) for one in EXPORTS.values()))
    path = f"bigquery/v2/{here.parent}/datasets/{here.dataset}/tables"
    names = [str(one["tableReference"]["tableId"]) for one in google.pages("bigquery", path, "tables")]
    # What Google itself keeps beside the exports it makes here.
    ours = [one for one in names if known.fullmatch(one) or one == "cud_subscriptions_export"]
    return ours, [one for one in names if one not in ours]


def _tables(google: Google, here: Here) -> list[str]:
    found = [f"{here.dataset}.{one}" for one in export_tables(google, here)[0]]
    for one in google.pages("bigquery", f"bigquery/v2/{here.parent}/datasets", "datasets"):
        name = str(one["datasetReference"]["datasetId"])
        if LINKED_DATASET.fullmatch(name):
            tables = google.pages("bigquery", f"bigquery/v2/{here.parent}/datasets/{name}/tables", "tables")
            found += [f"{name}.{table['tableReference']['tableId']}" for table in tables]
    return sorted(found)
