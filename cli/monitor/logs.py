"""`tailpipe-exports logs`: the log of the deployed function, in one form for all clouds."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from cli.clouds import Cloud
from cli.deployment.log_lines import LogLine, LogSearch
from cli.deployment.output import problem_documents, with_error
from cli.deployment.session import OK, Session, attempt, open_deployed
from cli.terminal.console import clean, err, out, print_document, say
from localcloud.common.foreground import uninterrupted
from shared.runtime.clock import Clock, SystemClock
from tailpipe_exports import NAME

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # no log begins earlier, and AWS refuses earlier times
DAY = timedelta(days=1)
RECENT = timedelta(minutes=10)  # how much of a followed log is shown first
POLL_S = 5.0
LATE = timedelta(minutes=5)  # a line may become visible this much later than it was written
PROGRESS_AFTER_S = 2.0
STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}


def logs(
    cloud: Cloud,
    function: str,
    search: LogSearch,
    *,
    follow: bool,
    as_json: bool,
    clock: Clock | None = None,
) -> int:
    """Show the lines that match `search`, oldest first; with `follow`, further ones until interrupted.

    With `as_json`, standard output has one JSON object per line; the last one has an ``error`` if the log cannot be
    read. Returns 0, or 1 if it cannot be read.
    """

    def command() -> int:
        session = open_deployed(cloud, function)
        show = _print_json if as_json else _printer(out())
        reader = _Reader(session, clock or SystemClock(), show)
        if follow:
            with contextlib.suppress(KeyboardInterrupt):
                reader.follow(search)
        elif not reader.read(search):
            say(err(), f"no line since {search.since:%Y-%m-%d %H:%M} UTC", indent=2)
        return OK

    code, problems = attempt(f"{NAME}: no log of {cloud.title}", command)
    if problems and as_json:
        _print_line(with_error({}, problem_documents(problems)))
    return code


def since_of(run_id: str, *, follow: bool, now: datetime) -> datetime:
    """Return where a log begins by default: with its run, else a day ago, or just now if it is followed.

    A run's id starts with its time (see `shared.runtime.context`).
    """
    try:
        return datetime.strptime(run_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return now - (RECENT if follow else DAY)


class _Reader:
    """Reads a log repeatedly, and shows each line once."""

    def __init__(self, session: Session, clock: Clock, show: Callable[[LogLine], None]) -> None:
        self._session, self._clock, self._show = session, clock, show
        self._seen: dict[str, datetime] = {}

    def read(self, search: LogSearch) -> int:
        """Show the new lines and return their number."""
        shown = 0
        waiting = threading.Timer(PROGRESS_AFTER_S, self._session.tell, ["reading the log"])
        waiting.daemon = True
        with uninterrupted():
            waiting.start()
        try:
            for line in self._session.operator.logs(search):
                waiting.cancel()
                if line.id not in self._seen:
                    self._seen[line.id] = line.at
                    self._show(line)
                    shown += 1
        finally:
            waiting.cancel()
            waiting.join()
        return shown

    def follow(self, search: LogSearch) -> None:
        """Show lines as they are stored, until interrupted."""
        self.read(search)
        say(err(), ("waiting for further lines; Ctrl-C ends", "dim"), indent=2)
        while True:
            self._clock.wait_until(self._clock.monotonic() + POLL_S)
            newest = max(self._seen.values(), default=search.since)
            since = max(search.since, newest - LATE)
            self._seen = {line: at for line, at in self._seen.items() if at >= since}
            self.read(replace(search, since=since))


def _printer(target: Console) -> Callable[[LogLine], None]:
    def show(line: LogLine) -> None:
        fields = {name: clean(value) for name, value in line.fields.items()}
        scope = fields.get("scope", "")
        named = f"{fields['scope_name']} ({scope})" if fields.get("scope_name") else scope
        parts = (named, fields.get("code", ""), fields.get("reason", ""))
        detail = "".join(f" · {part}" for part in parts if part)
        say(
            target,
            (f"{line.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z  ", "dim"),
            (f"{line.level or '-':<7}  ", STYLES.get(line.level, "")),
            (fields.get("event", ""), "bold"),
            detail if line.fields else clean(line.text),
            hang=4,
        )

    return show


def _print_json(line: LogLine) -> None:
    document = {"time": line.at.astimezone(UTC).isoformat(), "level": line.level, **line.fields}
    if not line.fields:
        document["text"] = line.text
    _print_line(document)


def _print_line(document: Mapping[str, Any]) -> None:
    print_document(document, indent=None)
