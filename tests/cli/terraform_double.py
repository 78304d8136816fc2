"""A `terraform` for the tests: it plans what the test says, keeps a state, and records how it was called."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = """#!{python}
import json, os, pathlib, sys, time

home = pathlib.Path({home!r})
arguments = sys.argv[1:]
here = pathlib.Path.cwd()
files = {{one.name: one.read_text() for one in here.glob("*.tf.json")}}
variables = {{name: value for name, value in os.environ.items() if name.startswith("TF_VAR_")}}
call = {{"argv": arguments, "files": files, "variables": variables, "at": time.time()}}
with (home / "calls.jsonl").open("a") as log:
    log.write(json.dumps(call) + "\\n")

state_file = home / "state.json"
state = json.loads(state_file.read_text()) if state_file.exists() else None
root = json.loads(files.get("main.tf.json", "{{}}"))
imports = {{one["to"]: one["id"] for one in json.loads(files.get("imports.tf.json", "{{}}")).get("import", ())}}


def changes():
    if "module" not in root:
        gone = {{"mode": "managed", "change": {{"actions": ["delete"], "after": None}}}}
        return [{{**gone, "address": one, "type": one.split(".")[2]}} for one in state or ()]
    planned = json.loads((home / "plan.json").read_text())
    for one in planned:
        one["mode"] = "managed"
        if one["address"] in imports:
            one["change"] |= {{"actions": ["update"], "importing": {{"id": imports[one["address"]]}}}}
    return [one for one in planned if one["address"] not in (state or ())]


def answer(document):
    print(json.dumps(document))


if arguments[0] == "version":
    answer({{"terraform_version": "1.11.4"}})
elif arguments[0] == "plan":
    out = next(one for one in arguments if one.startswith("-out=")).removeprefix("-out=")
    pathlib.Path(out).write_text(json.dumps({{"resource_changes": changes()}}))
elif arguments[0] == "show":
    print(pathlib.Path(arguments[-1]).read_text())
elif arguments[0] == "apply":
    held = list(state or ())
    broken = home / "fail"
    for one in json.loads(pathlib.Path(arguments[-1]).read_text())["resource_changes"]:
        address = one["address"]
        if broken.exists() and broken.read_text() == address:
            error = {{"severity": "error", "summary": "it broke", "detail": "on purpose", "address": address}}
            answer({{"type": "diagnostic", "diagnostic": error}})
            state_file.write_text(json.dumps(held))
            sys.exit(1)
        if "delete" in one["change"]["actions"]:
            held.remove(address)
        else:
            held.append(address)
        answer({{"type": "apply_complete", "@message": address + ": done"}})
    state_file.write_text(json.dumps(held))
elif arguments[:2] == ["state", "list"]:
    if state is None:
        print("No state file was found!", file=sys.stderr)
        sys.exit(1)
    print("\\n".join(state))
elif arguments[:2] == ["state", "rm"]:
    gone = [one for one in arguments[2:] if not one.startswith("-")]
    state_file.write_text(json.dumps([one for one in state if one not in gone]))
elif arguments[0] == "output":
    answer({{}})
"""


@dataclass(frozen=True)
class Called:
    """One call: its arguments, the configuration in its folder, and the variables in its environment."""

    argv: Sequence[str]
    files: Mapping[str, str]
    variables: Mapping[str, str]
    at: float

    @property
    def root(self) -> dict[str, Any]:
        """The root's configuration."""
        document: dict[str, Any] = json.loads(self.files["main.tf.json"])
        return document


class TerraformDouble:
    """Writes the executable into `folder`, which then goes on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        binary = folder / "terraform"
        binary.write_text(SCRIPT.format(python=sys.executable, home=str(folder)), encoding="utf-8")
        binary.chmod(0o755)
        self.plan([])

    @property
    def path(self) -> str:
        """A PATH on which it comes first."""
        return f"{self.folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

    def plan(self, created: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Let a plan of the module create these: (address below the module, known values)."""
        changes = [
            {
                "address": f"module.tailpipe.{address}",
                "type": address.partition(".")[0],
                "change": {"actions": ["create"], "after": dict(values)},
            }
            for address, values in created
        ]
        (self.folder / "plan.json").write_text(json.dumps(changes), encoding="utf-8")

    def break_at(self, address: str) -> None:
        """Let an apply fail at this resource; empty: at none."""
        (self.folder / "fail").write_text(f"module.tailpipe.{address}" if address else "", encoding="utf-8")

    def hold(self, addresses: Sequence[str]) -> None:
        """Have a state with these resources."""
        held = [f"module.tailpipe.{address}" for address in addresses]
        (self.folder / "state.json").write_text(json.dumps(held), encoding="utf-8")

    def held(self) -> list[str]:
        """Return what the state holds, by addresses below the module."""
        file = self.folder / "state.json"
        return [one.removeprefix("module.tailpipe.") for one in json.loads(file.read_text())] if file.exists() else []

    def calls(self, *verbs: str) -> list[Called]:
        """Return the calls whose first arguments are these."""
        file = self.folder / "calls.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        found = [Called(**json.loads(line)) for line in lines]
        return [one for one in found if list(one.argv[: len(verbs)]) == list(verbs)]
