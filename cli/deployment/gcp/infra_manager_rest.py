"""The calls to Infrastructure Manager for one deployment: operations, previews, locks and states.

Every method may raise ReportedError, and OperatorError where Google's answer says what to do. Source: the discovery
document of config.googleapis.com v1.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from cli.deployment.gcp.session import Session
from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Tell
from gcp_function.targets import MANAGED_BY, MANAGER
from shared.errors import Denied, NotFound, ReportedError

SERVICE = "config"
ACCOUNT = "deployer"  # tailpipe-deployer@PROJECT.iam.gserviceaccount.com
WAIT_S = 5.0
LONGEST_S = 3600.0
BUSY = ("CREATING", "UPDATING", "DELETING")
AGENT = (
    "Grant it what it needs to run: gcloud projects add-iam-policy-binding {project} "
    "--member=serviceAccount:{account} --role=roles/config.agent --condition=None"
)
REMEDIES = {
    "CLOUD_BUILD_PERMISSION_DENIED": AGENT,
    "BUCKET_CREATION_PERMISSION_DENIED": AGENT,
    "DEPLOYMENT_LOCK_ACQUIRE_FAILED": "Wait for the other operation, or unlock it: gcloud infra-manager deployments "
    "export-lock {name} --location={region}, then unlock with the shown id.",
}


class InfraManagerRest:
    """One deployment, which may not exist. `sleep` waits that many seconds."""

    def __init__(self, session: Session, sleep: Callable[[float], None] = time.sleep) -> None:
        self._session = session
        self._sleep = sleep
        self.account = str(session.given.get("deployer") or session.account(ACCOUNT))
        self.name = f"{session.location}/deployments/{session.function}"
        self._searched = False

    @property
    def location(self) -> str:
        return self.name.partition("/deployments/")[0]

    def find(self) -> dict[str, Any] | None:
        """Return the deployment as it is, None if it does not exist in any location.

        One that failed has no function yet, whose region would tell its location.
        """
        google = self._session.google
        found = google.find(SERVICE, f"v1/{self.name}")
        if found is None and not self._searched:
            self._searched = True
            everywhere = f"v1/{self._session.parent}/locations/-/deployments"
            for one in google.pages(SERVICE, everywhere, "deployments"):
                if str(one["name"]).endswith(f"/deployments/{self._session.function}"):
                    self.name = str(one["name"])
                    return one
        return found

    def exists(self) -> bool:
        """Return whether it exists; False where the API is off or the caller may not see deployments."""
        try:
            found = self.find()
        except ReportedError as error:
            if error.code == "api-disabled" or isinstance(error, Denied | NotFound):
                return False
            raise
        return found is not None and found.get("labels", {}).get(MANAGED_BY) == MANAGER

    def require_ready(self) -> None:
        """Raise OperatorError with every reason why Infrastructure Manager cannot run here."""
        session = self._session
        try:
            found = self.find()
        except ReportedError as error:
            if error.code != "api-disabled":
                raise
            raise OperatorError(
                Problem(
                    f"the Infrastructure Manager API is off in project {session.project}",
                    f"Run: gcloud services enable config.googleapis.com --project={session.project}",
                )
            ) from error
        if found is not None and found.get("labels", {}).get(MANAGED_BY) != MANAGER:
            raise OperatorError(
                Problem(
                    f"deployment {session.function} of Infrastructure Manager exists and is not this tool's",
                    "Choose another name: --var function_name=NAME.",
                )
            )
        if session.google.find("iam", f"v1/{session.parent}/serviceAccounts/{self.account}") is None:
            raise OperatorError(
                Problem(
                    f"service account {self.account}, as which Infrastructure Manager deploys, does not exist",
                    f"Run: gcloud iam service-accounts create {self.account.partition('@')[0]} "
                    f"--project={session.project} - and grant it the roles that docs/gcp.md lists.",
                )
            )

    def wait_until_idle(self, tell: Tell) -> None:
        """Wait for an operation of another command, such as one that was interrupted."""
        waited, announced = 0.0, False
        while (found := self.find()) is not None and found.get("state") in BUSY:
            if waited >= LONGEST_S:
                raise OperatorError(
                    Problem(f"deployment {self._session.function} is still {found['state']}", "Run the command again.")
                )
            if not announced:
                tell(f"waiting: an operation on deployment {self._session.function} is in progress ({found['state']})")
                announced = True
            waited += self._pause()

    def preview(self, body: Mapping[str, Any], exists: bool) -> dict[str, Any]:
        """Return the plan of a blueprint in Terraform's JSON form; the preview is deleted again."""
        google = self._session.google
        # A preview takes neither labels nor a name that another command may use.
        asked = {key: one for key, one in body.items() if key != "labels"} | (
            {"deployment": self.name} if exists else {}
        )
        name = f"{self._session.function[:50]}-{secrets.token_hex(4)}"
        path = f"v1/{self.location}/previews"
        try:
            made = self._finished(google.post(SERVICE, path, asked, previewId=name))
            if made.get("state") != "SUCCEEDED":
                raise OperatorError(*self._problems(made, made.get("errorStatus", {}).get("message", "")))
            uri = google.post(SERVICE, f"{path}/{name}:export")["result"]["jsonSignedUri"]
            return dict(json.loads(google.signed("GET", uri)))
        finally:
            with suppress(ReportedError):  # one that is left costs nothing, and the plan or its error matters more
                google.delete(SERVICE, f"{path}/{name}")

    def apply(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Create or update the deployment, and return the resources of its new revision."""
        google = self._session.google
        if self.find() is None:
            parent = f"v1/{self.location}/deployments"
            started = google.post(SERVICE, parent, body, deploymentId=self._session.function)
        else:
            mask = "labels,serviceAccount,terraformBlueprint,tfVersionConstraint"
            started = google.patch(SERVICE, f"v1/{self.name}", body, updateMask=mask)
        made = self._finished(started)
        if made.get("state") != "ACTIVE":
            latest = str(made.get("latestRevision") or "")
            revision = google.get(SERVICE, f"v1/{latest}") if latest else made
            raise OperatorError(*self._problems(revision, str(made.get("stateDetail", ""))))
        return self.resources()

    def delete(self) -> None:
        """Destroy the resources in the state, and delete the deployment."""
        answer = self._session.google.delete(SERVICE, f"v1/{self.name}", force="true", deletePolicy="DELETE")
        self._deleted(answer)

    def abandon(self) -> None:
        """Delete the deployment; its resources stay as they are."""
        answer = self._session.google.delete(SERVICE, f"v1/{self.name}", force="true", deletePolicy="ABANDON")
        self._deleted(answer)

    def resources(self) -> list[dict[str, Any]]:
        """Return the resources of the latest revision."""
        found = self.find()
        latest = str((found or {}).get("latestRevision") or "")
        return list(self._session.google.pages(SERVICE, f"v1/{latest}/resources", "resources")) if latest else []

    def addresses(self) -> list[str]:
        """Return the addresses that the latest revision holds; empty without a deployment."""
        return [
            str(one["terraformInfo"]["address"])
            for one in self.resources()
            # A resource that failed before it had an id was not created.
            if one.get("state") != "FAILED" or one["terraformInfo"].get("id")
        ]

    @contextmanager
    def locked(self) -> Iterator[Lock]:
        """Lock the deployment while its state is read or changed; a change applies from the end of the block on.

        The caller's own lock, of an interrupted command, is taken over; anyone else's is refused.
        """
        google = self._session.google
        self.wait_until_idle(lambda _line: None)
        if (self.find() or {}).get("lockState") not in ("LOCKED", "UNLOCK_FAILED"):
            self._finished(google.post(SERVICE, f"v1/{self.name}:lock"))
        lock = google.get(SERVICE, f"v1/{self.name}:exportLock")
        held, owner = str(lock["lockId"]), str(lock.get("who") or self._session.caller)
        if owner.partition("@")[0] != self._session.caller.partition("@")[0]:
            raise OperatorError(
                Problem(
                    f"deployment {self._session.function} is locked by {owner}",
                    f"Once they have finished: gcloud infra-manager deployments unlock {self.name} --lock-id={held}",
                )
            )
        try:
            yield Lock(self._session, self.name, held)
        finally:
            self._finished(google.post(SERVICE, f"v1/{self.name}:unlock", {"lockId": held}))

    def _deleted(self, started: Mapping[str, Any]) -> None:
        made = self._finished(started) if started else {}
        if made.get("state") == "FAILED":
            raise OperatorError(*self._problems(made, str(made.get("stateDetail", ""))))

    def _finished(self, operation: Mapping[str, Any]) -> dict[str, Any]:
        """Wait for an operation, and return its response."""
        waited = 0.0
        while not operation.get("done"):
            if waited >= LONGEST_S:
                raise OperatorError(
                    Problem(
                        f"Infrastructure Manager has not finished after {LONGEST_S / 60:.0f} minutes", "Run it again."
                    )
                )
            waited += self._pause()
            operation = self._session.google.get(SERVICE, f"v1/{operation['name']}")
        if "error" in operation:
            message = str(operation["error"].get("message", "")) or "no reason given"
            raise OperatorError(Problem(f"Infrastructure Manager: {message}", "Correct it and run the command again."))
        return dict(operation.get("response", {}))

    def _problems(self, failed: Mapping[str, Any], detail: str) -> list[Problem]:
        """Return why a preview, a revision or a deletion failed, with Terraform's own errors."""
        code = str(failed.get("errorCode", ""))
        remedy = REMEDIES.get(code, "").format(
            project=self._session.project,
            account=self.account,
            name=self._session.function,
            region=self._session.region,
        )
        found = []
        for one in failed.get("tfErrors", ()):
            where = f"{one['resourceAddress']}: " if one.get("resourceAddress") else ""
            found.append(Problem(f"{where}{one.get('errorDescription', '')}", _remedy(one, self.account)))
        return list(dict.fromkeys(found)) or [
            Problem(f"Infrastructure Manager: {detail or code or 'failed without a reason'}", remedy)
        ]

    def _pause(self) -> float:
        wait = 0.1 if self._session.google.local else WAIT_S
        self._sleep(wait)
        return wait


class Lock:
    """A locked deployment, whose state can be read and replaced."""

    def __init__(self, session: Session, name: str, held: str) -> None:
        self._session = session
        self._name = name
        self._held = held

    def state(self) -> dict[str, Any]:
        """Return Terraform's state file; an empty one if it has none yet."""
        google = self._session.google
        content = google.signed("GET", google.post(SERVICE, f"v1/{self._name}:exportState")["signedUri"])
        return dict(json.loads(content)) if content else {"version": 4, "serial": 0, "resources": [], "outputs": {}}

    def put(self, state: Mapping[str, Any]) -> None:
        """Replace the state file."""
        google = self._session.google
        uri = google.post(SERVICE, f"v1/{self._name}:importState", {"lockId": self._held})["signedUri"]
        google.signed("PUT", uri, json.dumps(state).encode())


def _remedy(error: Mapping[str, Any], account: str) -> str:
    if error.get("httpResponseCode") == 403:
        return f"Grant {account} the missing permission: it needs the operator's roles, which docs/gcp.md lists."
    return ""
