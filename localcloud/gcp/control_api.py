"""The control actions of the local GCP: changes by operators and by Google that the function must handle."""

from __future__ import annotations

from typing import Any

from localcloud.gcp.control.exports import ExportActions
from localcloud.gcp.control.obstacles import ObstacleActions
from localcloud.gcp.control.platform import PlatformActions


class GcpActions(ExportActions, ObstacleActions, PlatformActions):
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

    def calls(self) -> list[dict[str, Any]]:
        """Return every answered call with its permissions, resources and outcome."""
        return [call.as_json() for call in self.world.calls.select()]
