"""The function's project: whether it is active, its billing account, and the required APIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gcp_function.clients import Clients
from gcp_function.errors import observed
from gcp_function.manual_steps import api_disabled, apis_unreadable, payer_unreadable, project_not_billed
from gcp_function.refusals import NOT_BILLED, UNDELETE
from gcp_function.settings import GcpSettings
from gcp_function.targets import API, BILLING, PROJECT_KIND
from shared.errors import CloudError, NotFound, RunStopped
from shared.model import Absent, EscalationPolicy, Health, Key, Observation, Present, Target, Unknown
from shared.resources import BulkOnly, ReadOnly
from shared.runtime.context import RunContext
from shared.target_state import TargetState

RIGHT = "resourcemanager.projects.get"


class Project(BulkOnly, ReadOnly):
    """Observes the project, its billing account and its APIs, which the function never writes."""

    kinds = (PROJECT_KIND, API, BILLING)

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._observation: Observation | None = None
        self._billing: Observation | None = None
        self.payer: str | None = None  # the billing account that the project is linked to, None if that is not known
        self.number = ""  # the project's number, "" if it may not be read

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Read the project, once a run; all APIs in one call; the billing account once a day."""
        found = {target.key: self.read() for target in targets if target.kind == PROJECT_KIND}
        found |= self._observe_apis([target for target in targets if target.kind == API])
        return found | {target.key: self.billing(target.state) for target in targets if target.kind == BILLING}

    def read(self) -> Observation:
        """Read the project, once a run. Raises RunStopped if it is being deleted or does not exist."""
        if self._observation is None:
            self._observation = self._read()
        return self._observation

    def _read(self) -> Observation:
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
            # Google returns the same refusal for a missing project and for an unreadable one; other calls distinguish
            # them.
            return observed(error, f"project {project} ({RIGHT} is missing, or the project does not exist)")
        state = str(answer.get("state", "ACTIVE"))
        self.number = str(answer.get("name", "")).removeprefix("projects/")
        if state != "ACTIVE":
            raise RunStopped("project-deleted", f"project {project} is in state {state}", UNDELETE)
        return Present({"state": state})

    def billing(self, entry: TargetState | None) -> Observation:
        """Read which billing account the project is linked to, and whether it is open; once a day if it was open.

        In between, the account in `entry` is used: without an open one, Cloud Storage and BigQuery refuse every call.
        """
        if self._billing is None:
            facts = entry.facts if entry is not None and entry.error is None else {}
            known, today = facts.get("account"), self._run.clock.now().date().isoformat()
            if isinstance(known, str) and known and facts.get("read_on") == today:
                self.payer = known
                self._billing = Present()
            else:
                self._billing = self._read_billing(today)
        return self._billing

    def _read_billing(self, today: str) -> Observation:
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
        why = f"billing account {self.payer} is closed" if self.payer else "no billing account is linked to it"
        manual_step = project_not_billed(why, project, state)
        return Present(health=Health.MANUAL, code=NOT_BILLED, detail=manual_step.what, manual_step=manual_step)

    def _observe_apis(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
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
