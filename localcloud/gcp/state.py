"""The state of one local GCP, and the hierarchy of its resources."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.gcp.calls import CallLog
from localcloud.gcp.errors import GoogleError, error_info
from localcloud.gcp.faults import Faults
from localcloud.gcp.iam.policies import Iam
from localcloud.gcp.platform.audit_log import AuditLog
from localcloud.gcp.platform.resources import Resources
from localcloud.gcp.services.billing import Billing
from localcloud.gcp.services.buckets import Buckets
from localcloud.gcp.services.catalog import Catalog
from localcloud.gcp.services.exports import Exports
from localcloud.gcp.services.jobs import Jobs
from localcloud.gcp.services.object_files import ObjectFiles
from localcloud.gcp.services.projects import Project, Projects, unpaid
from localcloud.gcp.services.pubsub import PubSub
from localcloud.gcp.services.tasks import Tasks
from localcloud.gcp.services.warehouse import Warehouse
from shared.runtime.clock import Clock


@dataclass(frozen=True)
class Behavior:
    """The local cloud's choice where Google's behavior varies. Seconds are on the local cloud's clock.

    `page_size` caps every page of Cloud Storage and BigQuery (below each API's own maximum). `table_delay_s`: from the
    console step to the first table. `buffer_s`: how long streamed rows stay in the buffer. `extract_s`: the
    run time of an extract job. `extract_jobs_per_day` and `extract_concurrent` are quotas, `extract_file_bytes` is the
    maximum size of a file, `extract_shard_rows` the number of rows per shard (0: only the size counts).
    `mutations_per_s`: the write rate limit per object (0: no limit; Google allows one write a second).
    """

    page_size: int = 1000
    table_delay_s: float = 0
    buffer_s: float = 5400
    extract_s: float = 0
    extract_jobs_per_day: int = 100_000
    extract_concurrent: int = 100_000
    extract_file_bytes: int = 1_000_000_000
    extract_shard_rows: int = 0
    propagation_s: float = 0
    mutations_per_s: float = 0


class World:
    """The state of one local GCP. `lock` serializes all changes except DuckDB's own work.

    `function_uri` is the address of the deployed function.
    """

    def __init__(
        self,
        clock: Clock,
        folder: Path,
        behavior: Behavior,
        project: str,
        seed: int,
    ) -> None:
        self.clock = clock
        self.behavior = behavior
        self.project = project
        self.seed = seed
        self.lock = threading.RLock()
        self.iam = Iam(clock, behavior.propagation_s)
        self.faults = Faults(clock)
        self.calls = CallLog()
        self.folder = folder
        self.spool = ObjectFiles(folder)
        self.projects = Projects()
        self.platform = Resources()
        self.pubsub = PubSub(clock, self.faults.events)
        self.tasks = Tasks(clock, self.faults.tasks)
        self.audit = AuditLog(clock, self.iam, self.platform, self.pubsub)
        self.function_uri = ""
        # The issuer that the connector's identity pool trusts: this local cloud itself.
        self.issuer = ""
        # The project's effective organization policies by constraint, in the form of Resource Manager v1.
        self.policies: dict[str, dict[str, Any]] = {}
        # The versions of each secret in Secret Manager, oldest first; None is a disabled version.
        self.secrets: dict[str, list[str | None]] = {}
        # The APIs that a VPC Service Controls perimeter blocks.
        self.perimeter: frozenset[str] = frozenset()
        # Identities whose credentials come from gcloud's own client and have no quota project.
        self.without_quota_project: set[str] = set()
        self.billing = Billing()
        self.buckets = Buckets()
        self.warehouse = Warehouse(folder)
        self.catalog = Catalog(self.warehouse)
        self.jobs = Jobs(clock, self.faults)
        self.exports = Exports(
            clock,
            self.billing,
            self.projects,
            self.catalog,
            seed=seed,
            table_delay_s=behavior.table_delay_s,
            buffer_s=behavior.buffer_s,
        )

    def chain(self, resource: str) -> tuple[str, ...]:
        """Return a resource and its ancestors, the most specific first."""
        kind, _, rest = resource.partition("/")
        chain = [resource]
        if kind == "buckets":
            name, _, item = rest.partition("/objects/")
            if item:
                chain.append(f"buckets/{name}")
            bucket = self.buckets.all.get(name)
            chain.append(f"projects/{bucket.project if bucket else self.project}")
        elif kind == "projects":
            parts = resource.split("/")
            chain += ["/".join(parts[:size]) for size in range(len(parts) - 2, 0, -2)]
            # Some services use the project number where bindings use the project id.
            chain[-1] = f"projects/{self.projects.id_of(parts[1])}"
        elif kind == "billingAccounts":
            account = self.billing.accounts.get(rest)
            if account and account.master:
                chain.append(f"billingAccounts/{account.master}")
            if account and account.parent:
                chain.append(account.parent)
        project = self.projects.all.get(chain[-1].removeprefix("projects/"))
        if project and project.parent:
            chain.append(project.parent)
        return tuple(chain)

    def check_project(self, name: str) -> Project:
        """Return an active project. Raises GoogleError 403 for a deleted project, 404 for an unknown one."""
        project = self.projects.find(name, self.clock.now())
        if project is None:
            raise GoogleError(404, "notFound", f"The project {name} was not found.")
        if project.state != "ACTIVE":
            raise GoogleError(
                403,
                "forbidden",
                f"Project '{project.id}' has been scheduled for deletion.",
                details=(error_info("CONSUMER_INVALID", consumer=f"projects/{project.number}"),),
            )
        return project

    def unpaid(self, name: str) -> str:
        """Return why a project is not billed, ``absent`` or ``closed``; "" if an open account pays for it."""
        return unpaid(self.projects, self.billing, name, self.clock.now())

    def settle(self) -> None:
        """Apply all due changes: new tables, flushed buffers, finished jobs, expired tables."""
        self.catalog.expire(self.clock.now())
        self.exports.settle()
        self.jobs.settle()
