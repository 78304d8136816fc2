"""The function on the local Azure: two subscriptions, with the function's own identity for every call."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, ClassVar

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobClient

import azure_function.clients
from azure_function import handler
from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure, start_azurite
from localcloud.azure.errors import ArmError
from localcloud.azure.services.azurite import Azurite
from localcloud.azure.services.blob_gate import refusal
from localcloud.common.http_server import Request, Response
from shared.runtime.clock import VirtualClock
from tests.azure_function.support import START
from tests.crash.entries import Payload
from tests.crash.stage import BETWEEN_REPAIRS, HOUR, Stage, Story, World

CONTAINER = "dataexport"
STATE = ("tailpipe-state", "known_subscriptions.json")
READING = ("/read", "/send/action", "/generateUserDelegationKey/action")


class AzureStage(Stage):
    """A tenant with two subscriptions."""

    name = "azure"
    module: ClassVar[ModuleType] = handler
    cloud: LocalAzure

    def __init__(self, azurite: Azurite | None = None) -> None:
        super().__init__()
        self._azurite = azurite

    def open(self) -> LocalAzure:
        if self._azurite is None:
            self._azurite = start_azurite(clock=VirtualClock())
            self._stack.callback(self._azurite.stop)
        return LocalAzure(subscriptions=2, clock=VirtualClock(START), azurite=self._azurite, deliveries=True)

    def settings(self) -> dict[str, str]:
        return {**self.cloud.environment(), **self.cloud.keyless(), "CALLS_AT_ONCE": "1"}

    def begin(self) -> None:
        self._blobs = self._stack.enter_context(self.cloud.blob_client())
        self._host = self._stack.enter_context(self.cloud.blob_client(self.cloud.host_account.name))
        for _ in range(2):
            assert not self.recover().raised
            self.deliver()

    def advance(self, seconds: float) -> None:
        self.cloud.advance(seconds)
        self.cloud.sync()

    def deliver(self) -> None:
        """Let an hour pass, and deliver this month's data; its event waits."""
        self.advance(HOUR)
        self.cloud.deliver()

    def drop_clients(self) -> None:
        drop_clients()

    def payload(self, entry: str) -> Payload:
        if entry in ("run", "verify"):
            return {"body": '{"verify_all": true}' if entry == "verify" else ""}
        self._taken = self.cloud.world.manifest_events.take(self.cloud.clock.now())
        return {"events": [_names(one.event) for one in self._taken]}

    def conclude(self, entry: str, *, succeeded: bool) -> None:
        if entry == "delivery" and not succeeded:
            for one in self._taken:
                self.cloud.world.manifest_events.failed(one, self.cloud.clock.now())

    def log_to(self, patch: pytest.MonkeyPatch, sink: Callable[..., None]) -> None:
        patch.setattr(handler, "logging_sink", sink)

    def form(self, request: Request, status: int) -> Response:
        code = {401: "ExpiredAuthenticationToken", 403: "AuthorizationFailed", 429: "429", 503: "ServerBusy"}
        error = ArmError(status, code.get(status, "InternalServerError"), "injected by the local cloud")
        if request.endpoint == self.environment["BLOB_ENDPOINT"]:
            blob_code = {401: "InvalidAuthenticationInfo", 403: "AuthorizationPermissionMismatch", 429: "ServerBusy"}
            answer = refusal(status, blob_code.get(status, error.code), error.message, {})
            return Response(status, dict(answer.headers), answer.encoded()[0])
        body = json.dumps(error.document()).encode()
        return Response(status, {"Content-Type": "application/json; charset=utf-8"}, body)

    def call_name(self, request: Request) -> str:
        comp = request.one("comp") or request.one("restype")
        path = request.path
        for number, subscription in enumerate(self.cloud.subscription_ids):
            path = path.replace(subscription, f"{{{number}}}").replace(subscription[-6:], f"{{{number}}}")
        path = re.sub(r"(?<=/)(runs/.*|[0-9a-f-]{36})(?=/|$)", "…", path)
        return f"{request.method} {path.rpartition('/providers/')[2] or path}{'?' + comp if comp else ''}"

    def written(self) -> list[str]:
        return sorted(
            f"{one.action} {one.resource.rpartition('/')[2]}"
            for one in self.cloud.calls.select()
            if one.method not in ("GET", "HEAD")
            and one.status < 300
            and not one.action.endswith(READING)
            and "/blobs/" not in one.action
        )

    def resources(self) -> World:
        exports = {}
        for one in self.cloud.exports():
            properties = dict(one["properties"])
            properties.pop("runHistory", None)
            properties.pop("nextRunTimeEstimate", None)
            schedule = dict(properties.get("schedule") or {})
            schedule.pop("recurrencePeriod", None)
            exports[one["id"]] = {**properties, "schedule": schedule}
        world = self.cloud.world
        with world.lock:
            registered = {one.id: sorted(one.registered) for one in world.directory.subscriptions.values()}
            containers = sorted(self._containers())
        return {"exports": json.loads(json.dumps(exports)), "registered": registered, "containers": containers}

    def _containers(self) -> list[str]:
        return [one.name for one in self._blobs.list_containers()]

    def names(self, prefix: str) -> Iterable[str]:
        return sorted(self._blobs.get_container_client(CONTAINER).list_blob_names(name_starts_with=prefix))

    def read(self, name: str) -> bytes:
        return _content(self._blobs.get_blob_client(CONTAINER, name))

    def published(self) -> Iterable[Mapping[str, Any]]:
        found = [one.event for one in self.cloud.world.published]
        self.cloud.world.published.clear()
        return found

    def state(self) -> bytes:
        return _content(self._host.get_blob_client(*STATE))

    def forget(self) -> None:
        self._host.get_blob_client(*STATE).delete_blob()

    def shorten_timeouts(self, patch: pytest.MonkeyPatch, seconds: float) -> None:
        for name in ("READ_S", "LISTING_S"):
            patch.setattr(azure_function.clients, name, seconds)


def _content(blob: BlobClient) -> bytes:
    """Return the content of a blob, empty if it does not exist."""
    try:
        return blob.download_blob().readall()
    except ResourceNotFoundError:
        return b""


def _names(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"topic": event["topic"], "subject": event["subject"], "event_type": event["eventType"]}


def _onboard(stage: AzureStage) -> None:
    """Everything is as after a deployment: no export, no state."""
    stage.deliver()
    for subscription in stage.cloud.subscription_ids:
        stage.cloud.delete_export(subscription)
    stage.forget()


def _heal(stage: AzureStage) -> None:
    """One export is paused, the other one delivers to another folder, and data has arrived."""
    stage.advance(BETWEEN_REPAIRS)
    stage.deliver()
    first, second = stage.cloud.subscription_ids
    stage.cloud.set_schedule_inactive(first)
    stage.cloud.change_destination(second, folder="elsewhere")


AzureStage.stories = {
    "onboard": Story(_onboard),
    "heal": Story(_heal),
    "steady": Story(lambda stage: stage.deliver(), "verify", steady=True),
    "delivery": Story(lambda stage: stage.deliver(), "delivery", steady=True),
}
