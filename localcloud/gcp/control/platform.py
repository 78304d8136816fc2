"""Control actions on the exports' surroundings: buckets, the project, its APIs and permissions."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from localcloud.gcp.control.base import DeployedActions
from localcloud.gcp.platform import legacy_exports
from localcloud.gcp.platform.audit_log import bucket_changed, object_deleted, project_changed
from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.services.buckets import Bucket, new_document
from localcloud.gcp.services.catalog import Dataset, canonical_location, default_access
from localcloud.gcp.services.lifecycle import apply_rules
from localcloud.gcp.services.object_files import read
from localcloud.gcp.services.objects import Conditions, ObjectStore
from localcloud.gcp.services.pubsub import MOST, Subscription

_ANY = Conditions()
DISABLE = "google.api.serviceusage.v1.ServiceUsage.DisableService"


class PlatformActions(DeployedActions):
    """Actions on buckets, objects, the project, its APIs and permissions."""

    # Cloud Storage

    def copies(self, prefix: str = "") -> list[str]:
        """Return the names of the objects in the export bucket."""
        return self._bucket("").objects.names(prefix)

    def delete_copy(self, account: str, day: str, kind: str = "standard", manifest: bool = True) -> list[str]:
        """Delete a day's copy, optionally without its manifest, and return the names of the deleted objects."""
        bucket = self._bucket("")
        names = [
            name
            for name in bucket.objects.names(f"{account}/{day}/{kind}/")
            if manifest or not name.endswith("/manifest.json")
        ]
        for name in names:
            bucket.objects.delete(bucket.name, name, None, _ANY)
            self.world.audit.write_data(object_deleted(bucket.name, name))
        return names

    def put_object(self, name: str, text: str, bucket: str = "") -> None:
        """Write an object (default: to the export bucket)."""
        found = self._bucket(bucket)
        found.objects.put(name, self.world.spool.keep(text.encode()), {}, _ANY, self.world.clock.now())

    def read_object(self, name: str, bucket: str = "") -> str:
        found = self._bucket(bucket)
        return read(found.objects.get(found.name, name).content).decode("utf-8", "surrogateescape")

    def objects(self, bucket: str = "", prefix: str = "") -> list[str]:
        return self._bucket(bucket).objects.names(prefix)

    def delete_objects(self, bucket: str = "", prefix: str = "") -> int:
        """Delete all objects with a prefix and return how many there were."""
        found = self._bucket(bucket)
        names = found.objects.names(prefix)
        for name in names:
            found.objects.delete(found.name, name, None, _ANY)
        return len(names)

    def delete_bucket(self, bucket: str = "") -> None:
        """Delete a bucket with everything in it."""
        found = self._bucket(bucket)
        self.delete_objects(bucket)
        del self.world.buckets.all[found.name]
        self.world.audit.write(bucket_changed(found.name, "delete"))

    def apply_lifecycle(self, bucket: str = "") -> dict[str, int]:
        """Apply the bucket's lifecycle rules and return the number of objects by action."""
        return apply_rules(self._bucket(bucket), self.world.clock.now())

    # Events

    def log_data_access(self) -> None:
        """Enable Data Access audit logs for Cloud Storage."""
        self.world.audit.data_access = True

    def emit_event(self, text: str) -> None:
        """Publish a message with any content to the events topic."""
        self.world.pubsub.publish(self.deployment.topic, text.encode("utf-8", "surrogateescape"))

    def announce_deliveries(self, subscription: str = "deliveries") -> str:
        """Create the topic of deliveries, which the function may publish on, and an ordered subscription to it.

        Returns the topic's name.
        """
        topic = self.deployment.delivery_topic
        self.world.pubsub.topics.add(topic)
        name = f"projects/{self.deployment.project}/subscriptions/{subscription}"
        self.world.pubsub.subscriptions.setdefault(name, Subscription(name, topic, ordered=True))
        granted = self.deployment.grants("function", {"delivery_events"})
        self.deployment.bind(self.world.iam, self.deployment.identity, [one for one in granted if one.when])
        return topic

    def published(self, subscription: str = "deliveries", acknowledge: bool = True) -> list[dict[str, Any]]:
        """Return the messages that a subscription to the deliveries would receive now, and acknowledge them."""
        name = f"projects/{self.deployment.project}/subscriptions/{subscription}"
        found = self.world.pubsub.pull(name, MOST)
        if acknowledge:
            self.world.pubsub.acknowledge(name, {one.ack_id for one in found})
        return [one.as_json() for one in found]

    # Deployed resources

    def resources(self, part: str = "") -> list[str]:
        """Return the full resource names that contain a text such as ``/functions/``."""
        return [name for name in sorted(self.world.platform.all) if part in name]

    def resource(self, name: str) -> dict[str, Any]:
        """Return a resource by its full name."""
        return deepcopy(self.world.platform.find(name))

    def put_resource(self, name: str, document: dict[str, Any]) -> None:
        """Create or replace a resource."""
        self.world.platform.add(name, document)

    def delete_resource(self, name: str) -> None:
        """Delete a resource permanently."""
        self.world.platform.find(name)
        del self.world.platform.all[name]

    def set_ingress(self, setting: str) -> None:
        """Set the ingress of the function's address: ``ALLOW_ALL`` or ``ALLOW_INTERNAL_ONLY``."""
        words = {"ALLOW_ALL": "INGRESS_TRAFFIC_ALL", "ALLOW_INTERNAL_ONLY": "INGRESS_TRAFFIC_INTERNAL_ONLY"}
        self.world.platform.find(self.deployment.service)["ingress"] = words[setting]
        self.world.platform.find(self.deployment.function)["serviceConfig"]["ingressSettings"] = setting

    def earlier_setup(self, location: str = "us-central1") -> None:
        """Add the resources that the earlier setup scripts created, unless they exist, and their grants."""
        world, project, now = self.world, self._project(""), self.world.clock.now()
        place = canonical_location(location)
        if (project.id, self.deployment.dataset) not in world.catalog.datasets:
            made = Dataset(project.id, self.deployment.dataset, place, now, now, default_access(OPERATOR))
            world.catalog.add_dataset(made)
        if self.deployment.bucket not in world.buckets.all:
            document = new_document(legacy_exports.bucket(self.deployment, place.upper()), project.number, now)
            world.buckets.add(Bucket(project.id, document, ObjectStore(), now))
        for name, document in legacy_exports.resources(self.deployment, project.number):
            if name not in world.platform.all:
                world.platform.add(name, document)
        for member, role, resource in legacy_exports.grants(self.deployment, project.number):
            world.iam.grant(member, role, resource, at_once=True)

    # The project and its permissions

    def delete_project(self, project: str = "") -> None:
        """Request the project's deletion, which can be undone for thirty days."""
        self._project(project).deleted = self.world.clock.now()
        self.world.audit.write(project_changed(self._project(project).id, "DeleteProject"))

    def undelete_project(self, project: str = "") -> None:
        self._project(project).deleted = None
        self.world.audit.write(project_changed(self._project(project).id, "UndeleteProject"))

    def disable_api(self, service: str, project: str = "") -> None:
        """Disable an API (``bigquery.googleapis.com``)."""
        self._project(project).services.discard(service)
        self.world.audit.write(project_changed(self._project(project).id, DISABLE))

    def enable_api(self, service: str, project: str = "") -> None:
        self._project(project).services.add(service)

    def grant(self, role: str, resource: str, identity: str = "") -> None:
        """Grant a role, or a permission by its name; it takes effect after the propagation time."""
        self.world.iam.grant(identity or self.deployment.identity, role, resource)

    def revoke(self, role: str, resource: str = "*", identity: str = "") -> int:
        return self.world.iam.revoke(identity or self.deployment.identity, role, resource)

    def deny(self, permission: str, resource: str = "*", identity: str = "*") -> None:
        """Deny a permission (wildcards allowed) to all identities, or to one."""
        self.world.iam.deny(permission, identity=identity, resource=resource)

    def allow(self, permission: str) -> None:
        self.world.iam.allow(permission)
