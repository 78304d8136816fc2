"""Collects what deliveries prove about each export, from this run's listing or from the state document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from azure_function.resources.deliveries import Deliveries, Delivery, LastDelivery, ListingProgress, progress_of
from azure_function.resources.export_health import LOST, MANIFEST_READ, SIZED, news
from azure_function.resources.manifests import ManifestContent, Manifests
from azure_function.settings import AzureSettings
from azure_function.targets import container_key, placement_of
from shared.errors import NotFound
from shared.model import Key, Target
from shared.parsing import parse_time
from shared.periods import Period
from shared.provider import KnownStates
from shared.runtime.context import RunContext
from shared.runtime.pool import each


class Evidence:
    """The deliveries of one run, listed in bulk, with the content of their manifests.

    `limited`: the request names scopes, so only their folders are listed. `facts` are the facts that this run has read
    from manifests, by export key. `progress` is the progress of each container's listing, by container key.
    """

    def __init__(self, settings: AzureSettings, run: RunContext, deliveries: Deliveries, manifests: Manifests) -> None:
        self._settings = settings
        self._run = run
        self._deliveries = deliveries
        self._manifests = manifests
        self._before: dict[Key, ListingProgress | None] = {}  # as of the start of the run
        self._listed = False
        self.limited = False
        self.facts: dict[Key, dict[str, Any]] = {}
        self.progress: dict[Key, ListingProgress] = {}

    def remember(self, known: KnownStates) -> None:
        """Load the progress of each container's listing from the state."""
        keys = [container_key(account, self._settings) for account in self._settings.destination]
        self._before = {key: progress_of(known.state_of(key)) for key in keys}

    def list_containers(self) -> None:
        """List the next part of each container, once per run; skipped if the request names scopes.

        A container without stored progress is listed completely.
        """
        if self.limited or self._listed:
            return
        self._listed = True
        for account in self._settings.destination:
            key = container_key(account, self._settings)
            progress = self._deliveries.continue_listing(account, self._before.get(key))
            if progress is not None:
                self.progress[key] = progress

    def list_folders(self, exports: Sequence[Target]) -> None:
        """List the folders of these exports, except those that this run has already listed."""
        folders = dict.fromkeys((placement_of(target.key).folder, target.key.name) for target in exports)
        due = [folder for folder in folders if not self._deliveries.is_listed(*folder)]
        for _ in each(due, lambda folder: self._deliveries.read(*folder), self._settings.engine.workers, self._in_time):
            self._run.heartbeat()

    def of(self, target: Target) -> Delivery | None:
        """Return the deliveries of an export that this run has listed, or None."""
        return self._deliveries.of(placement_of(target.key).folder, target.key.name)

    def seen(self, target: Target) -> LastDelivery:
        """Return the last known delivery of an export, from this run's listing or from the state."""
        folder = (placement_of(target.key).folder, target.key.name)
        delivery, listed_at = self._deliveries.of(*folder), self._deliveries.listed_at(*folder)
        if delivery is not None:
            return LastDelivery(delivery.at, delivery.account, listed_at)
        if listed_at is None or self._deliveries.is_listed(*folder):
            return LastDelivery(None, "", listed_at)
        entry = target.state
        known = (entry.delivered_at, parse_time(entry.facts.get(MANIFEST_READ))) if entry else ()
        return LastDelivery(max((time for time in known if time is not None), default=None), "", listed_at)

    def periods(self, target: Target) -> dict[str, Period]:
        """Return the months of an export in this run's listing."""
        entry = target.state
        delivered = entry is not None and (entry.delivered_at is not None or MANIFEST_READ in entry.facts)
        since = (entry.created_at or entry.delivered_at) if entry is not None and delivered else None
        return self._deliveries.periods(placement_of(target.key).folder, target.key.name, since)

    def is_complete(self) -> bool:
        """Return whether the listing of every account succeeded; a missing container counts as empty."""
        return all(isinstance(error, NotFound) for error in self._deliveries.failed.values())

    def read_manifests(self, exports: Sequence[Target]) -> None:
        """Read the manifests that are new since the last read, within the call budget, oldest read first."""
        due: list[tuple[str, Target, Delivery, bool]] = []
        for target in exports:
            delivery = self.of(target)
            entry = target.state
            facts = entry.facts if entry else {}
            read = str(facts.get(MANIFEST_READ) or "")
            if delivery is not None and read != delivery.written.isoformat():
                due.append((read, target, delivery, bool(facts.get(SIZED))))
        due.sort(key=lambda one: (one[0], one[1].key))
        chosen = due[: self._settings.engine.call_budget or None]

        def read_one(one: tuple[str, Target, Delivery, bool]) -> ManifestContent | None:
            return self._manifests.content(one[2], sized=one[3])

        for (_, target, delivery, _), content in each(chosen, read_one, self._settings.engine.workers, self._in_time):
            self._run.heartbeat()
            if content is not None:
                entry = target.state
                self.facts[target.key] = news(delivery.written, content, entry.facts if entry else {})
        self._read_earlier_manifests(exports)
        for code, (count, example) in sorted(self._manifests.unread.items()):
            reason = f"{count} manifests could not be read, for example {example}"
            self._run.log("warning", "detail-unread", code=code, reason=reason)

    def _in_time(self) -> bool:
        return self._run.deadline.allows(0)

    def _read_earlier_manifests(self, exports: Sequence[Target]) -> None:
        """Read the manifests of earlier months without files, to find out whether they list any."""
        left = self._settings.engine.call_budget or None
        for target in exports:
            delivery = self.of(target)
            entry = target.state
            known = entry.facts.get(LOST) or {} if entry else {}
            if delivery is None or not (delivery.bare or known):
                continue
            lost: dict[str, str] = {}
            for month, manifest in delivery.bare.items():
                if left == 0 or not self._in_time():
                    lost |= {month: known[month]} if month in known else {}
                    continue
                left = left and left - 1
                found = self._manifests.content(msgspec.structs.replace(delivery, manifest=manifest), sized=False)
                wrong = found.wrong if found is not None else known.get(month, "")
                lost |= {month: wrong} if wrong else {}
            if lost != known:
                self.facts[target.key] = {**self.facts.get(target.key, {}), LOST: lost}
