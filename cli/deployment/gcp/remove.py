"""The steps of a removal outside Terraform: stop the schedule, delete the data, list what is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from cli.deployment.gcp.functions import require_settings
from cli.deployment.gcp.invoke import AGAIN_S, LONGEST_WAIT_S, memory
from cli.deployment.gcp.onboarding import export_tables
from cli.deployment.gcp.rest import Google
from cli.deployment.gcp.session import Session
from cli.deployment.gcp.verify import accounts
from cli.deployment.model import Clearing, Kept, OperatorError, Problem, Removal
from cli.deployment.operator import Tell
from cli.deployment.output import number_of, some
from gcp_function.manual_steps import CONSOLE
from gcp_function.targets import EXPORT_PRINCIPAL, MANAGED_BY, MANAGER
from shared.errors import ReportedError
from shared.parsing import mapping, parse_time

AT_ONCE = 16  # concurrent deletions; far below the limit of a bucket
SHOWN_EVERY = 1000
IDENTITY = (
    "google_service_account.connector",
    "google_service_account_iam_member.connector",
    "google_iam_workload_identity_pool.",
    "google_iam_workload_identity_pool_provider.",
    'google_project_iam_member.this["connector/',
    'google_organization_iam_member.this["connector/',
    'google_billing_account_iam_member.this["connector/',
)
DATA = ("google_bigquery_dataset.export", "google_storage_bucket.export")
READS = 'google_bigquery_dataset_iam_member.this["connector/'


def kept(session: Session, removal: Removal) -> list[Kept]:
    """Return what is removed from Terraform's state before the rest is destroyed."""
    require_settings(session)
    found: list[Kept] = []
    if not removal.delete_data:
        data = f"dataset {session.dataset} and bucket {session.bucket}, with their data"
        what = f"{data}; Google continues to export to the dataset"
        found.append(Kept(what, DATA))
    if removal.keep_identity:
        found.append(
            Kept(f"{session.account('connector')} with the pool that Tailpipe signs in by", (*IDENTITY, READS))
        )
    return found


def stop_schedule(session: Session, tell: Tell) -> None:
    """Pause the schedule, and that of rounds, if they exist and are not paused."""
    _pause(session, session.function, "the schedule", tell)
    queue = session.settings.get("TENANTS_QUEUE", "")
    if queue:
        _pause(session, queue.rpartition("/")[2], "the schedule of rounds", tell)
        if session.google.find("cloudtasks", f"v2/{queue}") is not None:
            session.google.post("cloudtasks", f"v2/{queue}:pause")
            tell("the queue of rounds is stopped")


def _pause(session: Session, job_name: str, what: str, tell: Tell) -> None:
    path = f"v1/{session.location}/jobs/{job_name}"
    job = session.google.find("cloudscheduler", path)
    if job is None:
        tell(f"there is no {what.removeprefix('the ')}")
    elif job.get("state") != "ENABLED":
        tell(f"{what} is {str(job.get('state')).lower()} already")
    else:
        session.google.post("cloudscheduler", f"{path}:pause")
        tell(f"{what} is stopped")


def clear(
    session: Session, removal: Removal, tell: Tell, sleep: Callable[[float], None], now: Callable[[], float]
) -> None:
    """Wait for a run in progress, list the exports to disable, and delete the data if requested.

    Raises ReportedError, and OperatorError for data that is not ours.
    """
    require_settings(session)
    _wait_for_run(session, tell, sleep, now)
    if removal.delete_exports:
        _name_exports(session, tell)
    elif removal.delete_data:
        tell(
            "Google's exports are still switched on: they write to the dataset until it is gone, and fail from then on"
        )
    if not removal.keep_identity:
        name = session.pool.rpartition("/")[2]
        tell(f"Google keeps the id of pool {name} for 30 days: a deployment before then restores it or takes another")
    if removal.delete_data:
        _delete_data(session, tell)


def clearing(session: Session, removal: Removal) -> Clearing:
    """Return what the removal would delete outside Terraform, and what would be kept. Only reads."""
    require_settings(session)
    covered = accounts(session)
    deletes = []
    keeps = [f"Google's exports of {number_of(covered, 'billing account')}, which only a person can disable"]
    if removal.delete_data:
        tables, bucket = _ours(session)
        if tables:
            deletes.append(f"{number_of(tables, 'table')} of dataset {session.dataset}: {some(tables)}")
        if bucket:
            deletes.append(f"all files of bucket {session.bucket}")
    return Clearing(deletes, keeps)


def _wait_for_run(session: Session, tell: Tell, sleep: Callable[[float], None], now: Callable[[], float]) -> None:
    waited, shown = 0.0, False
    while waited < LONGEST_WAIT_S:
        try:
            running = mapping(memory(session).get("running"))
        except ReportedError:
            return  # the state may be missing or unreadable: then no run is known to wait for
        until = parse_time(running.get("until"))
        if until is None or until.timestamp() <= now():
            return
        if not shown:
            tell(f"waiting: run {running['run_id']} has been in progress since {running['since']}")
            shown = True
        sleep(AGAIN_S)
        waited += AGAIN_S


def _name_exports(session: Session, tell: Tell) -> None:
    """Show the links for disabling exports, for which Google has no API either."""
    tell(
        "billing exports must be disabled manually, since Google offers no API for it: on each page, "
        "Disable every export"
    )
    for account in accounts(session):
        tell(CONSOLE.format(account=account))
    tell(f"until then {EXPORT_PRINCIPAL} continues to write to {session.project}.{session.dataset}")


def _ours(session: Session) -> tuple[list[str] | None, bool]:
    """Return the dataset's tables (None without a dataset), and whether the bucket exists.

    Raises OperatorError for anything in them that belongs to others.
    """
    problems: list[Problem] = []
    tables = None
    dataset = session.google.find("bigquery", f"bigquery/v2/{session.parent}/datasets/{session.dataset}")
    if dataset is not None:
        problems += _unmarked(f"dataset {session.dataset}", dataset)
        tables, others = export_tables(session)
        if others:
            what = f"dataset {session.dataset} also holds tables that no billing export made: {', '.join(others[:5])}"
            problems.append(Problem(what, "Move them away or delete them, then call the same command again."))
    bucket = session.google.find("storage", f"storage/v1/b/{session.bucket}")
    if bucket is not None:
        if str(bucket.get("projectNumber")) != session.number:
            problems.append(Problem(f"bucket {session.bucket} belongs to another project", "Leave --delete-data out."))
        problems += _unmarked(f"bucket {session.bucket}", bucket)
    if problems:
        raise OperatorError(*problems)
    return tables, bucket is not None


def _unmarked(what: str, document: Mapping[str, Any]) -> list[Problem]:
    if document.get("labels", {}).get(MANAGED_BY) == MANAGER:
        return []
    remedy = "Delete its data manually if it should be removed."
    return [Problem(f"{what} does not carry the label {MANAGED_BY}={MANAGER}", remedy)]


def _delete_data(session: Session, tell: Tell) -> None:
    tables, bucket = _ours(session)
    if tables is not None:
        for name in tables:
            session.google.delete("bigquery", f"bigquery/v2/{session.parent}/datasets/{session.dataset}/tables/{name}")
        tell(f"{len(tables)} tables of dataset {session.dataset} are deleted")
    if bucket:
        _delete_objects(session, tell)


def _delete_objects(session: Session, tell: Tell) -> None:
    path = f"storage/v1/b/{session.bucket}"
    deleted = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for batch in _batches(session.google, path):
            list(pool.map(lambda name: session.google.delete("storage", f"{path}/o/{name}"), batch))
            if deleted // SHOWN_EVERY != (deleted + len(batch)) // SHOWN_EVERY:
                tell(f"{deleted + len(batch)} files deleted so far")
            deleted += len(batch)
    tell(f"{deleted} files of bucket {session.bucket} are deleted; Cloud Storage can bring them back for seven days")


def _batches(google: Google, path: str) -> Iterator[list[str]]:
    """Yield the remaining names; a page is deleted before the next one is requested."""
    token: dict[str, Any] = {}
    while True:
        fields = "items(name),nextPageToken"
        page = google.find("storage", f"{path}/o", maxResults=SHOWN_EVERY, fields=fields, **token) or {}
        names = [quote(str(one["name"]), safe="") for one in page.get("items", ())]
        if names:
            yield names
            token = {}
        elif page.get("nextPageToken"):
            token = {"pageToken": page["nextPageToken"]}
        else:
            return


def wall_clock() -> float:
    """Return seconds since 1970."""
    return time.time()
