"""The GCP side of the engine's port: who looks at and writes which kind of target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from gcp_function.clients import Clients
from gcp_function.errors import tolerated
from gcp_function.refusals import ACCESS_DENIED
from gcp_function.resources.billing_tables import BillingTables
from gcp_function.resources.bucket import Bucket
from gcp_function.resources.copies import Copies
from gcp_function.resources.dataset import Dataset
from gcp_function.resources.exports import Exports
from gcp_function.resources.project import Project
from gcp_function.scopes import Scopes
from gcp_function.settings import GcpSettings
from gcp_function.targets import (
    ACCOUNT,
    API,
    BILLING,
    BUCKET,
    COPY,
    DATASET,
    ENCRYPTION,
    EXPIRATION,
    EXPORT,
    FACTS,
    HISTORY,
    KEEPING,
    LOCATION,
    PRIVACY,
    PROJECT_KIND,
    REGION,
    RETENTION,
    RHYTHM,
    SOFT_DELETE,
    USAGE,
    billing_key,
    copy_parts,
    targets_of,
)
from shared.errors import CloudError, Permanent, RunStopped
from shared.model import Action, Enumeration, Key, Kind, Observation, Present, Target, Unknown
from shared.provider import Applied, KnownStates
from shared.runtime.context import RunContext
from shared.target_state import TargetState


class GcpCloud:
    """One run's view of GCP from the function's own project."""

    name = "gcp"
    facts = FACTS

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._run = run
        self._project = Project(settings, clients, run)
        self._scopes = Scopes(settings, clients, self._project.look, run)
        self._dataset = Dataset(settings, clients, run)
        self._bucket = Bucket(settings, self._project, self._dataset, clients, run)
        tables = BillingTables(settings, clients, run)
        self._exports = Exports(settings, clients, run, self._project, self._dataset, tables)
        self._copies = Copies(settings, clients, run, self._dataset, self._bucket, tables)
        self._billing: TargetState | None = None  # what earlier runs learnt of who pays

    def enumerate(self, scopes: Sequence[str]) -> Enumeration:
        """List the project and the billing accounts; see `Scopes.enumerate`."""
        return self._scopes.enumerate(scopes)

    def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:
        """Return what must exist."""
        self._billing = known.state_of(billing_key(self._settings))
        self._copies.note_left_behind(known.states_of(COPY.name))
        return targets_of(enumeration, self._settings, self._run.clock.now().date())

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Look at everything in bulk: the bucket after the dataset, exports after what copies tell of them."""
        of: dict[str, list[Target]] = defaultdict(list)
        for target in targets:
            of[target.kind.name].append(target)
        found: dict[Key, Observation] = dict(self._project.apis(of[API.name]))
        # Whatever is asked for, the dataset's location and entries are what the rest is judged by.
        dataset = self._dataset.observe_dataset()
        self._check_project(dataset)
        looks: tuple[tuple[Kind, Callable[[], Observation]], ...] = (
            (PROJECT_KIND, self._project.look),
            (DATASET, lambda: dataset),
            (LOCATION, self._dataset.observe_location),
            (BUCKET, self._bucket.observe_bucket),
            (PRIVACY, self._bucket.observe_privacy),
            (RETENTION, self._bucket.observe_retention),
            (KEEPING, self._bucket.observe_keeping),
            (SOFT_DELETE, self._bucket.observe_soft_delete),
            (EXPIRATION, self._dataset.observe_expiration),
        )
        for kind, look in looks:
            for target in of[kind.name]:
                found[target.key] = look()
        for target in of[ACCOUNT.name]:
            found[target.key] = self._scopes.outside(target.key.scope)
        # Who pays decides whose prices are wanted.
        paid = self._project.billing(self._billing)
        found |= dict.fromkeys((target.key for target in of[BILLING.name]), paid)
        self._run.heartbeat()
        exports = self._exports_and_copies(of[EXPORT.name], of[COPY.name], of[HISTORY.name])
        # Rows that arrive prove that Google can write, whatever the dataset's settings suggest.
        arriving = self._arriving(exports)
        for kind, observe in (
            (REGION, self._dataset.observe_region),
            (ENCRYPTION, self._dataset.observe_encryption),
        ):
            for target in of[kind.name]:
                found[target.key] = observe(arriving)
        return found | exports

    def _arriving(self, exports: Mapping[Key, Observation]) -> bool:
        since = self._run.clock.now() - RHYTHM
        return any(
            isinstance(seen, Present) and seen.delivered_at is not None and seen.delivered_at > since
            for key, seen in exports.items()
            if key.kind == EXPORT.name and key.name in USAGE
        )

    def _check_project(self, dataset: Observation) -> None:
        """Raise RunStopped where neither the project nor its dataset may be seen: it may be the wrong one."""
        project = self._project.look()
        if all(isinstance(one, Unknown) and one.code == ACCESS_DENIED for one in (project, dataset)):
            raise RunStopped(
                "project-out-of-reach",
                f"neither project {self._settings.project} nor its dataset {self._settings.dataset} may be seen",
                "See that GOOGLE_CLOUD_PROJECT is the id of the project that the function is deployed in, and that its "
                "service account has its roles there (they take minutes to be in effect).",
            )

    def observe(self, target: Target) -> Observation:
        """Compare one history with its copies; anything else by the survey of it alone."""
        if target.kind == HISTORY:
            return self._copies.observe(target)
        return self.observe_bulk([target])[target.key]

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Write dataset, bucket and histories one by one, copies in batches."""
        if actions[0].target.kind == COPY:
            return [_tolerated(answer) for answer in self._copies.apply(actions)]
        return [self._apply_one(action) for action in actions]

    def _apply_one(self, action: Action) -> Applied | CloudError:
        try:
            if action.target.kind == DATASET:
                return self._dataset.create()
            if action.target.kind == BUCKET:
                return self._bucket.apply(action)
            if action.target.kind == HISTORY:
                return self._copies.apply_history(action)
        except CloudError as error:
            return tolerated(error)
        what = f"{action.target.kind.name} is not written by the function"
        return Permanent("not-writable", what, "This is a defect of the function: report it with this message.")

    def _exports_and_copies(
        self, exports: Sequence[Target], copies: Sequence[Target], histories: Sequence[Target]
    ) -> dict[Key, Observation]:
        if self._dataset.unseen is not None:
            return dict.fromkeys((one.key for one in (*exports, *copies, *histories)), self._dataset.unseen)
        holders: dict[str, set[str]] = defaultdict(set)
        for target in (*exports, *histories):
            holders[target.key.name].add(target.key.scope)
        for target in copies:
            holders[copy_parts(target.key)[0]].add(target.key.scope)
        seen = self._exports.tables(holders)
        self._run.heartbeat()
        wanted = self._exports.wanted(exports, seen)
        found = self._copies.observe_bulk(copies, histories, seen, wanted)
        self._run.heartbeat()
        return found | self._exports.observe_bulk(
            exports, seen, self._copies.fresh, self._copies.odd, self._copies.hidden
        )


def _tolerated(answer: Applied | CloudError) -> Applied | CloudError:
    return tolerated(answer) if isinstance(answer, CloudError) else answer
