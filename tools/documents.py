"""Write, or with `--check` only compare, everything that is made from `infra/` and from the functions' code.

- the tables of inputs and outputs in a module's README, from its variables and outputs;
- the tables of rights in `docs/`, from the files that the modules grant from;
- the operator's policy documents, each from its cloud's `operator.yaml`;
- the CloudFormation templates of `infra/aws`;
- the launch templates of Azure and their forms;
- `docs/settings.md`.

Run as `python -m tools.documents [--check]`: it ends with 1 and one line a file where something is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cli.deployment.azure import rights as azure_rights
from cli.deployment.gcp import rights as gcp_rights
from tools import azure_template, cloudformation, modules, settings_doc

ROOT = Path(__file__).resolve().parent.parent
CLOUDS = ("aws", "azure", "gcp")
RIGHTS = re.compile(
    r"(?P<begin><!-- rights: (?P<cloud>\w+) (?P<holder>\w+) -->\n).*?(?P<end><!-- end of rights -->)", re.DOTALL
)
DECLARED = re.compile(r"(<!-- (inputs|outputs) -->\n).*?(<!-- /\2 -->)", re.DOTALL)
_TEMPLATE = re.compile(r"\$\{(\w+)\}")


def documents(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield every file that is made, with the text that it should have."""
    for path in sorted((root / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if RIGHTS.search(text):
            yield path, with_rights(text, root)
    for cloud in CLOUDS:
        folder = root / "infra" / cloud
        yield folder / "README.md", _with_tables((folder / "README.md").read_text(encoding="utf-8"), folder)
        yield from policies(folder)
    yield from cloudformation.Templates(root / "infra" / "aws").documents()
    yield from azure_template.documents(root / "infra" / "azure")
    yield root / "docs" / "settings.md", settings_doc.page(root / "infra")


def _with_tables(text: str, folder: Path) -> str:
    module = modules.read(folder)
    made = {"inputs": modules.inputs(module), "outputs": modules.outputs(module)}
    for name in made.keys() - {found[2] for found in DECLARED.finditer(text)}:
        text += f"\n## {name.capitalize()}\n\n<!-- {name} -->\n<!-- /{name} -->\n"
    return DECLARED.sub(lambda found: f"{found[1]}{made[found[2]]}{found[3]}", text)


def policies(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the operator's policy documents of the cloud whose module lies in `folder`."""
    source = yaml.load((folder / "operator.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    if folder.name == "aws":
        for purpose, grants in source.items():
            statements = [
                {"Sid": one["id"], "Effect": "Allow", "Action": one["actions"], "Resource": one["resources"]}
                for one in grants
            ]
            document = {"Version": "2012-10-17", "Statement": statements}
            yield folder / f"operator-{purpose}-policy.json", json.dumps(document, indent=2) + "\n"
    elif folder.name == "azure":
        yield folder / azure_rights.ROLE.name, json.dumps(azure_rights.role_document(source), indent=2) + "\n"
    else:
        for scope, file in gcp_rights.ROLE_FILES.items():
            yield folder / file, gcp_rights.written(gcp_rights.role(scope))


def with_rights(text: str, root: Path) -> str:
    """Return a document with every table of rights made anew. Raises KeyError for an unknown holder."""

    def made(found: re.Match[str]) -> str:
        source = "operator.yaml" if found["holder"] in ("deploy", "destroy", "native") else "rights.yaml"
        granted = yaml.load((root / "infra" / found["cloud"] / source).read_text(encoding="utf-8"), yaml.CSafeLoader)
        return f"{found['begin']}{_rights(granted[found['holder']])}{found['end']}"

    return RIGHTS.sub(made, text)


def _rights(grants: Iterable[Mapping[str, Any]]) -> str:
    lines = ["| permission | on | why |", "| --- | --- | --- |"]
    for grant in grants:
        names = [grant["role"]] if "role" in grant else [*grant.get("actions", ()), *grant.get("data_actions", ())]
        what = "<br>".join(f"`{name}`" for name in names)
        why = " ".join(str(grant["why"]).split())
        if grant.get("when"):
            why += f" Only with: {str(grant['when']).replace('_', ' ')}."
        lines.append(f"| {what} | {_where(grant)} | {why} |")
    return "\n".join(lines) + "\n"


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
    """Return what the module fills in as a reader would write it: `${failed_queue}` is FAILED-QUEUE."""
    return _TEMPLATE.sub(lambda found: found[1].upper().replace("_", "-"), text)


def main(arguments: list[str]) -> int:
    """Write or check the files; returns the exit code."""
    for cloud in CLOUDS:
        if wrong := settings_doc.undescribed(cloud):
            print(f"EFFECTS of {cloud} and what its function reads differ: {', '.join(wrong)}", file=sys.stderr)
            return 1
    code = 0
    for path, text in documents(ROOT):
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            print(f"{path.relative_to(ROOT)} is out of date. Run make infra-docs.", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
