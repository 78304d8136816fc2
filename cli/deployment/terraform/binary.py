"""Runs Terraform or OpenTofu as a child process: init, plan, apply, state."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.deployment.model import Change, OperatorError, Problem
from shared.redaction import MASK

BINARIES = ("terraform", "tofu")
OLDEST = (1, 5)
LINES_OF_A_FAILURE = 40
PLAN_FORMATS = ("1",)
STAYING = frozenset({"create", "update", "no-op"})
# The root's output with the ids of the module's grants.
GRANTED = "granted"
# The position of an error in our root module, a file that the operator never sees.
FRAME = re.compile(r"on .+ line \d+|\d+: |This was checked by the validation rule at ")
VARIABLE = re.compile(r'\d+: +"(\w+)": ')
UNSUITABLE = re.compile(r"^The given value is not suitable for .+?: (?:an? )?(.+?)(?: is)? required\.$")


def find() -> str:
    """Return the path of `terraform` or `tofu`. Raises OperatorError if neither is found."""
    for name in BINARIES:
        found = shutil.which(name)
        if found:
            return found
    raise OperatorError(
        Problem(
            "neither terraform nor tofu is on the PATH",
            "Install Terraform 1.5 or newer, or OpenTofu: https://developer.hashicorp.com/terraform/install or "
            "https://opentofu.org/docs/intro/install",
        )
    )


@dataclass(frozen=True)
class Plan:
    """A saved plan: its file and its changes, without no-ops.

    `types` are the types of all managed resources after the apply, one for each resource. `granted` are the ids of the
    module's grants by holder; None if they are not known before the apply.
    """

    file: Path
    changes: tuple[Change, ...]
    types: tuple[str, ...] = ()
    granted: Mapping[str, Sequence[str]] | None = None

    @property
    def empty(self) -> bool:
        return not self.changes


class Terraform:
    """Runs the binary in one folder.

    `environment` is added to this process's own: values of variables are passed in it, since every user of the machine
    can read command lines. Every method raises OperatorError with Terraform's own diagnostics. `secrets` are values
    that are masked in its output.
    """

    def __init__(
        self, binary: str, folder: Path, environment: Mapping[str, str], secrets: Collection[str] = ()
    ) -> None:
        self._binary = binary
        self._folder = folder
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)
        self._environment = {
            **os.environ,
            **environment,
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "TF_DATA_DIR": str(folder / ".terraform"),
            "CHECKPOINT_DISABLE": "1",
        }

    def version(self) -> tuple[int, ...]:
        """Return major and minor version. Raises OperatorError if it is older than the modules need."""
        answer = json.loads(self._run(["version", "-json"]) or "{}")
        version = str(answer.get("terraform_version", ""))
        parts = version.split(".")
        known = tuple(int(part) for part in parts[:2] if part.isdigit())
        if known < OLDEST:
            raise OperatorError(
                Problem(
                    f"{self._binary} is version {version or 'unknown'}", "Install Terraform 1.5 or newer, or OpenTofu."
                )
            )
        return known

    def init(self) -> None:
        """Install the providers and open the backend."""
        try:
            self._run(["init", "-no-color", "-reconfigure"])
        except OperatorError as error:
            raise OperatorError(
                *error.problems,
                Problem(
                    "terraform init did not succeed",
                    "It fetches the providers and opens the state: see that the registry or your mirror can be "
                    "reached, and that you may read the state; TF_CLI_ARGS_init and a CLI configuration file are "
                    "honored.",
                ),
            ) from error

    def check(self) -> None:
        """Plan a root without resources, which needs no provider, only to evaluate its rules."""
        self._run(["init", "-no-color", "-reconfigure"])
        self._run(["plan", "-no-color", "-lock=false"])

    def plan(self, arguments: Sequence[str] = ()) -> Plan:
        """Plan and read the plan back."""
        file = self._folder / "plan.bin"
        self._run(["plan", "-no-color", "-lock-timeout=60s", f"-out={file}", *arguments])
        document = json.loads(self._run(["show", "-json", str(file)]))
        _require_known_format(document)
        return Plan(file, tuple(changes_of(document)), tuple(types_of(document)), granted_in(document))

    def apply(self, plan: Plan, tell: Callable[[str], None]) -> None:
        """Apply a plan, and show each resource when it is done.

        Resources created before a failure remain in the state.
        """
        command = [self._binary, "apply", "-json", "-no-color", "-lock-timeout=60s", str(plan.file)]
        problems: list[Problem] = []
        with self._begun(command, subprocess.STDOUT) as child:
            for line in child.stdout or ():
                problems += _show_line(self._masked(line), tell)
        if child.returncode != 0:
            raise OperatorError(*(problems or [Problem(f"terraform apply ended with {child.returncode}")]))

    def outputs(self) -> dict[str, Any]:
        """Return the root's outputs, including secret ones."""
        document = json.loads(self._run(["output", "-json"]) or "{}")
        return {name: one["value"] for name, one in document.items()}

    def addresses(self) -> list[str]:
        """Return the addresses in the state; empty without a state."""
        try:
            return self._run(["state", "list"]).split()
        except OperatorError as error:
            if any("No state file was found" in fault.what for fault in error.problems):
                return []
            raise

    def forget(self, addresses: Sequence[str]) -> None:
        """Remove resources from the state without changing them in the cloud."""
        if addresses:
            self._run(["state", "rm", "-lock-timeout=60s", *addresses])

    def _run(self, arguments: Sequence[str]) -> str:
        with self._begun([self._binary, *arguments], subprocess.PIPE) as child:
            out, err = child.communicate()
        if child.returncode != 0:
            raise OperatorError(*_diagnostics(self._masked(err or out), arguments[0]))
        return out

    def _masked(self, text: str) -> str:
        """Return Terraform's output without the secrets that a provider may quote, also in their JSON form."""
        for secret in self._secrets:
            for written in (secret, json.dumps(secret)[1:-1]):
                text = text.replace(written, MASK)
        return text

    @contextmanager
    def _begun(self, command: Sequence[str], stderr: int) -> Iterator[subprocess.Popen[str]]:
        """Yield the running binary; leaving the block early interrupts it once and waits until its state is saved."""
        with subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            errors="replace",
            # A state or plan in a folder of the operator's holds secrets.
            umask=0o077,
            # A terminal interrupts the whole process group, and a second interrupt makes Terraform abort.
            process_group=0,
        ) as child:
            try:
                yield child
            except BaseException:
                _interrupt(child)
                raise


def _require_known_format(document: Mapping[str, Any]) -> None:
    """Raise OperatorError for a plan whose JSON form has another major version, which this version cannot read.

    Source: "JSON Output Format" of Terraform's documentation (`format_version`).
    """
    version = str(document.get("format_version", ""))
    if version.partition(".")[0] not in PLAN_FORMATS:
        raise OperatorError(
            Problem(
                f"the plan is in format {version or 'unknown'}, and this command reads "
                f"{' and '.join(f'{one}.x' for one in PLAN_FORMATS)}",
                "Use another version of Terraform or OpenTofu, or a newer version of this command.",
            )
        )


def types_of(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the type of each managed resource after the plan is applied."""
    for one in document.get("resource_changes", ()):
        if one.get("mode") == "managed" and set(one.get("change", {}).get("actions", ())) & STAYING:
            yield str(one["type"])


def granted_in(document: Mapping[str, Any], output: str = GRANTED) -> dict[str, list[str]] | None:
    """Return the ids of the grants by holder from the root's output; None if the plan does not know them."""
    change = document.get("output_changes", {}).get(output, {})
    after = change.get("after")
    return None if not isinstance(after, dict) or change.get("after_unknown") else dict(after)


def changes_of(document: Mapping[str, Any]) -> Iterator[Change]:
    """Yield the changes of a plan in Terraform's JSON form, without sensitive values.

    Source: "JSON Output Format" of Terraform's documentation (`resource_changes`).
    """
    for one in document.get("resource_changes", ()):
        change = one.get("change", {})
        actions = tuple(change.get("actions", ()))
        importing = change.get("importing") is not None
        if one.get("mode") != "managed" or (actions == ("no-op",) and not importing):
            continue
        hidden = change.get("after_sensitive") or {}
        after = {name: value for name, value in (change.get("after") or {}).items() if not _sensitive(hidden, name)}
        yield Change(one["address"], one["type"], actions, after, importing)


def _interrupt(child: subprocess.Popen[str]) -> None:
    """Let the binary finish its work; another interrupt meanwhile kills it."""
    child.send_signal(signal.SIGINT)
    try:
        # Its output must be read to the end: a full pipe would block or kill it.
        child.communicate()
    except BaseException:
        child.kill()
        raise


def _sensitive(hidden: Any, name: str) -> bool:
    return bool(hidden.get(name)) if isinstance(hidden, dict) else bool(hidden)


def _show_line(line: str, tell: Callable[[str], None]) -> Iterator[Problem]:
    """Show one line of `apply -json`, and yield the problems in it."""
    try:
        document = json.loads(line)
    except ValueError:
        return
    kind = document.get("type")
    if kind in ("apply_complete", "apply_errored"):
        tell(str(document.get("@message", "")))
    if kind == "diagnostic" and document.get("diagnostic", {}).get("severity") == "error":
        found = document["diagnostic"]
        where = f"{found['address']}: " if found.get("address") else ""
        yield Problem(f"{where}{found.get('summary', '')}. {found.get('detail', '')}".strip())


def _diagnostics(text: str, verb: str) -> Iterable[Problem]:
    """Return Terraform's errors, one problem each, without frames."""
    lines = [line.strip().lstrip("│╷╵").strip() for line in text.splitlines()]
    found: list[list[str]] = []  # the variable that is refused or "", and the lines; none of a warning
    values = False
    for line in lines:
        # The root module is ours and already deleted: its lines, and the values in them, do not help the operator.
        values = bool(line) and (values or line.startswith("├"))
        if found and (named := VARIABLE.match(line)):
            found[-1][0] = named[1]
        if values or FRAME.match(line):
            continue
        if line.startswith("Error: "):
            found.append(["", line.removeprefix("Error: ")])
        elif line.startswith("Warning: "):
            found.append([""])
        elif found and found[-1][1:] and line:
            found[-1].append(line)
    problems = [_problem(title, " ".join(detail), name) for name, title, *detail in (one for one in found if one[1:])]
    return problems or [Problem(f"terraform {verb}: " + " ".join(line for line in lines[-LINES_OF_A_FAILURE:] if line))]


def _problem(title: str, detail: str, variable: str) -> Problem:
    """Return an error of Terraform's; of a refused value, what to write instead is the remedy."""
    if variable and title.startswith("Invalid value for "):
        return Problem(f"{variable} is refused", UNSUITABLE.sub(r"Write it as a \1.", detail))
    return Problem(f"{title}. {detail}" if detail else title)
