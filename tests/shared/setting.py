"""An engine with an in-memory cloud, for tests of complete runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shared.deliveries.announce import Announcer
from shared.errors import Permanent
from shared.model import Action, Key
from shared.monitor.months import Reach
from shared.notify.changes import Wording
from shared.publish import Publishing
from shared.reconcile import RunResult, reconcile
from shared.request import RunRequest, parse_request
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from shared.settings import EngineSettings
from shared.state.decoding import parse
from shared.state.document import StateDocument
from tests.inmemory import RATES, InMemoryCloud, InMemoryStore, World

QUIET = Publishing(Wording("memory", "account", "accounts"), Reach())
Line = tuple[str, str, Mapping[str, Any]]


class Setting:
    """A cloud, a stored state and a clock; each `run` is one run of the engine on them."""

    def __init__(self, scopes: int = 3, publishing: Publishing | None = None, **settings: Any) -> None:
        self.world = World(scopes)
        self.store = InMemoryStore()
        self.clock = VirtualClock()
        self.settings = EngineSettings(**settings)
        self.lines: list[Line] = []
        self.seconds = 600.0
        self.seed = 0
        self.publishing = publishing
        self.announcer: Callable[[RunContext], Announcer] | None = None

    def new_run(self) -> RunContext:
        """Return the context of a new run."""
        self.seed += 1

        def sink(level: str, event: str, fields: Mapping[str, Any]) -> None:
            self.lines.append((level, event, fields))

        def translate(error: Exception) -> Permanent:
            return Permanent("unexpected", f"{type(error).__name__}: {error}")

        return RunContext("memory", self.settings, sink, self.clock, self.seconds, RATES, translate, self.seed)

    def run(self, **request: object) -> RunResult:
        """Run once, then advance the clock by an hour, as the schedule does."""
        finished = self.run_now(parse_request(request))
        self.clock.advance(3600)
        return finished

    def run_now(self, request: RunRequest) -> RunResult:
        """Run once for a request, without advancing the clock."""
        run = self.new_run()
        publishing = self.publishing
        if self.announcer is not None:
            publishing = msgspec.structs.replace(publishing or QUIET, announcer=self.announcer(run))
        return reconcile(InMemoryCloud(self.world, run), self.store, request, run, publishing)

    def memory(self) -> StateDocument:
        """Return the stored state document."""
        assert self.store.data is not None
        return parse(self.store.data, "memory", self.clock.now())

    def events(self, event: str) -> list[Line]:
        """Return the log lines of one event."""
        return [line for line in self.lines if line[1] == event]

    def covered(self) -> bool:
        """Return whether everything that each active scope must have exists."""
        wanted = [
            Key(scope.id, kind, name)
            for scope in self.world.scopes.values()
            for kind, name in (("export", "daily"), ("role", "reader"))
            if scope.id != "owner" and scope.state.value == "active"
        ]
        return all(key in self.world.things for key in wanted)


def actions(finished: RunResult, verb: str) -> list[Action]:
    """Return the planned actions of one verb."""
    assert finished.plan is not None
    return [action for action in finished.plan.actions if action.verb.value == verb]


def document(data: bytes) -> dict[str, Any]:
    """Return a stored JSON object."""
    return msgspec.json.decode(data, type=dict[str, Any])
