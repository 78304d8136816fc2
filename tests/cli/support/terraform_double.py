"""A `terraform` for the tests: plans what a test sets, keeps a state, and records its calls.

Most machines that run the tests have no provider; everything else of a deployment is real.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULE = "module.tailpipe."
SCRIPT = """#!{python}
import json, os, pathlib, sys, time

home = pathlib.Path({home!r})
arguments = sys.argv[1:]
here = pathlib.Path.cwd()
files = {{one.name: one.read_text() for one in sorted(here.glob("*.json"))}}
if json.loads(files.get("main.tf.json", "{{}}")).get("module", {{}}).get("tailpipe", {{}}).get("source") == "./rules":
    sys.exit(0)  # validates the values; the real Terraform does so in other tests
variables = {{name: value for name, value in os.environ.items() if name.startswith("TF_VAR_")}}
call = {{"argv": arguments, "files": files, "variables": variables, "at": time.time(), "monotonic": time.monotonic()}}
planned_before = []
scripted = home / ("answer-" + arguments[0] + ".json")
if arguments[0] == "apply" and not scripted.exists():
    planned = json.loads(pathlib.Path(arguments[-1]).read_text())["resource_changes"]
    planned_before = [one for one in planned if one["change"]["actions"] != ["no-op"]]
call["applied"] = [one["address"] for one in planned_before]
with (home / "calls.jsonl").open("a") as log:
    log.write(json.dumps(call) + "\\n")

if scripted.exists():
    told = json.loads(scripted.read_text())
    sys.stdout.write(told["out"])
    sys.stderr.write(told["err"])
    sys.exit(told["code"])

state_file = home / "state.json"
state = json.loads(state_file.read_text()) if state_file.exists() else None
root = json.loads(files.get("main.tf.json", "{{}}"))
imports = {{one["to"]: one["id"] for one in json.loads(files.get("imports.tf.json", "{{}}")).get("import", ())}}


def changes():
    if "module" not in root:
        gone = {{"mode": "managed", "change": {{"actions": ["delete"], "after": None}}}}
        return [{{**gone, "address": one, "type": one.split(".")[2]}} for one in state or ()]
    planned = []
    for one in json.loads((home / "plan.json").read_text()):
        created = one["change"]["actions"] == ["create"]
        later = one.pop("later", {{}})
        if imports:
            one["change"]["after"] |= later
        if created and one["address"] in (state or ()):
            one["change"]["actions"] = ["no-op"]
            created = False
        if created and one["address"] in imports:
            one["change"] |= {{"actions": ["update"], "importing": {{"id": imports[one["address"]]}}}}
        planned.append(one)
    return planned


def answer(document):
    print(json.dumps(document))


if arguments[0] == "version":
    answer({{"terraform_version": "1.11.4"}})
elif arguments[0] == "plan":
    out = next(one for one in arguments if one.startswith("-out=")).removeprefix("-out=")
    told = json.loads((home / "document.json").read_text())
    pathlib.Path(out).write_text(json.dumps({{**told, "resource_changes": changes()}}))
elif arguments[0] == "show":
    print(pathlib.Path(arguments[-1]).read_text())
elif arguments[0] == "apply":
    held = list(state or ())
    broken = home / "fail.json"
    fault = json.loads(broken.read_text()) if broken.exists() else {{}}
    for one in planned_before:
        address, actions = one["address"], one["change"]["actions"]
        if fault.get("address") == address:
            answer({{"type": "diagnostic", "diagnostic": fault}})
            state_file.write_text(json.dumps(held))
            sys.exit(1)
        if actions == ["delete"]:
            held.remove(address)
        elif address not in held:
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
    """One call: its arguments, the configuration in its folder, and its environment variables.

    `at` and `monotonic` are seconds of the two clocks; `applied` has the addresses of the applied plan.
    """

    argv: Sequence[str]
    files: Mapping[str, str]
    variables: Mapping[str, str]
    at: float
    monotonic: float
    applied: Sequence[str]

    @property
    def root(self) -> dict[str, Any]:
        """The root module's configuration."""
        document: dict[str, Any] = json.loads(self.files["main.tf.json"])
        return document

    @property
    def values(self) -> dict[str, Any]:
        """The given variables of the module by name."""
        return {name.removeprefix("TF_VAR_"): json.loads(value) for name, value in self.variables.items()}

    @property
    def imports(self) -> dict[str, str]:
        """The imported ids by address below the module."""
        document = json.loads(self.files.get("imports.tf.json", "{}"))
        return {one["to"].removeprefix(MODULE): one["id"] for one in document.get("import", ())}


def change(
    address: str, actions: Sequence[str] = ("create",), later: Mapping[str, Any] | None = None, **after: Any
) -> dict[str, Any]:
    """Return a resource change as in `terraform show -json`; `address` is below the module.

    `later` has values that are known only after an import, such as the id of the parent resource.
    """
    return {
        "address": f"{MODULE}{address}",
        "mode": "managed",
        "type": address.partition(".")[0],
        "change": {"actions": list(actions), "after": after, "after_sensitive": {}},
        "later": dict(later or {}),
    }


class TerraformDouble:
    """Writes the executable into `folder`, which must be added to the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        binary = folder / "terraform"
        binary.write_text(SCRIPT.format(python=sys.executable, home=str(folder)), encoding="utf-8")
        binary.chmod(0o755)
        self.plan([])
        self.document()

    @property
    def path(self) -> str:
        """A PATH that starts with the double's folder."""
        return f"{self.folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

    def plan(self, changes: Sequence[Mapping[str, Any]]) -> None:
        """Set the changes of the module's plan; resources in the state are kept, imported ones adopted."""
        (self.folder / "plan.json").write_text(json.dumps(list(changes)), encoding="utf-8")

    def document(
        self, granted: Mapping[str, Sequence[str]] | None = None, version: str = "1.2", **more: object
    ) -> None:
        """Set the version and the granted ids by identity in plans; None means that they are not known yet."""
        output = {"after_unknown": True} if granted is None else {"after": granted, "after_unknown": False}
        told = {"format_version": version, "output_changes": {"granted": output}, **more}
        (self.folder / "document.json").write_text(json.dumps(told), encoding="utf-8")

    def break_at(self, address: str, summary: str = "it broke", detail: str = "on purpose") -> None:
        """Let an apply fail at this resource; an empty address disables this."""
        fault = {"severity": "error", "summary": summary, "detail": detail, "address": f"{MODULE}{address}"}
        (self.folder / "fail.json").write_text(json.dumps(fault if address else {}), encoding="utf-8")

    def answer(self, verb: str, out: str = "", err: str = "", code: int = 0) -> None:
        """Let every call of a verb only return this."""
        text = json.dumps({"out": out, "err": err, "code": code})
        (self.folder / f"answer-{verb}.json").write_text(text, encoding="utf-8")

    def hold(self, addresses: Sequence[str]) -> None:
        """Create a state with these resources."""
        held = [f"{MODULE}{address}" for address in addresses]
        (self.folder / "state.json").write_text(json.dumps(held), encoding="utf-8")

    def held(self) -> list[str]:
        """Return the resources in the state, by address below the module."""
        file = self.folder / "state.json"
        return [one.removeprefix(MODULE) for one in json.loads(file.read_text())] if file.exists() else []

    def calls(self, *verbs: str) -> list[Called]:
        """Return the calls that start with these arguments."""
        file = self.folder / "calls.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        found = [Called(**json.loads(line)) for line in lines]
        return [one for one in found if list(one.argv[: len(verbs)]) == list(verbs)]
