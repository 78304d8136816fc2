"""The activities of a round: the three steps of `rounds`, as the orchestrations call them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from azure_function import rounds
from azure_function.coordinator.orchestrations import Input
from azure_function.settings import read_settings
from shared.runtime.clock import Clock
from shared.runtime.log import Sink


class Activities:
    """What the orchestrations call. `clock` returns the clock of one call."""

    def __init__(self, environment: Mapping[str, str], sink: Sink, clock: Callable[[], Clock]) -> None:
        self._environment, self.sink, self.clock = environment, sink, clock

    def begin(self, _: Input) -> dict[str, Any]:
        """Return a new round with its limits; see `rounds.begin`.

        They come from here, because an orchestration that reads settings itself would find others in a replay.
        """
        settings = read_settings(self._environment)
        limits = {
            "parallel": settings.round_tenants,
            "round_s": settings.round_seconds,
            "tenant_s": min(settings.run_seconds, settings.round_seconds),
        }
        return {**rounds.begin(self._environment, self.sink, self.clock()), **limits}

    def run(self, given: Input) -> dict[str, Any]:
        """Run one tenant, and return of its row what the orchestrations need."""
        row = rounds.run_tenant(
            given["tenant"], given["round"], self._environment, self.sink, self.clock(), given["seconds"]
        )
        return {"status": row["status"], "again": row["again"]}

    def end(self, given: Input) -> dict[str, Any]:
        """End a round, and return its short report."""
        return rounds.end(given["round"], self._environment, self.sink, self.clock())
