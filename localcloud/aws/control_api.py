"""The control actions of the local AWS: changes and failures in an organization that tests and demos trigger.

The module is over 350 lines because it lists every control action.
"""

from __future__ import annotations

import json
from typing import Any

from localcloud.aws.arns import Where
from localcloud.aws.services import stackset_template
from localcloud.aws.services.organization import Organization, account_id
from localcloud.aws.services.stacksets import Place, StackSet
from localcloud.aws.state import World
from localcloud.common.control_api import ControlActions, unlocked

PAYERS_FROM = 1_000_000  # the numbers of the accounts that manage other organizations


class AwsActions(ControlActions):
    """All actions.

    `account` is the account of the environment's credentials, `region` its region, `bucket` its bucket and
    `stack_set` the StackSet of the member roles; actions use them unless an argument names others.
    """

    def __init__(self, world: World, account: str, region: str, bucket: str, stack_set: str) -> None:
        super().__init__(world)
        self.world = world
        self.account = account
        self.region = region
        self.bucket = bucket
        self.stack_set = stack_set

    # Accounts

    def join_account(self, name: str, email: str | None = None, parent: str | None = None) -> str:
        """Create an ACTIVE account in the organization (in the root or in the unit `parent`) and return its id."""
        return self._organization().join(name, email or f"{name}@example.com", parent).id

    # difference: AWS-19
    def invite_account(self, name: str, email: str | None = None, parent: str | None = None) -> str:
        """Let an existing account accept an invitation to the organization and return its id."""
        return self._organization().join(name, email or f"{name}@example.com", parent, method="INVITED").id

    def suspend_account(self, account: str) -> None:
        self._organization().set_state(account, "SUSPENDED")

    def reopen_account(self, account: str) -> None:
        self._organization().set_state(account, "ACTIVE")

    def close_account(self, account: str) -> None:
        self._organization().close(account)

    def move_account(self, account: str, parent: str) -> None:
        organization = self._organization()
        organization.move(account, organization.account(account).parent, parent)

    def remove_account(self, account: str) -> None:
        """Remove the account from the organization."""
        self._organization().remove(account)

    def accounts(self) -> dict[str, str]:
        """Return account ids with their states, in the order in which the accounts joined."""
        return {one.id: one.state for one in self._organization().listed()}

    # Other payers

    def add_payer(self, name: str, accounts: int = 1) -> str:
        """Create another organization, as another customer has; return the id of its management account."""
        payer = account_id(PAYERS_FROM + len(self.world.organizations.others))
        made = self.world.organizations.create(payer)
        for number in range(accounts - 1):
            made.join(f"{name}-{number:05d}", f"{name}-{number:05d}@example.com")
        return payer

    def launch_stack(
        self, account: str, template: str, parameters: dict[str, str] | None = None, name: str = "tailpipe"
    ) -> dict[str, str]:
        """Create or update a stack in an account, as its administrator does; return the roles' ARNs by logical id.

        Raises ValueError if CloudFormation would refuse the template, its parameters or its roles.
        """
        document = stackset_template.read(template)

        def render(where: str) -> list[stackset_template.Role]:
            partition = self.world.partition.name
            pseudo = {"AWS::AccountId": where, "AWS::Partition": partition, "AWS::Region": self.region}
            return stackset_template.roles(document, parameters or {}, pseudo | {"AWS::StackName": name})

        refused = self.world.roles.deploy(account, (name, self.region), render)
        if refused:
            raise ValueError(refused)
        arn = f"arn:{self.world.partition.name}:iam::{account}:role"
        return {role.logical: f"{arn}{role.path}{role.name}" for role in render(account)}

    def delete_stack(self, account: str, name: str = "tailpipe") -> None:
        """Delete a stack and its roles, as the account's administrator does to withdraw what they allow."""
        self.world.roles.remove(account, (name, self.region))

    def transfer_billing(self, payer: str, name: str = "", receiver: str | None = None) -> str:
        """Let the own account or `receiver` receive the bills of `payer`; return the ARN of the view of its costs."""
        found = [self.world.organizations.find(one) for one in (payer, receiver or self.account)]
        source, target = found
        if source is None or target is None:
            raise KeyError(f"account {payer if source is None else receiver} is not in an organization")
        return self.world.billing.transfer(source, target, name or f"transfer {payer}").arn

    def end_billing_transfer(self, payer: str) -> None:
        self.world.billing.end(payer)

    def set_billing_view_health(self, arn: str, reasons: list[str] | None = None) -> None:
        """Make a billing view UNHEALTHY for reasons such as SOURCE_VIEW_NOT_FOUND; healthy without any."""
        self.world.billing.set_health(arn, reasons or [])

    # Stack instances

    def fail_instance(self, account: str, reason: str = "ResourceLogicalId:Role did not stabilize") -> None:
        """Set the account's instances to OUTDATED / FAILED and delete their roles, as after a failed operation."""
        for place in self._places(account):
            instance = self._stack_set().instances[place]
            instance.status, instance.detailed, instance.reason = "OUTDATED", "FAILED", reason
            self.world.roles.remove(account, (self._stack_set().id, place[1]))

    def fail_deployments(self, account: str, reason: str = "Account gate check failed", times: int | None = 1) -> None:
        """Make the next `times` StackSet operations (None: all) fail in this account."""
        self.world.stacks.inject_failure(account, reason, times)

    def break_instance(self, account: str) -> None:
        """Set the account's instances to INOPERABLE."""
        for place in self._places(account):
            instance = self._stack_set().instances[place]
            instance.status = instance.detailed = "INOPERABLE"
            instance.reason = "The stack could not be deleted"

    def strand_instance(self, account: str) -> None:
        """Leave the account's instances pending after their operation has ended, and delete their roles."""
        for place in self._places(account):
            instance = self._stack_set().instances[place]
            instance.status, instance.detailed, instance.reason = "OUTDATED", "PENDING", ""
            self.world.roles.remove(account, (self._stack_set().id, place[1]))

    # difference: AWS-11
    def reject_account(self, account: str, rejected: bool = True) -> None:
        """Make StackSets refuse every instance request that names this account, without naming it in the error."""
        (self.world.stacks.rejected.add if rejected else self.world.stacks.rejected.discard)(account)

    def remove_instance(self, account: str) -> None:
        """Delete the account's instances and their roles."""
        for place in self._places(account):
            deleted = self._stack_set().instances.pop(place)
            self.world.roles.remove(account, (self._stack_set().id, place[1]))
            self.world.call_events.instance_deleted(self._stack_set(), deleted)

    def remove_member_role(self, account: str) -> None:
        """Delete the role without CloudFormation: the instance status stays CURRENT."""
        for place in self._places(account):
            self.world.roles.delete_roles_only(account, (self._stack_set().id, place[1]))

    def instances(self) -> dict[str, str]:
        """Return account ids with the detailed status of their instances."""
        self.world.stacks.settle()
        return {one.account: one.detailed for one in self._stack_set().instances.values()}

    # Exports

    def delete_export(self, name: str, account: str | None = None) -> None:
        arn = self.world.exports.named(account or self.account, name).arn
        self.world.exports.delete(account or self.account, arn)
        if account in (None, self.account):
            self._record_operator("bcm-data-exports", "DeleteExport", ExportArn=arn)

    def exports(self, account: str | None = None) -> dict[str, str]:
        """Return export names with their status codes and any reasons."""
        statuses = {}
        for export in self.world.exports.of(account or self.account):
            status = export.status()
            statuses[export.name] = " ".join(filter(None, (status["StatusCode"], status.get("StatusReason"))))
        return statuses

    def set_export_health(self, name: str, reason: str | None) -> None:
        """Make the export UNHEALTHY for `reason` (e.g. BILL_OWNER_CHANGED) across refreshes; None clears it."""
        self.world.exports.named(self.account, name).stuck = reason

    def fail_execution(self, name: str, status: str = "DELIVERY_FAILURE", reason: str = "INTERNAL_FAILURE") -> None:
        """Make the export's next execution fail with `status` (QUERY_FAILURE or DELIVERY_FAILURE)."""
        self.world.deliveries.inject_failure(self.world.exports.named(self.account, name), status, reason)

    def silence_export(self, name: str, days: float = 3) -> None:
        """Stop the export's deliveries, as of `days` ago, while its status stays HEALTHY."""
        self.world.deliveries.silence(self.world.exports.named(self.account, name), days)

    def resume_export(self, name: str) -> None:
        """Resume the deliveries of a silent export."""
        self.world.exports.named(self.account, name).silent = False

    def withdraw_table(self, name: str) -> None:
        """Withdraw a table, such as FOCUS_1_2_AWS, from the organization: exports of it cannot be created."""
        self.world.exports.withdrawn.add(name)

    def offer_table(self, name: str) -> None:
        self.world.exports.withdrawn.discard(name)

    # difference: AWS-1
    def deliver(
        self, name: str | None = None, billing_period: str | None = None, account: str | None = None
    ) -> dict[str, str]:
        """Run one execution of an export, or of all that are not silent; return execution status by export name."""
        exports, owner = self.world.exports, account or self.account
        all_of_them = [one for one in exports.of(owner) if not one.silent]
        wanted = all_of_them if name is None else [exports.named(owner, name)]
        return {one.name: self.world.deliveries.deliver(one, billing_period).status for one in wanted}

    # The bucket

    def bucket_policy(self) -> Any:
        """Return the bucket's policy document, or None."""
        policy = self.world.buckets.policy(self.bucket)
        return json.loads(policy) if policy else None

    def remove_bucket_policy_statement(self, sid: str) -> None:
        """Remove a statement from the bucket policy. Raises KeyError if there is no statement with this Sid."""
        policy = self.bucket_policy() or {"Statement": []}
        kept = [one for one in policy["Statement"] if one.get("Sid") != sid]
        if len(kept) == len(policy["Statement"]):
            raise KeyError(f"the policy of {self.bucket} has no statement {sid!r}")
        document = json.dumps(policy | {"Statement": kept}).encode() if kept else None
        self.world.buckets.set_policy(self.bucket, document)
        self._record_operator("s3", "PutBucketPolicy" if kept else "DeleteBucketPolicy", Bucket=self.bucket)

    def retain_bucket(self, days: int, mode: str = "GOVERNANCE") -> None:
        """Enable Object Lock with a default retention of `days` on the bucket; 0 removes the default retention."""
        self.world.buckets.retain(self.bucket, mode, days)

    def remove_bucket_policy(self) -> None:
        self.world.buckets.set_policy(self.bucket, None)
        self._record_operator("s3", "DeleteBucketPolicy", Bucket=self.bucket)

    # Faults

    def fault(
        self,
        service: str,
        operation: str,
        code: str,
        message: str = "injected by the local cloud",
        times: int | None = 1,
        account: str | None = None,
        status: int = 0,
    ) -> None:
        """See `Faults.add`."""
        self.world.faults.add(service, operation, code, message=message, times=times, account=account, status=status)

    def deny(self, action: str, resource: str = "*", account: str | None = None) -> None:
        self.world.faults.deny(action, resource=resource, account=account)

    def allow(self, action: str) -> None:
        self.world.faults.allow(action)

    def throttle(self, service: str, operation: str, per_second: float, burst: float = 1) -> None:
        self.world.faults.throttle(service, operation, per_second=per_second, burst=burst)

    def latency(self, seconds: float, service: str = "*", operation: str = "*") -> None:
        self.world.faults.latency(seconds, service, operation)

    def conflict_conditional_writes(self, times: int = 1) -> None:
        """Answer the next `times` conditional PutObject calls with 409 ConditionalRequestConflict."""
        self.world.faults.add(
            "s3",
            "PutObject",
            "ConditionalRequestConflict",
            message="A conflicting conditional operation is in progress against this resource. Please try again.",
            times=times,
            when=lambda attempt: bool({"if-match", "if-none-match"} & attempt.headers.keys()),
            status=409,
        )

    # Calls and time

    def calls(self) -> list[dict[str, Any]]:
        return [call.as_json() for call in self.world.calls.select()]

    def accesses(self, principal: str | None = None) -> list[dict[str, str]]:
        """Return which principal used which action on which resource, without duplicates, to prove least privilege."""
        names = ("principal", "action", "resource")
        return [dict(zip(names, one, strict=True)) for one in self.world.calls.accesses(principal)]

    def enforce(self, on: bool = True) -> None:
        """Turn the enforcement of role policies on sessions on (the default) or off."""
        self.world.enforcement.on = on

    # Functions

    @unlocked
    def await_functions(self, limit_s: float = 60) -> list[dict[str, Any]]:
        """Wait until all asynchronous invocations so far have ended; return their results, oldest first.

        Raises TimeoutError.
        """
        return [one.as_json() for one in self.world.functions.wait(limit_s=limit_s)]

    @unlocked
    def fire_schedule(
        self, name: str, group: str = "default", region: str | None = None, limit_s: float = 60
    ) -> dict[str, Any]:
        """Fire a schedule as EventBridge Scheduler does, and wait for the function to finish.

        See `Schedules.fire` for the result and the errors raised; `region` defaults to the local cloud's region.
        """
        return self.world.schedules.fire(Where(self.account, region or self.region), name, group, limit_s)

    @unlocked
    def await_executions(self, limit_s: float = 60) -> dict[str, str]:
        """Wait until no execution of a state machine runs; return their statuses by ARN, without child workflows.

        Raises TimeoutError.
        """
        self.world.state_machines.wait(limit_s=limit_s)
        executions = self.world.state_machines.executions
        return {arn: one.status for arn, one in executions.items() if one.map_run is None}

    def disturb_tasks(self, kind: str, containing: str = "", times: int = 1) -> None:
        """Deliver the next `times` calls of functions by state machines `twice`, `late` or `never`.

        Only calls whose payload, in JSON, contains the text `containing` are meant. A late call arrives when the engine
        has given it up.
        """
        self.world.state_machines.tasks.disturb(kind, containing, times)

    def event_deliveries(self) -> list[dict[str, Any]]:
        """Return EventBridge's deliveries of the events that matched a rule, oldest first."""
        return [one.as_json() for one in self.world.buses.deliveries]

    @unlocked
    def settle_events(self, limit_s: float = 60) -> list[dict[str, Any]]:
        """Deliver the events and batches that are due, and wait for the functions that they invoke.

        Returns what `await_functions` returns. Raises TimeoutError.
        """
        self.world.event_sources.settle()
        return self.await_functions(limit_s)

    def now(self) -> str:
        return self.world.clock.now().isoformat()

    def _record_operator(self, service: str, operation: str, **params: Any) -> None:
        """Send the CloudTrail event of the operator's call that an action stands for."""
        self.world.call_events.record_operator(self.account, service, operation, self.region, params)

    def _organization(self) -> Organization:
        organization = self.world.organizations.organization
        if organization is None:
            raise KeyError("this account is not in an organization")
        return organization

    def _stack_set(self) -> StackSet:
        for stack_set in self.world.stacks.stack_sets.values():
            if stack_set.name == self.stack_set:
                return stack_set
        raise KeyError(f"no StackSet {self.stack_set!r}")

    def _places(self, account: str) -> list[Place]:
        self.world.stacks.settle()
        places = [place for place in self._stack_set().instances if place[0] == account]
        if not places:
            raise KeyError(f"account {account} has no instance of {self.stack_set}")
        return places
