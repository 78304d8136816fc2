"""The state after a deployment: what infra/ makes once, and what the function's identity may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localcloud.gcp.buckets import Bucket, new_document
from localcloud.gcp.catalog import Dataset, canonical_location, default_access
from localcloud.gcp.objects import ObjectStore
from localcloud.gcp.projects import Project
from localcloud.gcp.world import World

ORGANIZATION = "organizations/123456789012"
PROJECT = "tailpipe-dataexport"
DATASET = "billing_export"
FUNCTION = f"tailpipe-function@{PROJECT}.iam.gserviceaccount.com"
OPERATOR = "operator@example.com"

# What the function may do in its project, permission by permission; it may list billing accounts beside that.
FUNCTION_PERMISSIONS = (
    "bigquery.datasets.create",
    "bigquery.datasets.get",
    "bigquery.datasets.getIamPolicy",
    "bigquery.jobs.create",
    "bigquery.tables.export",
    "bigquery.tables.get",
    "bigquery.tables.getData",
    "bigquery.tables.list",
    "resourcemanager.projects.get",
    "serviceusage.services.get",
    "serviceusage.services.list",
    "storage.buckets.create",
    "storage.buckets.get",
    "storage.buckets.update",
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
    "storage.objects.list",
)
LIFECYCLE: dict[str, Any] = {
    "rule": [
        {
            "action": {"type": "SetStorageClass", "storageClass": storage_class},
            "condition": {"age": days, "matchesSuffix": [".parquet"]},
        }
        for storage_class, days in (("NEARLINE", 90), ("COLDLINE", 365))
    ]
}
_PRIVATE = {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"}


@dataclass(frozen=True)
class Deployment:
    """The names of one deployment."""

    project: str = PROJECT
    location: str = "US"
    dataset: str = DATASET
    identity: str = FUNCTION

    @property
    def bucket(self) -> str:
        return f"tailpipe-billing-export-{self.project}"

    @property
    def state_bucket(self) -> str:
        return f"tailpipe-state-{self.project}"

    def settings(self) -> dict[str, str]:
        """Return the function's settings that differ from deployment to deployment."""
        return {
            "BILLING_DATASET": self.dataset,
            "DATASET_LOCATION": self.location,
            "EXPORT_BUCKET": self.bucket,
            "STATE_BUCKET": self.state_bucket,
            "ORGANIZATION": ORGANIZATION,
        }

    def grant(self, world: World) -> None:
        """Give the function its rights, and the operator all."""
        world.iam.grant(OPERATOR, "roles/owner", ORGANIZATION, at_once=True)
        for permission in FUNCTION_PERMISSIONS:
            world.iam.grant(self.identity, permission, f"projects/{self.project}", at_once=True)
        world.iam.grant(self.identity, "roles/billing.viewer", ORGANIZATION, at_once=True)

    def make(self, world: World) -> None:
        """Make the dataset and both buckets."""
        now = world.clock.now()
        project = world.projects.all[self.project]
        location = canonical_location(self.location)
        dataset = Dataset(self.project, self.dataset, location, now, now, default_access(OPERATOR))
        world.catalog.add_dataset(dataset)
        for name, lifecycle in ((self.bucket, LIFECYCLE), (self.state_bucket, {})):
            body: dict[str, Any] = {"name": name, "location": location.upper(), "iamConfiguration": _PRIVATE}
            body |= {"lifecycle": lifecycle} if lifecycle else {}
            document = new_document(body, project.number, now)
            world.buckets.add(Bucket(self.project, document, ObjectStore(), now))

    def found(self, world: World) -> Project:
        """Make the project, with every API on."""
        project = Project(self.project, ORGANIZATION, world.clock.now())
        world.projects.all[self.project] = project
        return project
