"""Projects: their life, the APIs that are enabled in them, and the billing account that pays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from localcloud.common.data_file import read_table
from localcloud.gcp.services.billing import Billing

KEPT = timedelta(days=30)  # between the request to delete a project and its end
TITLES = read_table(__file__, "apis.json", dict[str, str])  # the APIs that a project may enable


def number_of(project: str) -> str:
    """Return the number that the local cloud gives a project of this id."""
    return str(10**11 + int(hashlib.sha256(project.encode()).hexdigest()[:9], 16))


@dataclass
class Project:
    """A project, its organization, the APIs that are enabled in it, and the billing account that pays for it."""

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
    """All projects; a deleted one is gone for good thirty days after the request."""

    def __init__(self) -> None:
        self.all: dict[str, Project] = {}

    def find(self, name: str, now: datetime) -> Project | None:
        """Return a project by its id or number, unless it is gone for good."""
        project = self.all.get(name) or next((item for item in self.all.values() if item.number == name), None)
        if project and project.deleted and now >= project.deleted + KEPT:
            return None
        return project


# difference: GCP-10
def unpaid(projects: Projects, billing: Billing, name: str, now: datetime) -> str:
    """Return the state of a billing account that does not pay for a project, as Google names it; "" where one pays."""
    project = projects.find(name, now)
    if project is None or not project.billing:
        return "absent"
    account = billing.accounts.get(project.billing)
    return "closed" if account is not None and not account.open else ""
