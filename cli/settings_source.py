"""The source of the function's settings for `plan` and `run`, and the place that they act in.

By default the deployed function, so that a laptop reconciles exactly what the function does; else a file, or, if
nothing is deployed, the environment. Endpoints and sign-in are always the operator's own.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.clouds import Cloud
from cli.deployment.model import Deployed, OperatorError, Place, Problem
from cli.deployment.session import Session, chosen, open_session, select
from cli.terminal.console import clean, say
from shared.errors import SettingsError
from tailpipe_exports import NAME, commit, version

if TYPE_CHECKING:
    from shared.tenants.rows import FleetDocuments

_SETTING = re.compile(r"[A-Za-z_]\w*", re.ASCII)
BY_FILE = "give the settings in a file: --settings FILE"


@dataclass(frozen=True)
class Choice:
    """The operator's choice: a function by its name (``[REGION/]NAME``), a file of settings, or neither.

    `without_deployment` takes the settings from the environment if nothing is deployed. `demo` reads the last
    demonstration on this machine; only commands that read stored documents offer it. `tenant` is the id of a tenant in
    the deployment's registry, "" for the deployment's own cloud.
    """

    function: str = ""
    file: Path | None = None
    without_deployment: bool = False
    demo: bool = False
    tenant: str = ""


@dataclass(frozen=True)
class Source:
    """The environment to reconcile with, and the place; for a tenant also where the row of its run is stored."""

    environment: Mapping[str, str]
    place: Place
    rows: FleetDocuments | None = None


def source_of(cloud: Cloud, choice: Choice) -> Source:
    """Show the caller, the place and the deployment, and return the settings to reconcile with.

    Problems of a file or of the environment are raised before any call. Raises SettingsError and OperatorError, each
    with every problem.
    """
    if choice.file is not None:
        environment = _checked(cloud, {**_own(cloud), **read_file(choice.file)}, choice.file)
        session = open_session(cloud, {})
        _show_code(session, f"settings: {choice.file}, whatever is deployed here")
        return Source(environment, session.place)
    if choice.without_deployment:
        environment = _checked(cloud, os.environ)
        session = open_session(cloud, {})
        _require_none(session)
        _show_code(session, "settings: this shell's environment variables; nothing is deployed here")
        return Source(environment, session.place)
    session, found = _located(cloud, choice)
    environment = _deployed_settings(cloud, session, found)
    _show_code(session, f"deployment: {found.title}, {found.version}")
    return Source(environment, session.place)


def read_file(file: Path) -> dict[str, str]:
    """Return the settings of a file of ``NAME=value`` lines, as `source`, `docker --env-file` and others read it.

    Values may be quoted as in a shell, and lines may begin with ``export``; blank lines and lines that begin with ``#``
    are skipped. Raises SettingsError that names every invalid line, but never a value, which may be a secret.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{file}: {getattr(error, 'strerror', None) or 'it is not text'}"]) from error
    found: dict[str, str] = {}
    faults: list[str] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, separator, value = text.partition("=")
        try:
            words = shlex.split(value, comments=True)
        except ValueError:
            faults.append(f"{file}:{number}: the quotes of {name.strip()} do not match")
            continue
        if not separator or not _SETTING.fullmatch(name):
            faults.append(f"{file}:{number}: is not a line of the form NAME=value")
        elif name in found:
            faults.append(f"{file}:{number}: {name} was given before")
        elif len(words) > 1:
            faults.append(f"{file}:{number}: {name} has blanks in its value; write it in quotes")
        else:
            found[name] = words[0] if words else ""
    if faults:
        raise SettingsError(faults)
    return found


def _checked(cloud: Cloud, environment: Mapping[str, str], file: Path | None = None) -> Mapping[str, str]:
    """Return the settings that the function reads. Raises SettingsError for every invalid or unknown one."""
    completed = cloud.environment(environment)
    faults, names = settings_faults(cloud, completed)
    strange = _strangers(cloud, read_file(file), names, file) if file is not None else []
    if strange or faults:
        raise SettingsError([*strange, *faults])
    return completed


def settings_faults(cloud: Cloud, environment: Mapping[str, str]) -> tuple[Sequence[str], set[str]]:
    """Return the problems that the function finds in these settings, and the names of all settings that it reads."""
    asked = _Asked(environment)
    try:
        cloud.read_settings()(asked)
    except SettingsError as error:
        return error.problems, asked.names
    return (), asked.names


class _Asked(dict[str, str]):
    """An environment that records which variables were read."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def _strangers(cloud: Cloud, given: Mapping[str, str], names: set[str], file: Path) -> list[str]:
    """Return a message for each name that is not a setting, and for a sign-in that differs from this process's."""
    faults = []
    for name, value in given.items():
        if cloud.own.fullmatch(name):
            if os.environ.get(name) != value:
                faults.append(
                    f"{name}: belongs to your sign-in, which is taken from the environment; remove it in {file}"
                )
        elif name not in names and not cloud.platform.fullmatch(name):
            near = difflib.get_close_matches(name, names, 1)
            faults.append(f"{name}: is not a setting of the function{f'; did you mean {near[0]}?' if near else ''}")
    return faults


def _own(cloud: Cloud) -> dict[str, str]:
    """Return the operator's own variables of this process: cloud endpoints and sign-in."""
    return {name: value for name, value in os.environ.items() if cloud.own.fullmatch(name)}


def _located(cloud: Cloud, choice: Choice) -> tuple[Session, Deployed]:
    """Return the deployed function. Raises OperatorError unless there is exactly one."""
    session, found = select(open_session(cloud, chosen(choice.function)), choice.function)
    if found is None:
        where = f"{session.place.kind} {session.place.id}, region {session.place.region}"
        raise OperatorError(
            Problem(
                f"no function is deployed in {where}, that you can see",
                f"Look elsewhere: {cloud.elsewhere}. Or deploy it: {NAME} deploy {cloud.name}. Or go on without: "
                f"--without-deployment takes the settings from this shell's environment variables; or {BY_FILE}.",
            )
        )
    return session, found


def _require_none(session: Session) -> None:
    """Raise OperatorError if a function is deployed: its settings apply."""
    try:
        found = session.operator.functions()
    except OperatorError as error:
        say(session.screen, "could not check whether a function is deployed here: ", clean(error), hang=4)
        return
    if found:
        raise OperatorError(
            Problem(
                f"{', '.join(sorted(one.name for one in found))} is deployed here, with settings of its own",
                f"Leave --without-deployment out to use them; or {BY_FILE}.",
            )
        )


def _deployed_settings(cloud: Cloud, session: Session, found: Deployed) -> Mapping[str, str]:
    """Return the deployed function's settings with the operator's sign-in. Raises OperatorError."""
    name = found.name
    settings = session.operator.deployed()
    if settings is None:
        raise OperatorError(
            Problem(
                f"function {name} is listed, and cannot be read: it is being made or deleted",
                f"Wait some minutes and call again; or {BY_FILE}.",
            )
        )
    theirs = {key: value for key, value in settings.items() if not cloud.own.fullmatch(key)}
    environment = cloud.environment({**theirs, **_own(cloud), **found.environment})
    faults, names = settings_faults(cloud, environment)
    hidden = {key: why for key, why in found.hidden.items() if key in names}
    if hidden:
        raise OperatorError(
            *(
                Problem(f"setting {key} of function {name} cannot be read: {why}", f"Read it there, and {BY_FILE}.")
                for key, why in sorted(hidden.items())
            )
        )
    if not names & theirs.keys():
        raise OperatorError(
            Problem(
                f"function {name} has none of the settings of a deployment",
                f"Complete it: {NAME} deploy {cloud.name}; or {BY_FILE}.",
            )
        )
    if faults:
        raise OperatorError(
            *(
                Problem(
                    f"function {name}: {fault}",
                    f"Deploy it with a valid value: {NAME} deploy {cloud.name}; or {BY_FILE}.",
                )
                for fault in faults
            )
        )
    return environment


def _show_code(session: Session, settings: str) -> None:
    say(session.screen, clean(settings), indent=2, hang=2)
    say(session.screen, f"this command: {NAME} {version()} (commit {commit()})", indent=2, hang=2)
