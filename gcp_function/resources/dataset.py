"""The dataset, which may lie where it was found, and the bucket, which lies where the dataset is."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from gcp_function.clients import Clients
from gcp_function.errors import ALREADY_EXISTS, HELD, LOCATIONS, PRECONDITION, RETENTION, observed
from gcp_function.manual_steps import (
    bucket_elsewhere,
    bucket_name_taken,
    bucket_open,
    copies_deleted,
    dataset_elsewhere,
    key_blocks_export,
    object_held,
    region_unsupported,
    retention_blocks,
    soft_delete_on,
    tables_expire,
)
from gcp_function.resources.copy_manifest import (
    closed,
    deleted_after,
    expires_after,
    key_of,
    lifecycle_rules,
    normal_bucket,
    retained_for,
    soft_deleted_for,
    writers,
)
from gcp_function.resources.project import Identity
from gcp_function.settings import GcpSettings
from gcp_function.targets import (
    DATASET,
    EXPORT_LOCATIONS,
    MANAGED_BY,
    MANAGER,
    dataset_key,
)
from shared.errors import CloudError, Denied, Manual, NotFound, Permanent, Transient
from shared.model import Absent, Action, Health, Observation, Ownership, Present, Unknown, Verb
from shared.parsing import needed
from shared.provider import Applied
from shared.runtime.context import RunContext

MULTI_REGIONS = ("US", "EU")
FIELDS = "name,location,projectNumber,metageneration,iamConfiguration,lifecycle"


class Destination:
    """Observes and applies the dataset and the bucket.

    After `observe_dataset`: `location` is where the dataset is (None: there is none), `writers` who may write to it
    (None: that may not be read), `unseen` what kept it from being read. After `observe_bucket`: `bucket_gone`, whether
    it is proven not to be there, `deletes_after`, the days after which a rule deletes copies (None: no rule does),
    `retained`, how long objects cannot be replaced (None: they can be), `holds`, whether none can be, and `opened`,
    whether the bucket is ours and nothing but its policies keeps the public out.
    """

    def __init__(self, settings: GcpSettings, identity: Identity, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._identity = identity
        self._clients = clients
        self._run = run
        self.location: str | None = None
        self.writers: frozenset[str] | None = None
        self.unseen: Unknown | None = None
        self.bucket_gone = False
        self.deletes_after: int | None = None
        self.retained: timedelta | None = None
        self.holds = False
        self._soft_deleted = timedelta(0)
        self._expires: timedelta | None = None
        self._key = ""
        self.opened = False

    def observe_dataset(self) -> Observation:
        """Read the dataset with its access entries: one call."""
        name = f"{self._settings.project}.{self._settings.dataset}"
        self.location, self.writers, self.unseen = None, None, None
        try:
            dataset = self._run.calls("bigquery", self._get_dataset)
        except NotFound:
            self.writers = frozenset()
            return Absent(("get",), f"dataset {name} does not exist")
        except CloudError as error:
            seen = observed(error, f"dataset {name}")
            self.unseen = seen if isinstance(seen, Unknown) else None
            return seen
        self.location = str(dataset.get("location", "US"))
        self.writers = writers(dataset)
        self._expires, self._key = expires_after(dataset), key_of(dataset)
        return Present(detail=f"in {self.location}")

    def observe_location(self) -> Observation:
        """Compare where the dataset is with where it is wanted, after `observe_dataset`: no call."""
        if self.unseen is not None:
            return self.unseen
        if self.location is None:
            return Present(health=Health.NOT_NEEDED, code="no-dataset", detail="there is no dataset yet")
        actual = {"location": self.location.upper()}
        note = "" if actual["location"] in MULTI_REGIONS else " A single region gets no data of the time before."
        return Present(
            actual,
            manual_step=dataset_elsewhere(self._settings.dataset, self.location, self._settings.location, note),
        )

    def observe_expiration(self) -> Observation:
        """Say whether BigQuery deletes what is exported, after `observe_dataset`: no call."""
        if self.unseen is not None:
            return self.unseen
        if self._expires is None:
            return Present()
        manual_step = tables_expire(self._settings.project, self._settings.dataset, self._expires)
        return Present(health=Health.MANUAL, code="tables-expire", detail=manual_step.what, manual_step=manual_step)

    def observe_region(self, arriving: bool) -> Observation:
        """Say whether Cloud Billing exports to where the dataset is, or is wanted: no call.

        Google adds regions: one where rows are `arriving` is fine, whatever was known when this was written.
        """
        if self.unseen is not None:
            return self.unseen
        place = self.location or self._settings.location
        if arriving or place.upper() in EXPORT_LOCATIONS:
            return Present()
        manual_step = region_unsupported(self._settings.dataset, place)
        return Present(
            health=Health.MANUAL, code="unsupported-region", detail=manual_step.what, manual_step=manual_step
        )

    def observe_encryption(self, arriving: bool) -> Observation:
        """Say whether a customer-managed key keeps Google from writing to the dataset: no call.

        Google says both that such datasets take no billing data, and how to make one: rows that are `arriving` decide.
        """
        if self.unseen is not None:
            return self.unseen
        if arriving or not self._key:
            return Present()
        manual_step = key_blocks_export(self._settings.project, self._settings.dataset, self._key)
        return Present(
            health=Health.MANUAL, code="customer-managed-key", detail=manual_step.what, manual_step=manual_step
        )

    def observe_keeping(self) -> Observation:
        """Say whether copies can be replaced and stay as long as they are compared, after `observe_bucket`: no call."""
        name, days = self._settings.bucket, self.deletes_after
        if self.retained is not None:
            manual_step = retention_blocks(
                f"bucket {name} keeps them for {self.retained.total_seconds() / 86400:g} days", name
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

    def observe_soft_delete(self) -> Observation:
        """Say whether deleted copies stay, and are billed, for some time; after `observe_bucket`: no call."""
        if not self._soft_deleted:
            return Present()
        manual_step = soft_delete_on(self._settings.bucket, self._soft_deleted)
        return Present(health=Health.MANUAL, code="soft-delete", detail=manual_step.what, manual_step=manual_step)

    def keeps(self, created: datetime | None) -> Manual | None:
        """Return why an object that was created then cannot be replaced now, None if it can be."""
        name = self._settings.bucket
        if created is not None and self.holds:
            return Manual(HELD, object_held(f"bucket {name} holds its objects", name))
        if created is None or self.retained is None or self._run.clock.now() >= created + self.retained:
            return None
        until = f"this copy can be replaced from {created + self.retained:%Y-%m-%d %H:%M} UTC on"
        return Manual(RETENTION, retention_blocks(until, name))

    def place(self) -> str:
        """Return where the dataset is, looking if nobody has yet. Raises CloudError."""
        if self.location is None:
            self.observe_dataset()
        if self.location is None:
            what = f"dataset {self._settings.dataset} cannot be read from"
            remedy = "Follow what the report says of the dataset; copies go on when it can be read."
            raise Transient("no-dataset", what, remedy, within_run=False)
        return self.location

    def observe_bucket(self) -> Observation:
        """Read the bucket after the dataset: one call."""
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
            return observed(error, f"bucket {name} (of this project, or of somebody else who took the name)")
        except CloudError as error:
            return observed(error, f"bucket {name}")
        number = str(bucket.get("projectNumber", ""))
        if self._identity.number and number and number != self._identity.number:
            manual_step = bucket_name_taken(self._settings.bucket)
            return Present(
                ownership=Ownership.FOREIGN, code="bucket-foreign", detail=manual_step.what, manual_step=manual_step
            )
        self.opened = not closed(bucket)
        place = str(bucket.get("location", ""))
        if self.location is not None and not reaches(self.location, place):
            manual_step = bucket_elsewhere(self._settings.bucket, place, self._settings.dataset, self.location)
            return Present(health=Health.MANUAL, code=LOCATIONS, manual_step=manual_step)
        self.deletes_after, self.retained = deleted_after(bucket), retained_for(bucket)
        self.holds = bool(bucket.get("defaultEventBasedHold"))
        self._soft_deleted = soft_deleted_for(bucket)
        return Present(normal_bucket(bucket))

    def observe_retention(self) -> Observation:
        """Say whether a rule of somebody else deletes copies, after `observe_bucket`: no call."""
        if self.deletes_after is None:
            return Present()
        manual_step = copies_deleted(self._settings.bucket, self.deletes_after)
        return Present(
            health=Health.MANUAL, code="copies-are-deleted", detail=manual_step.what, manual_step=manual_step
        )

    def observe_privacy(self) -> Observation:
        """Say whether the bucket could be made public, after `observe_bucket`: no call.

        Only who may set the bucket's policies can change that (source: "IAM permissions for JSON methods", Cloud
        Storage), which the function may not: it is the deployment's.
        """
        if not self.opened:
            return Present()
        manual_step = bucket_open(self._settings.bucket)
        return Present(
            health=Health.MANUAL, code="public-access-possible", detail=manual_step.what, manual_step=manual_step
        )

    def deletes(self, day: str) -> bool:
        """Return whether a rule has deleted, by now, what was copied on `day` (``YYYY-MM-DD``)."""
        if self.deletes_after is None:
            return False
        return (self._run.clock.now().date() - date.fromisoformat(day)).days > self.deletes_after

    def apply(self, action: Action) -> Applied:
        """Create the dataset or the bucket, or repair the bucket's fields. Raises CloudError."""
        if action.target.kind == DATASET:
            return self._create_dataset()
        if action.verb is Verb.CREATE:
            return self._create_bucket()
        self._repair_bucket(action.changes)
        return Applied()

    def _create_dataset(self) -> Applied:
        from google.cloud.bigquery import Dataset

        wanted = Dataset(f"{self._settings.project}.{self._settings.dataset}")
        wanted.location = self._settings.location
        wanted.description = "Cloud Billing export; Google's own access entry is needed for it"
        wanted.labels = {MANAGED_BY: MANAGER}
        try:
            self._run.calls(
                "bigquery", self._clients.bigquery.create_dataset, wanted, timeout=self._clients.timeout, retry=None
            )
        except Permanent as error:
            if error.code != ALREADY_EXISTS:
                raise
            # Somebody was quicker. Where it is does not matter here: that is looked at in every run.
            return Applied(message=f"{dataset_key(self._settings)} was there already")
        return Applied()

    def _create_bucket(self) -> Applied:
        storage = self._clients.storage
        bucket = storage.bucket(self._settings.bucket)
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"
        bucket.lifecycle_rules = lifecycle_rules()
        # Superseded copies would be billed for a week ("Export limitations" advise to switch it off).
        bucket.soft_delete_policy.retention_duration_seconds = 0
        bucket.labels = {MANAGED_BY: MANAGER}
        try:
            self._run.calls(
                "storage",
                storage.create_bucket,
                bucket,
                project=self._settings.project,
                location=self.location or self._settings.location,
                timeout=self._clients.timeout,
                retry=None,
            )
        except Permanent as error:
            if error.code != ALREADY_EXISTS:
                raise
            return self._already_there(error)
        return Applied()

    def _already_there(self, error: Permanent) -> Applied:
        """Take the answer that the name is taken: by us, in a run beside this one, or by somebody else."""
        try:
            bucket = self._run.calls("storage", self._get_bucket)
        except CloudError as refused:
            raise Manual("bucket-name-taken", bucket_name_taken(self._settings.bucket), error.message) from refused
        number = str(bucket.get("projectNumber", ""))
        if self._identity.number and number and number != self._identity.number:
            raise Manual("bucket-name-taken", bucket_name_taken(self._settings.bucket), error.message)
        return Applied(message="it was there already")

    def _repair_bucket(self, changes: tuple[str, ...]) -> None:
        found = self._run.calls("storage", self._get_bucket)
        # Google's client would send public access prevention along, as lifted, which the function may not even touch.
        body: dict[str, Any] = {}
        if "uniform-access" in changes:
            body["iamConfiguration"] = {"uniformBucketLevelAccess": {"enabled": True}}
        if "lifecycle" in changes:
            body["lifecycle"] = {"rule": [*found.get("lifecycle", {}).get("rule", []), *lifecycle_rules()]}
        # A rule that somebody adds in between must not be lost: the next run starts from what is there then.
        only_if = {
            "ifMetagenerationMatch": needed(found.get("metageneration"), "storage.buckets.get"),
            "projection": "noAcl",
        }
        path = f"storage/v1/b/{self._settings.bucket}"
        try:
            self._run.calls("storage", self._clients.patch, "storage", path, body, only_if)
        except Permanent as error:
            if error.code != PRECONDITION:
                raise
            raise Transient(
                "changed-meanwhile", error.message, "The next run looks again.", within_run=False
            ) from error

    def _get_dataset(self) -> dict[str, Any]:
        dataset = self._clients.bigquery.get_dataset(
            f"{self._settings.project}.{self._settings.dataset}", retry=None, timeout=self._clients.timeout
        )
        document: dict[str, Any] = dataset.to_api_repr()
        return document

    def _get_bucket(self) -> dict[str, Any]:
        bucket = self._clients.storage.get_bucket(self._settings.bucket, timeout=self._clients.timeout, retry=None)
        document: dict[str, Any] = bucket._properties
        return document


def reaches(dataset: str, bucket: str) -> bool:
    """Return whether a dataset's location may be extracted to a bucket's.

    The US multi-region reaches every bucket, the EU multi-region its own regions, a region itself only (source:
    "Export table data to Cloud Storage", location considerations).
    """
    where, to = dataset.upper(), bucket.upper()
    return where in (to, "US") or (where == "EU" and to.startswith("EUROPE-"))
