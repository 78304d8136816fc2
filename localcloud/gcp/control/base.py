"""What every chapter of the story has: the world, and its lock."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from localcloud.gcp.platform.deployment import Deployment
from localcloud.gcp.services.buckets import Bucket
from localcloud.gcp.services.catalog import Dataset
from localcloud.gcp.services.projects import Project
from localcloud.gcp.state import World

F = TypeVar("F", bound=Callable[..., Any])


def locked(method: F) -> F:
    """Let an action see and change the state as if nothing else happened meanwhile."""

    @functools.wraps(method)
    def inner(self: Chapter, *args: Any, **kwargs: Any) -> Any:
        with self.world.lock:
            self.world.settle()
            return method(self, *args, **kwargs)

    return cast("F", inner)


class Chapter:
    """Actions on one world; names that are left out are the deployment's."""

    def __init__(self, world: World, deployment: Deployment) -> None:
        self.world = world
        self.deployment = deployment

    def _dataset(self, name: str) -> Dataset:
        return self.world.catalog.dataset(self.deployment.project, name or self.deployment.dataset)

    def _bucket(self, name: str) -> Bucket:
        return self.world.buckets.find(name or self.deployment.bucket)

    def _project(self, name: str) -> Project:
        return self.world.projects.all[name or self.deployment.project]
