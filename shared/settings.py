"""Reads settings from environment variables; one error names every problem.

A cloud's own settings are a frozen class built from a `Reader`: each `Reader` method returns a usable value, or records
a problem and returns a harmless default; `finish` raises one `SettingsError` with all problems. Values are never quoted
in a problem for variables that hold secrets or hashes of secrets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec

from shared.errors import SettingsError
from shared.parsing import LARGEST, parse_int

# What each setting of the engine does; docs/settings.md is generated from this and from the code.
EFFECTS = {
    "MAX_VANISHED_PERCENT": "A run refuses to recreate when more than this share of the known targets is gone at once.",
    "MAX_WRITES_PER_RUN": "Maximum number of writes in a run; the next run does the rest. 0: no limit.",
    "CALL_BUDGET": "Maximum number of control-plane reads in a run, without bulk listings. 0: no limit.",
    "CALLS_AT_ONCE": "Maximum number of concurrent calls.",
    "STALE_MIN_HOURS": "Hours after a delivery before which the next one is never overdue.",
    "STALE_MAX_HOURS": "Hours after a delivery after which the next one is always overdue, regardless of the rhythm.",
    "NOTIFY_DIGEST": "`weekly`: the webhook of NOTIFY_URL also gets a summary in the first run of each week; or `off`.",
    "DOCS_URL": "The site that `make docs` builds, where you serve it: failures link to the runbook on it.",
    "TENANT_INVOCATIONS": "Invocations of one tenant in a round; what is left then waits for the next round.",
    "PUBLISH_PAGE": "1: each run writes the status page beside the state, where the connector cannot read.",
}


class EngineSettings(msgspec.Struct, frozen=True):
    """The engine's own settings, equal on all clouds.

    `max_vanished_percent`: refuse to recreate when more than this share of the known targets is gone at once (0–100).
    `max_writes`: at most this many writes a run; 0 is no cap. `call_budget`: at most this many control-plane reads a
    run; 0 is no cap. `workers`: calls in flight at once. `stale_min_hours` and `stale_max_hours` bound how long after a
    delivery the next one is overdue (see `shared.staleness`). `notify_digest`: a summary is sent once a week.
    `publish_page`: each run writes the status page. `docs_url`: the documentation's site, to whose runbook failures
    link. `tenant_invocations`: a round calls the function for a tenant at most this often.
    """

    max_vanished_percent: int = 30
    max_writes: int = 0
    call_budget: int = 0
    workers: int = 8
    stale_min_hours: int = 48
    stale_max_hours: int = 24 * 45
    notify_digest: bool = False
    publish_page: bool = False
    docs_url: str = ""
    tenant_invocations: int = 4


class Reader:
    """Reads settings one by one and collects the problems."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._problems: list[str] = []

    def problem(self, name: str, message: str) -> None:
        """Record that the setting `name` is wrong; `message` says what to write instead."""
        self._problems.append(f"{name}: {message}")

    def text(self, name: str, default: str | None = "", pattern: str = "", hint: str = "", secret: bool = False) -> str:
        """Return a text; required if `default` is None. `hint` says what is expected if `pattern` does not match."""
        value = self._environment.get(name, "").strip()
        if not value:
            if default is None:
                self.problem(name, f"is required{': ' + hint if hint else ''}")
            return default or ""
        if pattern and not re.fullmatch(pattern, value):
            shown = "its value" if secret else f"{value[:80]!r}"
            self.problem(name, f"{shown} is not {hint or 'in the expected form'}")
            return default or ""
        return value

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """Return one of `choices`."""
        value = self.text(name, default)
        if value not in choices:
            self.problem(name, f"{value[:80]!r} is not one of {', '.join(choices)}")
            return default
        return value

    def choices(self, name: str, default: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        """Return a list without repetition, each of `choices`, at least one."""
        values = self.items(name, default)
        for value in values:
            if value not in choices:
                self.problem(name, f"{value[:80]!r} is not one of {', '.join(choices)}")
        known = tuple(value for value in values if value in choices)
        return known or tuple(item.strip() for item in default.split(","))

    def items(self, name: str, default: str = "", pattern: str = "", hint: str = "") -> tuple[str, ...]:
        """Return a comma-separated list, without blanks and repetition, in the order given."""
        raw = self._environment.get(name, "").strip() or default
        values = tuple(dict.fromkeys(item.strip() for item in raw.split(",") if item.strip()))
        wrong = [value for value in values if pattern and not re.fullmatch(pattern, value)]
        if wrong:
            self.problem(name, f"{', '.join(repr(value[:80]) for value in wrong)} is not {hint}")
        return tuple(value for value in values if value not in wrong)

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`."""
        raw = self.text(name, str(default))
        value = parse_int(raw, -LARGEST)
        if value is None:
            self.problem(name, f"{raw[:80]!r} is not a whole number")
            return default
        if not low <= value <= high:
            self.problem(name, f"{value} is not between {low} and {high}")
            return default
        return value

    def endpoint(self, name: str) -> str:
        """Return an endpoint override: honored for loopback addresses only."""
        value = self.text(name)
        if value and not is_loopback(value):
            self.problem(name, "endpoint overrides are honored for loopback addresses only; unset it")
            return ""
        return value

    def engine(self, call_budget: int) -> EngineSettings:
        """Return the engine's own settings; `call_budget` is the cloud's default."""
        shortest = self.number("STALE_MIN_HOURS", 48, 1, 24 * 366)
        longest = self.number("STALE_MAX_HOURS", 24 * 45, 1, 24 * 366)
        self.check(shortest <= longest, "STALE_MAX_HOURS", f"{longest} is less than STALE_MIN_HOURS, {shortest}")
        return EngineSettings(
            max_vanished_percent=self.number("MAX_VANISHED_PERCENT", 30, 0, 100),
            max_writes=self.number("MAX_WRITES_PER_RUN", 0, 0, 1_000_000),
            call_budget=self.number("CALL_BUDGET", call_budget, 0, 1_000_000),
            # Not WORKERS: function hosts read that name as the number of their own processes.
            workers=self.number("CALLS_AT_ONCE", 8, 1, 64),
            stale_min_hours=shortest,
            stale_max_hours=longest,
            notify_digest=self.choice("NOTIFY_DIGEST", "off", ("off", "weekly")) == "weekly",
            publish_page=self.number("PUBLISH_PAGE", 0, 0, 1) == 1,
            tenant_invocations=self.number("TENANT_INVOCATIONS", 4, 1, 100),
            docs_url=self.text("DOCS_URL", "", r"https://[\w.:/~%-]+", "an address that begins with https://"),
        )

    def check(self, right: bool, name: str, message: Callable[[], str] | str) -> None:
        """Record a problem of `name` unless `right`."""
        if not right:
            self.problem(name, message if isinstance(message, str) else message())

    def finish(self) -> None:
        """Raise one SettingsError with all problems, if there are any."""
        if self._problems:
            raise SettingsError(self._problems)


def is_loopback(url: str) -> bool:
    """Return whether the host of `url` is a loopback address (``127.0.0.0/8``, ``::1``) or ``localhost``."""
    # Parsers disagree about these characters, and another one than this opens the connection.
    if re.search(r"[\\@\s\x00-\x1f]", url):
        return False
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    except ValueError:
        return False
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
