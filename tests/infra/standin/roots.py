"""Apply a module with the stand-in: one of its examples, or a root module of the test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.infra.planning import CommandResult, Workspace
from tests.infra.standin.publish import AZ, TOKEN, RecordedRequest, serve_azure
from tests.infra.standin.values import SUBSCRIPTION

# The response of the trusted issuer, as curl prints it for the module's script.
_CURL = """\
#!/bin/sh
printf '{"issuer": "https://issuer.example.com"}\\n200 203.0.113.7'
"""
VARIABLES: dict[str, dict[str, str]] = {
    "azure": {"subscription_id": SUBSCRIPTION, "management_group_id": "contoso-root"},
    "gcp": {
        "project_id": "tailpipe-dataexport",
        "organization_id": "123456789012",
        "tailpipe_tenant": "tenant-1",
        "tailpipe_issuer": "https://issuer.example.com",
        "tailpipe_audience": "https://audience.example.com",
    },
}
OUTPUTS = (
    "function_name", "function_id", "function_identity", "destination", "state", "schedule", "connector", "logs",
    "alarms", "settings", "onboarding",
)  # fmt: skip


@dataclass
class Applied:
    """A deployment: the results of its steps, the module's outputs, and the resources in the state."""

    workspace: Workspace
    folder: Path
    steps: dict[str, CommandResult] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    resources: list[dict[str, Any]] = field(default_factory=list)
    requests: list[RecordedRequest] = field(default_factory=list)  # sent to Azure by the module's scripts

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the values of all resources of a type, with the name in the module as `_name`."""
        return [one["values"] | {"_name": one["name"]} for one in self.resources if one["type"] == kind]


def apply(workspace: Workspace, root: str | Mapping[str, Any]) -> Applied:
    """Validate, apply and plan an example (by name) or a root module in JSON that calls `tailpipe_exports`."""
    with serve_azure() as azure:
        sign_in(workspace, azure.endpoint, TOKEN, azure.endpoint)
        applied = apply_signed_in(workspace, root)
        applied.requests = azure.requests
        return applied


def sign_in(workspace: Workspace, endpoint: str, token: str, app: str) -> None:
    """Let the module's scripts find Azure at an address, with a token, and the function app at another."""
    bin_folder = workspace.folder / "bin"
    bin_folder.mkdir()
    for name, script in (("az", AZ), ("curl", _CURL)):
        (bin_folder / name).write_text(script, encoding="utf-8")
        (bin_folder / name).chmod(0o755)
    workspace.environment |= {
        "PATH": f"{bin_folder}:{workspace.path}",
        "STANDIN_ENDPOINT": endpoint,
        "STANDIN_TOKEN": token,
        "FUNCTION_ENDPOINT": app,
    }


def apply_signed_in(workspace: Workspace, root: str | Mapping[str, Any]) -> Applied:
    """Validate, apply and plan a root module whose scripts are signed in."""
    if isinstance(root, str):
        folder = workspace.module / "examples" / root
        workspace.environment |= {f"TF_VAR_{name}": value for name, value in VARIABLES[workspace.cloud].items()}
    else:
        folder = workspace.module / "examples" / "own"
        folder.mkdir()
        (folder / "main.tf.json").write_text(json.dumps(root), encoding="utf-8")
    shown = {f"all_{name}": {"value": f"${{module.tailpipe_exports.{name}}}", "sensitive": True} for name in OUTPUTS}
    (folder / "all_outputs.tf.json").write_text(json.dumps({"output": shown}), encoding="utf-8")
    workspace.init(folder)
    applied = Applied(workspace, folder)
    steps = {
        "validate": ("validate", "-no-color"),
        "apply": ("apply", "-auto-approve", "-no-color"),
        "again": ("plan", "-detailed-exitcode", "-no-color"),
    }
    for name, arguments in steps.items():
        applied.steps[name] = workspace.terraform(folder, *arguments)
    state = json.loads((folder / "terraform.tfstate").read_text(encoding="utf-8"))
    applied.outputs = {name.removeprefix("all_"): one["value"] for name, one in state["outputs"].items()}
    applied.resources = [
        {"type": resource["type"], "name": resource["name"], "values": instance["attributes"]}
        for resource in state["resources"]
        if resource["mode"] == "managed"
        for instance in resource["instances"]
    ]
    return applied
