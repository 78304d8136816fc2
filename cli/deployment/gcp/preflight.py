"""What would make a deployment fail half way, seen before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cli.deployment.gcp.adopt import lives
from cli.deployment.gcp.session import Google, Here
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
MULTI_REGIONS = ("US", "EU")
OWN_ACCOUNTS = ("function", "connector", "scheduler", "build")
MOST_ACCOUNTS = 100  # service accounts of a project by default ("Quotas and limits", IAM documentation)
CUSTOM = "projects/{project}/roles/tailpipeExports"


def preflight(google: Google, here: Here, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what was looked at. What cannot be read is said, never raised."""
    on = _enabled(google, here)
    for look in (_billing, _buckets, _dataset, _elsewhere, _pool, _log_bucket, _accounts):
        try:
            if look is not _billing and on is None:
                continue
            yield from look(google, here, given)
        except ReportedError as error:
            # An API that is off yet has nothing in it either; Terraform switches it on.
            if error.code != "api-disabled":
                yield Finding(look.__name__.strip("_").replace("_", " "), None, error.message, error.remedy)
    yield _apis(here, on)


def _enabled(google: Google, here: Here) -> set[str] | None:
    try:
        found = google.pages("serviceusage", f"v1/{here.parent}/services", "services", filter="state:ENABLED")
        return {str(one["name"]).rpartition("/")[2].removesuffix(".googleapis.com") for one in found}
    except ReportedError:
        return None


def _apis(here: Here, on: set[str] | None) -> Finding:
    if on is None:
        return Finding(
            "the project's APIs",
            False,
            "which of them are on cannot be read",
            f"Run: gcloud services enable serviceusage.googleapis.com cloudresourcemanager.googleapis.com "
            f"--project {here.project}",
        )
    off = sorted(set(APIS) - on)
    detail = f"{len(off)} will be switched on, which takes minutes: {', '.join(off)}" if off else "all are on"
    return Finding("the project's APIs", True, detail)


def _billing(google: Google, here: Here, _given: Mapping[str, Any]) -> Iterator[Finding]:
    info = google.get("cloudbilling", f"v1/{here.parent}/billingInfo")
    paid = bool(info.get("billingEnabled"))
    detail = str(info.get("billingAccountName", "")).removeprefix("billingAccounts/") if paid else "nobody pays for it"
    yield Finding(
        "the project is billed",
        paid,
        detail,
        f"Run: gcloud billing projects link {here.project} --billing-account=ACCOUNT-ID",
    )


def _buckets(google: Google, here: Here, given: Mapping[str, Any]) -> Iterator[Finding]:
    wanted = (
        ("export_bucket", str(given.get("export_bucket") or f"tailpipe-billing-export-{here.project}")),
        ("state_bucket", str(given.get("state_bucket") or f"tailpipe-state-{here.project}")),
        ("", f"tailpipe-source-{here.project}"),
    )
    for variable, name in wanted:
        what = f"bucket {name}"
        try:
            found = google.find("storage", f"storage/v1/b/{name}")
        except Denied:
            found = {"projectNumber": ""}
        if found is None:
            yield Finding(what, True, "its name is free")
        elif str(found.get("projectNumber")) != here.number:
            remedy = f"Choose another name: --var {variable}=NAME." if variable else "Deploy in another project."
            yield Finding(what, False, "the name is taken by another project", remedy)
        else:
            yield Finding(what, True, f"exists and is {_whose(found.get('labels'))}")


def _whose(labels: Any) -> str:
    ours = (labels or {}).get(MANAGED_BY) == MANAGER
    return "this deployment's" if ours else "adopted, as an earlier setup's"


def _dataset(google: Google, here: Here, given: Mapping[str, Any]) -> Iterator[Finding]:
    name = str(given.get("dataset_id") or "billing_export")
    found = google.find("bigquery", f"bigquery/v2/{here.parent}/datasets/{name}")
    what = f"dataset {name}"
    if found is None:
        yield Finding(what, True, "will be made")
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


def location_of(dataset: Mapping[str, Any]) -> str:
    """Return a dataset's location as the module takes it, empty for one that Cloud Billing does not export to."""
    place = str(dataset.get("location", "")).upper()
    return "" if place not in EXPORT_LOCATIONS else place if place in MULTI_REGIONS else place.lower()


def _elsewhere(google: Google, here: Here, _given: Mapping[str, Any]) -> Iterator[Finding]:
    what = f"function {here.function}"
    every = list(google.pages("cloudfunctions", f"v2/{here.parent}/locations/-/functions", "functions"))
    places = [str(one["name"]).split("/")[3] for one in every if _named(one) == here.function]
    for one in every:
        # The service accounts' names are fixed: one deployment a project.
        if _named(one) != here.function and _runs_as(one) == here.account("function"):
            remedy = f"Update it instead: --var function_name={_named(one)}; or destroy it first."
            yield Finding("no other deployment in this project", False, f"function {_named(one)} is one", remedy)
    others = [place for place in places if place != here.region]
    if others:
        remedy = f"Add --var region={others[0]}, or destroy that one first."
        yield Finding(what, False, f"is deployed in {', '.join(others)} already", remedy)
    elif places:
        yield Finding(what, True, "is deployed already and is brought up to date")
    elif google.find("iam", f"v1/{here.parent}/serviceAccounts/{here.account('function')}"):
        yield Finding(what, True, "an earlier deployment ended half way: what it made is adopted, and it is continued")
    else:
        yield Finding(what, True, "will be made")


def _named(function: Mapping[str, Any]) -> str:
    return str(function["name"]).rpartition("/")[2]


def _runs_as(function: Mapping[str, Any]) -> str:
    return str(function.get("serviceConfig", {}).get("serviceAccountEmail", ""))


def _pool(google: Google, here: Here, _given: Mapping[str, Any]) -> Iterator[Finding]:
    found = google.find("iam", f"v1/{here.pool}")
    name = here.pool.rpartition("/")[2]
    if found is not None and not lives(found):
        yield Finding(
            f"workload identity pool {name}",
            False,
            "was deleted, and Google keeps its id for 30 days",
            f"Run: gcloud iam workload-identity-pools undelete {name} --location=global --project={here.project} - or "
            f"choose another id: --var workload_identity_pool_id={name}-2.",
        )
    else:
        yield Finding(f"workload identity pool {name}", True, "exists and is adopted" if found else "will be made")


def _log_bucket(google: Google, here: Here, _given: Mapping[str, Any]) -> Iterator[Finding]:
    found = google.find("logging", f"v2/{here.place}/buckets/{here.function}")
    if found is not None and not lives(found):
        yield Finding(
            f"log bucket {here.function}",
            False,
            "was deleted, and Google keeps its name for seven days",
            f"Run: gcloud logging buckets undelete {here.function} --location={here.region} --project={here.project}",
        )


def _accounts(google: Google, here: Here, _given: Mapping[str, Any]) -> Iterator[Finding]:
    held = {str(one["email"]) for one in google.pages("iam", f"v1/{here.parent}/serviceAccounts", "accounts")}
    ours = {here.account(name) for name in OWN_ACCOUNTS}
    after = len(held | ours)
    detail = f"{after} of the {MOST_ACCOUNTS} that a project may have by default"
    if after > MOST_ACCOUNTS:
        yield Finding("service accounts", None, detail, "Delete unused ones unless your quota is higher.")
    else:
        yield Finding("service accounts", True, detail)
    if here.account("connector") in held and here.account("function") not in held:
        detail = "identity and destination are adopted, nothing is duplicated"
        yield Finding("resources of an earlier setup", True, detail)
