"""The values that the commands and the operator port exchange: places, findings, changes, removals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHOSEN = (
    "chosen function"  # the key, among the given values, of a deployed function's full name; no variable has this name
)
AGAIN = "Run the same command again. If the error recurs, check your network, and the cloud's status page."
CORRECT = "Correct what the message names, then run the same command again."
ANSWERS = "Find out what answers instead of the cloud: a proxy, a gateway, a sign-in page, or an endpoint override."


@dataclass(frozen=True)
class Problem:
    """One thing that stops a command, and its remedy."""

    what: str
    remedy: str = ""


class OperatorError(Exception):
    """A command cannot continue; `problems` has every known problem, never a secret."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(one.what for one in problems))
        self.problems = problems


@dataclass(frozen=True)
class Place:
    """The place of a present or future deployment.

    `id` is what the operator types before a removal: the account's, tenant's or project's id. `kind` names it in words
    ("management account", "tenant", "project"), `caller` is the signed-in identity, `region` the region of the
    function. `details` are further facts to show, in order. `here`: a local cloud, which runs the function with this
    machine's Python.
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
    """One of our deployed functions.

    `name` selects it within a place, preceded by its region and a slash if functions may be in several regions. `title`
    is its full name in the cloud, `version` its code and the deployment time. `environment` holds the platform's
    variables in addition to its settings; `hidden` has the reason for each setting that cannot be read.
    """

    name: str
    title: str
    version: str
    environment: Mapping[str, str]
    hidden: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One check: a permission, a precondition, a property of a deployment.

    `ok` is None if it could not be checked; `detail` then says why.
    """

    what: str
    ok: bool | None
    detail: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Change:
    """What Terraform would do to one resource.

    `actions` are Terraform's own words (``create``, ``update``, ``delete``, ``no-op``); two of them mean a replacement.
    `after` holds the known planned values, without those of sensitive attributes.
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
    """The storage of Terraform's state: the backend's type and configuration, and a text for people."""

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
    """Resources that are kept: they are removed from Terraform's state before the rest is destroyed.

    `types` are resource types, narrowed to the addresses that start with one of `addresses` if there are any.
    """

    what: str
    addresses: Sequence[str]


@dataclass(frozen=True)
class Clearing:
    """What a removal would delete outside Terraform, and what would be kept, as text for people."""

    deletes: Sequence[str] = ()
    keeps: Sequence[str] = ()


@dataclass(frozen=True)
class Showing:
    """How the onboarding document is shown; secrets and whole lists are printed only on request.

    `file` receives the whole document; None: a default file, if standard output leaves something out.
    """

    secrets: bool = False
    everything: bool = False
    file: Path | None = None
