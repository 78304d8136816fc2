"""GCP as the engine sees it: the accounts, what must exist for them, and the resources that observe and write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gcp_function.claims import Claims
from gcp_function.clients import Clients
from gcp_function.errors import tolerated
from gcp_function.resources.billing_tables import BillingTables
from gcp_function.resources.bucket import Bucket
from gcp_function.resources.copies import Copies
from gcp_function.resources.dataset import Dataset
from gcp_function.resources.dataset_restrictions import DatasetRestrictions
from gcp_function.resources.exports import Exports
from gcp_function.resources.outside_accounts import OutsideAccounts
from gcp_function.resources.project import Project
from gcp_function.resources.project_datasets import ProjectDatasets
from gcp_function.resources.table_survey import TableSurvey
from gcp_function.scopes import Scopes
from gcp_function.settings import GcpSettings
from gcp_function.targets import COPY, FACTS, targets_of
from shared.deliveries.announce import Announcer
from shared.errors import CloudError
from shared.model import Action, Enumeration, Key, Observation, Target
from shared.provider import Applied, KnownStates
from shared.resources import Registry
from shared.runtime.context import RunContext


class GcpCloud:
    """GCP in one run, seen from the function's own project.

    With an `announcer`, new copies are announced at once. `claims` are those of other tenants.
    """

    name = "gcp"
    facts = FACTS

    def __init__(
        self,
        settings: GcpSettings,
        clients: Clients,
        run: RunContext,
        announcer: Announcer | None = None,
        claims: Claims | None = None,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        project = Project(settings, clients, run)
        self._scopes = Scopes(settings, clients, project.read, run, claims or Claims())
        dataset = Dataset(settings, clients, run, project)
        bucket = Bucket(settings, clients, run, project, dataset)
        tables = BillingTables(settings, clients, run)
        datasets = ProjectDatasets(settings, clients, run)
        self._survey = TableSurvey(settings, run, dataset, tables, datasets)
        self._copies = Copies(settings, clients, run, dataset, bucket, tables, self._survey, announcer)
        exports = Exports(settings, clients, run, project, dataset, datasets, tables, self._survey)
        self._resources = Registry(
            [
                project,
                dataset,
                bucket,
                OutsideAccounts(self._scopes),
                self._copies,
                exports,
                DatasetRestrictions(settings, dataset, exports),
            ],
            run.heartbeat,
        )

    def enumerate(self, scopes: Sequence[str]) -> Enumeration:
        """Enter the tenant's cloud if there is one; list the project and the billing accounts.

        See `Scopes.enumerate`. Raises Unreachable.
        """
        self._clients.enter(self._run)
        return self._scopes.enumerate(scopes)

    def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:
        """Return what must exist."""
        self._copies.note_left_behind(known.states_of(COPY.name))
        return targets_of(enumeration, self._settings, self._run.clock.now().date())

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Observe in the order of the resources, the tables of all targets in as few queries as possible."""
        self._survey.expect(targets)
        return self._resources.observe_bulk(targets)

    def observe(self, target: Target) -> Observation:
        """Read one target's configuration."""
        return self._resources.observe(target)

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Apply actions of one kind and verb; tolerate refusals while new permissions take effect."""
        answers = self._resources.apply(actions)
        return [tolerated(answer) if isinstance(answer, CloudError) else answer for answer in answers]
