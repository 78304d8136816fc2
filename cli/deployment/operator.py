"""The operator port: what each cloud implements for the commands on a deployment.

`aws/`, `azure/` and `gcp/` implement it in files of the same names. A command opens a deployment once; the returned
operator knows the place and holds the caller's session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

from cli.deployment.log_lines import LogLine, LogSearch
from cli.deployment.model import Adoption, Backend, Change, Clearing, Deployed, Finding, Kept, Place, Removal

Tell = Callable[[str], None]
"""Shows one line to the operator while a method runs."""


class Operator(Protocol):
    """A deployment, or the place of a future one, opened with the caller's own credentials.

    Every method may raise OperatorError with a remedy. `given` are the operator's values of the module's variables:
    text for variables of type string, else parsed values. Secrets among them are never shown.
    """

    # Resource types that hold customer data: a deployment that would delete one is refused.
    precious: frozenset[str]
    # The resource type of an alarm, and whether each address has to confirm a mail before alarms are sent to it.
    alarm: str
    confirm_emails: bool
    # The key paths of secrets in the onboarding document.
    secrets: Sequence[tuple[str, ...]]

    @classmethod
    def open(cls, given: Mapping[str, Any]) -> Self:
        """Sign in and find the place that the environment and `given` name; refuse an unsuitable one."""
        ...

    @property
    def place(self) -> Place:
        """Return the place of the deployment, including the caller."""
        ...

    def select(self, name: str) -> Self:
        """Return the operator of another function that `functions` listed, by its `name` there."""
        ...

    def detected(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return values of module variables that were not given and follow from the place."""
        ...

    def rights(self) -> list[Finding]:
        """Check each permission of the operator; the remedy for a missing one is the command that grants it."""
        ...

    def surroundings(self, given: Mapping[str, Any]) -> list[Finding]:
        """Check what else `doctor` reports: policies above the place, and steps that need another person."""
        ...

    def preflight(self, given: Mapping[str, Any]) -> list[Finding]:
        """Check what would make a deployment fail: taken names, disabled services, exhausted quotas."""
        ...

    def providers(self) -> dict[str, Any]:
        """Return Terraform's provider blocks in its JSON syntax."""
        ...

    def module_providers(self) -> dict[str, str]:
        """Return the providers to pass to the module by name; empty if it uses the default ones."""
        ...

    def backend(self) -> Backend:
        """Return the backend of Terraform's state in this cloud."""
        ...

    def backend_exists(self) -> bool:
        """Return whether the storage of Terraform's state exists."""
        ...

    def make_backend(self, tell: Tell) -> None:
        """Create the storage of Terraform's state, encrypted and private, or restore these properties.

        Raises OperatorError if it belongs to another owner.
        """
        ...

    def adoptions(self, changes: Sequence[Change], tell: Tell) -> list[Adoption]:
        """Return the planned resources that already exist and belong to this deployment: from a lost state, an
        interrupted deployment, or the earlier scripts.
        """
        ...

    def invoke(self, payload: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
        """Call the deployed function once and return its report; wait while another run holds the lock."""
        ...

    def verify(self) -> list[Finding]:
        """Check whether the deployment works: function, schedule, destination, connector."""
        ...

    def onboarding(self) -> dict[str, Any]:
        """Return what Tailpipe needs to connect, read from the live cloud, with the keys of the earlier scripts."""
        ...

    def functions(self) -> list[Deployed]:
        """Return all our functions that are deployed in the place, with any name.

        Raises OperatorError with the missing permission if they cannot be listed.
        """
        ...

    def deployed(self) -> dict[str, str] | None:
        """Return the deployed function's settings, None without a function.

        Raises OperatorError for settings that cannot be read: defaults would point to another destination.
        """
        ...

    def logs(self, search: LogSearch) -> Iterator[LogLine]:
        """Yield the lines of the deployed function's log that match `search`, oldest first, until now.

        The platform's lines about each invocation are left out unless they report a problem.
        """
        ...

    def stop_schedule(self, tell: Tell) -> None:
        """Prevent the schedule and events from starting the function. May be repeated."""
        ...

    def clear(self, removal: Removal, tell: Tell) -> None:
        """Delete the requested things that Terraform does not manage: instances, our exports, data.

        Deletes only what is marked as ours. May be repeated after an interruption.
        """
        ...

    def clearing(self, removal: Removal) -> Clearing:
        """Return what `clear` would delete, and which of our exports would be kept; change nothing."""
        ...

    def kept(self, removal: Removal) -> list[Kept]:
        """Return what is kept, by the prefixes of its addresses in the module (``aws_s3_bucket.``).

        Raises OperatorError before any change if the settings that `clear` needs cannot be read.
        """
        ...


class Cloud(Protocol):
    """A cloud of the tool's registry, as far as the commands on a deployment use it. `scopes` is its name for scopes.
    `operator` imports and returns its implementation of the port.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def scopes(self) -> str: ...
    @property
    def operator(self) -> Callable[[], type[Operator]]: ...
