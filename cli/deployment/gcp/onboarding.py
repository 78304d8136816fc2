"""What Tailpipe needs to connect, read from the live project, with the keys of the earlier scripts."""

from __future__ import annotations

import re
from typing import Any

from cli.deployment.gcp.functions import missing, require_settings
from cli.deployment.gcp.session import Session
from cli.deployment.gcp.verify import PROVIDER, accounts, connector_roles, held_on_project, reads_dataset
from cli.deployment.model import OperatorError
from gcp_function.targets import EXPORTS, LINKED_DATASET


def onboarding(session: Session) -> dict[str, Any]:
    """Return the document. Raises ReportedError for what may not be read, and OperatorError without a function."""
    if session.live is None:
        raise OperatorError(missing(session))
    require_settings(session)
    account = session.account("connector")
    covered = accounts(session)
    tables = _tables(session)
    dataset = session.google.find("bigquery", f"bigquery/v2/{session.parent}/datasets/{session.dataset}") or {}
    roles = {role for role, _ in held_on_project(session, f"serviceAccount:{account}")}
    roles |= {"roles/bigquery.dataViewer"} if reads_dataset(session, account) else set()
    organization = session.settings.get("ORGANIZATION", "")
    on_organization = sorted(role for role, _, scope in connector_roles(session) if scope == "organization")
    provider = session.google.find("iam", f"v1/{session.pool}/providers/{PROVIDER}")
    return {
        "platform": "gcp",
        "organizationId": organization.removeprefix("organizations/") or None,
        "billingAccountId": covered,
        "project": {"id": session.project, "number": session.number, "region": dataset.get("location")},
        "storage": {
            "bucket": session.bucket,
            "bucketUri": f"gs://{session.bucket}",
            "dataset": session.dataset,
            "datasetFullPath": f"{session.project}.{session.dataset}",
        },
        "serviceAccount": {
            "email": account,
            "keyFile": None,
            "projectRoles": sorted(roles),
            "organizationRoles": on_organization if organization else [],
        },
        "workloadIdentity": {
            "enabled": provider is not None,
            "poolName": session.pool_name,
            "providerName": (provider or {}).get("name"),
        },
        "billingExport": {
            "type": "BigQuery",
            "dataset": session.dataset,
            "accountCount": len({one for one in covered if any(_of(one, table) for table in tables)}),
            "tables": tables,
        },
    }


def _of(account: str, table: str) -> bool:
    return table.endswith(account.replace("-", "_"))


def export_tables(session: Session) -> tuple[list[str], list[str]]:
    """Return the names of the billing export's tables in the dataset, and those of all others."""
    shape = "[0-9A-F]{6}_[0-9A-F]{6}_[0-9A-F]{6}"
    known = re.compile("|".join(re.escape(one.table).replace(re.escape("{ID}"), shape) for one in EXPORTS.values()))
    path = f"bigquery/v2/{session.parent}/datasets/{session.dataset}/tables"
    names = [str(one["tableReference"]["tableId"]) for one in session.google.pages("bigquery", path, "tables")]
    # Google itself creates this table beside the exports.
    ours = [one for one in names if known.fullmatch(one) or one == "cud_subscriptions_export"]
    return ours, [one for one in names if one not in ours]


def _tables(session: Session) -> list[str]:
    found = [f"{session.dataset}.{one}" for one in export_tables(session)[0]]
    for one in session.google.pages("bigquery", f"bigquery/v2/{session.parent}/datasets", "datasets"):
        name = str(one["datasetReference"]["datasetId"])
        if LINKED_DATASET.fullmatch(name):
            tables = session.google.pages("bigquery", f"bigquery/v2/{session.parent}/datasets/{name}/tables", "tables")
            found += [f"{name}.{table['tableReference']['tableId']}" for table in tables]
    return sorted(found)
