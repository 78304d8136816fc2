"""Run Terraform on a copy of a module, with real or stand-in providers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.infra import terraform
from tests.infra.standin import published
from tests.infra.standin.provider import Carry, Provider, no_cloud
from tests.limits import HANG_S

REPOSITORY = Path(__file__).resolve().parents[2]
_IGNORED = shutil.ignore_patterns(".terraform", "*.tfstate*", ".terraform.lock.hcl")

# Provider arguments that the examples and tests use; the published schemas contain only resources.
_TEXT, _BOOL = {"type": "string", "optional": True}, {"type": "bool", "optional": True}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "azurerm": {
        "attributes": {
            "subscription_id": _TEXT,
            "storage_use_azuread": _BOOL,
            "resource_provider_registrations": _TEXT,
            "resource_providers_to_register": {"type": ["list", "string"], "optional": True},
        },
        "block_types": {
            "features": {
                "nesting_mode": "list",
                "min_items": 1,
                "max_items": 1,
                "block": {
                    "attributes": {},
                    "block_types": {
                        "storage": {
                            "nesting_mode": "list",
                            "max_items": 1,
                            "block": {"attributes": {"data_plane_available": _BOOL}},
                        }
                    },
                },
            }
        },
    },
    "azuread": {},
    "google": {
        "attributes": {
            "project": _TEXT,
            "region": _TEXT,
            "user_project_override": _BOOL,
            "billing_project": _TEXT,
        }
    },
}


@dataclass(frozen=True)
class CommandResult:
    """The result of a Terraform command: its exit code and its output."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.text}"


@dataclass(frozen=True)
class Refusal:
    """An error of a plan: its message in one line, and file name and line of the violated rule."""

    message: str
    rule: tuple[str, int]


@dataclass
class Workspace:
    """A folder with a copy of one module at its path in the tree, and a package."""

    folder: Path
    cloud: str
    environment: dict[str, str] = field(default_factory=dict)
    init_arguments: Sequence[str] = ()
    path: str = field(default_factory=lambda: os.environ["PATH"])

    def __post_init__(self) -> None:
        shutil.copytree(REPOSITORY / "infra" / self.cloud, self.module, ignore=_IGNORED)
        self.package.parent.mkdir()
        self.package.write_bytes(b"a package")

    @property
    def module(self) -> Path:
        return self.folder / "infra" / self.cloud

    @property
    def package(self) -> Path:
        return self.folder / "dist" / f"tailpipe-exports-{self.cloud}.zip"

    def terraform(self, folder: Path, *arguments: str) -> CommandResult:
        """Run Terraform in a folder, without the user's settings."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_", "TOFU_"))}
        environment = inherited | {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_INPUT": "0"}
        done = subprocess.run(
            [terraform.binary(), *arguments],
            cwd=folder, env=environment | {"HOME": str(self.folder)} | self.environment,
            capture_output=True, text=True, timeout=HANG_S, check=False,
        )  # fmt: skip
        return CommandResult(done.returncode, done.stdout + done.stderr)

    def init(self, folder: Path) -> None:
        """Run `terraform init` in a folder; if it fails, the test fails with its output."""
        done = self.terraform(folder, "init", "-backend=false", "-no-color", *self.init_arguments)
        assert done.code == 0, done

    def refusals(
        self, name: str, root: Mapping[str, Any], cases: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, list[Refusal]]:
        """Plan all cases in one run of Terraform, and return the errors of each case.

        `root` is the rest of the root module in Terraform's JSON; a case has the module's arguments, including
        `providers`. A case without errors has no entry.
        """
        folder = self._root(name, root)
        for case, arguments in cases.items():
            self._call(folder, case, arguments)
        self.init(folder)
        return self._refused(folder)

    def refusals_apart(
        self, name: str, root: Mapping[str, Any], cases: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, list[Refusal]]:
        """Do the same with one run of Terraform for each case, for errors that end the whole plan."""
        folder = self._root(name, root)
        found: dict[str, list[Refusal]] = {}
        for number, (case, arguments) in enumerate(cases.items()):
            self._call(folder, "case", arguments)
            if number == 0:
                self.init(folder)
            found[case] = self._refused(folder)["case"]
        return found

    def _root(self, name: str, root: Mapping[str, Any]) -> Path:
        folder = self.folder / name
        folder.mkdir()
        (folder / "main.tf.json").write_text(json.dumps(root), encoding="utf-8")
        return folder

    def _call(self, folder: Path, case: str, arguments: Mapping[str, Any]) -> None:
        # Terraform reports a failed precondition with its file, not its module, so each case has its own files.
        copy = folder / "modules" / case
        if not copy.exists():
            copy.mkdir(parents=True)
            for file in self.module.glob("*.*"):
                shutil.copy(file, copy)
        called = {"module": {case: {"source": f"./modules/{case}", **arguments}}}
        (folder / f"{case}.tf.json").write_text(json.dumps(called, indent=1), encoding="utf-8")

    def _refused(self, folder: Path) -> dict[str, list[Refusal]]:
        done = self.terraform(folder, "plan", "-json", "-refresh=false", "-lock=false", "-parallelism=8")
        found: dict[str, list[Refusal]] = defaultdict(list)
        for diagnostic in _errors(done.text):
            found[_case(diagnostic)].append(_refusal(diagnostic))
        assert bool(found) == (done.code != 0), done
        return found


def _errors(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("type") == "diagnostic" and event["diagnostic"]["severity"] == "error":
            yield event["diagnostic"]


def _case(diagnostic: Mapping[str, Any]) -> str:
    """Return the case of an error, from the calling file or the folder of the module's copy."""
    file = Path(diagnostic["range"]["filename"])
    return file.parent.name or file.name.removesuffix(".tf.json")


def _refusal(diagnostic: Mapping[str, Any]) -> Refusal:
    message = " ".join(f"{diagnostic['summary']}: {diagnostic.get('detail', '')}".split())
    checked = re.search(r"This was checked by the validation rule at (\S+?):(\d+),", message)
    if checked:
        return Refusal(message, (Path(checked[1]).name, int(checked[2])))
    location = diagnostic.get("range", {})
    return Refusal(message, (Path(location.get("filename", "")).name, int(location.get("start", {}).get("line", 0))))


@contextmanager
def stand_in_providers(workspace: Workspace, cloud: Carry = no_cloud) -> Iterator[Workspace]:
    """Serve stand-ins for all providers of a workspace's module; `cloud` carries out what is applied.

    Skips the test if Terraform or a published schema, which setup.sh downloads, is missing.
    """
    terraform.binary()
    names: dict[str, set[str]] = defaultdict(set)
    for path in workspace.module.glob("*.tf"):
        for kind, name in re.findall(r'^(resource|data) "(\w+)"', path.read_text(encoding="utf-8"), re.MULTILINE):
            names[name.partition("_")[0]].add(f"{kind}.{name}")
    names.pop("terraform", None)  # built into Terraform
    with ExitStack() as stack:
        attached = {}
        for provider, used in sorted(names.items()):
            blocks = published.blocks(provider, used)
            if blocks is None:
                pytest.skip(
                    f"no published schemas of {provider} are installed; run tools/setup.sh test to download them"
                )
            attached[f"hashicorp/{provider}"] = stack.enter_context(
                Provider(blocks, CONFIGURATIONS[provider], cloud)
            ).reattach
        workspace.environment["TF_REATTACH_PROVIDERS"] = json.dumps(attached)
        yield workspace


def rules(workspace: Workspace) -> dict[tuple[str, int], str]:
    """Return every validation and precondition of a module: file name and line → variable or condition."""
    found: dict[tuple[str, int], str] = {}
    for path in workspace.module.glob("*.tf"):
        block = rule = ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.endswith(" {") and not line.startswith(" "):
                block = line
            elif line.strip() in ("validation {", "precondition {"):
                rule = line.split()[0]
                if rule == "validation":
                    found[path.name, number] = f"validation of {block}"
            elif rule == "precondition" and line.lstrip().startswith("condition "):
                # Terraform reports the line of a precondition's condition, but the first line of a validation.
                found[path.name, number] = line.strip()
                rule = ""
    return found
