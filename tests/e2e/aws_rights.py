"""Compare the permissions that infra/aws grants with those that the scenarios used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from localcloud.aws.cloud import LocalAws
from localcloud.aws.iam import grants

KEY = "arn:aws:kms:eu-west-1:111122223333:key/11112222-3333-4444-5555-666677778888"
Use = tuple[str, str]  # an IAM action, and the ARN it was used on
SECRET = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:tailpipe-webhook-AbCdEf"
NAMES = LocalAws().deployment.names(KEY, SECRET)
ACCOUNT = NAMES["account"]
ALL = frozenset({"carbon", "connector", "deliveries", "fleet", "kms", "management", "members", "notify", "units"})
# Names and ids that identify a resource of this deployment.
OWN = {
    NAMES[one]
    for one in (
        "bucket",
        "connector_role",
        "deliveries",
        "events_queue",
        "failed_queue",
        "function_name",
        "stackset_name",
        "tenant_role",
    )
}
OWN |= {f"{NAMES['deliveries']}.fifo", KEY.rpartition("/")[2], SECRET.rpartition(":")[2]}


def granted(
    file: Path = grants.RIGHTS, holder: str = "function", conditions: Collection[str] = ALL
) -> list[dict[str, Any]]:
    """Return a holder's grants under `conditions`, with the names of the scenarios' deployment."""
    with_names = json.loads(grants.policy(holder, NAMES, conditions, file))
    return list(with_names["Statement"])


def superfluous(
    used: set[Use], file: Path = grants.RIGHTS, holder: str = "function", conditions: Collection[str] = ALL
) -> list[str]:
    """Return the actions and resources of each grant that no scenario needed."""
    found: list[str] = []
    for grant in granted(file, holder, conditions):
        covered = {
            (action, pattern)
            for action, arn in used
            for pattern in grant["Resource"]
            if action in grant["Action"] and fnmatchcase(arn, pattern)
        }
        idle = [action for action in grant["Action"] if action not in {one for one, _ in covered}]
        unreached = [pattern for pattern in grant["Resource"] if pattern not in {one for _, one in covered}]
        found += [f"{grant['Sid']}: {action}" for action in idle]
        found += [f"{grant['Sid']}: on {pattern}" for pattern in unreached]
    return found


def missing(
    used: set[Use], file: Path = grants.RIGHTS, holder: str = "function", conditions: Collection[str] = ALL
) -> list[str]:
    """Return the used permissions that no grant allows."""
    return sorted(
        f"{action} on {arn}"
        for action, arn in used
        if not any(
            action in grant["Action"] and any(fnmatchcase(arn, pattern) for pattern in grant["Resource"])
            for grant in granted(file, holder, conditions)
        )
    )


def beyond(file: Path = grants.RIGHTS, holder: str = "function") -> set[str]:
    """Return the resources, with their grants, that name no resource of the deployment."""
    return {
        f"{grant['Sid']}: on {pattern}"
        for grant in granted(file, holder)
        for pattern in grant["Resource"]
        if not OWN & set(re.split("[:/]", pattern))
    }


def changed(folder: Path, change: Callable[[list[dict[str, Any]]], None], holder: str = "function") -> Path:
    """Return a copy of rights.yaml in which a holder's grants were changed."""
    document = yaml.safe_load(grants.RIGHTS.read_text(encoding="utf-8"))
    change(document[holder])
    copy = folder / "rights.yaml"
    copy.write_text(yaml.safe_dump(document), encoding="utf-8")
    return copy
