"""The rights that infra/aws grants, and what tells them apart from those that were used."""

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
ALL = frozenset({"carbon", "connector", "kms", "management", "members", "notify", "units"})
# What names a thing of the deployment, and nobody else's.
OWN = {
    NAMES[one] for one in ("bucket", "function_name", "stackset_name", "connector_role", "failed_queue", "events_queue")
}
OWN |= {KEY.rpartition("/")[2], SECRET.rpartition(":")[2]}


def granted(
    file: Path = grants.RIGHTS, holder: str = "function", conditions: Collection[str] = ALL
) -> list[dict[str, Any]]:
    """Return a holder's grants that hold under `conditions`, their names filled in as in the stories."""
    with_names = json.loads(grants.policy(holder, NAMES, conditions, file))
    return list(with_names["Statement"])


def superfluous(
    used: set[Use], file: Path = grants.RIGHTS, holder: str = "function", conditions: Collection[str] = ALL
) -> list[str]:
    """Return the actions, and the resources, of each grant that no story needed."""
    found: list[str] = []
    for grant in granted(file, holder, conditions):
        served = {
            (action, way)
            for action, arn in used
            for way in grant["Resource"]
            if action in grant["Action"] and fnmatchcase(arn, way)
        }
        idle = [action for action in grant["Action"] if action not in {one for one, _ in served}]
        unreached = [way for way in grant["Resource"] if way not in {one for _, one in served}]
        found += [f"{grant['Sid']}: {action}" for action in idle]
        found += [f"{grant['Sid']}: on {way}" for way in unreached]
    return found


def missing(
    used: set[Use], file: Path = grants.RIGHTS, holder: str = "function", conditions: Collection[str] = ALL
) -> list[str]:
    """Return what was used and is granted nowhere."""
    return sorted(
        f"{action} on {arn}"
        for action, arn in used
        if not any(
            action in grant["Action"] and any(fnmatchcase(arn, way) for way in grant["Resource"])
            for grant in granted(file, holder, conditions)
        )
    )


def beyond(file: Path = grants.RIGHTS, holder: str = "function") -> set[str]:
    """Return each resource, by its grant, whose pattern has no name of the deployment's things as a whole part."""
    return {
        f"{grant['Sid']}: on {way}"
        for grant in granted(file, holder)
        for way in grant["Resource"]
        if not OWN & set(re.split("[:/]", way))
    }


def changed(folder: Path, change: Callable[[list[dict[str, Any]]], None], holder: str = "function") -> Path:
    """Return a copy of rights.yaml in which a holder's grants were changed."""
    document = yaml.safe_load(grants.RIGHTS.read_text(encoding="utf-8"))
    change(document[holder])
    copy = folder / "rights.yaml"
    copy.write_text(yaml.safe_dump(document), encoding="utf-8")
    return copy
