"""What the in-memory cloud has in common with each real one: kinds, stages, batches, quotas, and how it delivers.

The figures are those of each cloud's `targets.py` and `clients.py`. A scope is an account, a subscription or a billing
account; the owner's scope holds what all of them rest on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec

from shared.deliveries.document import Series
from shared.model import Enumeration, Key, Kind, ManualStep, Stage, Target
from shared.provider import KnownStates
from shared.runtime.rate_limit import Rate
from tests.inmemory import OWNER_SCOPE

RHYTHM = timedelta(hours=48)
COPIED_DAYS = 3  # so many days have a copy that is kept equal to its table
SWITCH_STEP = ManualStep("sharing is switched off", ("Switch it on again.",), "https://console.example/sharing")
TABLE_STEP = ManualStep("no export is set up", ("Set it up in the console.",), "https://console.example/export")
ACTUAL, USAGE = "ActualCost", "Usage"
AGREEMENTS: Mapping[str, tuple[str, ...]] = {"enterprise": (ACTUAL, USAGE), "payg": (USAGE,), "none": (), "new": ()}

# The kinds of aws_lambda/targets.py, azure_function/targets.py and gcp_function/targets.py that differ in how the
# engine treats them.
BUCKET = Kind("bucket", Stage.DESTINATION)
STACKSET = Kind("stackset", Stage.DESTINATION, writable=False, only_to_write=True)
AWS_EXPORT = Kind("export", Stage.EXPORT, grace=timedelta(minutes=5))
MEMBER_ROLE = Kind("member-role", Stage.DERIVED, grace=timedelta(hours=1), batch_size=500)
REGISTRATION = Kind("registration", Stage.DESTINATION, grace=timedelta(minutes=10))
CONTAINER = Kind("container", Stage.DESTINATION, grace=timedelta(minutes=1))
AZURE_EXPORT = Kind("export", Stage.EXPORT)
DATASET = Kind("dataset", Stage.DESTINATION)
TABLE = Kind("export", Stage.EXPORT, writable=False)
COPY = Kind("copy", Stage.DERIVED, batch_size=20, forget_after=timedelta(days=7))

REPAIRED: Mapping[str, Any] = {"status": "active", "destination": "data", "format": "csv"}


class Profile(msgspec.Struct, frozen=True):
    """One cloud. It delivers at these `hours` (UTC), by month or `by_day`, and the past month until a day of the next.

    `central`: one export of the owner delivers for all scopes. `destination` is the target that all data lies in,
    `shared` is another one of the owner, which every scope rests on or not.
    """

    name: str
    rates: Mapping[str, Rate]
    hours: tuple[int, ...]
    restated_until: int
    destination: Key
    shared: Key | None = None
    rests_on_shared: bool = False
    central: bool = False
    by_day: bool = False

    def export(self, scope: str) -> Key:
        """Return the key of the export that delivers for a scope."""
        return Key(OWNER_SCOPE if self.central else scope, "export", "actual")

    def series(self, scope: str, day: date) -> Series:
        """Return what an export's delivery of a day belongs to."""
        key = self.export(scope)
        return Series(key.scope, key.name, f"{day:%Y-%m-%d}" if self.by_day else f"{day:%Y-%m}")

    def desired(self, key: Key) -> Mapping[str, Any]:
        """Return the managed fields of a target, as far as they do not depend on its scope."""
        if key.kind == "export":
            return REPAIRED
        return {} if key.kind == COPY.name else {"state": "there"}

    def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:
        """Return what must exist for the listed scopes."""
        return list(_TARGETS[self.name](self, enumeration, known))


def copy_key(scope: str, day: str) -> Key:
    """Return the key of the copy of one day."""
    return Key(scope, COPY.name, f"actual/{day}")


STACKSET_KEY = Key(OWNER_SCOPE, STACKSET.name, "stackset")
DATASET_KEY = Key(OWNER_SCOPE, DATASET.name, "billing")
REGISTRATION_KEY = Key(OWNER_SCOPE, REGISTRATION.name, "exports")


def role_key(scope: str) -> Key:
    """Return the key of a member account's role."""
    return Key(scope, MEMBER_ROLE.name, "reader")


def _aws(profile: Profile, enumeration: Enumeration, _known: KnownStates) -> Iterator[Target]:
    export = profile.export(OWNER_SCOPE)
    yield Target(profile.destination, BUCKET, profile.desired(profile.destination))
    yield Target(STACKSET_KEY, STACKSET, profile.desired(STACKSET_KEY), manual_step=SWITCH_STEP)
    yield Target(export, AWS_EXPORT, REPAIRED, needs=(profile.destination,), rhythm=RHYTHM)
    for scope in enumeration.scopes:
        if scope.id != OWNER_SCOPE:
            key = role_key(scope.id)
            yield Target(key, MEMBER_ROLE, profile.desired(key), needs=(STACKSET_KEY,), rests_on=(export,))


def _azure(profile: Profile, enumeration: Enumeration, known: KnownStates) -> Iterator[Target]:
    yield Target(REGISTRATION_KEY, REGISTRATION, profile.desired(REGISTRATION_KEY))
    yield Target(profile.destination, CONTAINER, profile.desired(profile.destination))
    for scope in enumeration.scopes:
        if scope.id != OWNER_SCOPE:
            key = profile.export(scope.id)
            entry = known.state_of(key)
            desired = {**REPAIRED, "type": entry.facts.get("type", ACTUAL) if entry else ACTUAL}
            yield Target(key, AZURE_EXPORT, desired, needs=(profile.destination,), rhythm=RHYTHM)


def _gcp(profile: Profile, enumeration: Enumeration, known: KnownStates) -> Iterator[Target]:
    dataset, bucket = DATASET_KEY, profile.destination
    yield Target(dataset, DATASET, profile.desired(dataset))
    yield Target(bucket, BUCKET, profile.desired(bucket))
    for scope in enumeration.scopes:
        if scope.id != OWNER_SCOPE:
            table = profile.export(scope.id)
            yield Target(table, TABLE, REPAIRED, needs=(dataset,), rhythm=RHYTHM, manual_step=TABLE_STEP)
            entry = known.state_of(table)
            for day, watermark in (entry.facts.get("days", {}) if entry else {}).items():
                desired = {"watermark": watermark}
                yield Target(copy_key(scope.id, day), COPY, desired, needs=(bucket, table))


_TARGETS = {"aws": _aws, "azure": _azure, "gcp": _gcp}
FACTS: Mapping[str, Any] = {"type": str, "days": dict[str, int]}

PROFILES = {
    "aws": Profile(
        "aws",
        {"list": Rate(8, 12), "read": Rate(5, 10), "write": Rate(5, 10), "storage": Rate(50, 50), "topic": Rate(50)},
        hours=(4, 16),
        restated_until=7,
        destination=Key(OWNER_SCOPE, BUCKET.name, "data"),
        central=True,
    ),
    "azure": Profile(
        "azure",
        {"list": Rate(2, 5), "read": Rate(193 / 60, 2), "write": Rate(5, 20), "storage": Rate(100, 100)}
        | {"topic": Rate(50)},
        hours=(9,),
        restated_until=5,
        destination=Key(OWNER_SCOPE, CONTAINER.name, "data"),
        shared=REGISTRATION_KEY,
    ),
    "gcp": Profile(
        "gcp",
        {"list": Rate(5, 20), "read": Rate(60, 60), "write": Rate(50, 50), "storage": Rate(200, 200)}
        | {"topic": Rate(20, 20)},
        hours=(6,),
        restated_until=0,
        destination=Key(OWNER_SCOPE, BUCKET.name, "data"),
        shared=DATASET_KEY,
        rests_on_shared=True,
        by_day=True,
    ),
}
