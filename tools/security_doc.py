"""The tables of docs/security.md, made from the files that the modules grant from.

Run as `python -m tools.security_doc` it writes them anew between their marks; with `--check` it only says, by its exit
code and one line a table, what is out of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "security.md"
CLOUDS = ("aws", "azure", "gcp")
MARK = re.compile(
    r"(?P<begin><!-- rights: (?P<cloud>\w+) (?P<holder>\w+) -->\n).*?(?P<end><!-- end of rights -->)", re.DOTALL
)
SOURCES = {"function": "rights.yaml", "connector": "rights.yaml", "policy": "rights.yaml"}
SOURCES |= {"deploy": "operator.yaml", "destroy": "operator.yaml"}


def grants(root: Path, cloud: str, holder: str) -> list[Mapping[str, Any]]:
    """Return who may do what, as the module's own file has it. Raises KeyError for an unknown holder."""
    path = root / "infra" / cloud / SOURCES[holder]
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    found: list[Mapping[str, Any]] = document[holder]
    return found


def table(some: Iterable[Mapping[str, Any]]) -> str:
    """Return grants as a Markdown table."""
    lines = ["| what | why | on |", "| --- | --- | --- |"]
    for grant in some:
        names = [grant["role"]] if "role" in grant else [*grant.get("actions", ()), *grant.get("data_actions", ())]
        what = "<br>".join(f"`{name}`" for name in names)
        lines.append(f"| {what} | {_why(grant)} | {_where(grant)} |")
    return "\n".join(lines) + "\n"


def _why(grant: Mapping[str, Any]) -> str:
    why = " ".join(str(grant["why"]).split())
    return f"{why} Only with: {str(grant['when']).replace('_', ' ')}." if grant.get("when") else why


def _where(grant: Mapping[str, Any]) -> str:
    places = [f"`{one}`" for one in grant.get("resources", ())] or [str(grant.get("scope", "")).replace("_", " ")]
    where = "<br>".join(places)
    return f"{where}, under a condition" if grant.get("condition") else where


def rendered(text: str, root: Path = ROOT) -> str:
    """Return the document with every marked table made anew."""
    return MARK.sub(
        lambda found: f"{found['begin']}{table(grants(root, found['cloud'], found['holder']))}{found['end']}", text
    )


def stale(text: str, root: Path = ROOT) -> list[str]:
    """Return the tables that are not what the files say, as ``cloud holder``."""
    return [
        f"{found['cloud']} {found['holder']}"
        for found in MARK.finditer(text)
        if found[0] != f"{found['begin']}{table(grants(root, found['cloud'], found['holder']))}{found['end']}"
    ]


def main(arguments: list[str]) -> int:
    """Write or check the document; returns the exit code."""
    text = DOCUMENT.read_text(encoding="utf-8")
    if "--check" in arguments:
        for name in stale(text):
            print(f"docs/security.md: the table of {name} is out of date; run python -m tools.security_doc")
        return 1 if stale(text) else 0
    DOCUMENT.write_text(rendered(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
