"""The values that the commands and the operator port exchange: places, findings, changes, removals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHOSEN = (
    "chosen function"  # the key, among the given values, of a deployed function's full name; no variable has this name
)
ANSWERS = "Find out what answers instead of the cloud: a proxy, a gateway, a sign-in page, or an endpoint override."


@dataclass(frozen=True)
class Problem:
    """One thing that stops a command, and what the operator does about it."""

    what: str
    remedy: str = ""


class OperatorError(Exception):
    """A command cannot go on; `problems` has every one that is known, never a secret."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(one.what for one in problems))
        self.problems = problems


@dataclass(frozen=True)
class Place:
    """Where a deployment is, or goes.

    `id` is what the operator types out before a removal: the account's, tenant's or project's id. `kind` says what it
    is in words ("management account", "tenant", "project"), `caller` who asks, `region` where the function runs.
    `details` are further facts to show, in order. `here`: a local cloud, which runs the function with this machine's
    Python.
    """

    cloud: str
    id: str
    kind: str
    caller: str
    region: str
    details: Mapping[str, str] = field(default_factory=dict)
    here: bool = False


@dataclass(frozen=True)
class Deployed:
    """A function of ours that is deployed.

    `name` chooses it among those of a place, with its region and a slash before where they may be in several. `title`
    is its whole name in the cloud, `version` which code it has and since when. `environment` is what its platform sets
    beside its settings; `hidden` has the reason for each setting that cannot be read.
    """

    name: str
    title: str
    version: str
    environment: Mapping[str, str]
    hidden: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One check: a right, a precondition, a property of a deployment.

    `ok` is None where it could not be checked; `detail` then says why.
    """

    what: str
    ok: bool | None
    detail: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Change:
    """What Terraform would do to one resource.

    `actions` are Terraform's own words (``create``, ``update``, ``delete``, ``no-op``); two of them mean a
    replacement. `after` holds what is known of the planned values, those of sensitive attributes left out.
    """

    address: str
    type: str
    actions: tuple[str, ...]
    after: Mapping[str, Any]
    importing: bool = False

    @property
    def creates(self) -> bool:
        return "create" in self.actions

    @property
    def deletes(self) -> bool:
        return "delete" in self.actions


@dataclass(frozen=True)
class Adoption:
    """A resource that exists and that Terraform imports: its address there, and its id in the cloud."""

    address: str
    id: str
    what: str = ""


@dataclass(frozen=True)
class Backend:
    """Where Terraform keeps its state: the backend's type and configuration, and as text for people."""

    type: str
    configuration: Mapping[str, Any]
    title: str


@dataclass(frozen=True)
class Removal:
    """What a removal includes beyond the function; everything else is kept."""

    keep_identity: bool = False
    delete_exports: bool = False
    delete_data: bool = False


@dataclass(frozen=True)
class Kept:
    """Resources that stay: they leave Terraform's state before the rest is destroyed.

    `types` are resource types, narrowed to the addresses that start with one of `addresses` if there are any.
    """

    what: str
    addresses: Sequence[str]


@dataclass(frozen=True)
class Clearing:
    """What a removal would delete beside Terraform, and what would stay, as text for people."""

    deletes: Sequence[str] = ()
    keeps: Sequence[str] = ()


@dataclass(frozen=True)
class Showing:
    """How the onboarding document is shown; secrets and whole lists reach standard output only on request.

    `file` gets the whole document; None: a file of the command's own, where standard output leaves something out.
    """

    secrets: bool = False
    everything: bool = False
    file: Path | None = None
