"""The members' role by the instances of a StackSet, and what these rest on: organization access and the StackSet."""

from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aws_lambda import manual_steps
from aws_lambda.clients import Clients
from aws_lambda.errors import NOT_MANAGEMENT, NOT_MANAGEMENT_GUIDE, ORGANIZATIONS_ACCESS_GUIDE, observed
from aws_lambda.resources.export_health import RoleJudge
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import MEMBER_ROLE
from shared.errors import CloudError, Manual, NotFound
from shared.model import (
    Absent,
    Action,
    Health,
    Key,
    ManualStep,
    Observation,
    Ownership,
    Present,
    Result,
    Target,
    Unknown,
    Verb,
)
from shared.provider import Applied
from shared.runtime.context import RunContext
from shared.state.document import StateDocument

QUOTA = "cloudformation"
INSTANCES_PAGE = 100

# One bad account must not stop the others: every account is tried, and answers for itself.
PREFERENCES: dict[str, Any] = {
    "RegionConcurrencyType": "PARALLEL",
    "FailureTolerancePercentage": 100,
    "MaxConcurrentPercentage": 100,
    "ConcurrencyMode": "SOFT_FAILURE_TOLERANCE",
}
OPERATION_ID = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]{0,127}")
OPERATION_RUNS = frozenset({"RUNNING", "QUEUED", "STOPPING"})
# What StackSets answers to a request that it does not understand or take; which account it is about, it may not say.
INVALID = frozenset({"ValidationError", "ValidationException", "InvalidOperationException", "InvalidInputException"})
MOST_REFUSALS = 40  # enough to find four bad accounts among 500; a cause that all share must not cost a call for each
MOST_OPERATIONS = 10


def _split(accounts: Sequence[str], refusal: str) -> list[list[str]]:
    """Return the accounts in two batches: those that the refusal names apart from the others, else two halves."""
    named = [account for account in accounts if account in refusal]
    if named and len(named) < len(accounts):
        return [named, [account for account in accounts if account not in refusal]]
    middle = len(accounts) // 2
    return [list(accounts[:middle]), list(accounts[middle:])]


class Connectors:
    """Observes StackSet and organization access, observes and heals the instances.

    `delegated`, `management` and `requested` (the accounts somebody asked for by id) are set from the enumeration;
    neither organization access nor the StackSet itself is ever written.
    """

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._account = account
        self._clients = clients
        self._run = run
        self._lock = threading.Lock()
        self._root: str | None = None
        self._region: str | None = None
        self.delegated = False
        self.management = ""
        self.requested: frozenset[str] = frozenset()

    def access(self, target: Target) -> Observation:
        """Look whether StackSets may act in the organization."""
        try:
            answer = self._run.calls(
                QUOTA, self._clients.cloudformation.describe_organizations_access, **self._call_as()
            )
        except CloudError as error:
            return observed(self._explained(error), f"{target.key.kind} of account {self._account}")
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
        """Return the organization's feature set, empty where it cannot be read."""
        try:
            describe = self._clients.organizations.describe_organization
            return str(self._run.calls("organizations", describe)["Organization"].get("FeatureSet", ""))
        except CloudError as error:
            what = f"features of the organization: {error.message}"
            self._run.log("warning", "detail-unread", code=error.code, reason=what)
            return ""

    def stackset_and_roles(
        self,
        stackset: Target | None,
        roles: Sequence[Target],
        memory: StateDocument,
        between: Callable[[], None] = lambda: None,
    ) -> dict[Key, Observation]:
        """Look at the StackSet and at all member roles by one listing of its instances.

        `between` is called after each page.
        """
        by_account: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        failure: CloudError | None = None
        # A run for few accounts asks for each alone; the pages of all would cost more.
        asked = [target.key.scope for target in roles] if len(roles) <= 1 else []
        try:
            for page in self._pages(asked[0] if asked else None):
                for instance in page:
                    by_account[str(instance["Account"])].append(instance)
                between()
        except CloudError as error:
            failure = self._explained(error)
        self._note_region(instance for instances in by_account.values() for instance in instances)
        seen: dict[Key, Observation] = {}
        if stackset is not None:
            seen[stackset.key] = self._stackset(stackset, by_account, failure, memory)
        operations: dict[str, str] = {}
        judge = RoleJudge(self._settings, self._run.clock.now(), lambda one: self._has_ended(one, operations))
        for target in roles:
            instances = by_account.get(target.key.scope)
            if instances:
                entry, asked_for = memory.entry(target.key), target.key.scope in self.requested
                seen[target.key] = judge.best(target, instances, entry, asked_for=asked_for)
            elif failure is not None and not isinstance(failure, NotFound):
                seen[target.key] = observed(failure, f"the instances of StackSet {self._settings.stackset}")
            else:
                seen[target.key] = self._not_listed(target, memory, operations)
        return seen

    def apply(self, actions: Sequence[Action]) -> list[Applied | CloudError]:
        """Create or update the instances of these accounts in as few operations as possible.

        An accepted operation is pending: what becomes of each account is seen by the next run. A request that is
        refused as invalid is split, so that one account that StackSets does not take fails alone.
        """
        write = self._create if actions[0].verb is Verb.CREATE else self._update
        answers: dict[str, Applied | CloudError] = {}
        batches, refusals = [[action.key.scope for action in actions]], 0
        while batches:
            accounts = batches.pop()
            try:
                answers |= zip(accounts, write(accounts), strict=True)
            except CloudError as raw:
                error = self._explained(raw)
                refusals += 1
                if error.code not in INVALID or refusals > MOST_REFUSALS:
                    answers |= dict.fromkeys(accounts, error)
                elif len(accounts) == 1:
                    manual_step = manual_steps.account_rejected(self._settings.stackset, accounts[0], error.message)
                    answers[accounts[0]] = Manual("account-rejected", manual_step, error.message)
                else:
                    batches += _split(accounts, error.message)
        return [answers[action.key.scope] for action in actions]

    def _create(self, accounts: Sequence[str]) -> list[Applied]:
        create = self._clients.cloudformation.create_stack_instances
        operation = str(self._run.calls(QUOTA, create, **self._operation(accounts))["OperationId"])
        return [self._pending(operation)] * len(accounts)

    def _update(self, accounts: Sequence[str]) -> list[Applied]:
        update = self._clients.cloudformation.update_stack_instances
        try:
            return [
                self._pending(str(self._run.calls(QUOTA, update, **self._operation(accounts))["OperationId"]))
            ] * len(accounts)
        except NotFound as error:
            if error.code != "StackInstanceNotFoundException":
                raise
        # Some vanished since they were listed; which ones, the answer does not say.
        listed = {str(instance["Account"]) for page in self._pages() for instance in page}
        gone = [account for account in accounts if account not in listed]
        left = [account for account in accounts if account in listed]
        if not gone:
            operation = str(self._run.calls(QUOTA, update, **self._operation(left))["OperationId"])
            return [self._pending(operation)] * len(left)
        created = self._create(gone)[0]
        # A second operation at once may have to wait for the first: the next run updates what is left.
        waiting = Applied(Result.PENDING, "updated after the missing instances are created")
        return [created if account in gone else waiting for account in accounts]

    def _pending(self, operation: str) -> Applied:
        return Applied(Result.PENDING, f"StackSet operation {operation} was accepted", {"operation": operation})

    def _operation(self, accounts: Sequence[str]) -> dict[str, Any]:
        return {
            "StackSetName": self._settings.stackset,
            "DeploymentTargets": {
                "OrganizationalUnitIds": [self._root_id()],
                "Accounts": list(accounts),
                "AccountFilterType": "INTERSECTION",
            },
            "Regions": [self._instances_region()],
            "OperationPreferences": PREFERENCES,
            **self._call_as(),
        }

    def _root_id(self) -> str:
        with self._lock:
            token: dict[str, Any] = {}
            while self._root is None:
                page = self._run.calls("organizations", self._clients.organizations.list_roots, **token)
                if page.get("Roots"):
                    self._root = str(page["Roots"][0]["Id"])
                token = {"NextToken": page["NextToken"]} if page.get("NextToken") else {}
                if not token and self._root is None:
                    remedy = (
                        "Grant organizations:ListRoots to the function's role (the deployment does), then run again."
                    )
                    raise NotFound("no-root", "the organization shows no root to deploy to", remedy)
            return self._root

    def _instances_region(self) -> str:
        """Return the region of the instances: one more region would try to create the same global role again."""
        with self._lock:
            if self._region is None:
                first = self._run.calls(
                    QUOTA,
                    self._clients.cloudformation.list_stack_instances,
                    StackSetName=self._settings.stackset,
                    **self._call_as(),
                )
                regions = [str(one["Region"]) for one in first.get("Summaries", [])]
                self._region = regions[0] if regions else self._settings.region
            return self._region

    def _note_region(self, instances: Iterable[Mapping[str, Any]]) -> None:
        regions = Counter(str(instance["Region"]) for instance in instances)
        if regions:
            self._region = max(sorted(regions), key=lambda region: regions[region])

    def _pages(self, account: str | None = None) -> Iterator[Sequence[Mapping[str, Any]]]:
        arguments: dict[str, Any] = {"StackInstanceAccount": account} if account else {}
        while True:
            page = self._run.calls(
                QUOTA,
                self._clients.cloudformation.list_stack_instances,
                StackSetName=self._settings.stackset,
                MaxResults=INSTANCES_PAGE,
                **self._call_as(),
                **arguments,
            )
            yield page.get("Summaries", [])
            if not page.get("NextToken"):
                return
            arguments["NextToken"] = page["NextToken"]

    def _stackset(
        self,
        target: Target,
        by_account: Mapping[str, Sequence[Mapping[str, Any]]],
        failure: CloudError | None,
        memory: StateDocument,
    ) -> Observation:
        if isinstance(failure, NotFound):
            return Absent(("list",), f"there is no StackSet {self._settings.stackset}")
        if failure is not None and not by_account:
            return observed(failure, f"StackSet {self._settings.stackset}")
        ids = {str(one.get("StackSetId", "")) for instances in by_account.values() for one in instances}
        entry = memory.entry(target.key)
        known = str(entry.facts.get("stackset", "")) if entry else ""
        if known and ids <= {known}:
            return Present(facts={"stackset": known})
        return self._first_sight()

    def _first_sight(self) -> Observation:
        """Look whether a StackSet of our name, not seen before, deploys our role as the service manages it."""
        name = self._settings.stackset
        try:
            describe = self._clients.cloudformation.describe_stack_set
            found = self._run.calls(QUOTA, describe, StackSetName=name, **self._call_as())["StackSet"]
        except NotFound:
            return Absent(("describe",), f"there is no StackSet {name}")
        except CloudError as error:
            return observed(self._explained(error), f"StackSet {name}")
        body = str(found.get("TemplateBody", ""))
        values = [str(one.get("ParameterValue", "")) for one in found.get("Parameters", [])]
        faults = []
        if found.get("PermissionModel", "SELF_MANAGED") != "SERVICE_MANAGED":
            faults.append("it is not service-managed")
        if body and self._settings.member_role not in body and self._settings.member_role not in values:
            faults.append(f"it does not create the role {self._settings.member_role}")
        if not faults:
            return Present(facts={"stackset": str(found.get("StackSetId", ""))})
        manual_step = manual_steps.stackset_foreign(name, faults)
        return Present(
            ownership=Ownership.FOREIGN, code="stackset-foreign", detail=manual_step.what, manual_step=manual_step
        )

    def _not_listed(self, target: Target, memory: StateDocument, operations: dict[str, str]) -> Observation:
        """Say what the listing's silence proves: after an accepted creation, only once that operation is over."""
        entry = memory.entry(target.key)
        operation = str(entry.facts.get("operation", "")) if entry else ""
        if entry is None or not OPERATION_ID.fullmatch(operation):
            return Absent(("list",), f"no instance of StackSet {self._settings.stackset} is listed")
        if operation not in operations:
            try:
                operations[operation] = self._operation_status(operation)
            except CloudError as error:
                return observed(error, f"StackSet operation {operation}")
        status = operations[operation]
        if status not in OPERATION_RUNS:
            return Absent(("list", "operation"), f"no instance is listed, and operation {operation} ended {status}")
        if entry.applied_at and self._run.clock.now() - entry.applied_at < MEMBER_ROLE.grace:
            return Absent(("list",), f"operation {operation} is {status}")
        return Unknown(
            "operation-running",
            f"operation {operation}, which is to create it, is still {status}",
            remedy=f"See in the CloudFormation console what operation {operation} of the StackSet waits for; stop it "
            "there if it never ends, and the next run creates the instance again.",
        )

    def _has_ended(self, operation: str, known: dict[str, str]) -> bool:
        """Return whether an operation is known to be over; at most MOST_OPERATIONS are asked for in a run."""
        if operation not in known:
            if len(known) >= MOST_OPERATIONS or not OPERATION_ID.fullmatch(operation):
                return False
            try:
                known[operation] = self._operation_status(operation)
            except CloudError as error:
                what = f"StackSet operation {operation}: {error.message}"
                self._run.log("warning", "detail-unread", code=error.code, reason=what)
                known[operation] = "RUNNING"
        return known[operation] not in OPERATION_RUNS

    def _operation_status(self, operation: str) -> str:
        try:
            answer = self._run.calls(
                QUOTA,
                self._clients.cloudformation.describe_stack_set_operation,
                StackSetName=self._settings.stackset,
                OperationId=operation,
                **self._call_as(),
            )
        except NotFound:
            return "and is forgotten"
        return str(answer["StackSetOperation"].get("Status", ""))

    def _call_as(self) -> dict[str, Any]:
        return {"CallAs": "DELEGATED_ADMIN"} if self.delegated else {}

    def _explained(self, error: CloudError) -> CloudError:
        if isinstance(error, Manual) and error.code == NOT_MANAGEMENT and self.management:
            manual_step = ManualStep(
                f"{NOT_MANAGEMENT_GUIDE.what}; the management account is {self.management}",
                NOT_MANAGEMENT_GUIDE.steps,
                NOT_MANAGEMENT_GUIDE.url,
            )
            return Manual(NOT_MANAGEMENT, manual_step, error.message)
        return error
