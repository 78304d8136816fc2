"""The project the function works in: whether it is alive, and whether the APIs it needs are on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gcp_function.clients import Clients
from gcp_function.errors import observed
from gcp_function.manual_steps import api_disabled, apis_unreadable, payer_unreadable, project_not_billed
from gcp_function.refusals import NOT_BILLED, UNDELETE
from gcp_function.settings import GcpSettings
from shared.errors import CloudError, NotFound, RunStopped
from shared.model import Absent, EscalationPolicy, Health, Key, Observation, Present, Target, Unknown
from shared.runtime.context import RunContext
from shared.target_state import TargetState

RIGHT = "resourcemanager.projects.get"


class Project:
    """Observes the project and its APIs, neither of which the function ever writes."""

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._seen: Observation | None = None
        self._billing: Observation | None = None
        self.payer: str | None = None  # the account that the project is linked to, None where that is not known
        self.number = ""  # the project's number, "" where it may not be read

    def look(self) -> Observation:
        """Read the project, once a run. Raises RunStopped where it is being deleted or does not exist."""
        if self._seen is None:
            self._seen = self._look()
        return self._seen

    def _look(self) -> Observation:
        project, service = self._settings.project, "cloudresourcemanager"
        try:
            answer = self._run.calls(service, self._clients.get, service, f"v3/projects/{project}")
        except NotFound as error:
            raise RunStopped(
                "wrong-project",
                f"project {project} does not exist: {error.message}",
                "Set GOOGLE_CLOUD_PROJECT to the id of the project that the function is deployed in.",
            ) from error
        except CloudError as error:
            # A project that does not exist is refused like one that may not be seen: the other calls will tell.
            return observed(error, f"project {project} (the right {RIGHT} is missing, or there is no such project)")
        state = str(answer.get("state", "ACTIVE"))
        self.number = str(answer.get("name", "")).removeprefix("projects/")
        if state != "ACTIVE":
            raise RunStopped("project-deleted", f"project {project} is in state {state}", UNDELETE)
        return Present({"state": state})

    def billing(self, entry: TargetState | None) -> Observation:
        """Read which account pays for the project, and whether it is open; once a day as long as all is well.

        In between what is remembered in `entry` counts: Cloud Storage and BigQuery tell at once when nobody pays.
        """
        if self._billing is None:
            facts = entry.facts if entry is not None and entry.error is None else {}
            known, today = facts.get("account"), self._run.clock.now().date().isoformat()
            if isinstance(known, str) and known and facts.get("read_on") == today:
                self.payer = known
                self._billing = Present()
            else:
                self._billing = self._look_at_billing(today)
        return self._billing

    def _look_at_billing(self, today: str) -> Observation:
        project, service = self._settings.project, "cloudbilling"
        try:
            answer = self._run.calls(service, self._clients.get, service, f"v1/projects/{project}/billingInfo")
        except CloudError as error:
            seen = observed(error, f"the billing account of project {project}")
            if isinstance(seen, Unknown) and seen.escalation is not None:
                manual_step = payer_unreadable(project, error.message)
                return Unknown(seen.code, seen.detail, manual_step, EscalationPolicy(tries=3))
            return seen
        self.payer = str(answer.get("billingAccountName") or "").removeprefix("billingAccounts/")
        if answer.get("billingEnabled"):
            return Present(facts={"account": self.payer, "read_on": today})
        state = "closed" if self.payer else "absent"
        said = f"billing account {self.payer} is closed" if self.payer else "no billing account is linked to it"
        manual_step = project_not_billed(said, project, state)
        return Present(health=Health.MANUAL, code=NOT_BILLED, detail=manual_step.what, manual_step=manual_step)

    def apis(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Look at all required APIs in one call."""
        project, service = self._settings.project, "serviceusage"
        if not targets:
            return {}
        names = [f"projects/{project}/services/{target.key.name}" for target in targets]
        path = f"v1/projects/{project}/services:batchGet"
        try:
            answer = self._run.calls(service, self._clients.get, service, path, {"names": names})
        except CloudError as error:
            unknown = observed(error, f"the APIs of project {project}")
            if isinstance(unknown, Unknown) and unknown.escalation is not None:
                manual_step = apis_unreadable(project, error.message)
                unknown = Unknown(unknown.code, unknown.detail, manual_step, EscalationPolicy(tries=3))
            return {target.key: unknown for target in targets}
        states = {
            str(one.get("name", "")).rpartition("/")[2]: str(one.get("state", "")) for one in answer.get("services", [])
        }
        return {target.key: self._api(target.key.name, states.get(target.key.name, "DISABLED")) for target in targets}

    def _api(self, name: str, state: str) -> Observation:
        if state == "ENABLED":
            return Present({"state": state})
        manual_step = api_disabled(name, self._settings.project)
        return Absent(("get",), manual_step.what, manual_step, code="api-disabled")
