"""`tailpipe-exports doctor`: the permissions that deploying and removing require, and other obstacles."""

from __future__ import annotations

from cli.deployment.engine import HasNativeEngine
from cli.deployment.model import OperatorError
from cli.deployment.operator import Cloud
from cli.deployment.output import show_findings
from cli.deployment.session import FAILED, OK, guarded, open_deployed
from cli.deployment.terraform.workspace import values_given
from cli.terminal.console import print_document, say


def _holds(operator: HasNativeEngine) -> bool:
    """Return whether the cloud's own engine holds the deployment; False for a caller who may not read that."""
    try:
        return operator.held_by_native()
    except OperatorError:
        return False


def doctor(cloud: Cloud, as_json: bool, function: str = "") -> int:
    """Check permissions and surroundings. Returns 0 if no problem is known, else 1."""

    def command() -> int:
        session = open_deployed(cloud, function)
        operator = session.operator
        if isinstance(operator, HasNativeEngine) and _holds(operator):
            operator.native_engine()  # from here on, its permissions are checked too
        found = operator.rights()
        # The values that a deployment would take from the environment, such as the trusted issuer.
        around = operator.surroundings(values_given(cloud.name, (), ())[1])
        if as_json:
            rights = [
                {"right": one.what, "present": one.ok, "detail": one.detail, "remedy": one.remedy} for one in found
            ]
            surroundings = [
                {"what": one.what, "ok": one.ok, "detail": one.detail, "remedy": one.remedy} for one in around
            ]
            place = {"cloud": cloud.name, "place": session.place.id, "caller": session.place.caller}
            print_document({**place, "rights": rights, "surroundings": surroundings})
        else:
            show_findings(session.screen, [*found, *around])
        missing = sum(one.ok is False for one in found)
        unknown = sum(one.ok is None for one in found)
        say(
            session.screen,
            f"{len(found) - missing - unknown} present, {missing} missing"
            + (f", {unknown} could not be checked" if unknown else ""),
        )
        return FAILED if missing or any(one.ok is False for one in around) else OK

    return guarded(f"tailpipe-exports: the permissions on {cloud.title} could not be checked", command, as_json=as_json)
