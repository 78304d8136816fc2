"""The deployed functions on Google Cloud, and the settings of the selected one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.deployment.gcp.rest import refused
from cli.deployment.gcp.session import Session, listed_functions, name_of, region_of
from cli.deployment.model import Deployed, OperatorError, Problem
from gcp_function.settings import read_settings
from gcp_function.targets import MANAGED_BY, MANAGER
from shared.errors import Denied, NotFound, ReportedError, SettingsError


def functions(session: Session) -> list[Deployed]:
    """Return our functions in the project, found by their label. Raises OperatorError."""
    try:
        listed = listed_functions(session, "-")
    except ReportedError as error:
        if error.code == "api-disabled":
            return []
        if isinstance(error, Denied | NotFound):
            why = f"the functions of project {session.project} may not be listed: {error.message}"
            raise OperatorError(
                Problem(why, "Grant cloudfunctions.functions.list (roles/cloudfunctions.viewer).")
            ) from error
        raise refused(error) from error
    return [
        _deployed(one, session.project)
        for one in listed
        if one.get("labels", {}).get(MANAGED_BY) == MANAGER or name_of(one) == session.function
    ]


def missing(session: Session) -> Problem:
    """Return the problem of a function that does not exist or is not visible."""
    if session.hidden is not None:
        why, remedy = session.hidden
        return Problem(
            f"whether function {session.function} is in project {session.project} cannot be seen: {why}", remedy
        )
    return Problem(
        f"no function {session.function} is deployed in project {session.project}",
        "Deploy it: tailpipe-exports deploy gcp. "
        "If it has another name or project, set TAILPIPE_EXPORTS_FUNCTION_NAME or GOOGLE_CLOUD_PROJECT.",
    )


def environment_of(session: Session) -> dict[str, str] | None:
    """Return the function's environment variables, None if there is no function. Raises OperatorError."""
    require_settings(session)
    return None if session.live is None else session.settings


def require_settings(session: Session) -> None:
    """Raise OperatorError for a function whose settings cannot be read: defaults would point elsewhere."""
    if session.live is None:
        return
    try:
        read_settings(session.settings)
    except SettingsError as error:
        raise OperatorError(
            *(
                Problem(f"the settings of function {session.function} cannot be read: {one}", "Deploy it again.")
                for one in error.problems
            )
        ) from error


def _deployed(function: Mapping[str, Any], project: str) -> Deployed:
    config = function.get("serviceConfig") or {}
    hidden = {
        str(one.get("key")): f"it is in secret {one.get('secret')}, which secretmanager.versions.access lets read"
        for one in config.get("secretEnvironmentVariables") or ()
    }
    revision, since = config.get("revision") or "unknown", str(function.get("updateTime", ""))[:16]
    return Deployed(
        f"{region_of(function)}/{name_of(function)}",
        str(function["name"]),
        f"revision {revision}, deployed {since} UTC, {str(function.get('state', 'state unknown')).lower()}",
        {"GOOGLE_CLOUD_PROJECT": project},
        hidden,
    )
