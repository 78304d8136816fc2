"""The bucket of the copies, in a location that BigQuery can write to, and the effects of its policies on copies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from gcp_function.clients import Clients
from gcp_function.errors import observed
from gcp_function.manual_steps import (
    bucket_elsewhere,
    bucket_name_taken,
    bucket_open,
    copies_deleted,
    object_held,
    retention_blocks,
    soft_delete_on,
)
from gcp_function.refusals import ALREADY_EXISTS, HELD, LOCATIONS, PRECONDITION, RETENTION
from gcp_function.resources.copy_manifest import MANIFEST
from gcp_function.resources.dataset import MS_MAX, Dataset
from gcp_function.resources.project import Project
from gcp_function.settings import GcpSettings
from gcp_function.targets import BUCKET, COLDER, KEEPING, MANAGED_BY, MANAGER, PRIVACY, SOFT_DELETE
from gcp_function.targets import RETENTION as RETENTION_KIND
from shared.errors import CloudError, Denied, Manual, NotFound, Permanent, Transient
from shared.model import Absent, Action, Health, Key, Observation, Ownership, Present, Target, Verb
from shared.parsing import parse_int, require_int
from shared.provider import Applied
from shared.resources import BulkOnly, one_by_one
from shared.runtime.context import RunContext


class Bucket(BulkOnly):
    """Observes and applies the bucket.

    After `observe_bulk`: `bucket_gone` is true if it is proven not to exist, `deletes_after` is the age in days at
    which a lifecycle rule deletes copies (None: no rule does), `retained` is how long objects cannot be replaced (None:
    they can be), `holds` is true if no new object can be replaced, and `opened` is true if the bucket is ours and only
    its IAM policy prevents public access.
    """

    kinds = (BUCKET, PRIVACY, RETENTION_KIND, KEEPING, SOFT_DELETE)

    def __init__(
        self, settings: GcpSettings, clients: Clients, run: RunContext, project: Project, dataset: Dataset
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._project = project
        self._dataset = dataset
        self.bucket_gone = False
        self.deletes_after: int | None = None
        self.retained: timedelta | None = None
        self.holds = False
        self._soft_deleted = timedelta(0)
        self.opened = False

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Read the bucket: one call."""
        by_kind = {
            BUCKET.name: self._read(),
            PRIVACY.name: self._observe_privacy(),
            RETENTION_KIND.name: self._observe_retention(),
            KEEPING.name: self._observe_keeping(),
            SOFT_DELETE.name: self._observe_soft_delete(),
        }
        return {target.key: by_kind[target.key.kind] for target in targets}

    def _read(self) -> Observation:
        self.bucket_gone, self.opened = False, False
        self.deletes_after, self.retained, self.holds = None, None, False
        self._soft_deleted = timedelta(0)
        name = self._settings.bucket
        try:
            bucket = self._run.calls("storage", self._get_bucket)
        except NotFound:
            self.bucket_gone = True
            return Absent(("get",), f"bucket {name} does not exist")
        except Denied as error:
            return observed(error, f"bucket {name} (it belongs to this project, or another project has the name)")
        except CloudError as error:
            return observed(error, f"bucket {name}")
        number = str(bucket.get("projectNumber", ""))
        if self._project.number and number and number != self._project.number:
            manual_step = bucket_name_taken(self._settings.bucket)
            return Present(
                ownership=Ownership.FOREIGN, code="bucket-foreign", detail=manual_step.what, manual_step=manual_step
            )
        self.opened = not closed(bucket)
        place = str(bucket.get("location", ""))
        if self._dataset.location is not None and not reaches(self._dataset.location, place):
            manual_step = bucket_elsewhere(self._settings.bucket, place, self._settings.dataset, self._dataset.location)
            return Present(health=Health.MANUAL, code=LOCATIONS, manual_step=manual_step)
        self.deletes_after, self.retained = deleted_after(bucket), retained_for(bucket)
        self.holds = bool(bucket.get("defaultEventBasedHold"))
        self._soft_deleted = soft_deleted_for(bucket)
        return Present(normal_bucket(bucket))

    def _observe_privacy(self) -> Observation:
        """Return whether the bucket could be made public.

        The function cannot change that: it requires the permission to set the bucket's IAM policy, which only the
        deployment has (source: "IAM permissions for JSON methods", Cloud Storage).
        """
        if not self.opened:
            return Present()
        manual_step = bucket_open(self._settings.bucket)
        return Present(
            health=Health.MANUAL, code="public-access-possible", detail=manual_step.what, manual_step=manual_step
        )

    def _observe_retention(self) -> Observation:
        """Return whether a lifecycle rule deletes copies."""
        if self.deletes_after is None:
            return Present()
        manual_step = copies_deleted(self._settings.bucket, self.deletes_after)
        return Present(
            health=Health.MANUAL, code="copies-are-deleted", detail=manual_step.what, manual_step=manual_step
        )

    def _observe_keeping(self) -> Observation:
        """Return whether copies can be replaced, and are kept as long as they are compared with partitions."""
        name, days = self._settings.bucket, self.deletes_after
        if self.retained is not None:
            manual_step = retention_blocks(
                f"bucket {name} retains them for {self.retained.total_seconds() / 86400:g} days", name
            )
            return Present(health=Health.MANUAL, code=RETENTION, detail=manual_step.what, manual_step=manual_step)
        if self.holds:
            manual_step = object_held(f"bucket {name} puts an event-based hold on every new object", name)
            return Present(health=Health.MANUAL, code=HELD, detail=manual_step.what, manual_step=manual_step)
        if days is not None and days < self._settings.copy_days:
            manual_step = copies_deleted(name, days)
            return Present(
                health=Health.MANUAL, code="copies-are-deleted", detail=manual_step.what, manual_step=manual_step
            )
        return Present()

    def _observe_soft_delete(self) -> Observation:
        """Return whether deleted copies are kept, and billed, for some time."""
        if not self._soft_deleted:
            return Present()
        manual_step = soft_delete_on(self._settings.bucket, self._soft_deleted)
        return Present(health=Health.MANUAL, code="soft-delete", detail=manual_step.what, manual_step=manual_step)

    def keeps(self, created: datetime | None) -> Manual | None:
        """Return why an object that was created at that time cannot be replaced now, None if it can be."""
        name = self._settings.bucket
        if created is not None and self.holds:
            return Manual(HELD, object_held(f"bucket {name} puts an event-based hold on its objects", name))
        if created is None or self.retained is None or self._run.clock.now() >= created + self.retained:
            return None
        until = f"this copy can be replaced from {created + self.retained:%Y-%m-%d %H:%M} UTC on"
        return Manual(RETENTION, retention_blocks(until, name))

    def deletes(self, day: str) -> bool:
        """Return whether a lifecycle rule has deleted a copy made on `day` (``YYYY-MM-DD``) by now."""
        if self.deletes_after is None:
            return False
        return (self._run.clock.now().date() - date.fromisoformat(day)).days > self.deletes_after

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Create the bucket, or repair the fields that differ."""
        return one_by_one(self._write, actions)

    def _write(self, action: Action) -> Applied:
        if action.verb is Verb.CREATE:
            return self._create_bucket()
        self._repair_bucket(action.changes)
        return Applied()

    def _create_bucket(self) -> Applied:
        storage = self._clients.storage
        bucket = storage.bucket(self._settings.bucket)
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"
        bucket.lifecycle_rules = lifecycle_rules()
        # Soft delete would have superseded copies billed for a week ("Export limitations", BigQuery).
        bucket.soft_delete_policy.retention_duration_seconds = 0
        bucket.labels = {MANAGED_BY: MANAGER}
        try:
            self._run.calls(
                "storage",
                storage.create_bucket,
                bucket,
                project=self._settings.project,
                location=self._dataset.location or self._settings.location,
                timeout=self._clients.timeout,
                retry=None,
            )
        except Permanent as error:
            if error.code != ALREADY_EXISTS:
                raise
            return self._already_there(error)
        return Applied()

    def _already_there(self, error: Permanent) -> Applied:
        """Handle a bucket name that is taken: by a concurrent run, or by another project."""
        try:
            bucket = self._run.calls("storage", self._get_bucket)
        except CloudError as refused:
            raise Manual("bucket-name-taken", bucket_name_taken(self._settings.bucket), error.message) from refused
        number = str(bucket.get("projectNumber", ""))
        if self._project.number and number and number != self._project.number:
            raise Manual("bucket-name-taken", bucket_name_taken(self._settings.bucket), error.message)
        return Applied(message="it existed already")

    def _repair_bucket(self, changes: tuple[str, ...]) -> None:
        found = self._run.calls("storage", self._get_bucket)
        # Not with Google's client: it would also send public access prevention as not enforced, which the function may
        # not change.
        body: dict[str, Any] = {}
        if "uniform-access" in changes:
            body["iamConfiguration"] = {"uniformBucketLevelAccess": {"enabled": True}}
        if "lifecycle" in changes:
            body["lifecycle"] = {"rule": [*found.get("lifecycle", {}).get("rule", []), *lifecycle_rules()]}
        # The precondition keeps a rule that was added since the read from being lost.
        only_if = {
            "ifMetagenerationMatch": require_int(found.get("metageneration"), "storage.buckets.get"),
            "projection": "noAcl",
        }
        path = f"storage/v1/b/{self._settings.bucket}"
        try:
            self._run.calls("storage", self._clients.patch, "storage", path, body, only_if)
        except Permanent as error:
            if error.code != PRECONDITION:
                raise
            raise Transient(
                "changed-meanwhile", error.message, "Nothing: the next run reads the bucket again.", within_run=False
            ) from error

    def _get_bucket(self) -> dict[str, Any]:
        return self._clients.get("storage", f"storage/v1/b/{self._settings.bucket}", {"projection": "noAcl"})


def reaches(dataset: str, bucket: str) -> bool:
    """Return whether BigQuery can extract from a dataset's location to a bucket's.

    The US multi-region reaches every bucket, the EU multi-region its own regions, a region itself only (source:
    "Export table data to Cloud Storage", location considerations).
    """
    where, to = dataset.upper(), bucket.upper()
    return where in (to, "US") or (where == "EU" and to.startswith("EUROPE-"))


# Google restates a partition for about a month; after 90 days its copy no longer changes. Objects of every class can be
# read immediately, as readers need. Manifests keep their class: they are small, and read most often.
TIERS = (("NEARLINE", 90), ("COLDLINE", 365))


def lifecycle_rules() -> list[dict[str, Any]]:
    """Return the function's own lifecycle rules, as Cloud Storage takes them."""
    return [
        {
            "action": {"type": "SetStorageClass", "storageClass": storage_class},
            "condition": {"age": days, "matchesSuffix": [".parquet"]},
        }
        for storage_class, days in TIERS
    ]


def normal_bucket(bucket: Mapping[str, Any]) -> dict[str, Any]:
    """Return the managed fields of a live bucket in the form of `Target.desired`."""
    configuration = bucket.get("iamConfiguration", {})
    rules = bucket.get("lifecycle", {}).get("rule", [])
    # Tiers that another person chose are kept: rules have no names, so adding ours would only conflict with theirs.
    tiered = any(rule.get("action", {}).get("type") == "SetStorageClass" for rule in rules)
    return {
        "uniform-access": bool(configuration.get("uniformBucketLevelAccess", {}).get("enabled")),
        "lifecycle": COLDER if tiered else "none",
    }


def closed(bucket: Mapping[str, Any]) -> bool:
    """Return whether public access prevention is enforced on a bucket, whatever its IAM policy grants."""
    return bool(bucket.get("iamConfiguration", {}).get("publicAccessPrevention") == "enforced")


def deleted_after(bucket: Mapping[str, Any]) -> int | None:
    """Return the lowest age in days at which a rule deletes live files or manifests of copies, None if no rule does."""
    ages = [
        parse_int(rule["condition"].get("age", 0)) or 0
        for rule in bucket.get("lifecycle", {}).get("rule", [])
        if rule.get("action", {}).get("type") == "Delete" and _of_copies(rule.get("condition", {}))
    ]
    return min(ages, default=None)


def _of_copies(condition: Mapping[str, Any]) -> bool:
    """Return whether a rule's condition can match a live copy; a date in the past matches older objects only."""
    if not set(condition) <= {"age", "isLive", "matchesSuffix", "matchesPrefix", "matchesStorageClass"}:
        return False
    suffixes, prefixes = condition.get("matchesSuffix"), condition.get("matchesPrefix")
    ends = suffixes is None or any(name.endswith(one) for one in suffixes for name in (".parquet", MANIFEST))
    begins = prefixes is None or any(re.match(r"[0-9A-F-]*$|[0-9A-F]{6}-", one) for one in prefixes)
    return bool(condition.get("isLive", True) and ends and begins)


def retained_for(bucket: Mapping[str, Any]) -> timedelta | None:
    """Return how long a bucket's retention policy keeps objects from being replaced, None if they can be.

    With versioning a replaced object becomes a noncurrent version, which the policy allows ("Bucket Lock", Cloud
    Storage).
    """
    policy, versions = bucket.get("retentionPolicy"), bucket.get("versioning")
    if not isinstance(policy, Mapping) or (isinstance(versions, Mapping) and versions.get("enabled")):
        return None
    return _seconds(policy.get("retentionPeriod"))


def soft_deleted_for(bucket: Mapping[str, Any]) -> timedelta:
    """Return how long a bucket keeps, and bills, deleted objects; zero without soft delete."""
    policy = bucket.get("softDeletePolicy")
    found = _seconds(policy.get("retentionDurationSeconds")) if isinstance(policy, Mapping) else None
    return found or timedelta(0)


def _seconds(value: object) -> timedelta | None:
    """Return a duration that Google writes as a number of seconds, None for anything else."""
    text = str(value or "")
    return timedelta(seconds=min(int(text[:15]), MS_MAX // 1000)) if text.isascii() and text.isdigit() else None
