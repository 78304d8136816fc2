"""The few classes into which every cloud's failures are translated, once, at the adapter's edge::

    ReportedError
    ├── CloudError            one call or one target failed: caught per target
    │   ├── Transient
    │   │   ├── NotUnderstood
    │   │   ├── Throttled
    │   │   └── OutOfTime
    │   ├── Denied
    │   ├── Permanent
    │   ├── Manual
    │   ├── NotApplicable
    │   └── NotFound
    └── RunStopped            the whole run must end: passes every ``except CloudError``
        ├── AnotherRun
        ├── TooSoon
        └── Unreachable

An adapter raises one of these, chained to the original exception. Messages are cut, so that a response body never fills
a report, and redacted, because a body may quote the credentials of the request.
"""

from __future__ import annotations

import re
import traceback
from datetime import timedelta

from shared.model import EscalationPolicy, ManualStep
from shared.redaction import redact

MESSAGE_LIMIT = 500
UNREACHABLE = "tenant-unreachable"
_PAGE = re.compile(r"<(?:!doctype html|html)\b.*", re.IGNORECASE | re.DOTALL)  # as proxies and gateways send them
_CODE = re.compile(r"[A-Za-z0-9][\w.:-]{0,79}", re.ASCII)


def cut(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return `text` on one line, cut to `limit` characters; the result says how much was cut."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[:limit]}… ({len(flat) - limit} more characters)"


def clean(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return external text on one line, cut, and without secrets and HTML pages."""
    return cut(_PAGE.sub("(an HTML page)", redact(text)), limit)


def sound_code(code: str) -> str:
    """Return a valid code unchanged, ``odd-code`` for external text that is not a code or that holds a secret."""
    return code if _CODE.fullmatch(code) and redact(code) == code else "odd-code"


def clean_manual_step(manual_step: ManualStep | None) -> ManualStep | None:
    """Return a manual step without secrets: its texts may quote the cloud's messages."""
    if manual_step is None:
        return None
    steps = tuple(redact(one) for one in manual_step.steps)
    return ManualStep(redact(manual_step.what), steps, manual_step.url, manual_step.before)


class ReportedError(Exception):
    """A failure as reports show it: a constant `code`, a `message` for people, and a `remedy`.

    Code and message may come from outside; a malformed code becomes ``odd-code``.
    """

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        self.code = sound_code(code)
        self.message = clean(message)
        self.remedy = remedy
        super().__init__(f"{self.code}: {self.message}")


class CloudError(ReportedError):
    """A failure of one call or one target: the run continues with the others."""


class Transient(CloudError):
    """A failure that passes: retried within this run's budgets, then deferred.

    `retry_after` is the wait that the cloud requested. `within_run=False` defers at once. When `escalation` is
    exhausted over several runs, `manual_step` is reported, if there is one.
    """

    def __init__(
        self,
        code: str,
        message: str,
        remedy: str = "",
        *,
        retry_after: timedelta | None = None,
        within_run: bool = True,
        escalation: EscalationPolicy | None = None,
        manual_step: ManualStep | None = None,
    ) -> None:
        super().__init__(code, message, remedy)
        self.retry_after = retry_after
        self.within_run = within_run
        self.escalation = escalation
        self.manual_step = manual_step


class NotUnderstood(Transient):
    """A successful response that does not have the form its call returns: nothing may be concluded from it.

    `what` names the call, `why` what is wrong with the answer.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            "answer-not-understood",
            f"the answer to {what} was not understood: {why}",
            "The function retries automatically. If this persists, find out what responds in place of the cloud: a "
            "proxy, a gateway or a firewall between the function and the cloud, or an endpoint override.",
        )


class Throttled(Transient):
    """The quota refused the call: the shared limiter of that quota slows down."""


class OutOfTime(Transient):
    """The run's deadline would pass before the call could be made: the next run makes it."""

    def __init__(self, message: str) -> None:
        super().__init__("deadline", message, "The next run continues with what has waited longest.", within_run=False)


class Denied(CloudError):
    """A permission is missing.

    With `escalation`, it may still be propagating, and the target is deferred until that is exhausted.
    """

    def __init__(
        self,
        code: str,
        message: str,
        remedy: str = "",
        *,
        escalation: EscalationPolicy | None = None,
        manual_step: ManualStep | None = None,
    ) -> None:
        super().__init__(code, message, remedy)
        self.escalation = escalation
        self.manual_step = manual_step


class Permanent(CloudError):
    """Fails again on every retry: reported as failed, never retried blindly."""


class Manual(CloudError):
    """Only a person can do it; `manual_step` says how."""

    def __init__(self, code: str, manual_step: ManualStep, message: str = "") -> None:
        super().__init__(code, message or manual_step.what, " ".join(manual_step.steps))
        self.manual_step = manual_step


class NotApplicable(CloudError):
    """The target does not apply to this scope, by the cloud's own rules: looked at again after `retry_after`."""

    def __init__(self, code: str, message: str, retry_after: timedelta = timedelta(days=7)) -> None:
        super().__init__(code, message)
        self.retry_after = retry_after


class NotFound(CloudError):
    """The resource named in a read does not exist. Adapters turn it into `Absent`."""


class RunStopped(ReportedError):
    """The whole run must end: nothing more can be believed or done (credentials, foreign or newer state, …).

    It is not a `CloudError`, so that no handler for one target catches it.
    """


class AnotherRun(RunStopped):
    """Another run holds the lock."""

    def __init__(self, holder: str, since: str, until: str) -> None:
        super().__init__(
            "another-run",
            f"run {holder} has held the lock since {since}; it expires at {until}",
            "Wait for it to end, or invoke again after the expiry.",
        )
        self.holder = holder
        self.since = since
        self.until = until


class TooSoon(RunStopped):
    """The last run for events began less than a minute ago; `wait_s` is how long this one has to wait."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(
            "too-soon",
            f"the last run for events began less than a minute ago; {wait_s:.0f} seconds are left",
            "No action is necessary: the events stay in their queue, and the next run looks at what they name.",
        )
        self.wait_s = wait_s


class Unreachable(RunStopped):
    """A tenant cannot be entered: its role, consent or grant is missing. Only its own run ends.

    `code` is the cloud's; reports show UNREACHABLE.
    """

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(UNREACHABLE, f"{message} ({sound_code(code)})", remedy)


class ValidationError(ValueError):
    """Invalid input; `problems` lists everything that is wrong."""

    def __init__(self, what: str, problems: list[str]) -> None:
        super().__init__(f"{what}: " + "; ".join(problems))
        self.problems = tuple(problems)


class SettingsError(ValidationError):
    """The settings are not valid; the function made no calls."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"{len(problems)} problem(s) in the settings", problems)


class RequestError(ValidationError):
    """The request is not valid; the function made no calls."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"{len(problems)} problem(s) in the request", problems)


class RegistryError(ValidationError):
    """The tenant registry, or a tenant's entry in it, is not valid; nothing was called in the name of that tenant."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"{len(problems)} problem(s) in the tenant registry", problems)


def defect(error: Exception) -> Permanent:
    """Return the error for an unexpected exception, with its type and place.

    Its text is left out, since it may quote anything.
    """
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} at {place.filename.rsplit('/', 1)[-1]}:{place.lineno}"
    return Permanent("internal-error", f"a defect of the function: {where}", "Report it with this line of the log.")
