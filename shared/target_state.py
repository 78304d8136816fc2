"""What is remembered about one target from earlier runs.

This module is below the model, because targets carry their state; `shared.state.document` holds all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Annotated, Any

import msgspec

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Count = Annotated[int, msgspec.Meta(ge=0)]
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)  # before any run


class LastError(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The last thing that went wrong with a target; `result` is that of the outcome (failed, deferred, manual)."""

    code: str
    message: str = ""
    remedy: str = ""
    result: str = ""
    what: str = ""
    steps: list[str] = []
    url: str = ""


class TargetState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is known about one target.

    `at`: when a run last touched this entry. `present`: whether the target was last proven to exist. `state` and
    `since`: the reason of the last action, and since when it has been the same. `created_at`: the last accepted
    creation, `applied_at`: the last accepted write of any sort. `awaited_since`: since when accepted creations have not
    been seen, `creations` of them. `looked_at`: the last control-plane read, `verified_at`: the last one that
    succeeded. `unseen_since`: since when no delivered data shows it. `waiting_since`: since when a necessary write has
    not been made. `attempts`: tries in a row without success. `arrivals`: the last days (UTC) on which data arrived,
    oldest first. `remembered`: the adapter's facts, None instead of an empty dictionary, since 100,000 empty ones take
    6 MB; read and stored as `facts`.
    """

    at: Moment
    present: bool | None = None
    state: str = ""
    since: Moment | None = None
    created_at: Moment | None = None
    applied_at: Moment | None = None
    awaited_since: Moment | None = None
    creations: Count = 0
    looked_at: Moment | None = None
    verified_at: Moment | None = None
    unseen_since: Moment | None = None
    delivered_at: Moment | None = None
    waiting_since: Moment | None = None
    not_before: Moment | None = None
    attempts: Count = 0
    error: LastError | None = None
    arrivals: tuple[date, ...] = ()
    remembered: dict[str, Any] | None = msgspec.field(default=None, name="facts")

    @property
    def facts(self) -> Mapping[str, Any]:
        """Return the adapter's facts, empty if there are none."""
        return self.remembered if self.remembered is not None else _NOTHING


_NOTHING: Mapping[str, Any] = MappingProxyType({})
