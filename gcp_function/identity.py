"""The project the function works in: whether it is alive, and whether the APIs it needs are on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gcp_function.clients import Clients
from gcp_function.errors import UNDELETE, observed
from gcp_function.guides import api_disabled, apis_unreadable
from gcp_function.settings import GcpSettings
from shared.errors import CloudError, NotFound, RunStopped
from shared.model import Absent, Key, Observation, Patience, Present, Target, Unknown
from shared.run import Run

RIGHT = "resourcemanager.projects.get"


class Identity:
    """Observes the project and its APIs, neither of which the function ever writes."""

    def __init__(self, settings: GcpSettings, clients: Clients, run: Run) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._seen: Observation | None = None
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
            if isinstance(unknown, Unknown) and unknown.patience is not None:
                guide = apis_unreadable(project, error.message)
                unknown = Unknown(unknown.code, unknown.detail, guide, Patience(tries=3))
            return {target.key: unknown for target in targets}
        states = {
            str(one.get("name", "")).rpartition("/")[2]: str(one.get("state", "")) for one in answer.get("services", [])
        }
        return {target.key: self._api(target.key.name, states.get(target.key.name, "DISABLED")) for target in targets}

    def _api(self, name: str, state: str) -> Observation:
        if state == "ENABLED":
            return Present({"state": state})
        guide = api_disabled(name, self._settings.project)
        return Absent(("get",), guide.what, guide, code="api-disabled")
