"""Control actions on tenants: further organizations that the function enters, and the resources of its rounds."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from localcloud.gcp.control.base import DeployedActions
from localcloud.gcp.iam.grants import Grant
from localcloud.gcp.platform.deployment import LIFECYCLE, OPERATOR, Deployment
from localcloud.gcp.platform.names import TENANTS, Names
from localcloud.gcp.services.billing import BillingAccount, account_id
from localcloud.gcp.services.catalog import Dataset, canonical_location, default_access
from localcloud.gcp.services.object_files import read
from localcloud.gcp.services.objects import Conditions
from localcloud.gcp.services.projects import Project, number_of

REGISTRY = "tenants.json"
TOKEN_CREATOR = "roles/iam.serviceAccountTokenCreator"  # noqa: S105 - the name of a role, not a secret
# What the function needs in the cloud whose exports it keeps; the rest of its permissions concerns the deployment.
_AT_HOME = frozenset(
    {
        "state_bucket",
        "registry_bucket",
        "tenants_queue",
        "tenants_caller",
        "notify_secret",
        "events_subscription",
        "delivery_topic",
    }
)


class TenantActions(DeployedActions):
    """Actions on tenants and rounds."""

    def enable_tenants(self, rate: float = 5, parallel: int = 20, seconds: int = 3300) -> dict[str, str]:
        """Create what the module creates with `fleet`, and return the function's further settings."""
        deployment, world = self.deployment, self.world
        project = self._project("")
        caller = f"projects/{project.id}/serviceAccounts/{deployment.tenants_caller}"
        world.platform.add(caller, {"projectId": project.id, "email": deployment.tenants_caller, "uniqueId": "9"})
        deployment.make_bucket(world, deployment.registry_bucket)
        world.tasks.make(
            deployment.tenants_queue,
            {
                "rateLimits": {"maxDispatchesPerSecond": rate, "maxConcurrentDispatches": parallel},
                "retryConfig": {
                    "maxAttempts": 8,
                    "maxRetryDuration": "0s",
                    "minBackoff": "60s",
                    "maxBackoff": "300s",
                    "maxDoublings": 2,
                },
            },
        )
        world.iam.grant(deployment.tenants_caller, "roles/run.invoker", deployment.service, at_once=True)
        granted = deployment.grants("function", {"tenants"})
        deployment.bind(world.iam, deployment.identity, [one for one in granted if one.when == "tenants"])
        settings = {
            "HOME_PROJECT": project.id,
            "REGISTRY_BUCKET": deployment.registry_bucket,
            "TENANTS_QUEUE": deployment.tenants_queue,
            "TENANTS_CALLER": deployment.tenants_caller,
            "TENANTS_URL": world.function_uri,
            "TENANTS_ROUND_SECONDS": str(seconds),
        }
        function = world.platform.find(deployment.function)
        function["serviceConfig"]["environmentVariables"] |= settings
        function["serviceConfig"]["maxInstanceCount"] = parallel
        region = deployment.function.rpartition("/functions/")[0]
        world.platform.add(
            f"{region}/jobs/{TENANTS}",
            {
                "description": "Begins the rounds of tenants",
                "schedule": "0 * * * *",
                "timeZone": "Etc/UTC",
                "state": "ENABLED",
                "attemptDeadline": "1800s",
                "httpTarget": {
                    "uri": world.function_uri,
                    "httpMethod": "POST",
                    "body": base64.b64encode(json.dumps({"round": {"step": "begin"}}).encode()).decode(),
                    "oidcToken": {"serviceAccountEmail": deployment.tenants_caller, "audience": world.function_uri},
                },
            },
        )
        return settings

    def add_tenant(
        self,
        tenant: str,
        accounts: int = 2,
        kinds: Sequence[str] = ("standard", "detailed"),
        history_days: int = 0,
        rows: int = 3,
        destination: bool = True,
    ) -> dict[str, Any]:
        """Create an organization with a project and billing accounts that export, and let the function enter it.

        Returns its entry for the tenant registry. Without `destination`, dataset and bucket do not exist yet, and
        nothing is exported.
        """
        world, now = self.world, self.world.clock.now()
        number = len(world.projects.all)
        names = Deployment(project=f"{tenant}-exports", location=self.deployment.location)
        organization = f"organizations/{700_000_000_000 + number}"
        made = [
            BillingAccount(
                account_id(len(world.billing.accounts) + index, world.seed), f"{tenant} {index}", organization
            )
            for index in range(accounts)
        ]
        for one in made:
            world.billing.add(one)
        project = Project(names.project, organization, now, billing=made[0].id if made else "")
        world.projects.add(project)
        world.iam.grant(OPERATOR, "roles/owner", organization, at_once=True)
        if destination:
            self._destination(names, project)
            for one in made:
                for kind in kinds:
                    world.exports.enable(one.id, kind, world.catalog.dataset(project.id, names.dataset))
        self._admit(names, project, names.identity)
        if history_days and destination:
            today = now.date()
            span = [today - timedelta(days=back) for back in range(history_days - 1, -1, -1)]
            world.exports.deliver(world.exports.chosen([one.id for one in made], None), span, rows)
        return {
            "id": tenant,
            "cloud": "gcp",
            "entry": {"service_account": names.identity, "organization": organization},
            "destination": {"project": project.id},
        }

    def replace_account(self, tenant: str, name: str) -> str:
        """Let a tenant admit the function by another service account of its project; return its address."""
        names, project = Deployment(project=f"{tenant}-exports"), self._project(f"{tenant}-exports")
        identity = f"{name}@{project.id}.iam.gserviceaccount.com"
        self._admit(names, project, identity)
        self.world.iam.strip(names.identity)
        return identity

    def accounts_of(self, tenant: str) -> list[str]:
        """Return the billing accounts of a tenant's organization."""
        organization = self._project(f"{tenant}-exports").parent
        return [one.id for one in self.world.billing.of_parent.get(organization, ())]

    def write_registry(self, entries: list[dict[str, Any]]) -> None:
        """Write the tenant registry, as an operator does."""
        text = json.dumps({"version": 1, "tenants": entries})
        found = self._bucket(self.deployment.registry_bucket)
        found.objects.put(REGISTRY, self.world.spool.keep(text.encode()), {}, Conditions(), self.world.clock.now())

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the stored row of each tenant, by its id."""
        found = self._bucket(self.deployment.state_bucket)
        documents = [
            json.loads(read(found.objects.get(found.name, one).content)) for one in found.objects.names("rows/")
        ]
        return {one["tenant"]: one for one in documents}

    def refuse_entry(self, tenant: str) -> int:
        """Revoke the function's permission to impersonate a tenant's service account; return the number of grants."""
        account = _service_account(Names(project=f"{tenant}-exports"))
        return self.world.iam.revoke(self.deployment.identity, TOKEN_CREATOR, account)

    def _admit(self, names: Deployment, project: Project, identity: str) -> None:
        """Create a service account with a tenant's grants, which the function may impersonate."""
        world, granted = self.world, tenant_grants(names)
        account = f"projects/{project.id}/serviceAccounts/{identity}"
        world.platform.add(account, {"projectId": project.id, "email": identity, "uniqueId": number_of(identity)})
        names.bind(world.iam, identity, granted, organization=project.parent)
        for dataset in [one for one in world.catalog.datasets.values() if one.project == project.id]:
            dataset.access += [
                {"role": one.role_in(project.id), "userByEmail": identity} for one in granted if one.scope == "dataset"
            ]
        world.iam.grant(self.deployment.identity, TOKEN_CREATOR, account, at_once=True)

    def _destination(self, names: Deployment, project: Project) -> None:
        now, place = self.world.clock.now(), canonical_location(names.location)
        self.world.catalog.add_dataset(Dataset(project.id, names.dataset, place, now, now, default_access(OPERATOR)))
        names.make_bucket(self.world, names.bucket, LIFECYCLE)


def tenant_grants(names: Names) -> list[Grant]:
    """Return what a tenant grants its own service account: the function's permissions on the exports it keeps."""
    return [one for one in names.grants("function", {"organization", "focus"}) if one.scope not in _AT_HOME]


def _service_account(names: Names) -> str:
    return f"projects/{names.project}/serviceAccounts/{names.identity}"
