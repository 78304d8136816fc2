"""Stores documents: the state and what lies beside it in a bucket of its own, and deliveries beside the copies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from gcp_function.clients import Clients
from gcp_function.manual_steps import object_held, retention_blocks
from gcp_function.refusals import HELD, PRECONDITION, RANGE_EMPTY, RETENTION
from gcp_function.resources.objects import Objects
from gcp_function.settings import GcpSettings
from shared.errors import CloudError, Denied, Manual, NotFound, Permanent
from shared.runtime.context import RunContext
from shared.state.store import BINARY, JSON, REPORTS, STATE, Blob, Conflict, aside_name, report_name, run_ids
from shared.tenants.rows import REGISTRY, ROUNDS

KEY = "known_billing_accounts.json"
TENANTS = "tenants/"


class GcsDocuments:
    """Documents in one bucket, with compare-and-swap by generations; messages call them `what`, such as "the state"."""

    def __init__(self, bucket: str, what: str, clients: Clients, run: RunContext) -> None:
        self._objects = Objects(bucket, clients, run)
        self._bucket = bucket
        self._what = what

    def name_of(self, document: str) -> str:
        """Return the name of a document's object."""
        return document

    def load(self, limit: int, document: str = STATE) -> Blob:
        """Read a document, at most `limit` bytes; a missing bucket holds none. Raises Denied, Transient."""
        name = self.name_of(document)
        try:
            data, generation = self._objects.read(name, limit)
        except NotFound:
            return Blob()
        except Denied as denied:
            raise self._explained(denied) from denied
        except Permanent as error:
            if error.code != RANGE_EMPTY:
                raise
            size, generation = self._objects.size(name)
            return Blob(b"", str(generation), size)
        if len(data) > limit:
            size, generation = self._objects.size(name)
            return Blob(b"", str(generation), size)
        return Blob(data, str(generation), len(data))

    def save(self, data: bytes, version: str | None, document: str = STATE) -> str:
        """Write a document if it still has `version`; return the new one.

        Raises Conflict, Denied, NotFound (the bucket is missing), Transient.
        """
        name = self.name_of(document)
        content_type = JSON if name.endswith(".json") else BINARY
        try:
            return str(self._objects.write(name, data, int(version or 0), content_type=content_type))
        except NotFound as error:
            remedy = f"Apply the deployment again: it owns bucket {self._bucket}."
            what = f"bucket {self._bucket}, which holds {self._what}, is missing: {error.message}"
            raise NotFound(error.code, what, remedy) from error
        except Denied as denied:
            raise self._explained(denied) from denied
        except Manual as protected:
            if protected.code not in (RETENTION, HELD):
                raise
            manual_step = retention_blocks if protected.code == RETENTION else object_held
            raise Manual(protected.code, manual_step(protected.message, self._bucket), protected.message) from protected

    def put(self, document: str, data: bytes, content_type: str) -> str:
        """Write a document, replacing any other; return its URI. Raises CloudError."""
        return self._put(self.name_of(document), data, content_type)

    def names(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield the name and the time of each document below `prefix`, by name. Raises CloudError."""
        try:
            yield from ((one.name, one.created) for one in self._objects.below(prefix) if one.created is not None)
        except NotFound:
            return
        except Denied as denied:
            raise self._explained(denied) from denied

    def _put(self, name: str, data: bytes, content_type: str) -> str:
        try:
            self._objects.write(name, data, content_type=content_type)
        except Conflict as error:  # cannot happen: the write has no precondition
            raise Permanent(PRECONDITION, str(error)) from error
        return f"gs://{self._bucket}/{name}"

    def _explained(self, denied: CloudError) -> Denied:
        return Denied(
            denied.code,
            f"{self._what} in bucket {self._bucket} cannot be read or written: {denied.message}",
            "Either the bucket belongs to another project (set the name of one of this project), or the function's "
            "service account lacks storage.objects.get, create, delete or list on it (apply the deployment again).",
        )


class GcsStore(GcsDocuments):
    """A StateStore, in a bucket that the connector may not read; each tenant has a folder of its own in it."""

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        super().__init__(settings.state_bucket, "the state", clients, run)
        self._folder = f"{TENANTS}{settings.tenant}/" if settings.tenant else ""
        self._reports = f"{REPORTS}{self._folder}"

    def name_of(self, document: str) -> str:
        """Return the name of a document's object."""
        return self._folder + (document or KEY)

    def age(self) -> timedelta | None:
        """Return how long ago the state was written, by Cloud Storage's own clock. Raises CloudError."""
        return self._objects.age(self.name_of(STATE))

    def set_aside(self, damaged: Blob, document: str = STATE) -> str:
        """Keep a damaged document under another name, which is returned. Raises CloudError."""
        name = self.name_of(document)
        spare = aside_name(name, damaged)
        if damaged.data:
            self._put(spare, damaged.data, BINARY)
        else:
            self._objects.copy(name, spare)
        return spare

    def put_report(self, run_id: str, data: bytes) -> str:
        """Write a run's full report; return its URI. Raises CloudError."""
        return self._put(self._name_of_report(run_id), data, JSON)

    def report(self, run_id: str) -> bytes:
        """Return a run's full report. Raises NotFound, Denied, Transient."""
        try:
            return self._objects.read(self._name_of_report(run_id))[0]
        except Denied as denied:
            raise self._explained(denied) from denied

    def report_ids(self, since: str) -> list[str]:
        """Return the IDs of the stored reports from `since` on, oldest first. Raises Denied, Transient."""
        try:
            # An ID begins with its year, unlike the folders of tenants and rounds.
            found = [one.name.removeprefix(self._reports) for one in self._objects.below(f"{self._reports}2")]
        except NotFound:
            return []
        except Denied as denied:
            raise self._explained(denied) from denied
        return run_ids((f"{REPORTS}{name}" for name in found), since)

    def _name_of_report(self, run_id: str) -> str:
        return self._reports + report_name(run_id).removeprefix(REPORTS)


class GcsFleet(GcsDocuments):
    """A FleetDocuments: the registry in its bucket, and what became of the tenants' runs beside the state."""

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        super().__init__(settings.state_bucket, "the tenants' results", clients, run)
        self._registry = GcsDocuments(settings.registry_bucket, "the tenant registry", clients, run)

    def load(self, limit: int, document: str = STATE) -> Blob:
        """Read a document, at most `limit` bytes; a missing bucket holds none. Raises Denied, Transient."""
        return self._registry.load(limit, document) if document == REGISTRY else super().load(limit, document)

    def save_registry(self, data: bytes, version: str | None) -> str:
        """Write the registry if it still has `version`, as operators do; return the new one. Raises as `save` does."""
        return self._registry.save(data, version, REGISTRY)

    def name_of(self, document: str) -> str:
        """Return the name of a document's object."""
        return f"{REPORTS}{document}" if document.startswith(ROUNDS) else document

    def names(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield name and time of each row, or of each report of a round. Raises CloudError."""
        folder = self.name_of(prefix).removesuffix(prefix)
        return ((name.removeprefix(folder), at) for name, at in super().names(self.name_of(prefix)))
