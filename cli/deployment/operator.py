"""The port that each cloud implements for the operator's commands; everything else about them is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from cli.deployment.model import Adoption, Backend, Change, Clearing, Deployed, Finding, Kept, Place, Removal

Tell = Callable[[str], None]


class Operator(Protocol):
    """One cloud, with the credentials of whoever calls.

    Every method may raise OperatorError with the remedy in it. `given` are the values of the module's variables as the
    operator gave them, texts for what Terraform types as string, else parsed values; secrets among them are never
    shown. Methods that take `tell` say through it, line by line, what they do while they do it.
    """

    # Resource types that hold a customer's data: a deployment that would delete one of them is refused.
    precious: frozenset[str]
    # The resource type of an alarm, and whether an address confirms a mail before alarms are sent to it.
    alarm: str
    confirm_emails: bool
    # Where the onboarding document holds a secret: the keys that lead to it.
    secrets: Sequence[tuple[str, ...]]

    def place(self, given: Mapping[str, Any]) -> Place:
        """Say where and who the caller is. Refuses a place where the function must not be deployed."""

    def detected(self, place: Place, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return values for variables of the module that follow from the place, where they were not given."""

    def rights(self, place: Place) -> list[Finding]:
        """Look at each right that deploying and removing needs; a missing one comes with the command that grants it."""

    def surroundings(self, place: Place, given: Mapping[str, Any]) -> list[Finding]:
        """Look at what else `doctor` tells of the place: policies above it, and steps that need another person."""

    def preflight(self, place: Place, given: Mapping[str, Any]) -> list[Finding]:
        """Look at what would make a deployment fail half way: names that are taken, switches, quotas."""

    def providers(self, place: Place) -> dict[str, Any]:
        """Return Terraform's provider blocks, as its JSON syntax has them."""

    def module_providers(self) -> dict[str, str]:
        """Return the providers handed to the module by name, empty where it takes the default ones."""

    def backend(self, place: Place) -> Backend:
        """Return the state's place in this cloud."""

    def backend_exists(self, place: Place) -> bool:
        """Whether the state's place was made before."""

    def make_backend(self, place: Place, tell: Tell) -> None:
        """Make the state's place, encrypted and private, or make it so again. Raises where it is somebody else's."""

    def adoptions(self, place: Place, changes: Sequence[Change], tell: Tell) -> list[Adoption]:
        """Return those resources about to be created that exist already and are this deployment's to own.

        They are left by a lost state, a deployment that ended half way, or the earlier scripts.
        """

    def invoke(self, place: Place, payload: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
        """Call the deployed function once and return its report; waits while another run holds the lock."""

    def verify(self, place: Place) -> list[Finding]:
        """Look whether what is deployed works: schedule, destination, connector."""

    def onboarding(self, place: Place) -> dict[str, Any]:
        """Return what Tailpipe needs to connect, read from the live cloud, with the keys of the earlier scripts."""

    def functions(self, place: Place) -> list[Deployed]:
        """Return the functions of ours that are deployed here, whatever their names.

        Raises where they cannot be listed, with the right that is missing: nothing seen is not nothing there.
        """

    def deployed(self, place: Place) -> dict[str, str] | None:
        """Return the deployed function's settings, None if there is no function.

        Raises OperatorError where there is a function whose settings cannot be read: acting by defaults instead would
        act on another destination.
        """

    def stop_schedule(self, place: Place, tell: Tell) -> None:
        """Keep the function from being started again by its schedule or an event. May be repeated."""

    def clear(self, place: Place, removal: Removal, tell: Tell) -> None:
        """Delete what Terraform does not hold and the removal asks for: instances, our exports, data.

        Deletes only what carries our mark. May be repeated after it was interrupted.
        """

    def clearing(self, place: Place, removal: Removal) -> Clearing:
        """Return what `clear` would delete, and which of our exports would stay; changes nothing."""

    def kept(self, place: Place, removal: Removal) -> list[Kept]:
        """Return what stays, by the addresses' parts below the module (``aws_s3_bucket.``).

        Raises OperatorError where the settings that `clear` needs cannot be read, before anything is changed.
        """
