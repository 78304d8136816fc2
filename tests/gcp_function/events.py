"""The deployed function in this process, as Pub/Sub reaches it with events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gcp_function.clients import warm_clients
from gcp_function.events import pushed
from gcp_function.handler import NO_CALLS, run_for_events, run_once
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.event_delivery import EventDelivery
from shared.http import answer
from shared.reconcile import RunResult
from shared.request import RunRequest
from tests.gcp_function.support import Lines, settings_of


class EventFunction:
    """A new instance of the function, which knows nothing of earlier events, on the local cloud's clock."""

    def __init__(self, cloud: LocalGcp, **settings: str) -> None:
        self.cloud = cloud
        self.lines = Lines()
        self.reports: list[dict[str, Any]] = []
        self.answers: list[str] = []
        self.environment = {**cloud.environment(), **settings}
        self.delivery = EventDelivery(cloud.world, self.push)
        clients = warm_clients(settings_of(cloud, **settings))
        clients.pulled_at = clients.event_run_at = None

    def push(self, body: bytes, _identity: str) -> int:
        """Answer one push with a status."""
        notification = pushed(json.loads(body))
        assert notification is not None
        found = answer(
            lambda: run_for_events(notification, self.environment, self.lines, self.cloud.clock, self.run), self.lines
        )
        self.answers.append(found.body())
        return found.status

    def run(self, request: RunRequest, calls: Mapping[str, int] = NO_CALLS) -> RunResult:
        """Run once and keep the report."""
        seed = len(self.lines.lines)
        finished = run_once(request, self.environment, self.lines, self.cloud.clock, seed=seed, calls=calls)
        self.reports.append(finished.report)
        return finished

    def deliver(self) -> list[int]:
        """Push what is due; return the statuses."""
        return self.delivery.deliver()

    def codes(self, event: str) -> list[str]:
        """Return the codes of the log lines of one event."""
        return [fields["code"] for _, name, fields in self.lines.lines if name == event]
