"""What a module may do, `rights.yaml`: each grant says what, why and where, and none is wider than its parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tools.infra.fault import Fault

_KEYS = frozenset({"id", "why", "when", "scope", "role", "actions", "data_actions", "resources", "condition"})
# Where each holder may be given a right: a scope that the module does not know would be bound nowhere. A grant in AWS
# names its resources instead.
_SCOPES = {
    "azure": {
        "function": {"management_group", "destination_subscription", "destination", "state", "telemetry"},
        "connector": {"management_group", "destination_container"},
        "policy": {"management_group", "destination"},
    },
    "gcp": {
        holder: {"project", "dataset", "export_bucket", "state_bucket", "organization", "billing_account"}
        for holder in ("function", "connector")
    },
}
_SENTENCE = re.compile(r"^\S+(\s+\S+){3,}.*\.$", re.DOTALL)


def faults(module: Path) -> Iterator[Fault]:
    """Yield the grants that break the form; a missing file is told by the comparison of the modules."""
    path = module / "rights.yaml"
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    try:
        said = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        yield Fault(path, mark.line + 1 if mark else 1, "is no valid YAML")
        return
    if not isinstance(said, dict) or not {"function", "connector"} <= set(said):
        yield Fault(path, 1, "has no lists function and connector")
        return
    seen: set[str] = set()
    for holder, grants in said.items():
        seen.clear()
        for grant in grants or []:
            name = str(grant.get("id", ""))
            line = _line(text, name)
            for what in [*_grant_faults(grant), *_place_faults(grant, module.name, holder)]:
                yield Fault(path, line, f"{holder}: {name or 'a grant'} {what}")
            if name in seen:
                yield Fault(path, line, f"{holder}: {name} is there twice")
            seen.add(name)


def _grant_faults(grant: dict[str, Any]) -> Iterator[str]:
    if not grant.get("id"):
        yield "has no id"
    if not _SENTENCE.match(str(grant.get("why", "")).strip()):
        yield "does not say why in a sentence"
    for key in sorted(set(grant) - _KEYS):
        yield f"has an unknown key {key}"
    actions = [*(grant.get("actions") or []), *(grant.get("data_actions") or [])]
    if bool(grant.get("role")) == bool(actions):
        yield "names either a role or actions, one of the two"
    for action in actions:
        if "*" in str(action):
            yield f"grants {action}; write out what is used"


def _place_faults(grant: dict[str, Any], cloud: str, holder: str) -> Iterator[str]:
    scopes = _SCOPES.get(cloud)
    if scopes is None:
        if grant.get("scope"):
            yield "has a scope, where the module takes resources"
        if bool(grant.get("role")) == bool(grant.get("resources")):
            yield "does not name its resources"
        return
    if grant.get("scope") not in scopes.get(holder, set()):
        known = ", ".join(sorted(scopes.get(holder, set()))) or "none"
        yield f"has the scope {grant.get('scope')}, which the module binds nowhere; it knows {known}"


def _line(text: str, name: str) -> int:
    found = re.search(rf"^\s*-?\s*id:\s*[\"']?{re.escape(name)}[\"']?\s*$", text, re.MULTILINE) if name else None
    return text.count("\n", 0, found.start()) + 1 if found else 1
