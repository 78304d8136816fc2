"""`tailpipe-exports deliveries`: what was delivered, and what each delivery changed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from rich.console import Console

from cli.clouds import Cloud
from cli.deployment.output import problem_documents, with_error
from cli.deployment.session import OK, attempt
from cli.monitor.stored import explained
from cli.settings_source import Choice
from cli.tenants.source import tenant_source
from cli.terminal.console import clean, err, out, print_document, say
from shared.deliveries.chain import StoredDeliveries
from shared.deliveries.document import DELTAS, SIZE_LIMIT, DeliveryDocument, safe_name
from shared.runtime.clock import Clock, SystemClock
from tailpipe_exports import NAME

LISTED = 50  # deliveries that are shown without --all
POLL_S = 10.0
LATE = timedelta(minutes=5)  # a document may be listed so much later than it was written
UNITS = ("bytes", "KB", "MB", "GB", "TB")


class Search(msgspec.Struct, frozen=True):
    """Which deliveries are shown: written since a time, of one scope, of datasets whose name contains a text."""

    since: datetime
    scope: str = ""
    dataset: str = ""

    def admits(self, name: str, written: datetime) -> bool:
        """Return whether a document is shown, by its name and the time of its writing."""
        dataset, _, rest = name.removeprefix(DELTAS).partition("/")
        scope = rest.partition("/")[0]
        of_scope = not self.scope or scope.lower() == safe_name(self.scope).lower()
        return written >= self.since and of_scope and self.dataset.lower() in dataset.lower()


def deliveries(
    cloud: Cloud,
    choice: Choice,
    search: Search,
    *,
    follow: bool,
    everything: bool,
    as_json: bool,
    clock: Clock | None = None,
) -> int:
    """Show the deliveries that `search` admits, oldest first; with `follow`, further ones until interrupted.

    With `as_json`, standard output has one document a line, as it is stored; the last one has an ``error`` where they
    cannot be read. Returns 0, or 1 where they cannot be read.
    """

    def command() -> int:
        reader = _Reader(cloud, choice, clock or SystemClock(), _print_json if as_json else _printer(out()))
        left_out = reader.read(search, None if everything or as_json else LISTED)
        if left_out:
            say(err(), (f"{left_out:,} earlier ones are not shown; --all shows them", "dim"), indent=2)
        elif not reader.seen:
            say(err(), f"no delivery since {search.since:%Y-%m-%d %H:%M} UTC", indent=2)
            say(err(), ("they are recorded by a function with delivery_events = true", "dim"), indent=2)
        if follow:
            with contextlib.suppress(KeyboardInterrupt):
                reader.follow(search)
        return OK

    code, problems = attempt(f"{NAME}: no deliveries of {cloud.title}", command)
    if problems and as_json:
        print_document(with_error({}, problem_documents(problems)), indent=None)
    return code


class _Reader:
    """Lists the documents again and again, and shows each once."""

    def __init__(self, cloud: Cloud, choice: Choice, clock: Clock, show: Callable[[DeliveryDocument], None]) -> None:
        self._cloud, self._clock, self._show = cloud, clock, show
        with explained(cloud), contextlib.redirect_stdout(sys.stderr):
            self._environment = tenant_source(cloud, choice).environment
        self.seen: dict[str, datetime] = {}

    def read(self, search: Search, most: int | None = None) -> int:
        """Show the documents that were not shown yet, at most so many of the newest; return how many are left out."""
        with explained(self._cloud), contextlib.redirect_stdout(sys.stderr):
            documents, _ = self._cloud.open_deliveries()(self._environment, _discard, self._clock)
            listed = [(written, name) for name, written in documents.names(DELTAS) if search.admits(name, written)]
            new = sorted(one for one in listed if one[1] not in self.seen)
            left_out = 0 if most is None else max(0, len(new) - most)
            found = [_read(documents, name) for _, name in new[left_out:]]
        self.seen |= {name: written for written, name in new}
        for document in found:
            if document is not None:
                self._show(document)
        return left_out

    def follow(self, search: Search) -> None:
        """Show deliveries as they are stored, until interrupted."""
        say(err(), ("waiting for further deliveries; Ctrl-C ends", "dim"), indent=2)
        while True:
            self._clock.wait_until(self._clock.monotonic() + POLL_S)
            newest = max(self.seen.values(), default=search.since)
            since = max(search.since, newest - LATE)
            self.seen = {name: at for name, at in self.seen.items() if at >= since}
            self.read(msgspec.structs.replace(search, since=since))


def _read(documents: StoredDeliveries, name: str) -> DeliveryDocument | None:
    """Return a document; one that expired meanwhile is left out, one that is damaged is named."""
    blob = documents.load(SIZE_LIMIT, name)
    if blob.version is None:
        return None
    try:
        return msgspec.json.decode(blob.data, type=DeliveryDocument)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        say(err(), f"{clean(name)} is damaged and left out: {clean(str(error))}", indent=2, hang=2)
        return None


def _discard(_level: str, _event: str, _fields: Mapping[str, Any]) -> None:
    """Drop a log line: what a person needs to know is in the error."""


def _printer(target: Console) -> Callable[[DeliveryDocument], None]:
    def show(document: DeliveryDocument) -> None:
        data, delta = document.data, document.data.delta
        total = size_of(sum(one.bytes for one in data.files))
        say(
            target,
            (f"{data.delivered_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z  ", "dim"),
            (clean(data.period), "bold"),
            f"  {clean(data.scope)} · {clean(data.dataset)} · ",
            (f"+{len(delta.added)}", "green"),
            (f" ~{len(delta.replaced)}", "yellow"),
            (f" -{len(delta.gone)}", "red"),
            f" · {len(data.files)} files, {total} · number {data.sequence}",
            hang=4,
        )

    return show


def size_of(count: int) -> str:
    """Return a number of bytes in the unit that people read."""
    size, unit = float(count), 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.{1 if unit else 0}f} {UNITS[unit]}"


def _print_json(document: DeliveryDocument) -> None:
    print_document(msgspec.to_builtins(document), indent=None)
