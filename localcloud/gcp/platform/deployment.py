"""The state after a deployment: everything that infra/gcp owns, and the function's permissions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from localcloud.gcp.iam.grants import Grant
from localcloud.gcp.iam.policies import ROLES, Iam
from localcloud.gcp.platform.deployed import LABELS, SINK_WRITER, deployed
from localcloud.gcp.platform.names import ORGANIZATION, Names
from localcloud.gcp.services.billing import account_id
from localcloud.gcp.services.buckets import Bucket, new_document
from localcloud.gcp.services.catalog import Dataset, canonical_location, default_access
from localcloud.gcp.services.objects import ObjectStore
from localcloud.gcp.services.projects import Project
from localcloud.gcp.services.pubsub import Subscription
from localcloud.gcp.state import World

TENANT = "tenant-of-this-machine"
POOL = "tailpipe-pool"
OPERATOR = "operator@example.com"

LIFECYCLE: dict[str, Any] = {
    "rule": [
        {
            "action": {"type": "SetStorageClass", "storageClass": storage_class},
            "condition": {"age": days, "matchesSuffix": [".parquet"]},
        }
        for storage_class, days in (("NEARLINE", 90), ("COLDLINE", 365))
    ]
}
STATE_LIFECYCLE: dict[str, Any] = {
    "rule": [{"action": {"type": "Delete"}, "condition": {"age": 90, "matchesPrefix": ["runs/"]}}]
}
EVENTS_KEPT = timedelta(hours=1)  # by then a scheduled run has checked everything
_ON_PROJECT = ("project", "export_bucket", "state_bucket", "registry_bucket", "notify_secret")
# BigQuery shows these roles under their legacy names in a dataset's access entries.
_LEGACY = {"roles/bigquery.dataViewer": "READER", "roles/bigquery.dataEditor": "WRITER"}
_PRIVATE = {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"}


@dataclass(frozen=True)
class Deployment(Names):
    """One deployment, which can be created in a local cloud."""

    def permissions(self) -> set[str]:
        """Return every permission granted to the function, including those of its predefined roles."""
        return {name for one in self.grants("function") for name in one.actions or ROLES[one.role]}

    def grant(self, world: World) -> None:
        """Grant the function its permissions and the operator all permissions."""
        world.iam.grant(OPERATOR, "roles/owner", ORGANIZATION, at_once=True)
        self._bind(world, "function", self.identity)

    def _bind(self, world: World, holder: str, identity: str) -> None:
        self.bind(world.iam, identity, self.grants(holder))

    def bind(
        self,
        iam: Iam,
        identity: str,
        given: Iterable[Grant],
        accounts: Iterable[str] = (),
        organization: str = ORGANIZATION,
    ) -> None:
        """Bind grants as the Terraform module does; `accounts` are billing accounts used instead of an organization.

        Raises KeyError for a scope that the module does not know.
        """
        project = f"projects/{self.project}"
        places = {
            "project": (project,),
            "dataset": (f"{project}/datasets/{self.dataset}",),
            "export_bucket": (f"buckets/{self.bucket}",),
            "state_bucket": (f"buckets/{self.state_bucket}",),
            "registry_bucket": (f"buckets/{self.registry_bucket}",),
            "tenants_queue": (self.tenants_queue,),
            "tenants_caller": (f"{project}/serviceAccounts/{self.tenants_caller}",),
            "notify_secret": (project,),
            "events_subscription": (self.subscription,),
            "delivery_topic": (self.delivery_topic,),
            "organization": (organization,),
            "billing_account": tuple(f"billingAccounts/{one}" for one in accounts),
        }
        for one in given:
            condition = dict(one.condition) or None
            for place in places[one.scope]:
                iam.grant(
                    identity,
                    one.role_in(self.project),
                    place,
                    at_once=True,
                    permissions=one.actions,
                    bound_on=project if one.scope in _ON_PROJECT else "",
                    condition=condition,
                )

    def make(self, world: World) -> None:
        """Create what Terraform creates: the dataset and both buckets, then everything around the function."""
        now = world.clock.now()
        project = world.projects.all[self.project]
        location = canonical_location(self.location)
        dataset = Dataset(self.project, self.dataset, location, now, now, self._access())
        dataset.extra["labels"] = dict(LABELS)
        world.catalog.add_dataset(dataset)
        for name, lifecycle in ((self.bucket, LIFECYCLE), (self.state_bucket, STATE_LIFECYCLE)):
            self.make_bucket(world, name, lifecycle)
        self._bind(world, "connector", self.connector)
        for caller in (self.scheduler, self.events):
            world.iam.grant(caller, "roles/run.invoker", self.service, at_once=True)
        self._events(world)
        pool = f"projects/{project.number}/locations/global/workloadIdentityPools/{POOL}"
        tenant = f"principalSet://iam.googleapis.com/{pool}/attribute.tenant/{TENANT}"
        account = f"projects/{self.project}/serviceAccounts/{self.connector}"
        world.iam.grant(tenant, "roles/iam.workloadIdentityUser", account, at_once=True)
        for name, one in deployed(self, project.number, world.function_uri, world.issuer, now):
            world.platform.add(name, one)

    def make_bucket(self, world: World, name: str, lifecycle: Mapping[str, Any] | None = None) -> None:
        """Create a private bucket in the project; that of the exports has no soft delete."""
        project, now = world.projects.all[self.project], world.clock.now()
        body: dict[str, Any] = {
            "name": name,
            "location": canonical_location(self.location).upper(),
            "iamConfiguration": _PRIVATE,
            "labels": dict(LABELS),
        }
        body |= {"lifecycle": lifecycle} if lifecycle else {}
        body |= {"softDeletePolicy": {"retentionDurationSeconds": "0"}} if name == self.bucket else {}
        world.buckets.add(Bucket(self.project, new_document(body, project.number, now), ObjectStore(), now))

    def _events(self, world: World) -> None:
        """Create the events topic, its two subscriptions, and the sink's permission to publish."""
        world.pubsub.topics.add(self.topic)
        for name, push in ((self.subscription, ""), (f"{self.subscription}-push", world.function_uri)):
            world.pubsub.subscriptions[name] = Subscription(
                name, self.topic, push, self.events if push else "", retention=EVENTS_KEPT
            )
        world.iam.grant(SINK_WRITER, "roles/pubsub.publisher", self.topic, at_once=True)

    def _access(self) -> list[dict[str, Any]]:
        """Return the dataset's access entries with the module's bindings of the function and the connector."""
        entries = default_access(OPERATOR)
        for holder, identity in (("function", self.identity), ("connector", self.connector)):
            entries += [
                {"role": _LEGACY.get(one.role, one.role_in(self.project)), "userByEmail": identity}
                for one in self.grants(holder)
                if one.scope == "dataset"
            ]
        return entries

    def found(self, world: World) -> Project:
        """Create the project with every API enabled."""
        project = Project(self.project, ORGANIZATION, world.clock.now(), billing=account_id(0, world.seed))
        return world.projects.add(project)
