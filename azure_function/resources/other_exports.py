"""Exports that others have made: reported where ours is to be created, and kept from counting costs twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from azure_function import manual_steps
from azure_function.resources.deliveries import Deliveries
from azure_function.resources.export_calls import ExportCalls
from azure_function.resources.export_document import normal_form
from azure_function.settings import AzureSettings
from azure_function.targets import DATASETS, OURS, RHYTHM, ExportPlacement, is_own, placement_of
from shared.errors import CloudError
from shared.model import BESIDE, Absent, Health, Key, Observation, Ownership, Present, Target, Unknown, why_not_used
from shared.parsing import mapping
from shared.runtime.context import RunContext

LISTED_A_RUN = 10  # scopes whose exports are listed, one call each: most are created without a read
FOLDER_SHARED = "folder-shared"
COSTS = frozenset(name for dataset in DATASETS.values() for name in dataset.types)

Export = Mapping[str, Any]


class OtherExports:
    """Compares the exports that others have made in a scope with ours.

    An export of costs that delivers elsewhere is only mentioned, where ours is created. With one that delivers the same
    dataset to our folder, what reads the folder counts costs twice: ours is not created, and a manual step is reported.
    """

    def __init__(self, settings: AzureSettings, run: RunContext, calls: ExportCalls, deliveries: Deliveries) -> None:
        self._settings = settings
        self._run = run
        self._calls = calls
        self._deliveries = deliveries
        self._listed: dict[str, list[Export]] = {}  # by the scope's path

    def compared_all(self, targets: Sequence[Target], seen: Mapping[Key, Observation]) -> dict[Key, Observation]:
        """Return the observations, compared with the exports of others: first where they deliver to our folders."""
        found = dict(seen)
        chosen = [target for target in targets if target.key in found and self._is_shared(target)]
        created = [target for target in targets if isinstance(found.get(target.key), Absent) and not target.skip]
        created.sort(key=lambda target: not target.key.scope.startswith("/"))  # billing scopes have the most costs
        for target in (*chosen, *created):
            found[target.key] = self._compared(target, found[target.key])
        return found

    def compared(self, target: Target, seen: Observation) -> Observation:
        """Return the observation of one export, compared with exports of others that deliver to its folder."""
        return self._compared(target, seen) if self._is_shared(target) else seen

    def _compared(self, target: Target, seen: Observation) -> Observation:
        placement = placement_of(target.key)
        others = self._others(placement)
        inside = [
            _name(one)
            for one in others
            if _type(one) in placement.dataset.types and self._delivers_inside(one, placement)
        ]
        if not inside:
            text = "; ".join(self._why_not_used(one, target) for one in others)
            return (
                msgspec.structs.replace(seen, detail=text, code=BESIDE) if text and isinstance(seen, Absent) else seen
            )
        step = manual_steps.folder_shared(target.key, inside, placement.folder)
        if isinstance(seen, Absent):
            return Unknown(FOLDER_SHARED, step.what, step)
        works = isinstance(seen, Present) and seen.health in (Health.HEALTHY, Health.PENDING)
        if not isinstance(seen, Present) or not works or seen.ownership is not Ownership.OURS:
            return seen
        return msgspec.structs.replace(
            seen, health=Health.MANUAL, code=FOLDER_SHARED, detail=step.what, manual_step=step
        )

    def _others(self, placement: ExportPlacement) -> list[Export]:
        """Return the exports of costs in a scope that do not have our names; none beyond LISTED_A_RUN scopes."""
        if placement.path not in self._listed:
            if len(self._listed) >= LISTED_A_RUN:
                return []
            self._listed[placement.path] = []
            try:
                found = self._calls.list(placement.path)
            except CloudError as error:
                reason = f"the exports of {placement.path} could not be listed: {error.message}"
                self._run.log("warning", "detail-unread", code=error.code, reason=reason)
                return []
            costs = [one for one in found if _type(one) in COSTS]
            self._listed[placement.path] = [one for one in costs if not is_own(placement.folder, _name(one))]
        return self._listed[placement.path]

    def _is_shared(self, target: Target) -> bool:
        """Return whether another export has lately delivered to the folder of this one."""
        folder = placement_of(target.key).folder
        return any(self._is_recent(folder, name) for name in self._deliveries.others.get(folder, ()))

    def _is_recent(self, folder: str, name: str) -> bool:
        delivery = self._deliveries.of(folder, name)
        return delivery is not None and self._run.clock.now() - delivery.at < RHYTHM

    def _delivers_inside(self, export: Export, placement: ExportPlacement) -> bool:
        actual = normal_form(export, self._settings, self._run.clock.now())
        place = (OURS, self._settings.container, placement.folder)
        active = str(actual["schedule"]).startswith("Active ")
        return (actual["destination"], actual["container"], actual["folder"]) == place and (
            active or self._is_recent(placement.folder, _name(export))
        )

    def _why_not_used(self, export: Export, target: Target) -> str:
        actual = normal_form(export, self._settings, self._run.clock.now())
        resource = str(mapping(mapping(export["properties"].get("deliveryInfo")).get("destination")).get("resourceId"))
        place = "/".join(filter(None, (resource.rsplit("/", 1)[-1], actual["container"], actual["folder"])))
        return why_not_used(_name(export), target.desired, actual, place)


def _name(export: Export) -> str:
    return str(export.get("name", ""))


def _type(export: Export) -> str:
    return str(mapping(export["properties"].get("definition")).get("type", ""))
