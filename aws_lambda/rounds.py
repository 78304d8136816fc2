"""The tenants of the deployment: the first and the last step of a round, and one tenant's run between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from aws_lambda.clients import new_run, own_account, warm_clients
from aws_lambda.resources.tenant_grants import TenantGrants
from aws_lambda.secrets import webhook_of
from aws_lambda.settings import read_settings
from aws_lambda.state_store import S3Fleet
from aws_lambda.tenants import RULES, accounts_to_grant
from shared.errors import ReportedError
from shared.reconcile import RunResult
from shared.request import RunRequest
from shared.runtime.clock import Clock
from shared.runtime.log import Sink
from shared.tenants.messages import announce_round
from shared.tenants.registry import TenantRegistry, environment_of
from shared.tenants.rounds import begin_round, end_round, read_registry
from shared.tenants.rows import Work, run_alone, run_in_round


class Fleet:
    """The tenants of one deployment, by its own credentials.

    `environment` is that of the deployment; `account` is its account, without which STS is called. Raises SettingsError
    before any call, and the ReportedError of the STS call.
    """

    def __init__(
        self, environment: Mapping[str, str], sink: Sink, clock: Clock, seconds: float, account: str | None = None
    ) -> None:
        self._environment = environment
        settings = read_settings(environment)
        clients = warm_clients(settings, environment)
        self._run = new_run(settings, sink, clock, seconds)
        home = account or own_account(clients, self._run)
        self._sink, self._home = sink, home
        self._secret = webhook_of(settings, clients, self._run)
        self.documents = S3Fleet(settings, home, clients, self._run)
        self._grants = TenantGrants(settings, home, clients, self._run)

    def environment_of(self, tenant: str) -> dict[str, str]:
        """Return the environment of a tenant's run. Raises RequestError, RegistryError, CloudError."""
        return environment_of(read_registry(self.documents, RULES).tenant(tenant), self._environment, RULES)

    def begin(self) -> dict[str, Any]:
        """Grant the bucket to the payers in the registry; return the tenants of a new round in their order.

        Raises RegistryError, RequestError, CloudError.
        """
        registry = read_registry(self.documents, RULES)
        self._grant(registry)
        return begin_round(self.documents, registry, self._run.run_id, self._sink).answer()

    def end(self, round_id: str) -> dict[str, Any]:
        """Store and return the report of a round, and tell operators which tenants changed.

        Raises RegistryError, RequestError, CloudError.
        """
        clock, workers = self._run.clock, self._run.settings.workers
        report = end_round(self.documents, RULES, round_id, clock, self._sink, workers, self._may_begin)
        announce_round(self.documents, report, "AWS", self._home, self._secret, self._run)
        return report

    def run_in_round(self, request: RunRequest, work: Work) -> dict[str, Any]:
        """Run one tenant as part of a round and return its row; no failure of the tenant is raised."""
        clock = self._run.clock
        row = run_in_round(request, self.documents, clock, self._sink, work, self._run.settings.tenant_invocations)
        return msgspec.to_builtins(row)  # type: ignore[no-any-return]  # a struct becomes a dict

    def run_alone(self, request: RunRequest, work: Work) -> RunResult:
        """Run one tenant outside of a round. Raises what `work` raises, RegistryError, RequestError, CloudError."""
        if not request.dry_run:
            self._grant(read_registry(self.documents, RULES))
        return run_alone(request, self.documents, self._run.clock, self._sink, work)

    def _grant(self, registry: TenantRegistry) -> None:
        """Let exactly the payers in the registry deliver into the bucket; a failure is logged, and stops nothing.

        The payers of invalid entries are not known: while there are any, no grant is removed.
        """
        try:
            change = self._grants.reconcile(accounts_to_grant(registry), keep=bool(registry.refused))
        except ReportedError as error:
            fields = {"cloud": "aws", "code": error.code, "reason": f"{error.message}. {error.remedy}"}
            self._sink("error", "tenant-grants-failed", fields)
            return
        if change.added or change.removed:
            reason = f"added {', '.join(change.added) or 'none'}; removed {', '.join(change.removed) or 'none'}"
            self._sink("info", "tenant-grants-changed", {"cloud": "aws", "reason": reason})

    def _may_begin(self) -> bool:
        return self._run.deadline.allows(0)
