"""The AWS side of the engine's port: who looks at and writes which kind of target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aws_lambda.clients import EXPORT_REGIONS, Clients
from aws_lambda.resources.bucket import Bucket
from aws_lambda.resources.connector_role import ConnectorRole
from aws_lambda.resources.deliveries import Deliveries
from aws_lambda.resources.export_health import EARLIER, EARLIER_ON
from aws_lambda.resources.exports import Exports
from aws_lambda.resources.member_roles import MemberRoles
from aws_lambda.resources.organizations_access import OrganizationsAccess
from aws_lambda.resources.stackset import StackSet
from aws_lambda.scopes import DELEGATED, MANAGEMENT, STANDING, Scopes
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import (
    BUCKET,
    BY_NAME,
    CONNECTOR_ROLE,
    EXPORT,
    FACTS,
    MEMBER_ROLE,
    ORGANIZATIONS_ACCESS,
    STACKSET,
    targets_of,
)
from shared.errors import CloudError, Permanent
from shared.model import Absent, Action, Enumeration, Health, Key, Observation, Present, Target
from shared.provider import Applied, KnownStates
from shared.runtime.context import RunContext


class AwsCloud:
    """One run's view of AWS from the function's own `account`."""

    name = "aws"
    facts = FACTS

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._account = account
        self._run = run
        self._scopes = Scopes(settings, account, clients, run)
        self._bucket = Bucket(settings, account, clients, run)
        self._deliveries = Deliveries(settings, account, clients, run)
        self._exports = Exports(settings, account, clients, run, self._bucket)
        self._connector_role = ConnectorRole(settings, clients, run)
        self._stackset = StackSet(settings, clients, run)
        self._organizations_access = OrganizationsAccess(account, clients, run, self._stackset)
        self._member_roles = MemberRoles(settings, clients, run, self._stackset)

    def enumerate(self, scopes: Sequence[str]) -> Enumeration:
        """List the accounts; see `Scopes.enumerate`."""
        found = self._scopes.enumerate(scopes)
        self._member_roles.requested = frozenset(scopes)
        for scope in found.scopes:
            standing = scope.traits.get(STANDING)
            if standing == DELEGATED:
                self._stackset.delegated = True
            if standing == MANAGEMENT:
                self._stackset.management = scope.id
        return found

    def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:  # noqa: ARG002 - the port's signature
        """Return what must exist."""
        return targets_of(enumeration, self._settings, self._account)

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Read the bucket, the deliveries, the connector role and all StackSet instances; exports are read singly."""
        seen: dict[Key, Observation] = {}
        roles = [target for target in targets if target.kind == MEMBER_ROLE]
        stackset = next((target for target in targets if target.kind == STACKSET), None)
        for target in targets:
            looker = self._single(target)
            # The bucket comes before its exports: whether its statement was missing tells what ails them.
            if looker is not None and target.kind.name != EXPORT.name:
                seen[target.key] = looker(target)
        for target in targets:
            if target.kind.name == EXPORT.name:
                seen.update(self._survey_export(target))
        if stackset is not None or roles:
            seen.update(self._member_roles.stackset_and_roles(stackset, roles, self._run.heartbeat))
        return seen

    def observe(self, target: Target) -> Observation:
        """Read one target's configuration."""
        looker = self._single(target)
        if looker is not None:
            return looker(target)
        if target.kind == EXPORT:
            return self._exports.observe(target)
        if target.kind == STACKSET:
            return self._member_roles.stackset_and_roles(target, [])[target.key]
        return self._member_roles.stackset_and_roles(None, [target])[target.key]

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Write buckets and exports one by one, member roles in batches."""
        kind = actions[0].target.kind
        if kind == MEMBER_ROLE:
            return self._member_roles.apply(actions)
        return [self._apply_one(action) for action in actions]

    def _apply_one(self, action: Action) -> Applied | CloudError:
        try:
            if action.target.kind == BUCKET:
                return self._bucket.apply(action)
            if action.target.kind == EXPORT:
                return self._exports.apply(action)
        except CloudError as error:
            return error
        what = f"{action.target.kind.name} is not written by the function"
        return Permanent("not-writable", what, "This is a defect of the function: report it with this message.")

    def _single(self, target: Target) -> Callable[[Target], Observation] | None:
        lookers: dict[str, Callable[[Target], Observation]] = {
            BUCKET.name: self._bucket.observe,
            ORGANIZATIONS_ACCESS.name: self._organizations_access.observe,
            CONNECTOR_ROLE.name: self._connector_role.observe,
        }
        if target.kind.name == EXPORT.name and not target.kind.writable:
            return lambda one: Absent(("account",), "an export is its account's own", one.manual_step, "other-account")
        if target.kind.name == EXPORT.name and self._settings.partition not in EXPORT_REGIONS:
            what = f"AWS does not offer BCM Data Exports in partition {self._settings.partition}"
            return lambda _one: Present(health=Health.INACTIVE, code="service-not-in-partition", detail=what)
        return lookers.get(target.kind.name)

    def _survey_export(self, target: Target) -> dict[Key, Observation]:
        looker = self._single(target)
        if looker is not None:
            return {target.key: looker(target)}
        dataset = BY_NAME[target.key.name]
        entry = target.state
        try:
            facts = entry.facts if entry else {}
            due = facts.get(EARLIER_ON) != f"{self._run.clock.now():%Y-%m-%d}"
            lost = facts.get(EARLIER, {}) if due else None
            delivered = self._deliveries.last(dataset, facts.get("manifests"), lost)
        except CloudError as error:
            # The export's own status is read instead: what was delivered is not known in this run.
            self._exports.unread[target.key.name] = error
            self._run.log("warning", "deliveries-unread", target.key, code=error.code, reason=error.message)
            return {}
        self._exports.delivered[target.key.name] = delivered
        # A delivery proves that an export lives only where one was known to be there: a bucket outlives its exports.
        fresh = delivered.at is not None and self._run.clock.now() - delivered.at < dataset.stale_after
        if entry is None or not entry.present or not fresh:
            return {}
        return {target.key: Present(verified=False, delivered_at=delivered.at)}
