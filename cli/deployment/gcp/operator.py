"""The operator's commands on GCP."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cli.deployment.gcp import adopt, invoke, onboarding, preflight, remove, rights, surroundings, verify
from cli.deployment.gcp.session import Google, Here, project_of_environment, refused
from cli.deployment.model import (
    Adoption,
    Backend,
    Change,
    Clearing,
    Deployed,
    Fault,
    Finding,
    Kept,
    OperatorError,
    Place,
    Removal,
)
from cli.deployment.operator import Tell
from gcp_function.settings import read_settings
from gcp_function.targets import MANAGED_BY, MANAGER
from shared.errors import Denied, NotFound, Permanent, ReportedError, SettingsError

NAME_VARIABLE = "TAILPIPE_EXPORTS_FUNCTION_NAME"
FUNCTION = "tailpipe-exports"
REGION = "us-central1"
NONE = "none that you can see"


class GcpOperator:
    """The port `cli.deployment.operator.Operator` for GCP.

    The function is found by its name in any region of the project: the variable `function_name`,
    TAILPIPE_EXPORTS_FUNCTION_NAME, or the usual one. `sleep` waits that many seconds, `now` returns seconds since 1970.
    """

    precious = frozenset({"google_bigquery_dataset", "google_storage_bucket"})
    alarm = "google_monitoring_alert_policy"
    confirm_emails = False
    secrets: Sequence[tuple[str, ...]] = ()

    def __init__(
        self, sleep: Callable[[float], None] = time.sleep, now: Callable[[], float] = remove.wall_clock
    ) -> None:
        self._sleep = sleep
        self._now = now
        self._opened: tuple[Google, Here] | None = None

    def place(self, given: Mapping[str, Any]) -> Place:
        named = str(given.get("project_id") or project_of_environment())
        if not named:
            raise OperatorError(
                Fault("no project is named", "Set GOOGLE_CLOUD_PROJECT to the project's id, or --var project_id=ID.")
            )
        google = Google(named, self._sleep)
        caller = google.caller()
        project = _project(google, named, caller)
        identifier = str(project["projectId"])
        with _translated():
            organization, parents = _organization(google, identifier)
        here = Here(
            project=identifier,
            number=str(project["name"]).removeprefix("projects/"),
            organization=organization,
            caller=caller,
            region=str(given.get("region") or ""),
            function=str(given.get("function_name") or os.environ.get(NAME_VARIABLE) or FUNCTION),
            given=dict(given),
        )
        live, hidden = _live(google, here)
        here = replace(here, live=live, hidden=hidden, region=here.region or _region(live) or REGION)
        self._opened = google, here
        details = {"project number": here.number, "organization": parents or NONE}
        who = here.caller or "credentials that do not tell their e-mail address"
        return Place("gcp", here.project, "project", who, here.region, details)

    def detected(self, place: Place, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the project, where the function and the dataset are already, and the organization."""
        google, here = self._at(place)
        found: dict[str, Any] = {"project_id": here.project, "region": here.region}
        if here.organization and not given.get("billing_accounts"):
            found["organization_id"] = here.organization
        if "dataset_location" not in given:
            with _translated():
                name = given.get("dataset_id") or "billing_export"
                dataset = _quietly(google, "bigquery", f"bigquery/v2/{here.parent}/datasets/{name}") or {}
            if location := preflight.location_of(dataset):
                found["dataset_location"] = location
        return found

    def rights(self, place: Place) -> list[Finding]:
        return _remedied(rights.rights(*self._at(place)))

    def surroundings(self, place: Place, given: Mapping[str, Any]) -> list[Finding]:
        google, here = self._at(place)
        return _remedied(surroundings.surroundings(google, replace(here, given={**here.given, **given}), given))

    def preflight(self, place: Place, given: Mapping[str, Any]) -> list[Finding]:
        google, here = self._at(place)
        here = replace(here, given={**here.given, **given})
        self._opened = google, here
        room, obstacles = preflight.preflight(google, here, given), surroundings.obstacles(google, here, given)
        return _remedied([*room, *obstacles])

    def providers(self, place: Place) -> dict[str, Any]:
        # Calls made with a person's credentials are counted against this project, in which the APIs are on.
        own = {"user_project_override": True, "billing_project": place.id}
        return {"google": {"project": place.id, "region": place.region, **own}}

    def module_providers(self) -> dict[str, str]:
        return {}

    def backend(self, place: Place) -> Backend:
        bucket = f"tailpipe-terraform-{place.id}"
        return Backend("gcs", {"bucket": bucket, "prefix": "tailpipe-exports"}, f"bucket {bucket}")

    def backend_exists(self, place: Place) -> bool:
        google, here = self._at(place)
        bucket = self.backend(place).configuration["bucket"]
        try:
            found = google.find("storage", f"storage/v1/b/{bucket}")
        except Denied as error:
            raise OperatorError(_foreign(bucket)) from error
        except ReportedError as error:
            raise refused(error) from error
        if found is not None and str(found.get("projectNumber")) != here.number:
            raise OperatorError(_foreign(bucket))
        return found is not None

    def make_backend(self, place: Place, tell: Tell) -> None:
        google, here = self._at(place)
        bucket = str(self.backend(place).configuration["bucket"])
        # Cloud Storage encrypts everything and serves its API over TLS alone; what is left to say is who may read it,
        # and that an older state can be had back.
        wanted: dict[str, Any] = {
            "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
            "versioning": {"enabled": True},
            "labels": {MANAGED_BY: MANAGER},
        }
        location = str(here.given.get("dataset_location") or "US")
        with _translated():
            try:
                body = {**wanted, "name": bucket, "location": location}
                google.post("storage", "storage/v1/b", body, project=here.project)
            except Permanent as error:
                if error.code != "already-exists":
                    raise
                if not self.backend_exists(place):
                    raise OperatorError(_foreign(bucket)) from error
                google.patch("storage", f"storage/v1/b/{bucket}", wanted)
        tell(f"bucket {bucket} is made for Terraform's state: private, versioned, encrypted")

    def adoptions(self, place: Place, changes: Sequence[Change], tell: Tell) -> list[Adoption]:  # noqa: ARG002 - the port's signature
        with _translated():
            return list(adopt.adoptions(*self._at(place), changes))

    def invoke(self, place: Place, payload: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
        google, here = self._fresh(place)
        return invoke.invoke(google, here, payload, tell, self._sleep)

    def verify(self, place: Place) -> list[Finding]:
        return _remedied(verify.verify(*self._fresh(place)))

    def onboarding(self, place: Place) -> dict[str, Any]:
        google, here = self._fresh(place)
        if here.live is None:
            raise OperatorError(invoke.missing(here))
        _require_settings(here)
        with _translated():
            return onboarding.onboarding(google, here)

    def functions(self, place: Place) -> list[Deployed]:
        google, here = self._at(place)
        try:
            listed = _functions(google, here, "-")
        except ReportedError as error:
            if error.code == "api-disabled":
                return []
            if isinstance(error, Denied | NotFound):
                why = f"the functions of project {here.project} may not be listed: {error.message}"
                raise OperatorError(
                    Fault(why, "Grant cloudfunctions.functions.list (roles/cloudfunctions.viewer).")
                ) from error
            raise refused(error) from error
        return [
            _deployed(one, here.project)
            for one in listed
            if one.get("labels", {}).get(MANAGED_BY) == MANAGER or _name(one) == here.function
        ]

    def deployed(self, place: Place) -> dict[str, str] | None:
        _, here = self._fresh(place)
        if here.live is None:
            return None
        _require_settings(here)
        return here.settings

    def stop_schedule(self, place: Place, tell: Tell) -> None:
        with _translated():
            remove.stop_schedule(*self._at(place), tell)

    def clear(self, place: Place, removal: Removal, tell: Tell) -> None:
        google, here = self._fresh(place)
        _require_settings(here)
        with _translated():
            remove.clear(google, here, removal, tell, self._sleep, self._now)

    def clearing(self, place: Place, removal: Removal) -> Clearing:
        google, here = self._fresh(place)
        _require_settings(here)
        with _translated():
            return remove.clearing(google, here, removal)

    def kept(self, place: Place, removal: Removal) -> list[Kept]:
        _, here = self._at(place)
        _require_settings(here)
        return remove.kept(here, removal)

    def _at(self, place: Place) -> tuple[Google, Here]:
        if self._opened is None or self._opened[1].project != place.id:
            raise RuntimeError("place() comes first")
        return self._opened

    def _fresh(self, place: Place) -> tuple[Google, Here]:
        """Return the project as it is now: a deployment has changed it since `place` looked."""
        google, here = self._at(place)
        live, hidden = _live(google, here)
        here = replace(here, live=live, hidden=hidden, region=_region(live) or here.region)
        if live is not None and "workload_identity_pool_id" not in here.given:
            pool = verify.pool_of(google, here)
            given = {**here.given, **({"workload_identity_pool_id": pool} if pool else {})}
            here = replace(here, given=given)
        self._opened = google, here
        return self._opened


def _require_settings(here: Here) -> None:
    """Raise OperatorError for a function whose settings cannot be read: those by default are of another place."""
    if here.live is None:
        return
    try:
        read_settings(here.settings)
    except SettingsError as error:
        raise OperatorError(
            *(
                Fault(f"the settings of function {here.function} cannot be read: {one}", "Deploy it again.")
                for one in error.faults
            )
        ) from error


def _project(google: Google, named: str, caller: str) -> dict[str, Any]:
    """Return a project that a deployment can be in. Raises OperatorError."""
    try:
        found = google.get("cloudresourcemanager", f"v3/projects/{named}")
    except (Denied, NotFound) as error:
        who = caller or "you"
        raise OperatorError(
            Fault(
                f"project {named} does not exist, or {who} may not see it",
                f"Check the id; make it with: gcloud projects create {named} --organization=NUMBER - or be granted "
                "roles/browser on it.",
            )
        ) from error
    except ReportedError as error:
        raise refused(error) from error
    state = str(found.get("state", ""))
    if state != "ACTIVE":
        raise OperatorError(
            Fault(
                f"project {named} is in state {state or 'unknown'}",
                f"Restore it within 30 days of its deletion: gcloud projects undelete {named} - or name another one.",
            )
        )
    return found


def _organization(google: Google, project: str) -> tuple[str, str]:
    """Return the number of the organization that the project is in, however many folders lie between, and in words."""
    chain = google.post("cloudresourcemanager", f"v1/projects/{project}:getAncestry").get("ancestor", ())
    above = [one["resourceId"] for one in chain]
    number = next((str(one["id"]) for one in above if one["type"] == "organization"), "")
    return number, number


def _live(google: Google, here: Here) -> tuple[dict[str, Any] | None, tuple[str, str] | None]:
    """Return the deployed function, in the region that is set or in any; else why it cannot be seen, and what to do."""
    try:
        found = _functions(google, here, here.region or "-")
    except ReportedError as error:
        # Before a first deployment the API is off, and rights are `doctor`'s to tell: neither is in its way.
        if error.code == "api-disabled":
            enable = f"Run: gcloud services enable cloudfunctions.googleapis.com --project {here.project}"
            return None, ("the Cloud Functions API is off", f"{enable} - or deploy it: tailpipe-exports deploy gcp.")
        if isinstance(error, Denied | NotFound):
            return None, (error.message, "See your rights: tailpipe-exports doctor gcp.")
        raise refused(error) from error
    ours = [one for one in found if _name(one) == here.function]
    if len(ours) > 1:
        places = ", ".join(str(one["name"]).split("/")[3] for one in ours)
        raise OperatorError(
            Fault(
                f"function {here.function} is deployed in {places}",
                f"Name one region: --var region=REGION; for plan and run --function REGION/{here.function}.",
            )
        )
    return (ours[0] if ours else None), None


def _functions(google: Google, here: Here, region: str) -> list[dict[str, Any]]:
    """Return the project's functions as they are listed; ``-`` is every region. Raises ReportedError."""
    return list(google.pages("cloudfunctions", f"v2/{here.parent}/locations/{region}/functions", "functions"))


def _name(function: Mapping[str, Any]) -> str:
    return str(function["name"]).rpartition("/functions/")[2]


def _deployed(function: Mapping[str, Any], project: str) -> Deployed:
    config = function.get("serviceConfig") or {}
    hidden = {
        str(one.get("key")): f"it is in secret {one.get('secret')}, which secretmanager.versions.access lets read"
        for one in config.get("secretEnvironmentVariables") or ()
    }
    revision, since = config.get("revision") or "unknown", str(function.get("updateTime", ""))[:16]
    return Deployed(
        f"{_region(function)}/{_name(function)}",
        str(function["name"]),
        f"revision {revision}, deployed {since} UTC, {str(function.get('state', 'state unknown')).lower()}",
        {"GOOGLE_CLOUD_PROJECT": project},
        hidden,
    )


def _region(live: Mapping[str, Any] | None) -> str:
    return str(live["name"]).split("/")[3] if live else ""


def _quietly(google: Google, service: str, path: str) -> dict[str, Any] | None:
    """Return what is found, None also where it may not be read or its API is off."""
    try:
        return google.find(service, path)
    except ReportedError:
        return None


def _remedied(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings; what is well needs no remedy."""
    return [replace(one, remedy="") if one.ok else one for one in findings]


def _foreign(bucket: str) -> Fault:
    return Fault(
        f"bucket {bucket} belongs to another project, or may not be looked at",
        "Grant storage.buckets.get on it; or keep the state with --local-state DIR.",
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the engine's errors into the operator's."""
    try:
        yield
    except ReportedError as error:
        raise refused(error) from error
