"""The dataset that Google exports to: where it lies, who may write to it, and whether what is written stays."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from gcp_function.clients import Clients
from gcp_function.errors import observed
from gcp_function.manual_steps import (
    dataset_elsewhere,
    key_blocks_export,
    region_unsupported,
    tables_expire,
)
from gcp_function.refusals import ALREADY_EXISTS
from gcp_function.settings import GcpSettings
from gcp_function.targets import (
    EXPORT_LOCATIONS,
    MANAGED_BY,
    MANAGER,
    dataset_key,
)
from shared.errors import CloudError, NotFound, Permanent, Transient
from shared.model import Absent, Health, Observation, Present, Unknown
from shared.provider import Applied
from shared.runtime.context import RunContext

MULTI_REGIONS = ("US", "EU")
MS_MAX = 100 * 366 * 24 * 3600 * 1000  # a century: a longer time is as good as none, and no date could hold it


class Dataset:
    """Observes and creates the dataset, which may lie elsewhere than the settings say.

    After `observe_dataset`: `location` is where it is (None: there is none), `writers` who may write to it (None: that
    may not be read), `unseen` what kept it from being read.
    """

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self.location: str | None = None
        self.writers: frozenset[str] | None = None
        self.unseen: Unknown | None = None
        self._expires: timedelta | None = None
        self._key = ""

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

    def place(self) -> str:
        """Return where the dataset is; read it if this run has not yet. Raises CloudError."""
        if self.location is None:
            self.observe_dataset()
        if self.location is None:
            what = f"dataset {self._settings.dataset} cannot be read from"
            remedy = "Follow what the report says of the dataset; copies go on when it can be read."
            raise Transient("no-dataset", what, remedy, within_run=False)
        return self.location

    def create(self) -> Applied:
        """Create the dataset where the settings want it. Raises CloudError."""
        from google.cloud.bigquery import Dataset as Definition

        wanted = Definition(f"{self._settings.project}.{self._settings.dataset}")
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

    def _get_dataset(self) -> dict[str, Any]:
        dataset = self._clients.bigquery.get_dataset(
            f"{self._settings.project}.{self._settings.dataset}", retry=None, timeout=self._clients.timeout
        )
        document: dict[str, Any] = dataset.to_api_repr()
        return document


def expires_after(dataset: Mapping[str, Any]) -> timedelta | None:
    """Return after what time BigQuery deletes a dataset's new tables or their partitions, None for never."""
    names = ("defaultTableExpirationMs", "defaultPartitionExpirationMs")
    texts = [str(dataset.get(name) or "") for name in names]
    found = [int(text[:15]) for text in texts if text.isascii() and text.isdigit()]
    return min((timedelta(milliseconds=one) for one in found if 0 < one < MS_MAX), default=None)


def key_of(dataset: Mapping[str, Any]) -> str:
    """Return the name of the customer-managed key that a dataset gives to its new tables, "" for none."""
    configuration = dataset.get("defaultEncryptionConfiguration")
    return str(configuration.get("kmsKeyName") or "") if isinstance(configuration, Mapping) else ""


def writers(dataset: Mapping[str, Any]) -> frozenset[str] | None:
    """Return who is named in a dataset's access entries, None where they are hidden.

    Every dataset has an owner's entry: none at all means that they are hidden, not that nobody may write.
    """
    entries = dataset.get("access")
    return frozenset(str(entry.get("userByEmail", "")) for entry in entries) if entries else None
