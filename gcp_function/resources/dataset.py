"""The dataset that Google exports to: where it is, who may write to it, and whether its tables are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from gcp_function.clients import Clients
from gcp_function.errors import observed
from gcp_function.manual_steps import dataset_elsewhere, tables_expire
from gcp_function.refusals import ACCESS_DENIED, ALREADY_EXISTS
from gcp_function.resources.project import Project
from gcp_function.settings import GcpSettings
from gcp_function.targets import DATASET, EXPIRATION, LOCATION, MANAGED_BY, MANAGER, dataset_key
from shared.errors import CloudError, NotFound, Permanent, RunStopped, Transient
from shared.model import Absent, Action, Health, Key, Observation, Present, Target, Unknown
from shared.provider import Applied
from shared.resources import BulkOnly, one_by_one
from shared.runtime.context import RunContext

MULTI_REGIONS = ("US", "EU")
MS_MAX = 100 * 366 * 24 * 3600 * 1000  # a century: a longer time counts as none, and no date could represent it


class DatasetRead(msgspec.Struct, frozen=True):
    """One read of the dataset.

    `location` is where it is (None: it does not exist, or was not read). `writers` are the principals that may write to
    it (None: the access entries may not be read). `unseen` is why it could not be read. `expires` is how long new
    tables are kept (None: permanently), `key` the customer-managed key that encrypts them ("": none).
    """

    observation: Observation
    location: str | None = None
    writers: frozenset[str] | None = None
    unseen: Unknown | None = None
    expires: timedelta | None = None
    key: str = ""


class Dataset(BulkOnly):
    """Observes and creates the dataset, whose location may differ from the settings."""

    kinds = (DATASET, LOCATION, EXPIRATION)

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext, project: Project) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._project = project
        self._last_read: DatasetRead | None = None

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Read the dataset with its access entries: one call.

        Raises RunStopped if neither it nor its project may be read: GOOGLE_CLOUD_PROJECT may name the wrong project.
        """
        self._last_read = self._read()
        observation = self._last_read.observation
        if all(isinstance(one, Unknown) and one.code == ACCESS_DENIED for one in (self._project.read(), observation)):
            raise RunStopped(
                "project-out-of-reach",
                f"neither project {self._settings.project} nor its dataset {self._settings.dataset} may be read",
                "Check that GOOGLE_CLOUD_PROJECT is the id of the project that the function is deployed in, and that "
                "its service account has its roles there (new roles take minutes to take effect).",
            )
        by_kind = {
            DATASET.name: observation,
            LOCATION.name: self._observe_location(self._last_read),
            EXPIRATION.name: self._observe_expiration(self._last_read),
        }
        return {target.key: by_kind[target.key.kind] for target in targets}

    @property
    def last_read(self) -> DatasetRead:
        """Return this run's read of the dataset; read it first if necessary."""
        if self._last_read is None:
            self._last_read = self._read()
        return self._last_read

    @property
    def location(self) -> str | None:
        """Return the dataset's location, None if it does not exist or could not be read."""
        return self.last_read.location

    @property
    def unseen(self) -> Unknown | None:
        """Return why the dataset could not be read, None if it could."""
        return self.last_read.unseen

    def _read(self) -> DatasetRead:
        name = f"{self._settings.project}.{self._settings.dataset}"
        try:
            dataset = self._run.calls("bigquery", self._get_dataset)
        except NotFound:
            return DatasetRead(Absent(("get",), f"dataset {name} does not exist"), writers=frozenset())
        except CloudError as error:
            observation = observed(error, f"dataset {name}")
            return DatasetRead(observation, unseen=observation if isinstance(observation, Unknown) else None)
        location = str(dataset.get("location", "US"))
        return DatasetRead(
            Present(detail=f"in {location}"),
            location,
            writers(dataset),
            expires=expires_after(dataset),
            key=key_of(dataset),
        )

    def _observe_location(self, read: DatasetRead) -> Observation:
        """Compare the dataset's location with the one in the settings."""
        if read.unseen is not None:
            return read.unseen
        if read.location is None:
            return Present(health=Health.NOT_NEEDED, code="no-dataset", detail="the dataset does not exist yet")
        actual = {"location": read.location.upper()}
        note = "" if actual["location"] in MULTI_REGIONS else " A single region gets no data from before the export."
        return Present(
            actual,
            manual_step=dataset_elsewhere(self._settings.dataset, read.location, self._settings.location, note),
        )

    def _observe_expiration(self, read: DatasetRead) -> Observation:
        """Return whether BigQuery deletes exported tables after some time."""
        if read.unseen is not None:
            return read.unseen
        if read.expires is None:
            return Present()
        manual_step = tables_expire(self._settings.project, self._settings.dataset, read.expires)
        return Present(health=Health.MANUAL, code="tables-expire", detail=manual_step.what, manual_step=manual_step)

    def require_location(self) -> str:
        """Return the dataset's location; read it again if it was missing. Raises CloudError."""
        if self.last_read.location is None:
            self._last_read = self._read()
        location = self.last_read.location
        if location is None:
            what = f"dataset {self._settings.dataset} cannot be read from"
            remedy = "Follow the report's entry for the dataset; copies continue as soon as it can be read."
            raise Transient("no-dataset", what, remedy, within_run=False)
        return location

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Create the dataset."""
        return one_by_one(lambda _: self._create(), actions)

    def _create(self) -> Applied:
        """Create the dataset in the location of the settings. Raises CloudError."""
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
            # Another run or a person created it first. Its location is compared in every run, so not here.
            return Applied(message=f"{dataset_key(self._settings)} existed already")
        return Applied()

    def _get_dataset(self) -> dict[str, Any]:
        dataset = self._clients.bigquery.get_dataset(
            f"{self._settings.project}.{self._settings.dataset}", retry=None, timeout=self._clients.timeout
        )
        document: dict[str, Any] = dataset.to_api_repr()
        return document


def expires_after(dataset: Mapping[str, Any]) -> timedelta | None:
    """Return how long BigQuery keeps a dataset's new tables or their partitions, None if permanently."""
    names = ("defaultTableExpirationMs", "defaultPartitionExpirationMs")
    texts = [str(dataset.get(name) or "") for name in names]
    found = [int(text[:15]) for text in texts if text.isascii() and text.isdigit()]
    return min((timedelta(milliseconds=one) for one in found if 0 < one < MS_MAX), default=None)


def key_of(dataset: Mapping[str, Any]) -> str:
    """Return the name of the customer-managed key of a dataset's new tables, "" for none."""
    configuration = dataset.get("defaultEncryptionConfiguration")
    return str(configuration.get("kmsKeyName") or "") if isinstance(configuration, Mapping) else ""


def writers(dataset: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the principals in a dataset's access entries, None if they are hidden.

    Every dataset has an owner's entry: without any entry, they are hidden; it does not mean that no one may write.
    """
    entries = dataset.get("access")
    return frozenset(str(entry.get("userByEmail", "")) for entry in entries) if entries else None
