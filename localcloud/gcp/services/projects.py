"""Projects: their lifecycle, their enabled APIs, and the billing account that pays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from localcloud.common.data_file import read_table
from localcloud.gcp.services.billing import Billing

KEPT = timedelta(days=30)  # from the deletion request to the permanent deletion
TITLES = read_table(__file__, "apis.json", dict[str, str])  # the APIs that a project may enable


def number_of(project: str) -> str:
    """Return the local cloud's project number for a project id."""
    return str(10**11 + int(hashlib.sha256(project.encode()).hexdigest()[:9], 16))


@dataclass
class Project:
    """A project with its organization, its enabled APIs, and the billing account that pays for it."""

    id: str
    parent: str
    created: datetime
    deleted: datetime | None = None
    services: set[str] = field(default_factory=lambda: set(TITLES))
    billing: str = ""

    @property
    def number(self) -> str:
        return number_of(self.id)

    @property
    def state(self) -> str:
        return "ACTIVE" if self.deleted is None else "DELETE_REQUESTED"


class Projects:
    """All projects; a deleted project is removed permanently thirty days after the request."""

    def __init__(self) -> None:
        self._all: dict[str, Project] = {}
        self._ids: dict[str, str] = {}  # by project number
        self.all: Mapping[str, Project] = MappingProxyType(self._all)

    def add(self, project: Project) -> Project:
        """Add a project, or replace the one of the same id."""
        self._all[project.id] = project
        self._ids[project.number] = project.id
        return project

    def id_of(self, name: str) -> str:
        """Return the id of the project with this number; any other name unchanged."""
        return self._ids.get(name, name)

    def find(self, name: str, now: datetime) -> Project | None:
        """Return a project by its id or number, or None if it is unknown or permanently deleted."""
        project = self._all.get(self.id_of(name))
        if project and project.deleted and now >= project.deleted + KEPT:
            return None
        return project


# difference: GCP-10
def unpaid(projects: Projects, billing: Billing, name: str, now: datetime) -> str:
    """Return why a project is not billed, ``absent`` or ``closed`` as Google names it; "" if an open account pays."""
    project = projects.find(name, now)
    if project is None or not project.billing:
        return "absent"
    account = billing.accounts.get(project.billing)
    return "closed" if account is not None and not account.open else ""
