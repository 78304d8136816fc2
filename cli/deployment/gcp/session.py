"""A deployment on Google Cloud as commands use it: the caller's credentials, and the project."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from cli.deployment.gcp.rest import Google, project_of_environment, refused
from cli.deployment.model import OperatorError, Place, Problem
from shared.errors import Denied, NotFound, ReportedError

NAME_VARIABLE = "TAILPIPE_EXPORTS_FUNCTION_NAME"
FUNCTION = "tailpipe-exports"
REGION = "us-central1"
NONE = "none that you can see"


@dataclass(frozen=True)
class Session:
    """The context of the operator port: Google's APIs, and the project.

    `organization` is its number, empty if the project has none or it is not visible. `live` is the deployed function as
    Cloud Functions returns it, or None; `hidden` says why Cloud Functions could not be searched, and what to do.
    `given` are the given module variables.
    """

    google: Google
    project: str
    number: str
    organization: str
    caller: str
    region: str
    function: str
    live: Mapping[str, Any] | None = None
    hidden: tuple[str, str] | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """Return the project as every command shows it."""
        details = {"project number": self.number, "organization": self.organization or NONE}
        who = self.caller or "credentials without an e-mail address"
        return Place("gcp", self.project, "project", who, self.region, details)

    @property
    def parent(self) -> str:
        return f"projects/{self.project}"

    @property
    def location(self) -> str:
        return f"projects/{self.project}/locations/{self.region}"

    @property
    def member(self) -> str:
        """The caller in the notation of policies."""
        kind = "serviceAccount" if self.caller.endswith(".gserviceaccount.com") else "user"
        return f"{kind}:{self.caller or 'YOUR-E-MAIL'}"

    def account(self, name: str) -> str:
        """Return the e-mail address of one of the deployment's service accounts."""
        return f"tailpipe-{name}@{self.project}.iam.gserviceaccount.com"

    @property
    def settings(self) -> dict[str, str]:
        """The deployed function's environment; empty if nothing is deployed."""
        return dict((self.live or {}).get("serviceConfig", {}).get("environmentVariables", {}))

    @property
    def uri(self) -> str:
        return str((self.live or {}).get("serviceConfig", {}).get("uri", ""))

    @property
    def dataset(self) -> str:
        return self.settings.get("BILLING_DATASET") or str(self.given.get("dataset_id") or "billing_export")

    @property
    def bucket(self) -> str:
        usual = f"tailpipe-billing-export-{self.project}"
        return self.settings.get("EXPORT_BUCKET") or str(self.given.get("export_bucket") or usual)

    @property
    def state_bucket(self) -> str:
        usual = f"tailpipe-state-{self.project}"
        return self.settings.get("STATE_BUCKET") or str(self.given.get("state_bucket") or usual)

    @property
    def pool(self) -> str:
        identifier = self.given.get("workload_identity_pool_id") or "tailpipe-pool"
        return f"projects/{self.project}/locations/global/workloadIdentityPools/{identifier}"

    @property
    def pool_name(self) -> str:
        """The pool's own name, which has the project's number."""
        return self.pool.replace(f"projects/{self.project}/", f"projects/{self.number}/", 1)


def open_session(given: Mapping[str, Any], sleep: Callable[[float], None] = time.sleep) -> Session:
    """Return the session for the named project. Raises OperatorError.

    The function is found by its name in any region of the project: the variable `function_name`,
    TAILPIPE_EXPORTS_FUNCTION_NAME, or the default.
    """
    named = str(given.get("project_id") or project_of_environment())
    if not named:
        raise OperatorError(
            Problem("no project is named", "Set GOOGLE_CLOUD_PROJECT to the project's id, or --var project_id=ID.")
        )
    google = Google(named, sleep)
    caller = google.caller()
    project = _project(google, named, caller)
    identifier = str(project["projectId"])
    with translated():
        organization = _organization(google, identifier)
    session = refreshed(
        Session(
            google=google,
            project=identifier,
            number=str(project["name"]).removeprefix("projects/"),
            organization=organization,
            caller=caller,
            region=str(given.get("region") or ""),
            function=str(given.get("function_name") or os.environ.get(NAME_VARIABLE) or FUNCTION),
            given=dict(given),
        )
    )
    return replace(session, region=session.region or REGION)


def refreshed(session: Session) -> Session:
    """Return the session with the function as currently deployed, in the region that is set or in any.

    If the functions may not be listed, `hidden` says why. Raises OperatorError for a function in several regions.
    """
    try:
        listed = listed_functions(session, session.region or "-")
    except ReportedError as error:
        # Before a first deployment, the API is disabled, and `doctor` reports permissions: neither ends a command here.
        if error.code == "api-disabled":
            enable = f"Run: gcloud services enable cloudfunctions.googleapis.com --project {session.project}"
            remedy = f"{enable} - or deploy it: tailpipe-exports deploy gcp."
            return replace(session, live=None, hidden=("the Cloud Functions API is off", remedy))
        if isinstance(error, Denied | NotFound):
            hidden = (error.message, "See your permissions: tailpipe-exports doctor gcp.")
            return replace(session, live=None, hidden=hidden)
        raise refused(error) from error
    ours = [one for one in listed if name_of(one) == session.function]
    if len(ours) > 1:
        regions = ", ".join(region_of(one) for one in ours)
        raise OperatorError(
            Problem(
                f"function {session.function} is deployed in {regions}",
                f"Name one region: --var region=REGION; for plan and run --function REGION/{session.function}.",
            )
        )
    live = ours[0] if ours else None
    return replace(session, live=live, hidden=None, region=region_of(live) or session.region)


def listed_functions(session: Session, region: str) -> list[dict[str, Any]]:
    """Return the project's functions as listed; ``-`` is every region. Raises ReportedError."""
    path = f"v2/{session.parent}/locations/{region}/functions"
    return list(session.google.pages("cloudfunctions", path, "functions"))


def name_of(function: Mapping[str, Any]) -> str:
    """Return the last part of a function's full name."""
    return str(function["name"]).rpartition("/functions/")[2]


def region_of(function: Mapping[str, Any] | None) -> str:
    """Return a function's region, empty without a function."""
    return str(function["name"]).split("/")[3] if function else ""


def _project(google: Google, named: str, caller: str) -> dict[str, Any]:
    """Return a project that can contain a deployment. Raises OperatorError."""
    try:
        found = google.get("cloudresourcemanager", f"v3/projects/{named}")
    except (Denied, NotFound) as error:
        who = caller or "you"
        raise OperatorError(
            Problem(
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
            Problem(
                f"project {named} is in state {state or 'unknown'}",
                f"Restore it within 30 days of its deletion: gcloud projects undelete {named} - or name another one.",
            )
        )
    return found


def _organization(google: Google, project: str) -> str:
    """Return the number of the project's organization, through any folders; empty without one."""
    chain = google.post("cloudresourcemanager", f"v1/projects/{project}:getAncestry").get("ancestor", ())
    above = [one["resourceId"] for one in chain]
    return next((str(one["id"]) for one in above if one["type"] == "organization"), "")


@contextmanager
def translated() -> Iterator[None]:
    """Turn the engine's errors into OperatorError."""
    try:
        yield
    except ReportedError as error:
        raise refused(error) from error
