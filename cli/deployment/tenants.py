"""The tenant port: what each cloud implements for `tailpipe-exports tenants`, in `cli/deployment/<cloud>/tenants.py`.

The module itself is the implementation: it has a function of each name, and `RULES`, that of the function's own
`tenants.py`. `environment` is always that of the deployment, with the operator's sign-in (`cli.settings_source`):
nothing here acts with the function's credentials. Every function may raise OperatorError with a remedy, SettingsError
before any call, and CloudError; none writes to a tenant's cloud.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from cli.deployment.model import Finding
from shared.runtime.clock import Clock
from shared.runtime.log import Sink
from shared.state.store import Blob
from shared.tenants.registry import Rules, Tenant
from shared.tenants.rows import FleetDocuments


@dataclass(frozen=True)
class Invitation:
    """What the tenant's owner is sent: `text` says what to do with the `link` and the `files` (name → content).

    No secret is part of it; `text` may say how to hand one over.
    """

    text: str
    link: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


class RegistryStore(Protocol):
    """Where a deployment's tenant registry is stored."""

    @property
    def place(self) -> str:
        """Return the address for people, such as ``s3://BUCKET/registry/tenants.json``."""
        ...

    def load(self, limit: int) -> Blob:
        """Return the registry, but no more than `limit` bytes; `Blob()` if there is none. Raises CloudError."""
        ...

    def save(self, data: bytes, version: str | None) -> str:
        """Write the registry if it still has `version` (None: if there is none) and return the new version.

        Raises Conflict (`shared.state.store`), CloudError.
        """
        ...


class TenantPort(Protocol):
    """A cloud's `cli/deployment/<cloud>/tenants.py`."""

    RULES: Rules

    def registry_store(self, environment: Mapping[str, str], sink: Sink, clock: Clock) -> RegistryStore:
        """Open the deployment's registry, with the operator's credentials."""
        ...

    def documents(self, environment: Mapping[str, str], sink: Sink, clock: Clock) -> FleetDocuments:
        """Open the rows and the reports of rounds, for reading with the operator's credentials."""
        ...

    def check(
        self, tenant: Tenant, others: Sequence[Tenant], environment: Mapping[str, str], sink: Sink, clock: Clock
    ) -> list[Finding]:
        """Check entry, rights and destination of a tenant, and that it refuses a confused deputy.

        `others` are the registry's other tenants: what enters one of them must not enter this one. A Finding's `ok` is
        None if the caller may not check it, with the reason in `detail`; each failed one has a remedy.
        """
        ...

    def invite(self, tenant: Tenant, environment: Mapping[str, str]) -> Invitation:
        """Return what the tenant's owner has to run or accept, so that the entry works. Calls nothing."""
        ...

    def remaining(self, tenant: Tenant) -> list[str]:
        """Return what stays after a tenant's entry is removed, each with how to remove it: its exports, which are never
        deleted, their data, what lets us in, and the state here. Calls nothing.
        """
        ...

    def discover(self, environment: Mapping[str, str], sink: Sink, clock: Clock) -> list[Tenant]:
        """Return proposals: tenants that the cloud knows of, with every field of their entry that follows from it."""
        ...


@runtime_checkable
class StartsRounds(Protocol):
    """An operator (`cli.deployment.operator.Operator`) of a cloud that has a coordinator."""

    def round(self, tell: Callable[[str], None]) -> dict[str, Any]:
        """Start a round on the platform's engine, wait for its end, and return the round report.

        `tell` is shown one line whenever the number of finished tenants has changed. If a round is already in progress,
        wait for that one. Raises OperatorError without a coordinator, and if the round was aborted.
        """
        ...
