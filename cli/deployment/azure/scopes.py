"""The scopes of a deployment, and their existing exports, as far as the operator may read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from azure_function.scopes import BILLING, ROLE, SUBSCRIPTION, Scopes
from azure_function.settings import AzureSettings, read_settings
from cli.deployment.azure.app import FunctionApp
from cli.deployment.azure.rest import Rest, refused
from cli.deployment.azure.session import Session
from cli.deployment.model import OperatorError, Problem
from shared.errors import NotApplicable, NotFound, ReportedError, SettingsError
from shared.model import Scope, ScopeState

AT_ONCE = 4


def settings_of(session: Session, deployed: FunctionApp | None) -> AzureSettings:
    """Return the function's settings with the operator's sign-in; those for a whole group if nothing is deployed."""
    if deployed is None:
        return msgspec.structs.replace(
            session.rest.settings, group=session.group, include=session.subscriptions, entra_tenant=session.tenant
        )
    own = session.rest.settings
    try:
        read = read_settings({**deployed.settings, "ARM_ENDPOINT": own.arm_endpoint, "ARM_TOKEN": own.arm_token})
    except SettingsError as error:
        raise OperatorError(
            *(
                Problem(f"the deployed function's settings: {one}", "Deploy it again with other values.")
                for one in error.problems
            )
        ) from error
    return msgspec.structs.replace(
        read, client=own.client, client_secret=own.client_secret, entra_tenant=session.tenant, cloud=own.cloud
    )


def scopes(rest: Rest, settings: AzureSettings) -> tuple[list[Scope], list[str]]:
    """Return the active subscriptions and billing scopes, and what could not be seen. Raises OperatorError."""
    try:
        seen = Scopes(settings, rest.clients, rest.run).enumerate(())
    except ReportedError as error:
        raise refused(error) from error
    active = [
        one for one in seen.scopes if one.traits.get(ROLE) in (SUBSCRIPTION, BILLING) and one.state is ScopeState.ACTIVE
    ]
    return active, [problem.message for problem in seen.problems]


def path_of(scope: Scope) -> str:
    """Return a scope's path in Resource Manager."""
    return scope.id if scope.id.startswith("/") else f"/subscriptions/{scope.id}"


def exports_at(rest: Rest, path: str) -> list[Mapping[str, Any]]:
    """Return the exports at a scope, as Azure shows them. Raises ReportedError."""
    try:
        answer = rest.cost(rest.clients.cost.exports.list, path)
    except (NotFound, NotApplicable):
        # The scope is disabled, gone, or of an offer without cost data: it has no exports.
        return []
    return [one.as_dict() for one in answer.value or ()]


def exports_of(rest: Rest, listed: list[Scope]) -> Iterator[tuple[Scope, list[Mapping[str, Any]] | ReportedError]]:
    """Yield each scope with its exports, or with the reason why they could not be read, as fast as the quota allows."""

    def read(scope: Scope) -> tuple[Scope, list[Mapping[str, Any]] | ReportedError]:
        try:
            return scope, exports_at(rest, path_of(scope))
        except ReportedError as error:
            return scope, error

    with ThreadPoolExecutor(AT_ONCE, "exports") as pool:
        yield from pool.map(read, listed)
