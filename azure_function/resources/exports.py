"""The exports: observed by their deliveries if these are fresh, else read singly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from azure_function.resources.billing_overlap import BillingOverlap
from azure_function.resources.evidence import Evidence
from azure_function.resources.export_health import FRESH
from azure_function.resources.export_reader import ExportReader
from azure_function.resources.export_writer import UNSEEN, ExportWriter
from azure_function.resources.other_exports import OtherExports
from azure_function.targets import EXPORT
from shared.errors import CloudError
from shared.model import Absent, Action, Key, Observation, Present, Target
from shared.observe import as_observation
from shared.provider import Applied
from shared.resources import one_by_one
from shared.runtime.context import RunContext

FIRST_DAYS = timedelta(days=4)  # how long every run lists the folder of an export without a delivery
SAMPLES = 3  # how many unknown exports are read to find out whether exports can be read at all


class Exports:
    """Observes and writes the export targets of one run."""

    kinds = (EXPORT,)

    def __init__(
        self,
        run: RunContext,
        evidence: Evidence,
        overlap: BillingOverlap,
        others: OtherExports,
        reader: ExportReader,
        writer: ExportWriter,
    ) -> None:
        self._run = run
        self._evidence = evidence
        self._overlap = overlap
        self._others = others
        self._reader = reader
        self._writer = writer
        self._working: set[Key] = set()

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """List the deliveries; exports with fresh deliveries count as working.

        An export without recorded state and without deliveries counts as absent without a read, once the read of
        another one has shown that exports can be read. If that is wrong, Azure refuses the creation.
        """
        self._working |= {one.key for one in targets if one.state and one.state.present and one.state.error is None}
        self._evidence.list_containers()
        self._evidence.list_folders([one for one in targets if self._evidence.limited or self._is_expected(one)])
        self._evidence.read_manifests(targets)
        hidden = self._overlap.hidden(targets)
        seen: dict[Key, Observation] = dict(hidden)
        unknown: list[Target] = []
        for target in targets:
            if target.key in hidden:
                continue
            found = self._delivered(target)
            if found is not None:
                seen[target.key] = found
            elif self._is_new(target):
                unknown.append(target)
        return self._others.compared_all(targets, seen | self._observe_new(unknown))

    def observe(self, target: Target) -> Observation:
        """Read one export's configuration. Raises CloudError."""
        return self._others.compared(target, self._reader.read(target))

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Create, repair or adopt the exports one by one: Azure has no batch call."""
        return one_by_one(self._writer.write, actions)

    def works(self, key: Key) -> bool:
        """Return whether an export worked when an earlier run last looked at it."""
        return key in self._working

    def _is_expected(self, target: Target) -> bool:
        """Return whether an export may have to be created now, or still awaits its first data."""
        entry = target.state
        if target.skip or self._waits(target):
            return False
        if entry is None or not entry.present:
            return entry is None or entry.delivered_at is None
        created = entry.created_at
        return entry.delivered_at is None and created is not None and self._run.clock.now() - created < FIRST_DAYS

    def _delivered(self, target: Target) -> Present | None:
        """Return the observation from an export's deliveries if the last one was fresh when listed, else None."""
        seen, entry = self._evidence.seen(target), target.state
        as_of = self._run.clock.now() if seen.account else seen.listed_at
        if seen.at is None or as_of is None or as_of - seen.at >= FRESH:
            return None
        if not seen.account and (entry is None or not entry.present):
            return None
        return self._reader.by_delivery(target, seen)

    def _is_new(self, target: Target) -> bool:
        """Return whether nothing suggests that the export exists: no delivery, no stored state, all accounts listed."""
        entry = target.state
        known = entry is not None and (entry.present or entry.delivered_at is not None)
        return self._evidence.is_complete() and not known and self._evidence.of(target) is None

    def _observe_new(self, unknown: Sequence[Target]) -> dict[Key, Observation]:
        """Read a few of the unknown exports; the others are absent unless a refusal shows otherwise."""
        seen: dict[Key, Observation] = {}
        due = [target for target in unknown if not self._waits(target)]
        for target in due[:: max(1, len(due) // SAMPLES)][:SAMPLES]:
            try:
                seen[target.key] = self._reader.read(target)
            except CloudError as error:
                seen[target.key] = as_observation(error)
                continue
            detail = "no delivery and no recorded state"
            return {one.key: seen.get(one.key, Absent((UNSEEN,), detail)) for one in unknown}
        return seen

    def _waits(self, target: Target) -> bool:
        entry = target.state
        return entry is not None and entry.not_before is not None and entry.not_before > self._run.clock.now()
