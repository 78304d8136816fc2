"""The tenants of the deployment: the first and the last step of a round, and one tenant's run between them.

Cloud Tasks is the engine. A round begins by enqueuing one named task for each due tenant, and one for its end. Cloud
Tasks cannot wait for a group of tasks, so the end looks whether rows are missing, and comes again while there is time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec

from gcp_function.claims import Claims, claims_beside
from gcp_function.clients import RATES, warm_clients
from gcp_function.errors import translate
from gcp_function.secrets import WebhookSecret
from gcp_function.settings import RoundSettings, read_settings
from gcp_function.state_store import GcsFleet
from gcp_function.tasks import TaskQueue, task_name
from gcp_function.tenants import RULES
from shared.errors import RequestError
from shared.notify.delivery import Secret
from shared.reconcile import RunResult
from shared.request import RunRequest, round_start
from shared.runtime.clock import Clock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.runtime.pool import each
from shared.tenants.messages import announce_round
from shared.tenants.registry import environment_of
from shared.tenants.rounds import begin_round, end_round, read_registry
from shared.tenants.rows import BUSY, Work, run_alone, run_in_round, waiting_since

LOOKS = 20  # how often the end of a round looks for missing rows, at most


class Fleet:
    """The tenants of one deployment, by its own credentials.

    `environment` is that of the deployment, `credentials` as in `run_once`. Raises SettingsError before any call.
    """

    def __init__(
        self, environment: Mapping[str, str], sink: Sink, clock: Clock, seconds: float = 0, credentials: Any = None
    ) -> None:
        settings = read_settings(environment).at_home()
        # What names the deployment's own storage must not follow the tenant's project.
        own = {
            "HOME_PROJECT": settings.project,
            "STATE_BUCKET": settings.state_bucket,
            "REGISTRY_BUCKET": settings.registry_bucket,
        }
        self._environment = {**environment, **own}
        self._rounds = settings.rounds
        self._run = RunContext("gcp", settings.engine, sink, clock, seconds or settings.seconds, RATES, translate)
        self._clients = warm_clients(settings, credentials)
        self._sink, self._project = sink, settings.project
        local = bool(settings.endpoints)
        read = WebhookSecret(settings, self._clients, self._run).read
        self._secret = Secret(read, local) if settings.notify_url else None
        self.documents = GcsFleet(settings, self._clients, self._run)

    def enter(self, tenant: str) -> tuple[dict[str, str], Claims]:
        """Return the environment of a tenant's run, and what other tenants claim.

        Raises RequestError, RegistryError, CloudError.
        """
        registry = read_registry(self.documents, RULES)
        environment = environment_of(registry.tenant(tenant), self._environment, RULES)
        return environment, claims_beside(tenant, registry.tenants.values())

    def begin(self, scheduled: str = "") -> dict[str, Any]:
        """Enqueue a task for each tenant of a new round, in their order, and one for its end.

        `scheduled` identifies the call of the schedule: if it is repeated, the round is the same one, and what was
        enqueued is not enqueued again. Returns the round, with the number of tasks that are new. Raises RegistryError,
        RequestError, CloudError.
        """
        settings = self._queued()
        round_id = self._id_of(scheduled)
        begun = begin_round(self.documents, read_registry(self.documents, RULES), round_id, self._sink)
        queue = TaskQueue(settings, self._clients, self._run)
        self._look_again(queue, round_id)
        tasks = ((task_name(round_id, tenant, 1), {"tenant": tenant, "round": round_id}) for tenant in begun.tenants)
        added = each(tasks, lambda task: queue.add(*task), self._run.settings.workers, self._may_begin)
        return {**begun.answer(), "enqueued": sum(new for _, new in added)}

    def end(self, round_id: str) -> dict[str, Any] | None:
        """Store and return the report of a round; None if rows are missing and there is time: then a task looks again.

        Raises RegistryError, RequestError, CloudError.
        """
        queue = self._rounds and self._is_open(round_id) and TaskQueue(self._rounds, self._clients, self._run)
        if queue and self._lacks_rows(round_id):  # one listing; the report reads every row
            self._look_again(queue, round_id)
            return None
        report = self._report(round_id)
        if queue and _continues(report):
            self._look_again(queue, round_id)
            return None
        announce_round(self.documents, report, "GCP", self._project, self._secret, self._run)
        return report

    def run_in_round(self, request: RunRequest, work: Work) -> dict[str, Any] | None:
        """Run one tenant as part of a round and return its row; no failure of the tenant is raised.

        None means that the round is over: the next one has this tenant again. A tenant that needs another invocation
        gets another task. Raises CloudError if that cannot be enqueued.
        """
        if not self._is_open(request.round):
            return None
        row = run_in_round(
            request, self.documents, self._run.clock, self._sink, work, self._run.settings.tenant_invocations
        )
        if row.again and self._rounds:
            # Not by an error response, which Cloud Tasks would count as a failed attempt and answer by slowing down.
            self._run.deadline.use_reserve()
            name = task_name(request.round, request.tenant, row.invocations + 1)
            payload = {"tenant": request.tenant, "round": request.round}
            TaskQueue(self._rounds, self._clients, self._run).add(name, payload)
        return msgspec.to_builtins(row)  # type: ignore[no-any-return]  # a struct becomes a dict

    def run_alone(self, request: RunRequest, work: Work) -> RunResult:
        """Run one tenant outside of a round. Raises what `work` raises."""
        return run_alone(request, self.documents, self._run.clock, self._sink, work)

    def _queued(self) -> RoundSettings:
        if self._rounds is None:
            raise RequestError(["'round': no queue is deployed; apply the deployment with fleet = true"])
        return self._rounds

    def _id_of(self, scheduled: str) -> str:
        """Return the id of the round that a call of the schedule begins, or a new one for any other call."""
        try:
            moment = datetime.fromisoformat(scheduled)
        except ValueError:
            return self._run.run_id
        return f"{moment:%Y%m%dT%H%M%SZ}-{sha256(scheduled.encode()).hexdigest()[:8]}"

    def _is_open(self, round_id: str) -> bool:
        longest = self._rounds.seconds if self._rounds else 0
        return not longest or self._run.clock.now() < round_start(round_id) + timedelta(seconds=longest)

    def _lacks_rows(self, round_id: str) -> bool:
        """Return whether a tenant has no row of this round yet: one listing, whatever the number of tenants."""
        began, written = round_start(round_id), waiting_since(self.documents)
        active = [one.id for one in read_registry(self.documents, RULES).tenants.values() if not one.paused]
        return any(one not in written or written[one] < began for one in active)

    def _report(self, round_id: str) -> dict[str, Any]:
        clock, workers = self._run.clock, self._run.settings.workers
        return end_round(self.documents, RULES, round_id, clock, self._sink, workers, self._may_begin)

    def _look_again(self, queue: TaskQueue, round_id: str) -> None:
        """Enqueue the next look for missing rows. Its name is its time, so that there is one for each of them."""
        settings = self._queued()
        began, step = round_start(round_id), settings.seconds / LOOKS
        number = int((self._run.clock.now() - began).total_seconds() / step) + 1
        at = began + timedelta(seconds=number * step)
        queue.add(task_name(round_id, "end", number), {"round": {"step": "end", "id": round_id}}, at)

    def _may_begin(self) -> bool:
        return self._run.deadline.allows(0)


def _continues(report: Mapping[str, Any]) -> bool:
    """Return whether the run of a tenant in this round needs another invocation."""
    return any(row["round"] == report["round"] and row["again"] for row in report["rows"])


def is_busy(row: Mapping[str, Any]) -> bool:
    """Return whether another run of the tenant was in progress, which writes the row unless it was killed."""
    return bool(row["status"] == BUSY)
