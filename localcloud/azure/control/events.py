"""Control actions that set how late and how reliably Azure reports changes."""

from __future__ import annotations

from localcloud.azure.control.obstacles import ObstacleActions
from localcloud.azure.platform.resources_api import keep


class EventActions(ObstacleActions):
    """Actions on the activity log, its central workspace, and Resource Graph."""

    # difference: AZURE-19
    def send_activity_log(
        self, delay_min_s: float = 0, delay_max_s: float = 0, lost: float = 0, repeats: int = 1
    ) -> str:
        """Send all activity logs to the central workspace from now on and return its resource ID.

        Each entry becomes available for queries after a random time between the two delays. `lost` is the fraction of
        entries that never arrive; `repeats` is the number of times that each entry is stored.
        """
        if not 0 <= delay_min_s <= delay_max_s or not 0 <= lost <= 1 or repeats < 1:
            raise ValueError("Expected 0 <= delay_min_s <= delay_max_s, 0 <= lost <= 1 and repeats >= 1.")
        identifier = self._world.activity_workspace
        if identifier.lower() not in self._world.resources:
            keep(self._world, identifier, {"location": "westeurope"})
        log = self._world.activity
        log.workspaces.add(identifier.lower())
        log.delay_s, log.lost, log.repeats = (delay_min_s, delay_max_s), lost, repeats
        return identifier

    # difference: AZURE-20
    def delay_resource_graph(self, seconds: float) -> None:
        """Make Resource Graph show subsequent subscription changes `seconds` late."""
        self._world.directory_copy.delay_s = seconds
