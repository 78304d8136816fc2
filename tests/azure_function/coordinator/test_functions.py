"""The functions of the coordinator: what is declared and when, the timer, and the HTTP route."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from azure.durable_functions.models.DurableOrchestrationStatus import DurableOrchestrationStatus

from azure_function.coordinator.functions import KEPT, OLDEST, coordinator, on_request, on_tick
from azure_function.coordinator.orchestrations import INSTANCE, ROUND
from tests.azure_function.coordinator.engines import Tenants
from tests.limits import HANG_S

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LISTED = """
import sys
from azure_function import handler
print(*sorted(one.get_function_name() for one in handler.app.get_functions()))
print("azure.durable_functions" in sys.modules)
"""


@pytest.fixture(scope="module")
def publish(repository: Path) -> Any:
    """infra/azure/publish.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("publish_azure", repository / "infra" / "azure" / "publish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Client:
    """The durable client of an app whose newest round has this state, "" for none."""

    def __init__(self, state: str = "", output: Any = None) -> None:
        self.state, self.output = state, output
        self.started: list[tuple[str, str]] = []
        self.purged: list[tuple[datetime, datetime, list[str]]] = []

    async def get_status(self, instance: str) -> DurableOrchestrationStatus:
        """Return the state of the round."""
        if not self.state:
            return DurableOrchestrationStatus.from_json("not found")
        return DurableOrchestrationStatus(ROUND, instance, NOW.isoformat(), None, None, self.output, self.state)

    async def start_new(self, name: str, instance: str) -> str:
        """Start a round."""
        self.started.append((name, instance))
        self.state = "Pending"
        return instance

    async def purge_instance_history_by(self, since: datetime, until: datetime, statuses: list[Any]) -> None:
        """Remove histories."""
        self.purged.append((since, until, [one.value for one in statuses]))


def call(method: str, client: Client) -> tuple[int, Any]:
    """Return status and document of an answer."""
    answer = asyncio.run(on_request(method, client))
    return answer.status_code, json.loads(answer.get_body())


def test_package_lists_the_functions_that_the_deployment_expects(publish: Any) -> None:
    """`publish.py` fails a deployment whose app lists fewer."""
    app = func.FunctionApp()
    app.register_functions(coordinator(Tenants([])))
    assert {one.get_function_name() for one in app.get_functions()} == set(publish.OPTIONAL["ROUND_SCHEDULE"])


@pytest.mark.parametrize("schedule", ["", "0 47 * * * *"])
def test_without_the_setting_nothing_is_declared_or_imported(repository: Path, publish: Any, schedule: str) -> None:
    """A deployment without tenants does not pay for the SDK of Durable Functions."""
    environment = {**os.environ, "ROUND_SCHEDULE": schedule, "PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, "-c", LISTED], env=environment, capture_output=True, text=True, check=True, timeout=HANG_S
    )
    names, imported = done.stdout.splitlines()
    rounds = set(publish.OPTIONAL["ROUND_SCHEDULE"]) & set(names.split())
    assert (bool(rounds), imported) == (bool(schedule), str(bool(schedule)))
    assert set(publish.FUNCTIONS) <= set(names.split())


@pytest.mark.parametrize("state", ["", "Completed", "Failed", "Terminated"])
def test_timer_starts_a_round_unless_one_is_running(state: str) -> None:
    """There is one instance of the orchestration, so that two rounds never overlap."""
    client = Client(state)
    lines: list[str] = []
    asyncio.run(on_tick(client, NOW, lambda _, event, __: lines.append(event)))
    assert (client.started, lines) == ([(ROUND, INSTANCE)], [])


@pytest.mark.parametrize("state", ["Pending", "Running", "ContinuedAsNew"])
def test_timer_reports_a_round_that_is_still_running(state: str) -> None:
    """The running round goes on, and the log says that it is late."""
    client = Client(state)
    lines: list[str] = []
    asyncio.run(on_tick(client, NOW, lambda _, event, __: lines.append(event)))
    assert (client.started, lines) == ([], ["round-late"])


def test_timer_removes_old_histories() -> None:
    """Only those of ended orchestrations that began a week ago."""
    client = Client()
    asyncio.run(on_tick(client, NOW, lambda *_: None))
    assert client.purged == [(OLDEST, NOW - KEPT, ["Completed", "Failed", "Terminated"])]
    assert timedelta(days=7) == KEPT


def test_request_starts_a_round_once() -> None:
    """A second request is refused while the round runs."""
    client = Client()
    assert call("POST", client)[0] == 202
    assert call("POST", client) == (409, {"state": "running", "begun_at": NOW.isoformat()})
    assert len(client.started) == 1


def test_answer_has_the_state_the_report_or_the_error_of_the_newest_round() -> None:
    """`state` is none, running, completed or failed."""
    begun = {"begun_at": NOW.isoformat()}
    assert call("GET", Client()) == (200, {"state": "none"})
    assert call("GET", Client("Running")) == (200, {"state": "running", **begun})
    assert call("GET", Client("Completed", {"status": "ok"})) == (
        200,
        {"state": "completed", **begun, "report": {"status": "ok"}},
    )
    assert call("GET", Client("Failed", "no registry")) == (200, {"state": "failed", **begun, "error": "no registry"})
    assert call("GET", Client("Terminated")) == (200, {"state": "failed", **begun, "error": "Terminated"})
