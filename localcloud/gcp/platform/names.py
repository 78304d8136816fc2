"""The names of a deployment, and the grants of its function and its connector."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from localcloud.gcp.iam.grants import FILE, Grant, grants
from localcloud.gcp.services.projects import number_of

ORGANIZATION = "organizations/123456789012"
PROJECT = "tailpipe-dataexport"
DATASET = "billing_export"
FUNCTION = "tailpipe-exports"
REGION = "us-central1"
EVENTS = "tailpipe-exports-events"
TENANTS = "tailpipe-exports-tenants"
DELIVERIES = "tailpipe-exports-deliveries"
# The `when` conditions of grants that are met in this deployment.
CONDITIONS = frozenset({"organization", "focus", "events"})
NOTIFY_SECRET = "tailpipe-webhook"  # noqa: S105 - the name of a secret, not one


@dataclass(frozen=True)
class Names:
    """The names of one deployment."""

    project: str = PROJECT
    location: str = "US"
    dataset: str = DATASET

    @property
    def bucket(self) -> str:
        return f"tailpipe-billing-export-{self.project}"

    @property
    def state_bucket(self) -> str:
        return f"tailpipe-state-{self.project}"

    @property
    def identity(self) -> str:
        """The service account of the function."""
        return self.account("function")

    @property
    def connector(self) -> str:
        """The service account that Tailpipe impersonates to read the data."""
        return self.account("connector")

    @property
    def scheduler(self) -> str:
        """The service account that Cloud Scheduler uses to call the function."""
        return self.account("scheduler")

    @property
    def function(self) -> str:
        """The function's full name; its Cloud Run service has the same last segment."""
        return f"projects/{self.project}/locations/{REGION}/functions/{FUNCTION}"

    @property
    def service(self) -> str:
        return f"projects/{self.project}/locations/{REGION}/services/{FUNCTION}"

    @property
    def events(self) -> str:
        """The service account that Pub/Sub uses to push events to the function."""
        return self.account("events")

    @property
    def topic(self) -> str:
        """The events topic; its two subscriptions are named after it."""
        return f"projects/{self.project}/topics/{EVENTS}"

    @property
    def delivery_topic(self) -> str:
        """The topic that the function publishes deliveries on."""
        return f"projects/{self.project}/topics/{DELIVERIES}"

    @property
    def subscription(self) -> str:
        """The subscription that the function pulls events from."""
        return f"projects/{self.project}/subscriptions/{EVENTS}"

    @property
    def registry_bucket(self) -> str:
        return f"tailpipe-tenants-{self.project}"

    @property
    def tenants_queue(self) -> str:
        """The Cloud Tasks queue of rounds."""
        return f"projects/{self.project}/locations/{REGION}/queues/{TENANTS}"

    @property
    def tenants_caller(self) -> str:
        """The service account as which the schedule and the queue of rounds call the function."""
        return self.account("tenants")

    def account(self, name: str) -> str:
        """Return a service account's e-mail address."""
        return f"tailpipe-{name}@{self.project}.iam.gserviceaccount.com"

    def settings(self) -> dict[str, str]:
        """Return the function's settings that differ from deployment to deployment."""
        return {
            "BILLING_DATASET": self.dataset,
            "DATASET_LOCATION": self.location,
            "EXPORT_BUCKET": self.bucket,
            "STATE_BUCKET": self.state_bucket,
            "ORGANIZATION": ORGANIZATION,
            "EVENTS_SUBSCRIPTION": self.subscription,
        }

    def grants(self, holder: str, met: Collection[str] = CONDITIONS, file: Path = FILE) -> list[Grant]:
        """Return the grants of ``function`` or ``connector`` whose condition is empty or in `met`."""
        names = {
            "export_bucket": self.bucket,
            "state_bucket": self.state_bucket,
            "registry_bucket": self.registry_bucket,
            "project": number_of(self.project),
            "notify_secret": NOTIFY_SECRET,
            "events_subscription": EVENTS,
        }
        return [one for one in grants(holder, names, file) if not one.when or one.when in met]
