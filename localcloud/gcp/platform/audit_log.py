"""Cloud Audit Logs: entries for changes, which sinks route to Pub/Sub.

Only changes that the function may repair are logged. Admin Activity entries are always written, the deletion of an
object only if `data_access` is on, a customer's choice. Sources: "Cloud Audit Logs overview", `AuditLog`, "Configure
and manage sinks" and "Permissions for the sink's service account" (Cloud Logging).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.gcp.iam.policies import Iam
from localcloud.gcp.platform.log_filter import Entry, matches
from localcloud.gcp.platform.resources import Resources
from localcloud.gcp.services.pubsub import PubSub
from shared.runtime.clock import Clock

PERSON = "person@example.com"  # the principal of changes made by control actions
_TOPIC = "pubsub.googleapis.com/"
_PUBLISH = "pubsub.topics.publish"
_BIGQUERY = "google.cloud.bigquery.v2."


@dataclass(frozen=True)
class Change:
    """A change: the API, its method as named in audit logs, and the full name of the changed resource."""

    service: str
    method: str
    resource: str


def dataset_changed(project: str, dataset: str, verb: str) -> Change:
    """Return the change of a dataset; `verb` is Insert, Patch, Update or Delete."""
    name = f"projects/{project}/datasets/{dataset}"
    return Change("bigquery.googleapis.com", f"{_BIGQUERY}DatasetService.{verb}Dataset", name)


def table_deleted(project: str, dataset: str, table: str) -> Change:
    """Return the deletion of a table."""
    name = f"projects/{project}/datasets/{dataset}/tables/{table}"
    return Change("bigquery.googleapis.com", f"{_BIGQUERY}TableService.DeleteTable", name)


def bucket_changed(bucket: str, verb: str) -> Change:
    """Return the change of a bucket; `verb` is create, update or delete."""
    return Change("storage.googleapis.com", f"storage.buckets.{verb}", f"projects/_/buckets/{bucket}")


def object_deleted(bucket: str, name: str) -> Change:
    """Return the deletion of an object."""
    return Change("storage.googleapis.com", "storage.objects.delete", f"projects/_/buckets/{bucket}/objects/{name}")


def account_changed(account: str, method: str) -> Change:
    """Return the change of a billing account."""
    return Change("cloudbilling.googleapis.com", method, f"billingAccounts/{account}")


def project_changed(project: str, method: str) -> Change:
    """Return the change of a project."""
    return Change("cloudresourcemanager.googleapis.com", method, f"projects/{project}")


# difference: GCP-21
class AuditLog:
    """Writes an entry for each change and routes it through the sinks whose filters it matches."""

    def __init__(self, clock: Clock, iam: Iam, resources: Resources, pubsub: PubSub) -> None:
        self._clock = clock
        self._iam = iam
        self._resources = resources
        self._pubsub = pubsub
        self._number = itertools.count(1)
        self.entries: list[Entry] = []
        self.data_access = False

    def write(self, change: Change, principal: str = PERSON, status: int = 0) -> None:
        """Log a principal's change; a nonzero `status` (a gRPC code) means that it was rejected."""
        now = f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ}"
        payload: dict[str, Any] = {
            "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
            "serviceName": change.service,
            "methodName": change.method,
            "resourceName": change.resource,
            "authenticationInfo": {"principalEmail": principal},
            "status": {"code": status} if status else {},
        }
        entry: Entry = {
            "insertId": f"audit-{next(self._number):012d}",
            "logName": "projects/local/logs/cloudaudit.googleapis.com%2Factivity",
            "timestamp": now,
            "receiveTimestamp": now,
            "severity": "ERROR" if status else "NOTICE",
            "protoPayload": payload,
        }
        self.entries.append(entry)
        for sink in self._sinks():
            topic = str(sink["destination"]).removeprefix(_TOPIC)
            if matches(str(sink.get("filter", "")), entry) and self._may_publish(sink, topic):
                self._pubsub.publish(topic, json.dumps(entry).encode())

    def write_data(self, change: Change) -> None:
        """Log a data access if Data Access audit logs are on."""
        if self.data_access:
            self.write(change)

    def _sinks(self) -> Iterable[Mapping[str, Any]]:
        return [
            one
            for name, one in sorted(self._resources.all.items())
            if "/sinks/" in name and str(one.get("destination", "")).startswith(_TOPIC)
        ]

    def _may_publish(self, sink: Mapping[str, Any], topic: str) -> bool:
        writer = str(sink.get("writerIdentity", "")).removeprefix("serviceAccount:")
        chain = (topic, "/".join(topic.split("/")[:2]))
        return topic in self._pubsub.topics and self._iam.allows(writer, _PUBLISH, chain)
