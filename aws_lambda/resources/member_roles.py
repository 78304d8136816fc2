"""The member roles, created by StackSet instances: one listing of the instances observes all of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aws_lambda import manual_steps
from aws_lambda.clients import Clients
from aws_lambda.errors import observed
from aws_lambda.resources.member_role_health import RoleHealthEvaluator
from aws_lambda.resources.stackset import QUOTA, StackSet
from aws_lambda.scopes import Scopes
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import MEMBER_ROLE, STACKSET
from shared.errors import CloudError, Manual, NotFound
from shared.model import (
    Absent,
    Action,
    Key,
    Observation,
    Result,
    Target,
    Unknown,
    Verb,
)
from shared.provider import Applied
from shared.runtime.context import RunContext

# One failing account must not stop the operation for the others.
PREFERENCES: dict[str, Any] = {
    "RegionConcurrencyType": "PARALLEL",
    "FailureTolerancePercentage": 100,
    "MaxConcurrentPercentage": 100,
    "ConcurrencyMode": "SOFT_FAILURE_TOLERANCE",
}
OPERATION_ID = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]{0,127}")
OPERATION_RUNS = frozenset({"RUNNING", "QUEUED", "STOPPING"})
# Error codes of requests that StackSets rejects; the message does not always name the account that caused it.
INVALID = frozenset({"ValidationError", "ValidationException", "InvalidOperationException", "InvalidInputException"})
MOST_REFUSALS = (
    40  # enough to isolate four rejected accounts among 500, and a bound where all are rejected for one cause
)
MOST_OPERATIONS = 10


def _split(accounts: Sequence[str], refusal: str) -> list[list[str]]:
    """Return the accounts in two batches: those that the error names and the others, or two halves."""
    named = [account for account in accounts if account in refusal]
    if named and len(named) < len(accounts):
        return [named, [account for account in accounts if account not in refusal]]
    middle = len(accounts) // 2
    return [list(accounts[:middle]), list(accounts[middle:])]


class MemberRoles:
    """Observes the StackSet and observes, creates and repairs its instances, each of which makes one member's role.

    The StackSet's targets are observed here too, because one listing of the instances shows both.
    """

    kinds = (STACKSET, MEMBER_ROLE)

    def __init__(
        self, settings: AwsSettings, clients: Clients, run: RunContext, scopes: Scopes, stackset: StackSet
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._scopes = scopes
        self._stackset = stackset

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Observe the StackSet and all member roles by one listing of the instances."""
        return self._observed(targets, self._run.heartbeat)

    def observe(self, target: Target) -> Observation:
        """List the instances again, only those of its account for a member role."""
        return self._observed([target], lambda: None)[target.key]

    def _observed(self, targets: Sequence[Target], after_page: Callable[[], None]) -> dict[Key, Observation]:
        stacksets = [target for target in targets if target.kind == STACKSET]
        roles = [target for target in targets if target.kind == MEMBER_ROLE]
        by_account: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        failure: CloudError | None = None
        # For one account, its instances alone are listed: one call in place of all pages.
        account = roles[0].key.scope if len(roles) == 1 else None
        try:
            for page in self._stackset.pages(account):
                for instance in page:
                    by_account[str(instance["Account"])].append(instance)
                after_page()
        except CloudError as error:
            failure = self._stackset.explained(error)
        self._stackset.note_region(instance for instances in by_account.values() for instance in instances)
        seen: dict[Key, Observation] = {
            target.key: self._stackset.observe(target, by_account, failure) for target in stacksets
        }
        operations: dict[str, str] = {}
        evaluator = RoleHealthEvaluator(
            self._settings, self._run.clock.now(), lambda one: self._has_ended(one, operations)
        )
        for target in roles:
            instances = by_account.get(target.key.scope)
            if instances:
                requested = target.key.scope in self._scopes.requested
                seen[target.key] = evaluator.evaluate(target, instances, requested=requested)
            elif failure is not None and not isinstance(failure, NotFound):
                seen[target.key] = observed(failure, f"the instances of StackSet {self._settings.stackset}")
            else:
                seen[target.key] = self._not_listed(target, operations)
        return seen

    def apply(self, actions: Sequence[Action]) -> list[Applied | CloudError]:
        """Create or update the instances of these accounts in as few operations as possible.

        An accepted operation is pending: the next run observes the result for each account. A request that is rejected
        as invalid is split, so that only the account that StackSets rejects fails.
        """
        write = self._create if actions[0].verb is Verb.CREATE else self._update
        answers: dict[str, Applied | CloudError] = {}
        batches, refusals = [[action.key.scope for action in actions]], 0
        while batches:
            accounts = batches.pop()
            try:
                answers |= zip(accounts, write(accounts), strict=True)
            except CloudError as raw:
                error = self._stackset.explained(raw)
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
        # Some instances were deleted after the listing; the error does not say which.
        listed = {str(instance["Account"]) for page in self._stackset.pages() for instance in page}
        gone = [account for account in accounts if account not in listed]
        left = [account for account in accounts if account in listed]
        if not gone:
            operation = str(self._run.calls(QUOTA, update, **self._operation(left))["OperationId"])
            return [self._pending(operation)] * len(left)
        created = self._create(gone)[0]
        # A second operation would have to wait for the first: the next run updates the remaining instances.
        waiting = Applied(Result.PENDING, "will be updated after the missing instances are created")
        return [created if account in gone else waiting for account in accounts]

    def _pending(self, operation: str) -> Applied:
        return Applied(Result.PENDING, f"StackSet operation {operation} was accepted", {"operation": operation})

    def _operation(self, accounts: Sequence[str]) -> dict[str, Any]:
        return {
            "StackSetName": self._settings.stackset,
            "DeploymentTargets": {
                "OrganizationalUnitIds": [self._stackset.root_id()],
                "Accounts": list(accounts),
                "AccountFilterType": "INTERSECTION",
            },
            "Regions": [self._stackset.instances_region()],
            "OperationPreferences": PREFERENCES,
            **self._stackset.call_as(),
        }

    def _not_listed(self, target: Target, operations: dict[str, str]) -> Observation:
        """Return the observation of an account without an instance; one that an operation creates is not Absent yet."""
        state = target.state
        operation = str(state.facts.get("operation", "")) if state else ""
        if state is None or not OPERATION_ID.fullmatch(operation):
            return Absent(("list",), f"no instance of StackSet {self._settings.stackset} is listed")
        if operation not in operations:
            try:
                operations[operation] = self._stackset.operation_status(operation)
            except CloudError as error:
                return observed(error, f"StackSet operation {operation}")
        status = operations[operation]
        if status not in OPERATION_RUNS:
            return Absent(
                ("list", "operation"), f"no instance is listed, and operation {operation} ended with status {status}"
            )
        if state.applied_at and self._run.clock.now() - state.applied_at < MEMBER_ROLE.grace:
            return Absent(("list",), f"operation {operation} is {status}")
        return Unknown(
            "operation-running",
            f"operation {operation}, which creates the instance, is still {status}",
            remedy=f"Check in the CloudFormation console what operation {operation} of the StackSet is waiting for. If "
            "it does not end, stop it; the next run creates the instance again.",
        )

    def _has_ended(self, operation: str, known: dict[str, str]) -> bool:
        """Return whether an operation is known to have ended; a run reads at most MOST_OPERATIONS."""
        if operation not in known:
            if len(known) >= MOST_OPERATIONS or not OPERATION_ID.fullmatch(operation):
                return False
            try:
                known[operation] = self._stackset.operation_status(operation)
            except CloudError as error:
                what = f"StackSet operation {operation} could not be read: {error.message}"
                self._run.log("warning", "detail-unread", code=error.code, reason=what)
                known[operation] = "RUNNING"
        return known[operation] not in OPERATION_RUNS
