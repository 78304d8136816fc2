"""The tables of rights in the documents, made from the files that the modules grant from.

Run as `python -m tools.documents` it writes them anew between their marks, in every document that has any; with
`--check` it only says, by its exit code and one line a table, what is out of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(
    r"(?P<begin><!-- rights: (?P<cloud>\w+) (?P<holder>\w+) -->\n).*?(?P<end><!-- end of rights -->)", re.DOTALL
)
SOURCES = {"function": "rights.yaml", "connector": "rights.yaml", "policy": "rights.yaml"}
SOURCES |= {"deploy": "operator.yaml", "destroy": "operator.yaml"}
_TEMPLATE = re.compile(r"\$\{(\w+)\}")


def documents(root: Path = ROOT) -> Iterator[Path]:
    """Yield the documents that have such tables."""
    for path in sorted((root / "docs").glob("*.md")):
        if MARK.search(path.read_text(encoding="utf-8")):
            yield path


def grants(root: Path, cloud: str, holder: str) -> list[Mapping[str, Any]]:
    """Return who may do what, as the module's own file has it. Raises KeyError for an unknown holder."""
    path = root / "infra" / cloud / SOURCES[holder]
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    found: list[Mapping[str, Any]] = document[holder]
    return found


def table(some: Iterable[Mapping[str, Any]]) -> str:
    """Return grants as a Markdown table."""
    lines = ["| right | on | why |", "| --- | --- | --- |"]
    for grant in some:
        names = [grant["role"]] if "role" in grant else [*grant.get("actions", ()), *grant.get("data_actions", ())]
        what = "<br>".join(f"`{name}`" for name in names)
        lines.append(f"| {what} | {_where(grant)} | {_why(grant)} |")
    return "\n".join(lines) + "\n"


def _why(grant: Mapping[str, Any]) -> str:
    why = " ".join(str(grant["why"]).split())
    return f"{why} Only with: {str(grant['when']).replace('_', ' ')}." if grant.get("when") else why


def _where(grant: Mapping[str, Any]) -> str:
    if "resources" not in grant:
        where = str(grant.get("scope", "")).replace("_", " ")
        return f"{where}, under a condition" if grant.get("condition") else where
    places = ["everything" if one == "*" else f"`{_filled(one)}`" for one in grant["resources"]]
    places += [
        f"where `{key}` is {' or '.join(f'`{_filled(one)}`' for one in ([value] if isinstance(value, str) else value))}"
        for tests in (grant.get("condition") or {}).values()
        for key, value in tests.items()
    ]
    return "<br>".join(places)


def _filled(text: str) -> str:
    """What the module fills in, as a reader would write it: `${failed_queue}` is FAILED-QUEUE."""
    return _TEMPLATE.sub(lambda found: found[1].upper().replace("_", "-"), text)


def rendered(text: str, root: Path = ROOT) -> str:
    """Return a document with every marked table made anew."""
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
    """Write or check the documents; returns the exit code."""
    faults = 0
    for path in documents():
        text = path.read_text(encoding="utf-8")
        if "--check" not in arguments:
            path.write_text(rendered(text), encoding="utf-8")
            continue
        for name in stale(text):
            print(f"docs/{path.name}: the table of {name} is out of date; make infra-docs writes it")
            faults += 1
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
