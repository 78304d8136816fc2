"""The vendors' SDK samples, replayed on the local clouds: what is counted, and which calls answer 501.

A test repeats the calls of one or more samples in their order, with names of the local cloud. What the local cloud
does not cover is in `NOT_COVERED` with the id of its difference in docs/testing.md. `make oracles RECORD=1` writes the
list into that document.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from localcloud.common.oracles import oracle

GOOGLE = "Google's SDK samples, calls"
MICROSOFT = "Microsoft's SDK samples, calls"
BEGIN, END = "<!-- samples -->", "<!-- end of samples -->"

# A call that a sample makes, as its SDK spells it → the difference that explains its 501.
NOT_COVERED: dict[str, str] = {
    "costmanagement.exports of a management group": "AZURE-25",
    "resource.resource_groups.check_existence": "AZURE-7",
    "resource.resource_groups.update": "AZURE-7",
    "resource.resources.check_existence": "AZURE-7",
    "resource.resources.begin_create_or_update of a virtual machine's parts": "AZURE-7",
    "storage.BlobClient.undelete_blob": "AZURE-6",
    "bigquery.Client.query with legacy SQL": "GCP-3",
    "bigquery.Client.query with DML": "GCP-3",
    "bigquery.Client.insert_rows_json": "GCP-19",
    "bigquery.Client.update_table": "GCP-19",
    "secretmanager.projects.secrets.get": "GCP-20",
    "secretmanager.projects.secrets.list": "GCP-20",
    "secretmanager.projects.secrets.versions.list": "GCP-20",
    "bigquery.Client.list_rows": "GCP-26",
    "bigquery.Client.query with a destination": "GCP-26",
    "bigquery.Client.load_table_from_file": "GCP-26",
    "bigquery.Client.load_table_from_uri": "GCP-26",
    "bigquery.Client.copy_table": "GCP-26",
    "storage.Bucket.get_iam_policy": "GCP-26",
    "compute.instances.list": "GCP-26",
    "storage.Client.batch": "GCP-26",
    "bigquery.Client.extract_table to JSON": "GCP-26",
    "cloudbilling.projects.updateBillingInfo": "GCP-26",
    "cloudbilling.billingAccounts.projects.list": "GCP-26",
    "cloudbilling.billingAccounts.create": "GCP-26",
    "cloudbilling.billingAccounts.patch": "GCP-26",
    "cloudbilling.billingAccounts.setIamPolicy": "GCP-26",
    "cloudbilling.services.list": "GCP-26",
    "iam.projects.roles.list": "GCP-26",
    "cloudscheduler.projects.locations.jobs.create": "GCP-26",
    "cloudscheduler.projects.locations.jobs.delete": "GCP-26",
    "cloudfunctions.projects.locations.functions.generateUploadUrl": "GCP-26",
    "cloudfunctions.projects.locations.functions.create": "GCP-26",
    "cloudfunctions.projects.locations.runtimes.list": "GCP-26",
}


def status_of(error: BaseException) -> int:
    """Return the HTTP status of an error of any vendor's SDK, or 0."""
    for name in ("status_code", "code"):
        status = getattr(error, name, None)
        if isinstance(status, int):
            return int(status)
    response: Any = getattr(error, "resp", None) or getattr(error, "response", None)
    return int(getattr(response, "status", 0) or getattr(response, "status_code", 0))


@contextmanager
def played(vendor: str) -> Iterator[None]:
    """Count a sample's call that is answered."""
    yield
    oracle(vendor)(lambda: None)()


@contextmanager
def not_covered(call: str) -> Iterator[None]:
    """Expect 501 for a call in `NOT_COVERED`. Raises AssertionError if it is answered."""
    assert call in NOT_COVERED, f"{call} is not listed"
    try:
        yield
    except Exception as error:
        if status_of(error) != 501:
            raise
        vendor = MICROSOFT if NOT_COVERED[call].startswith("AZURE") else GOOGLE
        with suppress(LookupError):
            oracle(vendor)(_refuse)()
        return
    raise AssertionError(f"{call} is answered: remove it from NOT_COVERED")


def _refuse() -> None:
    raise LookupError


def table() -> list[str]:
    """Return the lines of the list in docs/testing.md."""
    rows = [f"| `{call}` | {difference} |" for call, difference in sorted(NOT_COVERED.items())]
    return ["| call of a sample that answers 501 | difference |", "| --- | --- |", *rows]
