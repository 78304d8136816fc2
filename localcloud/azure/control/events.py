"""Control actions for how late and how reliably Azure tells of a change."""

from __future__ import annotations

from localcloud.azure.control.obstacles import ObstacleActions
from localcloud.azure.platform.resources_api import keep


class EventActions(ObstacleActions):
    """Act on the activity log, its central workspace, and what Resource Graph shows."""

    # difference: AZURE-19
    def send_activity_log(
        self, delay_min_s: float = 0, delay_max_s: float = 0, lost: float = 0, repeats: int = 1
    ) -> str:
        """Send all activity logs to the central workspace from now on; return its resource id.

        An entry can be queried between the two delays after it was made; `lost` is the share of entries that never
        arrive, `repeats` how often each is stored.
        """
        if not 0 <= delay_min_s <= delay_max_s or not 0 <= lost <= 1 or repeats < 1:
            raise ValueError("delays are not negative and in order, a share is between 0 and 1, repeats are at least 1")
        identifier = self._world.activity_workspace
        if identifier.lower() not in self._world.resources:
            keep(self._world, identifier, {"location": "westeurope"})
        log = self._world.activity
        log.workspaces.add(identifier.lower())
        log.delay_s, log.lost, log.repeats = (delay_min_s, delay_max_s), lost, repeats
        return identifier

    # difference: AZURE-20
    def delay_resource_graph(self, seconds: float) -> None:
        """Let Resource Graph show later changes of subscriptions so many seconds late."""
        self._world.directory_copy.delay_s = seconds
