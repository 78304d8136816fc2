"""A `terraform` that only writes down what it is asked, and answers what a test has laid out for it.

The azurerm and azuread providers are not at hand where the tests run; everything else of a deployment is real.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """#!{python}
import json, os, pathlib, sys, time
home = pathlib.Path({home!r})
arguments = sys.argv[1:]
here = {{path.name: path.read_text() for path in sorted(pathlib.Path.cwd().glob("*.json"))}}
variables = {{name: value for name, value in os.environ.items() if name.startswith("TF_VAR_")}}
line = {{"at": time.monotonic(), "arguments": arguments, "files": here, "variables": variables}}
with open(home / "log.jsonl", "a") as log:
    log.write(json.dumps(line) + "\\n")
verb = arguments[0]
if verb == "version":
    print(json.dumps({{"terraform_version": "1.11.4"}}))
elif verb == "plan":
    out = next(one.partition("=")[2] for one in arguments if one.startswith("-out="))
    pathlib.Path(out).write_text("a plan")
elif verb == "show":
    plans = sorted(home.glob("plan-*.json"))
    print(plans[0].read_text())
    if len(plans) > 1:
        plans[0].unlink()
elif verb == "apply":
    print((home / "apply.jsonl").read_text(), end="")
    sys.exit(int((home / "apply.code").read_text()))
elif arguments[:2] == ["state", "list"]:
    print((home / "state.txt").read_text(), end="")
elif arguments[:2] == ["state", "rm"]:
    gone = set(arguments[2:])
    held = (home / "state.txt").read_text().split()
    (home / "state.txt").write_text("".join(one + "\\n" for one in held if one not in gone))
"""


class FakeTerraform:
    """What was asked of it, and what it answers next."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._home = folder / "terraform-home"
        programs = folder / "programs"
        for made in (self._home, programs):
            made.mkdir()
        script = programs / "terraform"
        script.write_text(SCRIPT.format(python=sys.executable, home=str(self._home)), encoding="utf-8")
        script.chmod(0o700)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("TF_PLUGIN_CACHE_DIR", str(folder))
        self.plans([])
        self.applied()
        self.state([])

    def plans(self, *each: Sequence[dict[str, Any]]) -> None:
        """Answer these resource changes to one plan after another; the last one again and again."""
        for number, changes in enumerate(each):
            text = json.dumps({"resource_changes": list(changes)})
            (self._home / f"plan-{number}.json").write_text(text, encoding="utf-8")

    def applied(self, *lines: dict[str, Any], code: int = 0) -> None:
        """Answer `apply` with these lines and this exit code."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self._home / "apply.jsonl").write_text(text, encoding="utf-8")
        (self._home / "apply.code").write_text(str(code), encoding="utf-8")

    def state(self, addresses: Sequence[str]) -> None:
        """Hold these addresses."""
        (self._home / "state.txt").write_text("".join(f"{one}\n" for one in addresses), encoding="utf-8")

    def held(self) -> list[str]:
        """Return the addresses that are left."""
        return (self._home / "state.txt").read_text(encoding="utf-8").split()

    def calls(self, verb: str = "") -> list[dict[str, Any]]:
        """Return the calls of a verb, or all: `arguments`, `files`, `variables` and when (`at`, monotonic seconds)."""
        log = self._home / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        found = [json.loads(line) for line in lines]
        return [one for one in found if verb in ("", " ".join(one["arguments"][:2]), one["arguments"][0])]

    def root(self) -> dict[str, Any]:
        """Return the root configuration of the last plan."""
        found: dict[str, Any] = json.loads(self.calls("plan")[-1]["files"]["main.tf.json"])
        return found


def change(address: str, importing: bool = False, actions: Sequence[str] = ("create",), **after: Any) -> dict[str, Any]:
    """Return one resource change as `terraform show -json` has it; `address` is below the module."""
    return {
        "address": f"module.tailpipe.{address}",
        "mode": "managed",
        "type": address.partition(".")[0],
        "change": {
            "actions": list(actions),
            "after": after,
            "after_sensitive": {},
            **({"importing": {"id": "any"}} if importing else {}),
        },
    }
