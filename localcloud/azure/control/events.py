"""Control actions that set where and how late Azure reports changes."""

from __future__ import annotations

from localcloud.azure.control.obstacles import ObstacleActions
from localcloud.azure.platform.resources_api import keep


class EventActions(ObstacleActions):
    """Actions on the activity log, its central workspace, and Resource Graph."""

    # difference: AZURE-19
    def send_activity_log(self) -> str:
        """Send all activity logs to the central workspace from now on and return its resource ID.

        Queries find the entries at once, or as `event_faults` says.
        """
        identifier = self._world.activity_workspace
        if identifier.lower() not in self._world.resources:
            keep(self._world, identifier, {"location": "westeurope"})
        self._world.activity.workspaces.add(identifier.lower())
        return identifier

    # difference: AZURE-20
    def delay_resource_graph(self, seconds: float) -> None:
        """Make Resource Graph show subsequent subscription changes `seconds` late."""
        self._world.directory_copy.delay_s = seconds
