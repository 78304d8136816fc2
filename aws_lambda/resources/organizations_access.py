"""The trusted access of StackSets to the organization, which the function reads and never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_lambda import manual_steps
from aws_lambda.clients import Clients
from aws_lambda.errors import ORGANIZATIONS_ACCESS_GUIDE, observed
from aws_lambda.resources.stackset import QUOTA, StackSet
from aws_lambda.targets import ORGANIZATIONS_ACCESS
from shared.errors import CloudError
from shared.model import Health, Key, Observation, Present, Target
from shared.resources import ReadOnly
from shared.runtime.context import RunContext


class OrganizationsAccess(ReadOnly):
    """Observes whether StackSets has trusted access to the organization."""

    kinds = (ORGANIZATIONS_ACCESS,)

    def __init__(self, account: str, clients: Clients, run: RunContext, stackset: StackSet) -> None:
        self._account = account
        self._clients = clients
        self._run = run
        self._stackset = stackset

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Read whether the access is enabled."""
        return {target.key: self.observe(target) for target in targets}

    def observe(self, target: Target) -> Observation:
        """Read the status of the access; if it is disabled, the observation has the step that enables it."""
        try:
            answer = self._run.calls(
                QUOTA, self._clients.cloudformation.describe_organizations_access, **self._stackset.call_as()
            )
        except CloudError as error:
            return observed(self._stackset.explained(error), f"{target.key.kind} of account {self._account}")
        status = str(answer.get("Status", ""))
        if status == "ENABLED":
            return Present({"status": status})
        code, manual_step = "organizations-access", ORGANIZATIONS_ACCESS_GUIDE
        if status == "DISABLED_PERMANENTLY":
            code, manual_step = (
                "organizations-access-permanently-disabled",
                manual_steps.access_permanently_disabled(self._account),
            )
        elif self._features() == "CONSOLIDATED_BILLING":
            code, manual_step = "all-features-needed", manual_steps.all_features_needed()
        return Present({"status": status}, Health.BROKEN, code=code, detail=manual_step.what, manual_step=manual_step)

    def _features(self) -> str:
        """Return the organization's feature set, "" if it cannot be read."""
        try:
            describe = self._clients.organizations.describe_organization
            return str(self._run.calls("organizations", describe)["Organization"].get("FeatureSet", ""))
        except CloudError as error:
            what = f"the feature set of the organization could not be read: {error.message}"
            self._run.log("warning", "detail-unread", code=error.code, reason=what)
            return ""
