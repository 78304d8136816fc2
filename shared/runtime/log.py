"""One log schema for three clouds: constant event names, the same fields everywhere.

Every event has an entry in the runbook. What may hold a secret never becomes a field: adapters log codes and names.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from shared.model import Key

Sink = Callable[[str, str, Mapping[str, Any]], None]  # level, event, fields

FIELDS = ("scope", "scope_name", "kind", "name", "verb", "reason", "code", "attempt", "duration_ms")

EVENTS = {
    "run-started": "a run began",
    "events-wait": "events asked for a run less than a minute after the last such run: they are merged with later ones",
    "events-collected": "events were merged into one run",
    "event-refused": "an event was not for this function, or could not be read: it is dropped",
    "events-unread": "a source of events could not be read: a scheduled run finds what it would have said",
    "lock-refused": "another run holds the lock",
    "lock-age-unknown": "the store did not say how old the lock of another run is: its own expiry counts",
    "state-missing": "there is no stored state: the run observes everything again",
    "state-migrated": "an older form of the state was read",
    "state-corrupt": "the state could not be read: it was set aside and is rebuilt",
    "state-damaged": "parts of the stored state could not be read: they were dropped and are observed again",
    "deliveries-corrupt": "the ledger of deliveries could not be read: it was set aside and is begun anew",
    "deliveries-newer": "a newer function wrote the ledger of deliveries: it is left alone",
    "deliveries-unsaved": "the ledger of deliveries could not be saved: a later run records the same",
    "delivery-announced": "a delivery was stored as a document and published",
    "delivery-incomplete": "the files of a delivery are not all there: it is announced once they are",
    "delivery-unannounced": "deliveries could not be announced: a later run does it",
    "delivery-unreadable": "the newest document of a delivery could not be read: its chain is rebuilt",
    "state-conflict": "another run saved in between: both were merged",
    "state-saved": "the state was saved",
    "enumerated": "the scopes were listed",
    "enumeration-incomplete": "some scopes could not be listed",
    "scope-gone": "a scope has left",
    "scope-returned": "a scope that had left is back",
    "scope-excluded": "the cloud permanently refuses a scope's export",
    "observed": "the targets were observed",
    "unknown": "a target could not be observed",
    "deliveries-unread": "what was delivered could not be listed: silence shows only in a later run",
    "detail-unread": "a read that would only explain or compare something failed: the run goes on without it",
    "planned": "the plan was made",
    "guard-refused": "the plan was unsafe: nothing was written",
    "writes-capped": "the cap on writes deferred some of them",
    "write-done": "a target was created, repaired or adopted",
    "write-pending": "a write was accepted and is being carried out",
    "write-failed": "a write failed",
    "deferred": "a target has to wait",
    "blocked": "a target rests on one that is not there",
    "manual-step": "a person has to do something",
    "call-retried": "a call failed and is tried again",
    "throttled": "the cloud asked to slow down",
    "report-lost": "the whole report could not be stored",
    "page-lost": "the status page could not be stored",
    "notify-sent": "a message was accepted by the webhook",
    "notify-failed": "a message could not be delivered: it stays owed for the next run",
    "run-finished": "a run ended",
    "tenant-refused": "a tenant's entry in the registry is wrong: it is left out",
    "tenant-grants-changed": "the policy of the shared bucket lists the payers in the registry again",
    "tenant-grants-failed": "the policy of the shared bucket could not be written: new payers cannot deliver yet",
    "row-unread": "the result of a tenant's last run could not be read: its next run replaces it",
    "round-figures": "the metrics of a round over all tenants, once at its end",
    "tenant-row": "the result of one tenant in a round, at the round's end",
    "round-late": "a round was due while the one before it was still running: none was begun",
    "row-unsaved": "the result of a tenant's run could not be stored: its round counts it as not run",
}


class Log:
    """Writes events of one run: the run's own fields come with each line.

    `scope_names` are the names of the enumerated scopes by their ids: a person knows an account by its name. `lines`
    and `bytes` count what was written, without what a platform adds.
    """

    def __init__(self, sink: Sink, run_id: str, cloud: str) -> None:
        self._sink = sink
        self._common = {"run_id": run_id, "cloud": cloud}
        self.scope_names: Mapping[str, str] = {}
        self.lines = self.bytes = 0
        self._lock = threading.Lock()

    def __call__(
        self,
        level: str,
        event: str,
        key: Key | None = None,
        *,
        verb: str = "",
        reason: str = "",
        code: str = "",
        attempt: int | None = None,
        duration_ms: int | None = None,
    ) -> None:
        """Write one event at `level` (debug, info, warning, error); `key` fills scope, kind and name.

        Fields that are None or empty are left out. Raises KeyError for an event without an entry in EVENTS.
        """
        fields = {"verb": verb, "reason": reason, "code": code, "attempt": attempt, "duration_ms": duration_ms}
        EVENTS[event]
        scope_name = self.scope_names.get(key.scope, "") if key else ""
        named = {"scope": key.scope, "scope_name": scope_name, "kind": key.kind, "name": key.name} if key else {}
        kept = {name: value for name, value in {**named, **fields}.items() if value not in (None, "")}
        written = {**self._common, **kept}
        with self._lock:
            self.lines += 1
            self.bytes += len(event) + sum(len(name) + len(str(value)) for name, value in written.items())
        self._sink(level, event, written)


def with_tenant(sink: Sink, tenant: str) -> Sink:
    """Return a sink that adds the tenant to each event; the same sink for no tenant."""
    return (lambda level, event, fields: sink(level, event, {**fields, "tenant": tenant})) if tenant else sink


def json_sink(stream: TextIO | None = None) -> Sink:
    """Return a sink that writes one JSON object per line to `stream`, by default standard error."""

    def write(level: str, event: str, fields: Mapping[str, Any]) -> None:
        line = json.dumps({"level": level.upper(), "event": event, **fields}, default=str, ensure_ascii=False)
        (stream or sys.stderr).write(line + "\n")

    return write
