"""AWS as the engine sees it: the accounts, what must exist for them, and the resources that observe and write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aws_lambda.clients import Clients
from aws_lambda.resources.billing_view import BillingView
from aws_lambda.resources.bucket import Bucket
from aws_lambda.resources.connector_role import ConnectorRole
from aws_lambda.resources.exports import Exports
from aws_lambda.resources.member_roles import MemberRoles
from aws_lambda.resources.organizations_access import OrganizationsAccess
from aws_lambda.resources.shared_bucket import SharedBucket
from aws_lambda.resources.stackset import StackSet
from aws_lambda.scopes import Scopes
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import FACTS, targets_of
from shared.errors import CloudError
from shared.model import Action, Enumeration, Key, Observation, Target
from shared.provider import Applied, KnownStates
from shared.resources import Registry
from shared.runtime.context import RunContext


class AwsCloud:
    """AWS in one run, seen from `account`: the function's own, or the payer of a tenant."""

    name = "aws"
    facts = FACTS

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._account = account
        self._clients = clients
        self._run = run
        self._scopes = Scopes(settings, account, clients, run)
        bucket = (SharedBucket if settings.shared_bucket else Bucket)(settings, account, clients, run)
        stackset = StackSet(settings, clients, run, self._scopes)
        self._resources = Registry(
            [
                bucket,
                BillingView(settings, clients, run),
                Exports(settings, account, clients, run, bucket),
                ConnectorRole(settings, clients, run),
                OrganizationsAccess(account, clients, run, stackset),
                MemberRoles(settings, clients, run, self._scopes, stackset),
            ],
            run.heartbeat,
        )

    def enumerate(self, scopes: Sequence[str]) -> Enumeration:
        """Enter the payer, and list its accounts; see `Clients.enter` and `Scopes.enumerate`."""
        self._clients.enter(self._run)
        return self._scopes.enumerate(scopes)

    def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:  # noqa: ARG002 - the port's signature
        """Return what must exist."""
        return targets_of(enumeration, self._settings, self._account)

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Observe in the order of the resources; see `Registry.observe_bulk`."""
        return self._resources.observe_bulk(targets)

    def observe(self, target: Target) -> Observation:
        """Read one target's configuration."""
        return self._resources.observe(target)

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Apply actions of one kind and verb."""
        return self._resources.apply(actions)
