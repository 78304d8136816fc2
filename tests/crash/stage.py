"""A deployed function on a local cloud, which is disturbed, called, and looked at, again and again.

A *round* is: disturb the cloud, call the function, let an hour pass, call it as the schedule does. Rounds without a
fault end in one and the same world. A fault belongs into the first call of a round; the second ends in that world too.
"""

from __future__ import annotations

import io
import json
import os
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType, TracebackType
from typing import Any, ClassVar, Self

import msgspec
import pytest

from localcloud.common.http_server import Request, Response
from localcloud.common.local_cloud import LocalCloud
from shared.deliveries.document import CURRENT, Current, DeliveryDocument
from shared.reconcile import RunResult
from tests.crash.entries import ENTRIES, Payload
from tests.crash.kills import Victim

HOUR = 3600.0
# A target that was repaired three times within a day is left to whoever else changes it.
BETWEEN_REPAIRS = 9 * HOUR
# Exceptions by which a function refuses a call as its contract says; everything else is a defect.
REFUSALS = frozenset({"AnotherRun", "NotAnnounced", "RunFailed", "killed"})
World = dict[str, Any]


@dataclass(frozen=True)
class Story:
    """What happens in a round before the function is called, and how it is called; `steady`: nothing is to be done."""

    disturb: Callable[[Any], None]
    entry: str = "run"
    steady: bool = False


@dataclass
class Ended:
    """How a call ended: what it said in all ways, the reports of its runs, and the name of the exception, if any."""

    said: str = ""
    reports: list[Mapping[str, Any]] = field(default_factory=list)
    raised: str = ""
    status: int = 200


class Stage(ABC):
    """One cloud with the function deployed in it; a context manager."""

    name: ClassVar[str]
    module: ClassVar[ModuleType]  # with the entry points
    cloud: Any  # the local cloud
    stories: ClassVar[Mapping[str, Story]]
    follow_ups: ClassVar[frozenset[str]] = frozenset()  # writes that only follow a write whose answer was lost

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.environment: dict[str, str] = {}
        self._known: Counter[str] = Counter()
        self._accepted: set[str] = set()  # the ids of the events of this round

    def __enter__(self) -> Self:
        with self._stack:
            self.cloud = self._stack.enter_context(self.open())
            self.environment = self.settings()
            patch = self._stack.enter_context(pytest.MonkeyPatch.context())
            for name in set(os.environ) & {"AWS_PROFILE", "AZURE_TENANT_ID", "GOOGLE_APPLICATION_CREDENTIALS"}:
                patch.delenv(name)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            self.begin()
            self._stack.callback(self.drop_clients)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # What each cloud does in its own way

    @abstractmethod
    def open(self) -> LocalCloud:
        """Return the local cloud after a deployment, which announces deliveries."""

    @abstractmethod
    def settings(self) -> dict[str, str]:
        """Return the function's environment."""

    @abstractmethod
    def begin(self) -> None:
        """Bring the cloud to where every round begins."""

    @abstractmethod
    def drop_clients(self) -> None:
        """Forget the clients that the function keeps between calls, as the end of its process does."""

    @abstractmethod
    def payload(self, entry: str) -> Payload:
        """Return what the runtime gives to an entry point now."""

    def conclude(self, entry: str, *, succeeded: bool) -> None:  # noqa: B027 - most runtimes do nothing
        """Do what the runtime does after a call; one whose process was killed did not succeed."""

    @abstractmethod
    def form(self, request: Request, status: int) -> Response:
        """Return the cloud's own error for a request."""

    @abstractmethod
    def call_name(self, request: Request) -> str:
        """Return the name of the operation that a request asks for."""

    @abstractmethod
    def written(self) -> list[str]:
        """Return the writes of resources that the cloud accepted since the last `clear_calls`, sorted.

        State, reports and documents of deliveries do not count.
        """

    @abstractmethod
    def resources(self) -> World:
        """Return all resources that the function owns or may touch, without what differs from round to round."""

    @abstractmethod
    def names(self, prefix: str) -> Iterable[str]:
        """Return the names of the documents of deliveries below a prefix, without that of the destination."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return a document of deliveries, empty if it does not exist."""

    @abstractmethod
    def published(self) -> Iterable[Mapping[str, Any]]:
        """Return the events that the topic has accepted since the last call."""

    @abstractmethod
    def state(self) -> bytes:
        """Return the state document, empty without one."""

    @abstractmethod
    def forget(self) -> None:
        """Delete the state document, as if the function had never run."""

    @abstractmethod
    def shorten_timeouts(self, patch: pytest.MonkeyPatch, seconds: float) -> None:
        """Let the clients that are created from now on wait for an answer for so long only."""

    # What is the same everywhere

    @cached_property
    def victim(self) -> Victim:
        """The function in processes of its own, which may be killed."""
        return self._stack.enter_context(Victim(self.name, self.environment))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.cloud.advance(seconds)

    def disturb(self, story: Story) -> None:
        """Begin a round."""
        list(self.published())
        self._accepted.clear()
        self._known = Counter({name: one.data.sequence for name, one in self._current().items()})
        story.disturb(self)
        self.cloud.faults.wire.end()
        self.cloud.clear_calls()

    def invoke(self, entry: str = "run") -> Ended:
        """Call the function in this process; return how the call ended."""
        ended = Ended()
        lines: list[Any] = []

        def sink(level: str, event: str, fields: Mapping[str, Any]) -> None:
            lines.append([level, event, dict(fields)])

        output = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(output):
            self._listen(patch, sink, ended)
            payload = self.payload(entry)
            try:
                lines.append(ENTRIES[self.name](payload, self.cloud.clock))
            except Exception as error:  # noqa: BLE001 - whatever the runtime would show
                ended.raised = type(error).__name__
                lines.append("".join(traceback.format_exception(error)))
        self.conclude(entry, succeeded=not ended.raised)
        lines.append(output.getvalue())
        ended.said = json.dumps([lines, ended.reports], default=str, ensure_ascii=False)
        return ended

    def sacrifice(self, victim: Victim, entry: str) -> Ended:
        """Call the function in a process of its own; return how the call ended, "killed" if it was."""
        killed, said = victim.call(self.payload(entry), self.cloud.endpoint)
        self.conclude(entry, succeeded=not killed)
        return Ended(said, raised="killed" if killed else "")

    def _listen(self, patch: pytest.MonkeyPatch, sink: Callable[..., None], ended: Ended) -> None:
        """Keep what the function logs, and the whole reports of its runs."""
        run_once = self.module.run_once

        def recorded(*arguments: Any, **options: Any) -> RunResult:
            result: RunResult = run_once(*arguments, **options)
            ended.reports.append(result.report)
            return result

        patch.setattr(self.module, "run_once", recorded)
        self.log_to(patch, sink)

    @abstractmethod
    def log_to(self, patch: pytest.MonkeyPatch, sink: Callable[..., None]) -> None:
        """Let the function's entry points log to `sink`."""

    def recover(self) -> Ended:
        """Let an hour pass and call the function as the schedule does, in a new process: it knows what is stored."""
        self.drop_clients()
        self.advance(HOUR)
        return self.invoke()

    def world(self) -> World:
        """Return what there is now: resources, what the state says, and this round's deliveries."""
        return {**self.resources(), "state": self._remembered(), "deliveries": self._deliveries()}

    def _remembered(self) -> World:
        try:
            document = msgspec.json.decode(self.state() or b"{}")
        except msgspec.DecodeError:
            return {"unreadable": True}
        scopes = document.get("scopes", {})
        return {
            "locked": document.get("running") is not None,
            **{
                scope: [known.get("state", "active"), known.get("coverage"), *self.kept(known.get("targets", {}))]
                for scope, known in sorted(scopes.items())
            },
        }

    def kept(self, targets: Iterable[str]) -> list[str]:
        """Return the targets that the state has to remember in every round."""
        return sorted(targets)

    def _current(self) -> dict[str, DeliveryDocument]:
        """Return the newest document of each series by the name under which it is stored."""
        found = {name: msgspec.json.decode(self.read(name), type=Current).newest for name in self.names(CURRENT)}
        return {name: newest for name, newest in found.items() if newest is not None}

    def _deliveries(self) -> World:
        """Return, for each series, how many documents this round added, and those whose events were not published."""
        self._accepted |= {one["id"] for one in self.published()}
        return {
            name: {
                "added": len(ids := list(self._added(newest, self._known[name]))),
                "files": len(newest.data.files),
                "unpublished": sorted(set(ids) - self._accepted),
            }
            for name, newest in self._current().items()
        }

    def _added(self, newest: DeliveryDocument, known: int) -> Iterator[str]:
        """Yield the ids of a series' documents after a sequence, newest first; "broken" where the chain is."""
        document = newest
        while document.data.sequence > known:
            if self.read(document.data.document) != document.encode():
                yield "broken"
                return
            yield document.id
            previous = document.data.previous
            if previous is None or not self.read(previous.document):
                return
            document = msgspec.json.decode(self.read(previous.document), type=DeliveryDocument)
