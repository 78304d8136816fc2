"""The control actions of the local GCP: changes by operators and by Google that the function must handle."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from localcloud.common.event_faults import EventFaults
from localcloud.gcp.control.exports import ExportActions
from localcloud.gcp.control.obstacles import ObstacleActions
from localcloud.gcp.control.platform import PlatformActions
from localcloud.gcp.control.tenants import TenantActions


class GcpActions(ExportActions, ObstacleActions, PlatformActions, TenantActions):
    """All actions. Accounts are ids such as ``01AB23-…``, days ``2026-01-05``. Actions may also raise GoogleError."""

    # Faults and calls

    def fail(self, method: str, status: int, reason: str, times: int | None = 1, path: str = "*") -> None:
        self.world.faults.add(method, status, reason, times=times, path=path)

    def hang(self, method: str, times: int | None = 1, path: str = "*") -> None:
        self.world.faults.hang(method, times=times, path=path)

    def lose_answer(self, method: str, times: int | None = 1, path: str = "*") -> None:
        self.world.faults.lose_answer(method, times=times, path=path)

    def fail_jobs(self, kind: str, reason: str, times: int | None = 1) -> None:
        self.world.faults.fail_jobs(kind, reason, times=times)

    def throttle(self, method: str, per_second: float, burst: float = 1) -> None:
        self.world.faults.throttle(method, per_second=per_second, burst=burst)

    def latency(self, seconds: float, method: str = "*") -> None:
        self.world.faults.latency(seconds, method)

    def task_faults(
        self, delay_s: float = 0, spread_s: float = 0, copies: int = 1, loss: float = 0
    ) -> dict[str, float]:
        """Dispatch the tasks created from now on late, repeatedly, in another order, or never; see `EventFaults`.

        Returns the faults and, as `lost`, the number of tasks lost so far. Raises ValueError for values out of range.
        """
        tasks = self.world.faults.tasks
        tasks.faults = EventFaults(delay_s=delay_s, spread_s=spread_s, copies=copies, loss=loss)
        return {**asdict(tasks.faults), "lost": tasks.lost}

    def calls(self) -> list[dict[str, Any]]:
        """Return every answered call with its permissions, resources and outcome."""
        return [call.as_json() for call in self.world.calls.select()]
