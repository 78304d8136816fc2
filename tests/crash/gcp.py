"""The function on the local GCP: one billing account with two exports, of which one is copied."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, ClassVar

import pytest

import gcp_function.clients
from gcp_function import handler
from localcloud.common.http_server import Request, Response
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.discovery import match
from localcloud.gcp.errors import GoogleError
from localcloud.gcp.gateway import _refusal
from localcloud.gcp.services.secrets_api import match_secret
from shared.runtime.clock import VirtualClock
from tests.crash.entries import Payload
from tests.crash.stage import BETWEEN_REPAIRS, HOUR, Stage, Story, World
from tests.gcp_function.support import accounts

START = datetime(2026, 11, 2, 9, tzinfo=UTC)
TODAY, YESTERDAY = "2026-11-02", "2026-11-01"  # the days that have rows
STATE = "known_billing_accounts.json"
WRITING = ("insert", "patch", "update", "delete", "compose", "copy", "rewrite")


class GcpStage(Stage):
    """A project with one billing account."""

    name = "gcp"
    module: ClassVar[ModuleType] = handler
    cloud: LocalGcp

    def open(self) -> LocalGcp:
        return LocalGcp(
            accounts=1, done=1, clock=VirtualClock(START), history_days=2, rows=2, kinds=("standard", "pricing")
        )

    def settings(self) -> dict[str, str]:
        topic = self.cloud.announce_deliveries()
        self.account = accounts(self.cloud)[0]
        chosen = {"EXPORTS": "standard,pricing", "COPY": "standard", "DELTAS": "1", "DELIVERY_TOPIC": topic}
        return {**self.cloud.environment(), **chosen, "CALLS_AT_ONCE": "1"}

    def begin(self) -> None:
        for _ in range(2):
            assert not self.recover().raised
            self.deliver()

    def deliver(self) -> None:
        """Let an hour pass, and deliver rows that are late for yesterday, and prices."""
        self.advance(HOUR)
        self.cloud.late_data(self.account, YESTERDAY, rows=1)
        self.cloud.stream(days=1, rows=1, kinds=["pricing"])  # prices of a past day would leave the export stale

    def drop_clients(self) -> None:
        gcp_function.clients._warm.drop()

    def payload(self, entry: str) -> Payload:
        return {"body": '{"verify_all": true}' if entry == "verify" else ""}

    def log_to(self, patch: pytest.MonkeyPatch, sink: Callable[..., None]) -> None:
        patch.setattr(handler, "cloud_logging", lambda _common: sink)

    def form(self, request: Request, status: int) -> Response:
        reasons = {401: "authError", 403: "forbidden", 429: "rateLimitExceeded", 500: "internalError"}
        error = GoogleError(status, reasons.get(status, "backendError"), "injected by the local cloud")
        return _refusal(error, legacy=request.path.startswith(("/storage", "/bigquery", "/upload")))

    def call_name(self, request: Request) -> str:
        found = match(request.method, request.path) or match_secret(request)
        return found.route.id if found else f"{request.method} {request.path}"

    def written(self) -> list[str]:
        state = self.cloud.deployment.state_bucket
        return sorted(
            one.method
            for one in self.cloud.calls.select()
            if one.method.rpartition(".")[2] in WRITING
            and one.status < 300
            and state not in one.path
            and not any(part in one.path for part in ("deltas%2F", "deliveries%2F"))
        )

    def resources(self) -> World:
        world = self.cloud.world
        with world.lock:
            dataset = world.catalog.dataset(self.cloud.project, self.cloud.deployment.dataset)
            bucket = world.buckets.find(self.cloud.deployment.bucket)
            document = dict(bucket.document)
        volatile = ("updated", "metageneration", "etag", "timeCreated")
        return {
            "bucket": {name: value for name, value in document.items() if name not in volatile},
            "dataset": [sorted(dataset.tables), json.loads(json.dumps(dataset.access, default=str))],
            "copies": self._copies(),
        }

    def _copies(self) -> World:
        """Return for each copied day whether its manifest is right, and whether files of earlier copies pile up."""
        names = {one for one in self.cloud.copies() if not one.startswith(("deltas/", "deliveries/"))}
        found: World = {}
        for name in sorted(one for one in names if one.endswith("/manifest.json")):
            manifest = json.loads(self.cloud.read_object(name))
            folder = name.rpartition("/")[0]
            day = folder.split("/")[1]
            listed = {one["name"] for one in manifest["files"]}
            rows = self.cloud.watermarks(self.account, folder.rpartition("/")[2]).get(day, [None, None])[1]
            found[folder] = {
                "rows are those of the table": manifest["rows"] == rows,
                "missing files": sorted(listed - names),
                # Those of the copy before are kept for readers; a kill may leave one set more until the next copy.
                "too many files": len({one for one in names if one.startswith(f"{folder}/")} - listed - {name}) > 2,
            }
        return found

    def kept(self, targets: Iterable[str]) -> list[str]:
        """Return the targets without the days that have no rows, of which there is one more every day."""
        return sorted(one for one in targets if not one.startswith("copy/") or one.endswith((YESTERDAY, TODAY)))

    def names(self, prefix: str) -> Iterable[str]:
        return list(self.cloud.copies(prefix))

    def read(self, name: str) -> bytes:
        return self.cloud.read_object(name).encode() if name in self.cloud.copies(name) else b""

    def published(self) -> Iterable[Mapping[str, Any]]:
        found = []
        while messages := self.cloud.published():
            found += [json.loads(base64.b64decode(one["data"])) for one in messages]
        return found

    def state(self) -> bytes:
        bucket = self.cloud.deployment.state_bucket
        return self.cloud.read_object(STATE, bucket).encode() if self.cloud.objects(bucket, STATE) else b""

    def forget(self) -> None:
        self.cloud.delete_objects(self.cloud.deployment.state_bucket, STATE)

    def shorten_timeouts(self, patch: pytest.MonkeyPatch, seconds: float) -> None:
        patch.setattr(gcp_function.clients, "TIMEOUT_S", seconds)


def _onboard(stage: GcpStage) -> None:
    """Everything is as after a deployment: no copy, no state."""
    stage.deliver()
    for name in stage.cloud.copies(stage.account):
        stage.cloud.delete_objects(prefix=name)
    stage.forget()


def _heal(stage: GcpStage) -> None:
    """A copy's files and another copy are gone, and there are late rows."""
    stage.advance(BETWEEN_REPAIRS)
    stage.deliver()
    stage.cloud.delete_copy(stage.account, YESTERDAY, manifest=False)
    stage.cloud.delete_copy(stage.account, TODAY)


GcpStage.stories = {
    "onboard": Story(_onboard),
    "heal": Story(_heal),
    "steady": Story(lambda stage: stage.deliver(), "verify"),
}
