"""Plans in files: a run may make exactly the writes that a person has read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cli.deployment.model import OperatorError, Place, Problem
from cli.terminal.private_file import write_private
from shared.plan import Plan
from shared.request import RunRequest
from tailpipe_exports import NAME

VERSION = 1


class Write(msgspec.Struct, frozen=True):
    """One write of a plan."""

    verb: str
    kind: str
    name: str
    scope: str
    reason: str
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = f"{self.verb} {self.kind} {self.name} of {self.scope} ({self.reason}"
        return f"{what}: {', '.join(self.changes)})" if self.changes else f"{what})"


class PlanFile(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of the file: where the plan was made, for which tenant, what was requested, and every write."""

    version: int
    cloud: str
    place: str
    tenant: str = ""
    writes_hash: str
    scopes: tuple[str, ...] = ()
    force: bool = False
    verify_all: bool = False
    writes: tuple[Write, ...] = ()


@dataclass(frozen=True)
class Difference:
    """The writes that only the new plan has (`more`), and those that only the file has (`fewer`)."""

    more: tuple[Write, ...]
    fewer: tuple[Write, ...]


def writes_of(plan: Plan) -> tuple[Write, ...]:
    """Return the writes of a plan."""
    return tuple(
        Write(one.verb.value, one.key.kind, one.key.name, one.key.scope, one.reason, tuple(one.changes))
        for one in plan.writes()
    )


def difference(made: PlanFile, plan: Plan) -> Difference:
    """Return the changes since the file was made."""
    now = writes_of(plan)
    known, wanted = set(made.writes), set(now)
    return Difference(
        tuple(one for one in now if one not in known), tuple(one for one in made.writes if one not in wanted)
    )


def save(file: Path, plan: Plan, cloud: str, place: Place, request: RunRequest) -> None:
    """Write a plan to a file that only its owner can read. Raises OperatorError."""
    document = PlanFile(
        version=VERSION,
        cloud=cloud,
        place=place.id,
        tenant=request.tenant,
        writes_hash=plan.writes_hash(),
        scopes=request.scopes,
        force=request.force,
        verify_all=request.verify_all,
        writes=writes_of(plan),
    )
    try:
        write_private(file, msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n")
    except OSError as error:
        raise OperatorError(Problem(f"--out {file}: {error.strerror}", "Name a file in an existing folder.")) from error


def load(file: Path, cloud: str) -> PlanFile:
    """Return the plan in a file. Raises OperatorError for another version or cloud, and for any other file."""
    again = f"Make a new one: {NAME} plan {cloud} --out {file}"
    try:
        document: Any = json.loads(file.read_bytes())
        version = document.get("version") if isinstance(document, Mapping) else None
        if version != VERSION:
            what = f"is of version {version!r}, this command reads {VERSION}" if version else "is not a plan"
            raise OperatorError(Problem(f"--plan {file} {what}", again))
        made = msgspec.convert(document, PlanFile)
    except OSError as error:
        raise OperatorError(Problem(f"--plan {file}: {error.strerror}", again)) from error
    except (ValueError, RecursionError) as error:
        raise OperatorError(Problem(f"--plan {file} is not a plan", again)) from error
    if made.cloud != cloud:
        raise OperatorError(Problem(f"--plan {file} was made for {made.cloud}, not {cloud}", again))
    return made


def require_place(file: Path, made: PlanFile, place: Place, tenant: str) -> None:
    """Raise OperatorError if a plan was made for another account, subscription or project, or another tenant."""
    if made.tenant != tenant:
        whose = f"tenant {made.tenant}" if made.tenant else "the deployment's own cloud"
        remedy = f"Add --tenant {made.tenant}." if made.tenant else "Leave --tenant out."
        raise OperatorError(Problem(f"--plan {file} was made for {whose}", f"{remedy} Or make a new plan."))
    if made.place != place.id:
        raise OperatorError(
            Problem(
                f"--plan {file} was made for {made.place}; you are in {place.kind} {place.id}",
                "Sign in to the place that the plan was made for, or make a new plan here.",
            )
        )
