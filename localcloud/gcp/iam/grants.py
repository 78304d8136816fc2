"""The grants of a deployment, read from the same file that the Terraform module reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from localcloud.common.rights_file import parsed
from tailpipe_exports import FILES

FILE = FILES / "infra" / "gcp" / "rights.yaml"
ROLE_PREFIX = "tailpipeExports"


@dataclass(frozen=True)
class Grant:
    """One grant: `role` names a predefined role; if it is empty, `actions` are the permissions of a custom role.

    `scope` is a scope name of the file; `condition` has a title and an expression, or is empty. `when` is empty if the
    grant is unconditional.
    """

    id: str
    why: str
    scope: str
    role: str
    actions: tuple[str, ...]
    condition: Mapping[str, str]
    when: str

    def role_in(self, project: str) -> str:
        """Return the role's full name."""
        return self.role or f"projects/{project}/roles/{ROLE_PREFIX}{self.id}"


@cache
def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def grants(holder: str, names: Mapping[str, str], file: Path = FILE) -> list[Grant]:
    """Return the grants of ``function`` or ``connector``; `names` fills in the file's variables.

    Raises KeyError for a holder that is not in the file or a variable that is not in `names`.
    """
    return [
        Grant(
            id=one["id"],
            why=one["why"],
            scope=one["scope"],
            role=one.get("role", ""),
            actions=tuple(one.get("actions", ())),
            condition=one.get("condition", {}),
            when=one.get("when", ""),
        )
        for one in parsed(Template(_text(file)).substitute(names))[holder]
    ]
