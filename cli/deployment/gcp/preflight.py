"""Checks before a deployment on Google Cloud: what would make it fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cli.deployment.gcp.adopt import lives
from cli.deployment.gcp.rest import remedy_of
from cli.deployment.gcp.session import Session
from cli.deployment.model import Finding
from gcp_function.targets import EXPORT_LOCATIONS, MANAGED_BY, MANAGER
from shared.errors import Denied, ReportedError

# As infra/gcp/services.tf has them; a test holds both equal.
APIS = (
    "artifactregistry",
    "bigquery",
    "bigquerydatatransfer",
    "cloudbilling",
    "cloudbuild",
    "cloudfunctions",
    "cloudresourcemanager",
    "cloudscheduler",
    "compute",
    "iam",
    "iamcredentials",
    "logging",
    "monitoring",
    "run",
    "serviceusage",
    "storage",
    "sts",
)


def apis(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the APIs that a deployment with these variables needs."""
    pubsub = given.get("events") is not False or bool(given.get("delivery_events"))
    tenants = bool(given.get("fleet"))
    chosen = {"secretmanager": bool(given.get("notify_secret")), "pubsub": pubsub, "cloudtasks": tenants}
    return (*APIS, *(name for name, wanted in chosen.items() if wanted))


MULTI_REGIONS = ("US", "EU")
OWN_ACCOUNTS = ("function", "connector", "scheduler", "build", "events", "tenants")
MOST_ACCOUNTS = 100  # service accounts of a project by default ("Quotas and limits", IAM documentation)
CUSTOM = "projects/{project}/roles/tailpipeExports"


def preflight(session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the checks. One that cannot be read has `ok` None; nothing is raised."""
    on = _enabled(session)
    for look in (_billing, _buckets, _dataset, _elsewhere, _pool, _log_bucket, _accounts):
        try:
            if look is not _billing and on is None:
                continue
            yield from look(session, given)
        except ReportedError as error:
            # A disabled API has no resources yet; Terraform enables it.
            if error.code != "api-disabled":
                yield Finding(look.__name__.strip("_").replace("_", " "), None, error.message, remedy_of(error))
    yield _apis(session, on, given)


def _enabled(session: Session) -> set[str] | None:
    try:
        found = session.google.pages(
            "serviceusage", f"v1/{session.parent}/services", "services", filter="state:ENABLED"
        )
        return {str(one["name"]).rpartition("/")[2].removesuffix(".googleapis.com") for one in found}
    except ReportedError:
        return None


def _apis(session: Session, on: set[str] | None, given: Mapping[str, Any]) -> Finding:
    if on is None:
        return Finding(
            "the project's APIs",
            False,
            "which of them are on cannot be read",
            f"Run: gcloud services enable serviceusage.googleapis.com cloudresourcemanager.googleapis.com "
            f"--project {session.project}",
        )
    off = sorted(set(apis(given)) - on)
    detail = f"{len(off)} will be switched on, which takes minutes: {', '.join(off)}" if off else "all are on"
    return Finding("the project's APIs", True, detail)


def _billing(session: Session, _given: Mapping[str, Any]) -> Iterator[Finding]:
    info = session.google.get("cloudbilling", f"v1/{session.parent}/billingInfo")
    paid = bool(info.get("billingEnabled"))
    detail = (
        str(info.get("billingAccountName", "")).removeprefix("billingAccounts/")
        if paid
        else "no billing account is linked"
    )
    yield Finding(
        "the project is billed",
        paid,
        detail,
        f"Run: gcloud billing projects link {session.project} --billing-account=ACCOUNT-ID",
    )


def _buckets(session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    wanted = (
        ("export_bucket", str(given.get("export_bucket") or f"tailpipe-billing-export-{session.project}")),
        ("state_bucket", str(given.get("state_bucket") or f"tailpipe-state-{session.project}")),
        ("", f"tailpipe-source-{session.project}"),
    )
    for variable, name in wanted:
        what = f"bucket {name}"
        try:
            found = session.google.find("storage", f"storage/v1/b/{name}")
        except Denied:
            found = {"projectNumber": ""}
        if found is None:
            yield Finding(what, True, "its name is free")
        elif str(found.get("projectNumber")) != session.number:
            remedy = f"Choose another name: --var {variable}=NAME." if variable else "Deploy in another project."
            yield Finding(what, False, "the name is taken by another project", remedy)
        else:
            yield Finding(what, True, f"exists and is {_whose(found.get('labels'))}")


def _whose(labels: Any) -> str:
    ours = (labels or {}).get(MANAGED_BY) == MANAGER
    return "this deployment's" if ours else "adopted, as an earlier setup's"


def _dataset(session: Session, given: Mapping[str, Any]) -> Iterator[Finding]:
    name = str(given.get("dataset_id") or "billing_export")
    found = session.google.find("bigquery", f"bigquery/v2/{session.parent}/datasets/{name}")
    what = f"dataset {name}"
    if found is None:
        yield Finding(what, True, "will be created")
        return
    place = location_of(found)
    wanted = str(given.get("dataset_location") or place)
    if not place:
        remedy = (
            "Choose a new one in US or EU, --var dataset_id=billing_export_us, and take the console step for it; the "
            "old one stays as it is."
        )
        yield Finding(what, False, f"exists in {found.get('location')}, where Cloud Billing does not export to", remedy)
    elif place.lower() != wanted.lower():
        yield Finding(what, False, f"exists in {place}, not in {wanted}", f"Add --var dataset_location={place}.")
    else:
        note = "" if place in MULTI_REGIONS else "; a region gets no costs from before its export was first switched on"
        yield Finding(what, True, f"exists in {place} and is {_whose(found.get('labels'))}{note}")


def detected(session: Session, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the project, the locations of an existing function and dataset, and the organization."""
    found: dict[str, Any] = {"project_id": session.project, "region": session.region}
    if session.organization and not given.get("billing_accounts"):
        found["organization_id"] = session.organization
    if "dataset_location" not in given:
        name = given.get("dataset_id") or "billing_export"
        try:
            dataset = session.google.find("bigquery", f"bigquery/v2/{session.parent}/datasets/{name}") or {}
        except ReportedError:  # it may not be read, or its API is disabled
            dataset = {}
        if location := location_of(dataset):
            found["dataset_location"] = location
    return found


def location_of(dataset: Mapping[str, Any]) -> str:
    """Return a dataset's location in the module's form, empty for one that Cloud Billing does not export to."""
    place = str(dataset.get("location", "")).upper()
    return "" if place not in EXPORT_LOCATIONS else place if place in MULTI_REGIONS else place.lower()


def _elsewhere(session: Session, _given: Mapping[str, Any]) -> Iterator[Finding]:
    what = f"function {session.function}"
    every = list(session.google.pages("cloudfunctions", f"v2/{session.parent}/locations/-/functions", "functions"))
    places = [str(one["name"]).split("/")[3] for one in every if _named(one) == session.function]
    for one in every:
        # The service accounts' names are fixed: one deployment per project.
        if _named(one) != session.function and _runs_as(one) == session.account("function"):
            remedy = f"Update it instead: --var function_name={_named(one)}; or destroy it first."
            yield Finding("no other deployment in this project", False, f"function {_named(one)} is one", remedy)
    others = [place for place in places if place != session.region]
    if others:
        remedy = f"Add --var region={others[0]}, or destroy that one first."
        yield Finding(what, False, f"is deployed in {', '.join(others)} already", remedy)
    elif places:
        yield Finding(what, True, "is already deployed and will be updated")
    elif session.google.find("iam", f"v1/{session.parent}/serviceAccounts/{session.account('function')}"):
        yield Finding(what, True, "an earlier deployment was interrupted: its resources are adopted, and it continues")
    else:
        yield Finding(what, True, "will be created")


def _named(function: Mapping[str, Any]) -> str:
    return str(function["name"]).rpartition("/")[2]


def _runs_as(function: Mapping[str, Any]) -> str:
    return str(function.get("serviceConfig", {}).get("serviceAccountEmail", ""))


def _pool(session: Session, _given: Mapping[str, Any]) -> Iterator[Finding]:
    found = session.google.find("iam", f"v1/{session.pool}")
    name = session.pool.rpartition("/")[2]
    if found is not None and not lives(found):
        yield Finding(
            f"workload identity pool {name}",
            False,
            "was deleted, and Google keeps its id for 30 days",
            f"Run: gcloud iam workload-identity-pools undelete {name} --location=global --project={session.project} - "
            f"or choose another id: --var workload_identity_pool_id={name}-2.",
        )
    else:
        yield Finding(f"workload identity pool {name}", True, "exists and is adopted" if found else "will be created")


def _log_bucket(session: Session, _given: Mapping[str, Any]) -> Iterator[Finding]:
    found = session.google.find("logging", f"v2/{session.location}/buckets/{session.function}")
    if found is not None and not lives(found):
        yield Finding(
            f"log bucket {session.function}",
            False,
            "was deleted, and Google keeps its name for seven days",
            f"Run: gcloud logging buckets undelete {session.function} --location={session.region} "
            f"--project={session.project}",
        )


def _accounts(session: Session, _given: Mapping[str, Any]) -> Iterator[Finding]:
    held = {
        str(one["email"]) for one in session.google.pages("iam", f"v1/{session.parent}/serviceAccounts", "accounts")
    }
    ours = {session.account(name) for name in OWN_ACCOUNTS}
    after = len(held | ours)
    detail = f"{after} of the {MOST_ACCOUNTS} that a project may have by default"
    if after > MOST_ACCOUNTS:
        yield Finding("service accounts", None, detail, "Delete unused ones unless your quota is higher.")
    else:
        yield Finding("service accounts", True, detail)
    if session.account("connector") in held and session.account("function") not in held:
        detail = "identity and destination are adopted, nothing is duplicated"
        yield Finding("resources of an earlier setup", True, detail)
