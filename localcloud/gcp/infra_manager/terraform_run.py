"""One run of Terraform on a blueprint, in a folder of its own: plan, apply or destroy."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STATE = "terraform.tfstate"
_PLAN = "plan.bin"
_VALUES = "infra-manager.auto.tfvars.json"
_HANG_S = 600
# A blueprint must not say where its state is kept ("Terraform and Infrastructure Manager", constraints).
_BACKEND = re.compile(r'^\s*backend\s+"|"backend"\s*:', re.MULTILINE)
_HTTP = re.compile(r"googleapi: Error (\d{3})")


@dataclass(frozen=True)
class Run:
    """What a run did. `problems` are TerraformError documents; `plan` is the plan in Terraform's JSON form."""

    state: bytes
    problems: Sequence[dict[str, Any]] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)
    binary_plan: bytes = b""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""

    @property
    def resources(self) -> list[tuple[str, str, str]]:
        """Return address, type and id of each managed resource in the state after the run."""
        return list(_resources(json.loads(self.state))) if self.state else []


def binary() -> str | None:
    """Return the path of Terraform or OpenTofu, or None."""
    return shutil.which("terraform") or shutil.which("tofu")


def run(
    verb: str, blueprint: bytes, values: Mapping[str, Any], state: bytes, environment: Mapping[str, str], parent: Path
) -> Run:
    """Run Terraform: `verb` is ``plan``, ``plan-destroy``, ``apply`` or ``destroy``.

    `blueprint` is a zip file whose root is the root module, `values` are its variables. Nothing is raised for a
    blueprint that fails: the run has problems then.
    """
    with tempfile.TemporaryDirectory(dir=parent, prefix="terraform-") as name:
        return _Runner(Path(name), environment).run(verb, blueprint, values, state)


class _Runner:
    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {
            **environment,
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "TF_DATA_DIR": str(folder / ".terraform"),
        }
        self._log: list[str] = []
        self._problems: list[dict[str, Any]] = []

    def run(self, verb: str, blueprint: bytes, values: Mapping[str, Any], state: bytes) -> Run:
        plan: dict[str, Any] = {}
        outputs: dict[str, Any] = {}
        if state:
            (self._folder / STATE).write_bytes(state)
        if self._unpack(blueprint, values) and self._init():
            destroys = ("-destroy",) if verb.endswith("destroy") else ()
            if self._terraform("plan", "-json", f"-out={_PLAN}", *destroys):
                plan = json.loads(self._output("show", "-json", _PLAN))
                if verb in ("apply", "destroy"):
                    self._terraform("apply", "-json", _PLAN)
                    outputs = json.loads(self._output("output", "-json") or "{}")
        return Run(
            state=_read(self._folder / STATE) or state,
            problems=self._problems[:10],  # "Errors are truncated to 10 entries" (discovery document)
            plan=plan,
            binary_plan=_read(self._folder / _PLAN),
            outputs=outputs,
            log="".join(self._log),
        )

    def _unpack(self, blueprint: bytes, values: Mapping[str, Any]) -> bool:
        try:
            with zipfile.ZipFile(io.BytesIO(blueprint)) as archive:
                archive.extractall(self._folder)
        except zipfile.BadZipFile:
            return self._fail("The blueprint is not a zip file.")
        files = [*self._folder.glob("*.tf"), *self._folder.glob("*.tf.json")]
        if not files:
            return self._fail("The blueprint has no Terraform configuration files at its root.")
        if any(_BACKEND.search(path.read_text(encoding="utf-8")) for path in files):
            return self._fail("The blueprint defines a backend, which Infrastructure Manager does not support.")
        (self._folder / _VALUES).write_text(json.dumps(values), encoding="utf-8")
        return True

    def _init(self) -> bool:
        done = self._call("init", "-no-color")
        return done.returncode == 0 or self._fail(" ".join(done.stderr.split()) or "terraform init failed")

    def _fail(self, what: str) -> bool:
        self._problems.append({"errorDescription": what})
        return False

    def _terraform(self, *arguments: str) -> bool:
        """Run a command with ``-json``, keep its errors, and return whether it succeeded."""
        done = self._call(*arguments)
        found = list(_errors(done.stdout))
        if done.returncode and not found:
            found = [{"errorDescription": " ".join(done.stderr.split()) or f"terraform {arguments[0]} failed"}]
        self._problems += found
        return done.returncode == 0

    def _output(self, *arguments: str) -> str:
        return self._call(*arguments, logged=False).stdout

    def _call(self, *arguments: str, logged: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [binary() or "terraform", *arguments],
            cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=_HANG_S, check=False,
        )  # fmt: skip
        if logged:
            self._log += (done.stdout, done.stderr)
        return done


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _errors(text: str) -> Iterator[dict[str, Any]]:
    """Yield a TerraformError for each error among the lines of ``-json``."""
    for line in text.splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        diagnostic = event.get("diagnostic") or {}
        if event.get("type") != "diagnostic" or diagnostic.get("severity") != "error":
            continue
        described = f"{diagnostic.get('summary', '')}: {diagnostic.get('detail', '')}".rstrip(": ")
        found: dict[str, Any] = {"errorDescription": described}
        if diagnostic.get("address"):
            found["resourceAddress"] = diagnostic["address"]
        if code := _HTTP.search(described):
            found["httpResponseCode"] = int(code[1])
        yield found


def _resources(state: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for one in state.get("resources", ()):
        if one.get("mode") != "managed":
            continue
        start = f"{one['module']}." if one.get("module") else ""
        for instance in one.get("instances", ()):
            key = instance.get("index_key")
            index = "" if key is None else f"[{json.dumps(key)}]"
            identifier = str((instance.get("attributes") or {}).get("id") or "")
            yield f"{start}{one['type']}.{one['name']}{index}", str(one["type"]), identifier
