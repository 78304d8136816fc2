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
# It is called thousands of times: without `site` and `pathlib`, it starts in a third of the time.
SCRIPT = """#!{python} -IS
import json, os, sys, time

home = {home!r}
arguments = sys.argv[1:]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def read_own(name):
    return json.loads(read(os.path.join(home, name))) if os.path.exists(os.path.join(home, name)) else None


def write(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)


files = {{name: read(name) for name in sorted(os.listdir()) if name.endswith(".json")}}
if json.loads(files.get("main.tf.json", "{{}}")).get("module", {{}}).get("tailpipe", {{}}).get("source") == "./rules":
    sys.exit(0)  # validates the values; the real Terraform does so in other tests
variables = {{name: value for name, value in os.environ.items() if name.startswith("TF_VAR_")}}
call = {{"argv": arguments, "files": files, "variables": variables, "at": time.time(), "monotonic": time.monotonic()}}
planned_before = []
scripted = read_own("answer-" + arguments[0] + ".json")
if arguments[0] == "apply" and scripted is None:
    planned = json.loads(read(arguments[-1]))["resource_changes"]
    planned_before = [one for one in planned if one["change"]["actions"] != ["no-op"]]
call["applied"] = [one["address"] for one in planned_before]
with open(os.path.join(home, "calls.jsonl"), "a", encoding="utf-8") as log:
    log.write(json.dumps(call) + "\\n")

if scripted is not None:
    sys.stdout.write(scripted["out"])
    sys.stderr.write(scripted["err"])
    sys.exit(scripted["code"])

state_file = os.path.join(home, "state.json")
state = read_own("state.json")
root = json.loads(files.get("main.tf.json", "{{}}"))
imports = {{one["to"]: one["id"] for one in json.loads(files.get("imports.tf.json", "{{}}")).get("import", ())}}


def changes():
    if "module" not in root:
        gone = {{"mode": "managed", "change": {{"actions": ["delete"], "after": None}}}}
        return [{{**gone, "address": one, "type": one.split(".")[2]}} for one in state or ()]
    planned = []
    for one in read_own("plan.json"):
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
    write(out, {{**read_own("document.json"), "resource_changes": changes()}})
elif arguments[0] == "show":
    print(read(arguments[-1]))
elif arguments[0] == "apply":
    held = list(state or ())
    fault = read_own("fail.json") or {{}}
    for one in planned_before:
        address, actions = one["address"], one["change"]["actions"]
        if fault.get("address") == address:
            answer({{"type": "diagnostic", "diagnostic": fault}})
            write(state_file, held)
            sys.exit(1)
        if actions == ["delete"]:
            held.remove(address)
        elif address not in held:
            held.append(address)
        answer({{"type": "apply_complete", "@message": address + ": done"}})
    write(state_file, held)
elif arguments[:2] == ["state", "list"]:
    if state is None:
        print("No state file was found!", file=sys.stderr)
        sys.exit(1)
    print("\\n".join(state))
elif arguments[:2] == ["state", "rm"]:
    gone = [one for one in arguments[2:] if not one.startswith("-")]
    write(state_file, [one for one in state if one not in gone])
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
