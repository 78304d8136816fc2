"""The base of the GCP control actions: the state, and defaults for omitted names."""

from __future__ import annotations

from localcloud.common.control_api import ControlActions
from localcloud.gcp.platform.deployment import Deployment
from localcloud.gcp.services.buckets import Bucket
from localcloud.gcp.services.catalog import Dataset
from localcloud.gcp.services.projects import Project
from localcloud.gcp.state import World


class DeployedActions(ControlActions):
    """Actions on the state of one cloud; omitted names default to the deployment's. They may also raise GoogleError."""

    def __init__(self, world: World, deployment: Deployment) -> None:
        super().__init__(world)
        self.world = world
        self.deployment = deployment

    def _settle(self) -> None:
        self.world.settle()

    def _dataset(self, name: str) -> Dataset:
        return self.world.catalog.dataset(self.deployment.project, name or self.deployment.dataset)

    def _bucket(self, name: str) -> Bucket:
        return self.world.buckets.find(name or self.deployment.bucket)

    def _project(self, name: str) -> Project:
        return self.world.projects.all[name or self.deployment.project]
