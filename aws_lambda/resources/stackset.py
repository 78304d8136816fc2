"""The StackSet that creates the member roles, with its instances and operations."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aws_lambda import manual_steps
from aws_lambda.clients import Clients
from aws_lambda.errors import NOT_MANAGEMENT, NOT_MANAGEMENT_GUIDE, observed
from aws_lambda.scopes import Scopes
from aws_lambda.settings import AwsSettings
from shared.errors import CloudError, Manual, NotFound
from shared.model import Absent, ManualStep, Observation, Ownership, Present, Target
from shared.runtime.context import RunContext

QUOTA = "cloudformation"
INSTANCES_PAGE = 100


class StackSet:
    """Observes the StackSet and lists its instances; the function never writes the StackSet itself."""

    def __init__(self, settings: AwsSettings, clients: Clients, run: RunContext, scopes: Scopes) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._scopes = scopes
        self._lock = threading.Lock()
        self._root: str | None = None
        self._region: str | None = None

    def root_id(self) -> str:
        """Return the id of the organization's root, which every operation requires. Raises CloudError."""
        with self._lock:
            token: dict[str, Any] = {}
            while self._root is None:
                page = self._run.calls("organizations", self._clients.organizations.list_roots, **token)
                if page.get("Roots"):
                    self._root = str(page["Roots"][0]["Id"])
                token = {"NextToken": page["NextToken"]} if page.get("NextToken") else {}
                if not token and self._root is None:
                    remedy = (
                        "Grant organizations:ListRoots to the function's role (apply the deployment), then run again."
                    )
                    raise NotFound(
                        "no-root", "ListRoots returned no root, so that the StackSet has no deployment target", remedy
                    )
            return self._root

    def instances_region(self) -> str:
        """Return the region of the instances. Raises CloudError.

        There is only one: instances in a second region would try to create the same global role.
        """
        with self._lock:
            if self._region is None:
                first = self._run.calls(
                    QUOTA,
                    self._clients.cloudformation.list_stack_instances,
                    StackSetName=self._settings.stackset,
                    **self.call_as(),
                )
                regions = [str(one["Region"]) for one in first.get("Summaries", [])]
                self._region = regions[0] if regions else self._settings.region
            return self._region

    def note_region(self, instances: Iterable[Mapping[str, Any]]) -> None:
        """Record the region of most listed instances as that of all instances."""
        regions = Counter(str(instance["Region"]) for instance in instances)
        if regions:
            self._region = max(sorted(regions), key=lambda region: regions[region])

    def pages(self, account: str | None = None) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Yield the pages of the instances of all accounts, or of one account. Raises CloudError."""
        arguments: dict[str, Any] = {"StackInstanceAccount": account} if account else {}
        while True:
            page = self._run.calls(
                QUOTA,
                self._clients.cloudformation.list_stack_instances,
                StackSetName=self._settings.stackset,
                MaxResults=INSTANCES_PAGE,
                **self.call_as(),
                **arguments,
            )
            yield page.get("Summaries", [])
            if not page.get("NextToken"):
                return
            arguments["NextToken"] = page["NextToken"]

    def operation_status(self, operation: str) -> str:
        """Return an operation's status as CloudFormation spells it. Raises CloudError."""
        try:
            answer = self._run.calls(
                QUOTA,
                self._clients.cloudformation.describe_stack_set_operation,
                StackSetName=self._settings.stackset,
                OperationId=operation,
                **self.call_as(),
            )
        except NotFound:
            return "(no longer recorded)"
        return str(answer["StackSetOperation"].get("Status", ""))

    def call_as(self) -> dict[str, Any]:
        """Return the extra argument for calls of a delegated administrator."""
        return {"CallAs": "DELEGATED_ADMIN"} if self._scopes.delegated else {}

    def explained(self, error: CloudError) -> CloudError:
        """Return the error, with the management account's id if the function runs in another account."""
        if isinstance(error, Manual) and error.code == NOT_MANAGEMENT and self._scopes.management:
            manual_step = ManualStep(
                f"{NOT_MANAGEMENT_GUIDE.what}; the management account is {self._scopes.management}",
                NOT_MANAGEMENT_GUIDE.steps,
                NOT_MANAGEMENT_GUIDE.url,
            )
            return Manual(NOT_MANAGEMENT, manual_step, error.message)
        return error

    def _first_observation(self) -> Observation:
        """Read a StackSet that is not known yet: it is ours if it is service-managed and creates our role."""
        name = self._settings.stackset
        try:
            describe = self._clients.cloudformation.describe_stack_set
            found = self._run.calls(QUOTA, describe, StackSetName=name, **self.call_as())["StackSet"]
        except NotFound:
            return Absent(("describe",), f"StackSet {name} does not exist")
        except CloudError as error:
            return observed(self.explained(error), f"StackSet {name}")
        body = str(found.get("TemplateBody", ""))
        values = [str(one.get("ParameterValue", "")) for one in found.get("Parameters", [])]
        differences = []
        if found.get("PermissionModel", "SELF_MANAGED") != "SERVICE_MANAGED":
            differences.append("it is not service-managed")
        if body and self._settings.member_role not in body and self._settings.member_role not in values:
            differences.append(f"it does not create the role {self._settings.member_role}")
        if not differences:
            return Present(facts={"stackset": str(found.get("StackSetId", ""))})
        manual_step = manual_steps.stackset_foreign(name, differences)
        return Present(
            ownership=Ownership.FOREIGN, code="stackset-foreign", detail=manual_step.what, manual_step=manual_step
        )

    def observe(
        self,
        target: Target,
        by_account: Mapping[str, Sequence[Mapping[str, Any]]],
        failure: CloudError | None,
    ) -> Observation:
        """Return the observation of the StackSet from the listing of its instances.

        `by_account` holds the listed instances, `failure` is why the listing failed. A StackSet that is not known yet
        is read as well.
        """
        if isinstance(failure, NotFound):
            return Absent(("list",), f"StackSet {self._settings.stackset} does not exist")
        if failure is not None and not by_account:
            return observed(failure, f"StackSet {self._settings.stackset}")
        ids = {str(one.get("StackSetId", "")) for instances in by_account.values() for one in instances}
        state = target.state
        known = str(state.facts.get("stackset", "")) if state else ""
        if known and ids <= {known}:
            return Present(facts={"stackset": known})
        return self._first_observation()
