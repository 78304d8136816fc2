"""The operator port: what each cloud implements for the commands on a deployment.

`aws/`, `azure/` and `gcp/` implement it in files of the same names. A command opens a deployment once; the operator
that it gets back knows the place, and holds the caller's session there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

from cli.deployment.log_lines import LogLine, LogSearch
from cli.deployment.model import Adoption, Backend, Change, Clearing, Deployed, Finding, Kept, Place, Removal

Tell = Callable[[str], None]
"""Shows one line to the operator while a method is at work."""


class Operator(Protocol):
    """One deployment, or the place of a future one, opened with the caller's own credentials.

    Every method may raise OperatorError with the remedy in it. `given` are the values of the module's variables as the
    operator gave them: text for what Terraform types as string, else parsed values. Secrets among them are never shown.
    """

    # Resource types that hold a customer's data: a deployment that would delete one of them is refused.
    precious: frozenset[str]
    # The resource type of an alarm, and whether each address has to confirm a mail before alarms are sent to it.
    alarm: str
    confirm_emails: bool
    # The paths of keys that lead to a secret in the onboarding document.
    secrets: Sequence[tuple[str, ...]]

    @classmethod
    def open(cls, given: Mapping[str, Any]) -> Self:
        """Sign in and find the place that the environment and `given` name; refuse one that is unfit to deploy to."""
        ...

    @property
    def place(self) -> Place:
        """Return where the deployment is, and who the caller is."""
        ...

    def select(self, name: str) -> Self:
        """Return the operator of another function that `functions` listed, by its `name` there."""
        ...

    def detected(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return values for the module's variables that follow from the place, for those that were not given."""
        ...

    def rights(self) -> list[Finding]:
        """Check each right of the operator; the remedy of a missing one is the command that grants it."""
        ...

    def surroundings(self, given: Mapping[str, Any]) -> list[Finding]:
        """Check what else `doctor` reports: policies above the place, and steps that need another person."""
        ...

    def preflight(self, given: Mapping[str, Any]) -> list[Finding]:
        """Check what would make a deployment fail halfway: taken names, disabled services, exhausted quotas."""
        ...

    def providers(self) -> dict[str, Any]:
        """Return Terraform's provider blocks in its JSON syntax."""
        ...

    def module_providers(self) -> dict[str, str]:
        """Return the providers to pass to the module by name; empty where it uses the default ones."""
        ...

    def backend(self) -> Backend:
        """Return where Terraform's state is kept in this cloud."""
        ...

    def backend_exists(self) -> bool:
        """Return whether the place of Terraform's state exists."""
        ...

    def make_backend(self, tell: Tell) -> None:
        """Create the place of Terraform's state, encrypted and private, or restore these properties.

        Raises OperatorError where it belongs to another owner.
        """
        ...

    def adoptions(self, changes: Sequence[Change], tell: Tell) -> list[Adoption]:
        """Return those resources about to be created that exist already and belong to this deployment.

        They come from a lost state, an interrupted deployment, or the earlier scripts.
        """
        ...

    def invoke(self, payload: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
        """Call the deployed function once and return its report; wait while another run holds the lock."""
        ...

    def verify(self) -> list[Finding]:
        """Check whether what is deployed works: function, schedule, destination, connector."""
        ...

    def onboarding(self) -> dict[str, Any]:
        """Return what Tailpipe needs to connect, read from the live cloud, with the keys of the earlier scripts."""
        ...

    def functions(self) -> list[Deployed]:
        """Return every function of ours that is deployed in the place, whatever its name.

        Raises OperatorError with the missing right where they cannot be listed.
        """
        ...

    def deployed(self) -> dict[str, str] | None:
        """Return the deployed function's settings, None if there is no function.

        Raises OperatorError for settings that cannot be read: the defaults would lead to another destination.
        """
        ...

    def logs(self, search: LogSearch) -> Iterator[LogLine]:
        """Yield the lines of the deployed function's log that `search` admits, oldest first, until now.

        What the platform writes about each invocation is left out, unless it tells of trouble.
        """
        ...

    def stop_schedule(self, tell: Tell) -> None:
        """Prevent the schedule and events from starting the function. May be repeated."""
        ...

    def clear(self, removal: Removal, tell: Tell) -> None:
        """Delete what the removal asks for and Terraform does not hold: instances, our exports, data.

        Deletes only what carries our mark. May be repeated after an interruption.
        """
        ...

    def clearing(self, removal: Removal) -> Clearing:
        """Return what `clear` would delete, and which of our exports would stay; changes nothing."""
        ...

    def kept(self, removal: Removal) -> list[Kept]:
        """Return what stays, by the beginnings of its addresses in the module (``aws_s3_bucket.``).

        Raises OperatorError where the settings that `clear` needs cannot be read, before anything is changed.
        """
        ...


class Cloud(Protocol):
    """A cloud of the tool's registry, as far as the commands on a deployment use it.

    `scopes` is what its users call scopes. `operator` imports and returns its implementation of the port.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def scopes(self) -> str: ...
    @property
    def operator(self) -> Callable[[], type[Operator]]: ...
